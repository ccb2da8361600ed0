//! How a disk is divided, as a bar with a table below it.

use kiln_diskimg::ByteLen;

use super::{Anchor, EMPTY, GREY, INK, Rect, Style, Svg, colour, fitted, measure, pale};
use crate::quantity::size;

const WIDTH: u32 = 960;
const LEFT: f64 = 20.0;
const BAR: Rect = Rect { x: LEFT, y: 56.0, width: 920.0, height: 64.0 };
const ROW: u32 = 22;
/// Where the table's columns are: name and type begin, start, size and free end.
const COLUMNS: [f64; 5] = [LEFT + 22.0, 330.0, 690.0, 815.0, 940.0];
/// No disk has more partitions to tell apart; the others are only counted.
const MOST: usize = 128;

/// A disk as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disk {
    /// What it is called.
    pub name: String,
    /// Its length.
    pub len: ByteLen,
    /// Its partitions, in any order.
    pub partitions: Vec<Partition>,
}

/// A partition as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// What it is or what is in it, in words: `EFI system, FAT32`.
    pub kind: String,
    /// Where it begins, in bytes from the disk's start.
    pub start: ByteLen,
    /// Its length.
    pub len: ByteLen,
    /// How much of it its file system has left, where known.
    pub free: Option<ByteLen>,
}

/// A disk's partitions as an SVG of 960 pixels' width: a bar in proportion, in which what is
/// free in a partition is pale and what is in none grey, and a table. What is too narrow to see is drawn three pixels wide.
#[must_use]
pub fn disk(disk: &Disk) -> String {
    let mut partitions: Vec<&Partition> = disk.partitions.iter().collect();
    partitions.sort_by_key(|partition| (partition.start, partition.len));
    let not_shown = partitions.len().saturating_sub(MOST);
    partitions.truncate(MOST);
    let rows = u32::try_from(partitions.len()).unwrap_or(0) + 2;
    let outside = unpartitioned(disk);
    let title = format!("{}, {}", disk.name, size(disk.len.0));
    let description = format!("{} partitions; {} in none", disk.partitions.len(), size(outside));

    let mut svg = Svg::new(WIDTH, 150 + rows * ROW, &title, &description);
    let (heading, below) = (Style::of(18.0).bold(), Style::of(12.0).grey());
    svg.label(LEFT, 28.0, heading, &fitted(&title, heading, BAR.width));
    svg.label(LEFT, 46.0, below, &fitted(&description, below, BAR.width));
    svg.rect(BAR, EMPTY, &format!("in no partition: {}", size(outside)));
    // The narrow ones last, so that a neighbour does not cover them.
    let mut drawn = partitions.clone();
    drawn.sort_by_key(|partition| std::cmp::Reverse(partition.len));
    for partition in drawn {
        segment(&mut svg, disk.len, partition);
    }

    let mut y = 148.0;
    for (at, column) in ["partition", "type", "start", "size", "free"].iter().enumerate() {
        cell(&mut svg, at, y, Style::of(12.0).grey(), column);
    }
    svg.line((LEFT, y + 6.0), (BAR.x + BAR.width, y + 6.0), GREY);
    for partition in &partitions {
        y += f64::from(ROW);
        let swatch = Rect { x: LEFT, y: y - 11.0, width: 13.0, height: 13.0 };
        svg.rect(swatch, &colour_of(partition), "");
        let free = partition.free.map_or_else(|| "not known".to_owned(), |free| size(free.0));
        let cells = [
            partition.name.clone(),
            partition.kind.clone(),
            size(partition.start.0),
            size(partition.len.0),
            free,
        ];
        for (at, text) in cells.iter().enumerate() {
            cell(&mut svg, at, y, Style::of(13.0), text);
        }
    }
    y += f64::from(ROW);
    let rest = match not_shown {
        0 => "in no partition".to_owned(),
        number => format!("in no partition; {number} more partitions are not shown"),
    };
    svg.label(COLUMNS[0], y, Style::of(13.0).grey(), &rest);
    cell(&mut svg, 3, y, Style::of(13.0).grey(), &size(outside));
    svg.finish()
}

fn colour_of(partition: &Partition) -> String {
    colour(&key(partition), 10)
}

/// What its colour follows from: partitions of one disk are seldom the same in both.
fn key(partition: &Partition) -> String {
    format!("{}: {}", partition.name, partition.kind)
}

/// One cell of the table, cut to what its column has room for.
fn cell(svg: &mut Svg, column: usize, y: f64, style: Style, text: &str) {
    let Some(&x) = COLUMNS.get(column) else { return };
    let (style, room) = match column {
        0 => (style, COLUMNS[1] - x - 10.0),
        1 => (style, 600.0 - x),
        _ => (style.anchored(Anchor::End), 115.0),
    };
    svg.label(x, y, style, &fitted(text, style, room));
}

/// A partition on the bar, with what is free in it at its right, and its name if there is room.
fn segment(svg: &mut Svg, whole: ByteLen, partition: &Partition) {
    let scale = |bytes: u64| {
        let bytes = bytes.min(whole.0);
        measure(bytes) / measure(whole.0.max(1)) * BAR.width
    };
    let (start, end) =
        (scale(partition.start.0), scale(partition.start.0.saturating_add(partition.len.0)));
    let width = (end - start).max(3.0);
    let x = (BAR.x + start).min(BAR.x + BAR.width - width);
    let rect = Rect { x, width, ..BAR };
    let free = partition.free.unwrap_or_default().0.min(partition.len.0);
    let tooltip = format!(
        "{} ({}): {} from {}{}",
        partition.name,
        partition.kind,
        size(partition.len.0),
        size(partition.start.0),
        partition.free.map(|free| format!(", {} free", size(free.0))).unwrap_or_default()
    );
    svg.rect(rect, &colour_of(partition), &tooltip);
    let free_width = measure(free) / measure(partition.len.0.max(1)) * width;
    if free_width >= 2.0 {
        let free = Rect {
            x: x + width - free_width,
            y: BAR.y + 1.0,
            width: free_width,
            height: BAR.height - 2.0,
        };
        svg.rect(free, &pale(&key(partition)), &format!("free in {tooltip}"));
    }
    let (style, below) = (Style::of(13.0).bold(), Style::of(12.0));
    let name = fitted(&partition.name, style, width - 12.0);
    svg.label(x + 6.0, BAR.y + 26.0, style, &name);
    let length = size(partition.len.0);
    if fitted(&length, below, width - 12.0) == length {
        svg.label(x + 6.0, BAR.y + 46.0, Style { colour: INK, ..below }, &length);
    }
}

/// What no partition covers, in bytes; partitions that overlap count once.
fn unpartitioned(disk: &Disk) -> u64 {
    let mut spans: Vec<(u64, u64)> = disk
        .partitions
        .iter()
        .map(|it| (it.start.0.min(disk.len.0), it.start.0.saturating_add(it.len.0).min(disk.len.0)))
        .collect();
    spans.sort_unstable();
    let (mut free, mut at) = (0, 0);
    for (start, end) in spans {
        free += start.saturating_sub(at);
        at = at.max(end);
    }
    free + disk.len.0.saturating_sub(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_partition_covers() {
        let with = |spans: &[(u64, u64)]| {
            let partitions = spans.iter().map(|&(start, len)| Partition {
                start: ByteLen(start),
                len: ByteLen(len),
                ..Partition::default()
            });
            unpartitioned(&Disk {
                name: String::new(),
                len: ByteLen(100),
                partitions: partitions.collect(),
            })
        };
        assert_eq!(with(&[]), 100);
        assert_eq!(with(&[(50, 10), (10, 20)]), 70);
        assert_eq!(with(&[(10, 20), (20, 20), (15, 5)]), 70);
        assert_eq!(with(&[(90, u64::MAX), (u64::MAX, 1)]), 90);
    }
}
