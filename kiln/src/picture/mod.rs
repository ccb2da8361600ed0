//! Pictures of a build as SVG: [what takes the room](size_map), [how a disk is divided](disk),
//! [where a boot's time goes](boot), and [what is made of what](graph).
//!
//! They are functions of values: the same value, the same bytes. Each picture is one well-formed
//! XML document without scripts, fonts or references, dark on light, with a title and description
//! for screen readers and a tooltip for every shape. Widths of letters are estimated on the wide
//! side, because an SVG is drawn with the viewer's fonts; what does not fit is cut with an ellipsis,
//! and the tooltip has it whole.

mod boot;
mod disk;
mod graph;
mod size_map;

use std::fmt::Write;

pub use self::boot::{Phase, boot};
pub use self::disk::{Disk, Partition, disk};
pub use self::graph::{Node, graph};
pub use self::size_map::size_map;

/// What text is drawn in.
const INK: &str = "#1f2328";
/// Secondary text and lines.
const GREY: &str = "#59636e";
/// What there is nothing on.
const EMPTY: &str = "#f0f1f3";

/// An SVG document while it is being written.
struct Svg {
    text: String,
}

/// Where a text is placed relative to its x.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy)]
struct Style {
    size: f64,
    bold: bool,
    colour: &'static str,
    anchor: Anchor,
}

impl Style {
    const fn of(size: f64) -> Self {
        Self { size, bold: false, colour: INK, anchor: Anchor::Start }
    }

    const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    const fn grey(self) -> Self {
        Self { colour: GREY, ..self }
    }

    const fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Svg {
    fn new(width: u32, height: u32, title: &str, description: &str) -> Self {
        let (title, description) = (escaped(title), escaped(description));
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title description\" \
             font-family=\"DejaVu Sans, Verdana, Helvetica, Arial, sans-serif\">\n\
             <title id=\"title\">{title}</title>\n<desc id=\"description\">{description}</desc>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        Self { text }
    }

    /// A filled rectangle, with a tooltip if that says anything.
    fn rect(&mut self, rect: Rect, fill: &str, tooltip: &str) {
        let Rect { x, y, width, height } = rect;
        let open = format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{fill}\" stroke=\"#ffffff\""
        );
        // Writing to a String cannot fail.
        let _ = if tooltip.is_empty() {
            writeln!(self.text, "{open}/>")
        } else {
            writeln!(self.text, "{open}><title>{}</title></rect>", escaped(tooltip))
        };
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let _ = writeln!(
            self.text,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// A curve that begins and ends level.
    fn curve(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let middle = (from.0 + to.0) / 2.0;
        let _ = writeln!(
            self.text,
            "<path d=\"M{:.1} {:.1} C{middle:.1} {:.1} {middle:.1} {:.1} {:.1} {:.1}\" \
             fill=\"none\" stroke=\"{colour}\"/>",
            from.0, from.1, from.1, to.1, to.0, to.1
        );
    }

    /// A text whose base line is at y. It takes no pointer, so that the shape below keeps its
    /// tooltip.
    fn label(&mut self, x: f64, y: f64, style: Style, text: &str) {
        let anchor = match style.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if style.bold { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(
            self.text,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{}\" fill=\"{}\"{anchor}{weight} \
             pointer-events=\"none\">{}</text>",
            style.size,
            style.colour,
            escaped(text)
        );
    }

    fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// The text as XML character data: what XML 1.0 has no way to say (section 2.2) is replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// How wide a letter is, in units of the font's size: no narrower than in DejaVu Sans, the widest
/// of the usual fonts.
fn letter(c: char, bold: bool) -> f64 {
    let width = match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.34,
        'f' | 't' | 'r' | 'I' | '(' | ')' | '[' | ']' | '-' | '/' => 0.43,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' | '→' | '—' => 1.0,
        'A'..='Z' | '+' | '~' | '=' | '<' | '>' | '&' | '#' => 0.84,
        c if c.is_ascii() => 0.65,
        'À'..='ɏ' => 0.85,
        // Scripts whose letters are as wide as high, and pictures.
        _ => 1.3,
    };
    if bold { width * 1.12 } else { width }
}

fn text_width(text: &str, style: Style) -> f64 {
    text.chars().map(|c| letter(c, style.bold)).sum::<f64>() * style.size
}

/// As much of a text as fits, with an ellipsis if that is not all; nothing if that would be fewer
/// than four letters of it.
fn fitted(text: &str, style: Style, room: f64) -> String {
    if text_width(text, style) <= room {
        return text.to_owned();
    }
    let mut left = room - letter('…', style.bold) * style.size;
    let mut out = String::new();
    for c in text.chars() {
        left -= letter(c, style.bold) * style.size;
        if left < 0.0 {
            break;
        }
        out.push(c);
    }
    let kept = out.trim_end().len();
    out.truncate(kept);
    if out.chars().count() < 4 {
        return String::new();
    }
    out.push('…');
    out
}

/// A light colour that follows from a name, so that a thing keeps its colour from picture to
/// picture. `shade` darkens it, by at most 100.
fn colour(name: &str, shade: u32) -> String {
    let [red, green, blue] = channels(name).map(|channel| channel.saturating_sub(shade));
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// The same colour, nearly white.
fn pale(name: &str) -> String {
    let [red, green, blue] = channels(name).map(|channel| 255 - (255 - channel) / 4);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Red, green and blue from 168 to 240: black on that is read easily (contrast of 8:1 and more).
fn channels(name: &str) -> [u32; 3] {
    let digest = crate::digest::of_bytes(name.as_bytes());
    let number = u32::from_str_radix(digest.get(..6).unwrap_or_default(), 16).unwrap_or(0);
    // Once around the colours in 1536 steps; each channel is a trapezium of it.
    let hue = number % 1536;
    [512, 0, 1024].map(|shift| {
        let height = match (hue + shift) % 1536 {
            at @ 0..256 => at,
            256..768 => 255,
            at @ 768..1024 => 1023 - at,
            _ => 0,
        };
        168 + height * 72 / 255
    })
}

/// A number of bytes as a coordinate's measure. Precision beyond 2^53 is not seen.
#[expect(clippy::cast_precision_loss, reason = "a picture has some thousand pixels")]
fn measure(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_to_their_room() {
        let style = Style::of(10.0);
        assert_eq!(fitted("libcrypto.so.3", style, 500.0), "libcrypto.so.3");
        let cut = fitted("libcrypto.so.3", style, 60.0);
        assert!(cut.ends_with('…') && text_width(&cut, style) <= 60.0, "{cut}");
        assert_eq!(fitted("libcrypto.so.3", style, 20.0), "");
        assert_eq!(escaped("a<b>&\"\u{1b}\u{ffff}ü"), "a&lt;b&gt;&amp;&quot;\u{fffd}\u{fffd}ü");
    }

    #[test]
    fn colours_are_light_and_keep_to_their_name() {
        assert_eq!(colour("libc6", 0), colour("libc6", 0));
        let distinct: std::collections::BTreeSet<String> =
            (0..100).map(|number| colour(&number.to_string(), 0)).collect();
        assert!(distinct.len() > 60, "{}", distinct.len());
        for text in &distinct {
            let channels = [1, 3, 5].map(|at| u32::from_str_radix(&text[at..at + 2], 16).unwrap());
            assert!(channels.iter().all(|channel| (160..=240).contains(channel)), "{text}");
        }
    }
}
