//! What takes the room in an image, as a treemap: areas are sizes, by origin, then by file.

use std::collections::BTreeMap;

use super::{Rect, Style, Svg, colour, fitted, measure};
use crate::manifest::{FileEntry, Manifest};
use crate::quantity::{count, size};

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 800;
/// Where the map is, below the headings.
const MAP: Rect = Rect { x: 10.0, y: 56.0, width: 1180.0, height: 734.0 };
/// The least area that something is shown in by itself, in square pixels.
const VISIBLE: f64 = 30.0;
/// The least area of an origin that has a place of its own.
const VISIBLE_ORIGIN: f64 = 1200.0;
/// The height of an origin's heading.
const HEADING: f64 = 18.0;

/// An area of the map.
struct Area {
    label: String,
    tooltip: String,
    size: u64,
    /// What its colour follows from.
    name: String,
    parts: Vec<Self>,
}

/// What takes the room in an image, as an SVG of 1200 by 800 pixels: an area for each package and
/// other input, in it one for each file, in proportion to their sizes before compression (Bruls,
/// Huizing, van Wijk: Squarified Treemaps, 2000). Files and packages too small to see share one.
#[must_use]
pub fn size_map(manifest: &Manifest) -> String {
    let areas = areas(manifest);
    let total: u64 = areas.iter().fold(0, |sum, area| sum.saturating_add(area.size));
    let name = match &manifest.version {
        Some(version) => format!("{} {version}", manifest.name),
        None => manifest.name.clone(),
    };
    let title = format!("What takes the room in {name}");
    let description = format!(
        "{} in {} files of {} packages, before compression. {}",
        size(total),
        count(manifest.files.len()),
        count(manifest.packages.len()),
        largest(&areas)
    );
    let mut svg = Svg::new(WIDTH, HEIGHT, &title, &description);
    let (heading, below) = (Style::of(18.0).bold(), Style::of(12.0).grey());
    svg.label(MAP.x, 26.0, heading, &fitted(&title, heading, MAP.width));
    svg.label(MAP.x, 46.0, below, &fitted(&description, below, MAP.width));
    if total == 0 {
        svg.rect(MAP, super::EMPTY, "");
        let style = Style::of(14.0).anchored(super::Anchor::Middle);
        svg.label(600.0, 420.0, style, "No file has any content.");
        return svg.finish();
    }
    for (area, rect) in placed(merged(areas, MAP, VISIBLE_ORIGIN, "origins"), MAP) {
        draw_origin(&mut svg, &area, rect);
    }
    svg.finish()
}

/// The three largest areas in words.
fn largest(areas: &[Area]) -> String {
    let named: Vec<String> =
        areas.iter().take(3).map(|area| format!("{} {}", area.label, size(area.size))).collect();
    if named.is_empty() { String::new() } else { format!("Largest: {}.", named.join(", ")) }
}

/// An area for each origin, the largest first, with one for each of its files in it.
fn areas(manifest: &Manifest) -> Vec<Area> {
    let mut by_origin: BTreeMap<(u8, &str), Vec<&FileEntry>> = BTreeMap::new();
    for file in manifest.files.iter().filter(|file| file.own_size() > 0) {
        let origin = match (&file.package, &file.input) {
            (Some(package), _) => (0, package.as_str()),
            (None, Some(input)) => (1, input.as_str()),
            (None, None) => (2, "of no package"),
        };
        by_origin.entry(origin).or_default().push(file);
    }
    let areas = by_origin.into_iter().map(|((_, origin), files)| {
        let version = manifest.package(origin).map(|it| format!(" {}", it.version));
        let mut parts: Vec<Area> = files.into_iter().map(|it| area_of(it, origin)).collect();
        sort(&mut parts);
        let total = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.size));
        let tooltip = format!(
            "{origin}{}: {} in {} files",
            version.unwrap_or_default(),
            size(total),
            count(parts.len())
        );
        Area { label: origin.into(), tooltip, size: total, name: origin.into(), parts }
    });
    let mut areas: Vec<Area> = areas.collect();
    sort(&mut areas);
    areas
}

fn area_of(file: &FileEntry, origin: &str) -> Area {
    let label = file.path.rsplit('/').next().unwrap_or(&file.path);
    let why = file.why.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
    Area {
        label: label.into(),
        tooltip: format!("/{}: {}{why}", file.path, size(file.own_size())),
        size: file.own_size(),
        name: origin.into(),
        parts: Vec::new(),
    }
}

/// The largest first; names decide between equals.
fn sort(areas: &mut [Area]) {
    areas.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.tooltip.cmp(&b.tooltip)));
}

/// The areas with those that would be smaller than `least` in one.
fn merged(mut areas: Vec<Area>, rect: Rect, least: f64, what: &str) -> Vec<Area> {
    let total: f64 = areas.iter().map(|area| measure(area.size)).sum();
    let scale = rect.width * rect.height / total.max(1.0);
    let kept = areas.iter().take_while(|area| measure(area.size) * scale >= least).count();
    let small = areas.split_off(kept);
    if small.len() < 2 {
        areas.extend(small);
        return areas;
    }
    let size = small.iter().fold(0_u64, |sum, area| sum.saturating_add(area.size));
    let label = format!("{} smaller {what}", count(small.len()));
    let tooltip = format!("{label}: {}", crate::quantity::size(size));
    let name = small.first().map(|area| area.name.clone()).unwrap_or_default();
    let parts = small.into_iter().map(|area| Area { parts: Vec::new(), ..area }).collect();
    areas.push(Area { label, tooltip, size, name, parts });
    sort(&mut areas);
    areas
}

fn draw_origin(svg: &mut Svg, area: &Area, rect: Rect) {
    svg.rect(rect, &colour(&area.name, 22), &area.tooltip);
    let style = Style::of(12.0).bold();
    let room = rect.width - 8.0;
    let full = format!("{} · {}", area.label, size(area.size));
    let mut text = fitted(&full, style, room);
    if text != full {
        text = fitted(&area.label, style, room);
    }
    let mut inner = Rect {
        x: rect.x + 1.0,
        y: rect.y + 1.0,
        width: (rect.width - 2.0).max(0.0),
        height: (rect.height - 2.0).max(0.0),
    };
    if !text.is_empty() && rect.height >= 2.0 * HEADING {
        svg.label(rect.x + 4.0, rect.y + 13.5, style, &text);
        inner.y += HEADING;
        inner.height -= HEADING;
    }
    let parts = area.parts.iter().map(|part| Area {
        label: part.label.clone(),
        tooltip: part.tooltip.clone(),
        size: part.size,
        name: part.name.clone(),
        parts: Vec::new(),
    });
    for (part, rect) in placed(merged(parts.collect(), inner, VISIBLE, "files"), inner) {
        draw_file(svg, &part, rect);
    }
}

fn draw_file(svg: &mut Svg, part: &Area, rect: Rect) {
    svg.rect(rect, &colour(&part.name, 0), &part.tooltip);
    let (style, below) = (Style::of(11.0), Style::of(10.0).grey());
    let room = rect.width - 8.0;
    let text = fitted(&part.label, style, room);
    if rect.height < 17.0 || text.is_empty() {
        return;
    }
    svg.label(rect.x + 4.0, rect.y + 12.5, style, &text);
    let length = size(part.size);
    if rect.height >= 31.0 && fitted(&length, below, room) == length {
        svg.label(rect.x + 4.0, rect.y + 25.5, below, &length);
    }
}

/// Places areas, the largest first, so that they fill a rectangle and are as square as may be: rows
/// along the shorter side are filled as long as that makes the worst of them no longer.
fn placed(areas: Vec<Area>, rect: Rect) -> Vec<(Area, Rect)> {
    let total: f64 = areas.iter().map(|area| measure(area.size)).sum();
    let scale = rect.width * rect.height / total.max(1.0);
    let sizes: Vec<f64> = areas.iter().map(|area| measure(area.size) * scale).collect();
    let rects = squarified(&sizes, rect);
    areas.into_iter().zip(rects).collect()
}

fn squarified(sizes: &[f64], mut rest: Rect) -> Vec<Rect> {
    let mut rects = Vec::with_capacity(sizes.len());
    let mut left = sizes;
    while let Some(&first) = left.first() {
        let side = rest.width.min(rest.height);
        if side <= 0.0 {
            // Rounding used up the room: what is left has none.
            rects.extend(left.iter().map(|_| Rect { width: 0.0, height: 0.0, ..rest }));
            return rects;
        }
        let (mut len, mut sum) = (1, first);
        let mut worst = elongation(side, sum, first, first);
        while let Some(&next) = left.get(len) {
            let with_next = elongation(side, sum + next, first, next);
            if with_next > worst {
                break;
            }
            (len, sum, worst) = (len + 1, sum + next, with_next);
        }
        let (row, after) = left.split_at(len);
        left = after;
        let is_wide = rest.width >= rest.height;
        let thickness = (sum / side).min(if is_wide { rest.width } else { rest.height });
        let mut at = if is_wide { rest.y } else { rest.x };
        for size in row {
            let length = size / sum * side;
            rects.push(if is_wide {
                Rect { x: rest.x, y: at, width: thickness, height: length }
            } else {
                Rect { x: at, y: rest.y, width: length, height: thickness }
            });
            at += length;
        }
        if is_wide {
            rest.x += thickness;
            rest.width -= thickness;
        } else {
            rest.y += thickness;
            rest.height -= thickness;
        }
    }
    rects
}

/// How far the worst of a row is from a square: the quotient of its sides.
fn elongation(side: f64, sum: f64, largest: f64, smallest: f64) -> f64 {
    let (side, sum) = (side * side, sum * sum);
    (side * largest / sum).max(sum / (side * smallest.max(f64::MIN_POSITIVE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the paper: areas 6, 6, 4, 3, 2, 2, 1 in a rectangle of 6 by 4.
    #[test]
    fn the_papers_example() {
        let rect = Rect { x: 0.0, y: 0.0, width: 6.0, height: 4.0 };
        let rects = squarified(&[6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0], rect);
        let shown: Vec<String> = rects
            .iter()
            .map(|it| format!("{:.2},{:.2} {:.2}x{:.2}", it.x, it.y, it.width, it.height))
            .collect();
        assert_eq!(
            shown,
            [
                "0.00,0.00 3.00x2.00",
                "0.00,2.00 3.00x2.00",
                "3.00,0.00 1.71x2.33",
                "4.71,0.00 1.29x2.33",
                "3.00,2.33 1.20x1.67",
                "4.20,2.33 1.20x1.67",
                "5.40,2.33 0.60x1.67",
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn areas_are_in_proportion_inside_and_apart(
            mut sizes in proptest::collection::vec(1_u32..1_000_000, 1..60),
        ) {
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let rect = Rect { x: 10.0, y: 20.0, width: 800.0, height: 500.0 };
            let total: f64 = sizes.iter().map(|&size| f64::from(size)).sum();
            let scaled: Vec<f64> =
                sizes.iter().map(|&size| f64::from(size) * 400_000.0 / total).collect();
            let rects = squarified(&scaled, rect);
            for (at, (one, size)) in rects.iter().zip(&scaled).enumerate() {
                proptest::prop_assert!((one.width * one.height - size).abs() < 0.01);
                proptest::prop_assert!(one.x >= 10.0 - 1e-6 && one.y >= 20.0 - 1e-6);
                proptest::prop_assert!(one.x + one.width <= 810.0 + 1e-6);
                proptest::prop_assert!(one.y + one.height <= 520.0 + 1e-6);
                for other in &rects[at + 1..] {
                    let across = (one.x + one.width).min(other.x + other.width) - one.x.max(other.x);
                    let down = (one.y + one.height).min(other.y + other.height) - one.y.max(other.y);
                    proptest::prop_assert!(across < 1e-6 || down < 1e-6);
                }
            }
        }
    }
}
