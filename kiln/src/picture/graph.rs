//! What is made of what: boxes in columns, each right of all that it is made of.

use std::collections::BTreeMap;

use super::{GREY, Rect, Style, Svg, colour, fitted, pale, text_width};

const LEFT: f64 = 20.0;
const TOP: f64 = 64.0;
/// Of a box, and from one to the next.
const WIDTH: f64 = 170.0;
const APART: f64 = 70.0;
const GAP: f64 = 14.0;
/// The height of a box with its name alone, and of a line below that.
const HEAD: f64 = 26.0;
const LINE: f64 = 15.0;
/// More lines than this below a name are counted.
const MOST: usize = 4;

/// Something that is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// What it is called.
    pub name: String,
    /// What is written below the name.
    pub below: Vec<String>,
    /// What else is said of it.
    pub about: String,
    /// The names of what it is made of. One that is not there is passed over.
    pub from: Vec<String>,
    /// Whether it stands out.
    pub emphasised: bool,
}

/// Nodes as an SVG, as wide and high as they need. Each has to come after those that it is made of: what
/// comes later is no reason to be further right.
#[must_use]
pub fn graph(title: &str, nodes: &[Node]) -> String {
    let columns = columns(nodes);
    let mut places: BTreeMap<&str, Rect> = BTreeMap::new();
    let mut heights: Vec<f64> = Vec::new();
    for (node, column) in nodes.iter().zip(&columns) {
        heights.resize(heights.len().max(column + 1), TOP);
        let Some(bottom) = heights.get_mut(*column) else { continue };
        let height = HEAD + LINE * coordinate(lines(node).len());
        let x = LEFT + (WIDTH + APART) * coordinate(*column);
        places.insert(node.name.as_str(), Rect { x, y: *bottom, width: WIDTH, height });
        *bottom += height + GAP;
    }
    let edges: usize = nodes.iter().map(|node| node.from.len()).sum();
    let description = format!("{} steps, {edges} times one is made of another", nodes.len());
    let heading = Style::of(18.0).bold();
    let needed = (WIDTH + APART) * coordinate(heights.len()) - APART;
    let width = needed.max(text_width(title, heading).min(900.0)).max(300.0) + 2.0 * LEFT;
    let height = heights.iter().copied().fold(TOP, f64::max) + 10.0;
    let mut svg = Svg::new(pixels(width), pixels(height), title, &description);
    svg.label(LEFT, 28.0, heading, &fitted(title, heading, width - 2.0 * LEFT));
    let below = Style::of(12.0).grey();
    svg.label(LEFT, 46.0, below, &fitted(&description, below, width - 2.0 * LEFT));
    for node in nodes {
        let Some(to) = places.get(node.name.as_str()) else { continue };
        let mut from: Vec<_> =
            node.from.iter().filter_map(|name| places.get(name.as_str())).collect();
        // Lines that begin above each other end so.
        from.sort_by(|a, b| a.y.total_cmp(&b.y).then(b.x.total_cmp(&a.x)));
        for (from, at) in from.into_iter().zip(1_u32..) {
            let share = f64::from(at) / (coordinate(node.from.len()) + 1.0);
            let start = (from.x + from.width, from.y + from.height / 2.0);
            let end = (to.x, to.y + to.height * share);
            svg.curve(start, end, GREY);
        }
    }
    for node in nodes {
        let Some(place) = places.get(node.name.as_str()) else { continue };
        let fill = if node.emphasised { colour(&node.name, 0) } else { pale(&node.name) };
        let tooltip = match node.about.as_str() {
            "" => node.name.clone(),
            about => format!("{}: {about}", node.name),
        };
        svg.rect(*place, &fill, &tooltip);
        let (style, small) = (Style::of(13.0).bold(), Style::of(11.0).grey());
        let (x, room) = (place.x + 10.0, WIDTH - 20.0);
        svg.label(x, place.y + 18.0, style, &fitted(&node.name, style, room));
        for (line, number) in lines(node).iter().zip(1_u32..) {
            let y = place.y + 17.0 + LINE * f64::from(number);
            svg.label(x, y, small, &fitted(line, small, room));
        }
    }
    svg.finish()
}

/// One more than the furthest right of what a node is made of.
fn columns(nodes: &[Node]) -> Vec<usize> {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    let mut columns = Vec::new();
    for node in nodes {
        let from = node.from.iter().filter_map(|name| found.get(name.as_str()));
        let column = from.max().map_or(0, |column| column.saturating_add(1));
        found.insert(&node.name, column);
        columns.push(column);
    }
    columns
}

fn lines(node: &Node) -> Vec<String> {
    match node.below.len().checked_sub(MOST) {
        None | Some(0) => node.below.clone(),
        Some(more) => {
            let shown = node.below.iter().take(MOST - 1).cloned();
            shown.chain([format!("and {} more", more + 1)]).collect()
        }
    }
}

fn coordinate(count: usize) -> f64 {
    super::measure(u64::try_from(count).unwrap_or(u64::MAX))
}

/// A length as a whole number of pixels.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between 0 and a million, by the limits before"
)]
fn pixels(length: f64) -> u32 {
    length.ceil().clamp(0.0, 1e6) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, from: &[&str]) -> Node {
        let from = from.iter().map(|name| (*name).to_owned()).collect();
        Node { name: name.into(), from, ..Node::default() }
    }

    #[test]
    fn each_is_right_of_what_it_is_made_of() {
        let nodes = [
            node("base", &[]),
            node("cli", &["none"]),
            node("console", &["base", "cli"]),
            node("init", &["console", "base"]),
            node("loop", &["loop"]),
        ];
        assert_eq!(columns(&nodes), [0, 0, 1, 2, 0]);
    }

    #[test]
    fn it_is_sound_xml_whatever_things_are_called() {
        let mut odd = node("<a>&\"\u{1b}", &["base"]);
        odd.below = (0..9).map(|number| format!("<{number}>")).collect();
        odd.about = "a\nb]]>".into();
        let text = graph("title <&>", &[node("base", &[]), odd]);
        let document = roxmltree::Document::parse(&text).unwrap();
        let count = |name: &str| document.descendants().filter(|it| it.has_tag_name(name)).count();
        // the ground, two boxes
        assert_eq!((count("rect"), count("path")), (3, 1));
        assert!(text.contains("and 6 more"), "{text}");
        let empty = graph("", &[]);
        roxmltree::Document::parse(&empty).unwrap();
    }
}
