//! Where a boot's time goes: phases on an axis of time.

use std::time::Duration;

use super::{Anchor, GREY, Rect, Style, Svg, colour, fitted};

const WIDTH: u32 = 960;
const LEFT: f64 = 20.0;
/// Where the axis begins, right of the names, and how long it is.
const AXIS: (f64, f64) = (250.0, 610.0);
const ROW: u32 = 26;
const TOP: u32 = 64;
/// More rows than this nobody reads; the others are only counted.
const MOST: usize = 200;

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Phase {
    /// What it is.
    pub name: String,
    /// When it began, from the start of the boot.
    pub start: Duration,
    /// When it ended; an end before the start counts as the start.
    pub end: Duration,
}

/// Phases as an SVG of 960 pixels' width: a row for each, in the order given, on one axis of time.
/// They may overlap and leave gaps.
#[must_use]
pub fn boot(phases: &[Phase]) -> String {
    let whole = phases.iter().map(|phase| phase.end.max(phase.start)).max().unwrap_or_default();
    let shown = phases.get(..phases.len().min(MOST)).unwrap_or_default();
    let rows = u32::try_from(shown.len()).unwrap_or(0);
    let title = format!("{} of booting", seconds(whole));
    let longest = phases.iter().max_by_key(|phase| took(phase));
    let mut description = format!("{} phases", phases.len());
    if let Some(longest) = longest {
        description += &format!("; the longest is {}, {}", longest.name, seconds(took(longest)));
    }
    if shown.len() < phases.len() {
        description += &format!("; only the first {} are shown", shown.len());
    }

    let bottom = f64::from(TOP + rows * ROW);
    let mut svg = Svg::new(WIDTH, TOP + rows * ROW + 34, &title, &description);
    let (heading, below) = (Style::of(18.0).bold(), Style::of(12.0).grey());
    svg.label(LEFT, 28.0, heading, &fitted(&title, heading, 920.0));
    svg.label(LEFT, 46.0, below, &fitted(&description, below, 920.0));
    let scale = |time: Duration| {
        if whole.is_zero() { 0.0 } else { time.as_secs_f64() / whole.as_secs_f64() * AXIS.1 }
    };
    let step = step(whole);
    for tick in (0..=10).map(|number| step.saturating_mul(number)) {
        if tick > whole {
            break;
        }
        let x = AXIS.0 + scale(tick);
        svg.line((x, f64::from(TOP) - 6.0), (x, bottom + 4.0), "#d8dbe0");
        let text = seconds(tick);
        svg.label(x, bottom + 20.0, Style::of(11.0).grey().anchored(Anchor::Middle), &text);
    }
    svg.line((AXIS.0, bottom + 4.0), (AXIS.0 + AXIS.1, bottom + 4.0), GREY);
    for (row, phase) in (0_u32..).zip(shown) {
        let y = f64::from(TOP + row * ROW);
        let style = Style::of(13.0);
        let name = fitted(&phase.name, style, AXIS.0 - LEFT - 12.0);
        svg.label(AXIS.0 - 10.0, y + 15.0, style.anchored(Anchor::End), &name);
        let length = seconds(took(phase));
        let tooltip = format!("{}: {length}, from {}", phase.name, seconds(phase.start));
        let x = AXIS.0 + scale(phase.start);
        let width = scale(took(phase)).max(2.0);
        let rect = Rect { x, y: y + 2.0, width, height: f64::from(ROW) - 6.0 };
        svg.rect(rect, &colour(&phase.name, 40), &tooltip);
        svg.label(x + width + 6.0, y + 15.0, Style::of(11.0).grey(), &length);
    }
    svg.finish()
}

fn took(phase: &Phase) -> Duration {
    phase.end.saturating_sub(phase.start)
}

/// A time with as many digits as say something.
fn seconds(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0 if time.is_zero() => "0 s".into(),
        0 => "under 1 ms".into(),
        1..1000 => format!("{millis} ms"),
        1000..100_000 => {
            let tenths = (millis + 50) / 100;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        _ => format!("{} s", (millis + 500) / 1000),
    }
}

/// The distance of ticks: 1, 2 or 5 times a power of ten, at most ten of them.
fn step(whole: Duration) -> Duration {
    let mut unit = Duration::from_millis(1);
    loop {
        for factor in [1, 2, 5] {
            let step = unit.saturating_mul(factor);
            if step.saturating_mul(10) >= whole || step == Duration::MAX {
                return step;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_times() {
        let step = |millis| super::step(Duration::from_millis(millis)).as_millis();
        assert_eq!([0, 10, 11, 999, 12_345, 60_000].map(step), [1, 1, 2, 100, 2000, 10_000]);
        assert_eq!(super::step(Duration::MAX).saturating_mul(10), Duration::MAX);
        let shown = [0, 7, 999, 1000, 1049, 99_940, 123_456].map(Duration::from_millis);
        assert_eq!(shown.map(seconds).join(", "), "0 s, 7 ms, 999 ms, 1.0 s, 1.0 s, 99.9 s, 123 s");
    }
}
