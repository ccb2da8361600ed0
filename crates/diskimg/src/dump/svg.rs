//! A map of a disk as a picture.

use std::fmt::Write;

use super::Report;
use crate::units::SECTOR;

impl Report {
    /// The disk as a bar, each partition in proportion, as SVG. Partitions that would be too narrow
    /// to see are drawn two pixels wide.
    #[must_use]
    pub fn svg(&self) -> String {
        const WIDTH: u64 = 960;
        const COLOURS: [&str; 5] = ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2"];
        let partitions = self.table.iter().flat_map(|table| &table.partitions);
        let count = partitions.clone().count() as u64;
        let height = 100 + 24 * count;
        let sectors = (self.len.0 / SECTOR).max(1);
        let scale = |sector: u64| {
            u64::try_from(u128::from(sector) * u128::from(WIDTH) / u128::from(sectors))
                .unwrap_or(WIDTH)
                .min(WIDTH)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1000\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"14\">\n\
             <text x=\"20\" y=\"24\">{} image, {}</text>\n\
             <rect x=\"20\" y=\"36\" width=\"{WIDTH}\" height=\"40\" fill=\"#ddd\"/>\n",
            self.container, self.len
        );
        for ((at, partition), colour) in (0_u64..).zip(partitions).zip(COLOURS.iter().cycle()) {
            let start = scale(partition.first.0);
            let end = scale(partition.first.0.saturating_add(partition.sectors));
            let (x, width, y) = (20 + start, end.saturating_sub(start).max(2), 100 + 24 * at);
            let contents = partition.file_system.as_ref().map_or("", |it| it.kind.as_str());
            // Writing to a String cannot fail.
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"36\" width=\"{width}\" height=\"40\" fill=\"{colour}\"/>\n\
                 <rect x=\"20\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\n\
                 <text x=\"40\" y=\"{}\">{} {} {} {contents}, {} + {} sectors</text>",
                y - 4,
                y + 7,
                partition.number,
                escaped(&partition.name),
                escaped(&partition.kind),
                partition.first,
                partition.sectors
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
