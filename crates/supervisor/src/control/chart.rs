//! What is made of a [`Times`]: the list of who took how long, and the boot chart as SVG 1.1.

use std::fmt::Write as _;
use std::time::Duration;

use super::protocol::{Run, Times};

/// How long a service took at its first start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blame {
    /// Its name.
    pub name: String,
    /// From its process's start to being up (a one-shot: done).
    pub took: Duration,
    /// How long it waited before that for what it stands on.
    pub waited: Duration,
    /// When it was up, since the supervisor began.
    pub ready_at: Duration,
}

/// Services that came up, the slowest first.
#[must_use]
pub fn blame(times: &Times) -> Vec<Blame> {
    let mut list: Vec<Blame> = times
        .services
        .iter()
        .filter_map(|service| {
            let run = service.runs.first()?;
            let ready = run.ready_us?;
            Some(Blame {
                name: service.name.clone(),
                took: between(run.started_us, ready),
                waited: between(run.queued_us.unwrap_or(run.started_us), run.started_us),
                ready_at: between(times.began_us, ready),
            })
        })
        .collect();
    list.sort_by(|a, b| b.took.cmp(&a.took).then_with(|| a.name.cmp(&b.name)));
    list
}

fn between(from: u64, to: u64) -> Duration {
    Duration::from_micros(to.saturating_sub(from))
}

const ROW: u64 = 20;
const TOP: u64 = 64;
const LEFT: u64 = 190;
const WIDTH: u64 = 900;
const RIGHT: u64 = 110;

/// A picture of the start: a row for each service in the order in which they were started, from
/// the beginning of its wait to being up. Services that were first asked for later are counted
/// below, not drawn.
#[must_use]
pub fn svg(times: &Times, title: &str) -> String {
    let boots =
        |run: &Run| run.queued_us == Some(times.began_us) || run.started_us <= times.began_us;
    let mut rows: Vec<(&str, &[Run])> = times
        .services
        .iter()
        .filter(|service| service.runs.first().is_some_and(boots))
        .map(|service| (service.name.as_str(), service.runs.as_slice()))
        .collect();
    rows.sort_by_key(|(name, runs)| (runs.first().map_or(0, |run| run.started_us), *name));
    let later = times.services.len().saturating_sub(rows.len());
    // up to the last one that came up, with some air; what never came up ends at the edge
    let last = rows
        .iter()
        .filter_map(|(_, runs)| runs.first().map(|r| r.ready_us.unwrap_or(r.started_us)))
        .max()
        .unwrap_or(times.began_us);
    let span = last.saturating_sub(times.began_us).max(1_000);
    let span = span.saturating_add(span / 20);
    let x = |at: u64| LEFT as f64 + scaled(at.saturating_sub(times.began_us).min(span), span);
    let bottom = TOP.saturating_add(ROW.saturating_mul(rows.len() as u64));
    let (width, height) = (LEFT + WIDTH + RIGHT, bottom.saturating_add(64));

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <style>.wait{{fill:#d5d8dc}}.start{{fill:#d35400}}.up{{fill:#a9cce3}}.fail{{fill:#922b21}}\
         .grid{{stroke:#e5e7e9}}.dim{{fill:#707b7c}}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let began = seconds(times.began_us);
    let summary = format!(
        "{} services up in {} s; the supervisor began {began} s after the kernel",
        rows.len(),
        seconds(last.saturating_sub(times.began_us))
    );
    text(&mut out, 12.0, 24, "", "font-size=\"16\"", title);
    text(&mut out, 12.0, 44, "dim", "", &summary);
    let step = grid_step(span);
    let mut at = 0;
    while at <= span {
        let px = x(times.began_us.saturating_add(at));
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{px:.1}\" y1=\"{TOP}\" x2=\"{px:.1}\" y2=\"{bottom}\"/>"
        );
        let label = format!("{} s", seconds(at));
        text(&mut out, px, TOP.saturating_sub(6), "dim", "text-anchor=\"middle\"", &label);
        at = at.saturating_add(step);
    }
    for (place, (name, runs)) in (0_u64..).zip(&rows) {
        let y = TOP.saturating_add(ROW.saturating_mul(place));
        let label = y.saturating_add(14);
        text(&mut out, LEFT as f64 - 8.0, label, "", "text-anchor=\"end\"", name);
        let edge = times.began_us.saturating_add(span);
        for run in runs.iter().filter(|run| run.started_us <= edge) {
            bars(&mut out, run, times, y, &x);
        }
        if let Some(run) = runs.first() {
            let took = match run.ready_us {
                Some(ready) => format!("{} s", seconds(ready.saturating_sub(run.started_us))),
                None => "not up".to_owned(),
            };
            let right = x(run.ready_us.unwrap_or(run.started_us)) + 6.0;
            text(&mut out, right, label, "", "", &took);
        }
    }
    legend(&mut out, bottom.saturating_add(28), later);
    out.push_str("</svg>\n");
    out
}

fn bars(out: &mut String, run: &Run, times: &Times, y: u64, x: &dyn Fn(u64) -> f64) {
    let end = run.ended_us.unwrap_or_else(|| times.now_us.max(run.started_us));
    let ready = run.ready_us.unwrap_or(end).min(end.max(run.started_us));
    let starting = if run.ready_us.is_none() && run.ended_us.is_some() { "fail" } else { "start" };
    let queued = run.queued_us.unwrap_or(run.started_us);
    for (class, from, to, thick) in [
        ("wait", queued, run.started_us, 6),
        ("up", ready, end, 6),
        (starting, run.started_us, ready, 14),
    ] {
        if to < from || (to == from && class != starting) {
            continue;
        }
        // what lies beyond the edge has no width; what is short is still seen
        let (left, right) = (x(from), x(to));
        let wide = (right - left).max(if class == starting { 1.5 } else { 0.0 });
        let top = y.saturating_add((ROW - thick) / 2);
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top}\" width=\"{wide:.1}\" height=\"{thick}\"/>"
        );
    }
}

fn legend(out: &mut String, y: u64, later: usize) {
    let mut left = LEFT;
    for (class, what) in
        [("wait", "waiting"), ("start", "starting"), ("up", "up"), ("fail", "ended before")]
    {
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{left}\" y=\"{}\" width=\"14\" height=\"12\"/>",
            y.saturating_sub(10)
        );
        text(out, (left + 20) as f64, y, "dim", "", what);
        left += 110;
    }
    if later > 0 {
        let what = format!("{later} more were first started later");
        text(out, left as f64, y, "dim", "", &what);
    }
}

fn text(out: &mut String, x: f64, y: u64, class: &str, more: &str, what: &str) {
    let escaped = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let escaped = escaped.replace(char::is_control, " ");
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" {more}>{escaped}</text>");
}

fn scaled(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64 * WIDTH as f64
}

/// Microseconds as seconds with three digits, rounded down.
fn seconds(us: u64) -> String {
    format!("{}.{:03}", us / 1_000_000, us / 1_000 % 1_000)
}

/// 1, 2 or 5 times a power of ten, so that there are at most ten lines.
fn grid_step(span: u64) -> u64 {
    let mut step: u64 = 1_000;
    loop {
        for factor in [1, 2, 5] {
            let candidate = step.saturating_mul(factor);
            if candidate == u64::MAX || span / candidate <= 10 {
                return candidate;
            }
        }
        step = step.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::ServiceTimes;
    use super::*;

    fn times() -> Times {
        let run = |queued, started, ready| Run {
            queued_us: Some(queued),
            started_us: started,
            ready_us: ready,
            ended_us: None,
        };
        let service = |name: &str, run| ServiceTimes { name: name.to_owned(), runs: vec![run] };
        Times {
            began_us: 2_000_000,
            now_us: 90_000_000,
            services: vec![
                service("b<&>", run(2_000_000, 2_400_000, Some(3_000_000))),
                service("a", run(2_000_000, 2_010_000, Some(2_390_000))),
                service("late", run(60_000_000, 60_000_000, Some(60_500_000))),
                service("never", run(2_000_000, 2_500_000, None)),
            ],
        }
    }

    #[test]
    fn the_slowest_is_blamed_first() {
        let list = blame(&times());
        let names: Vec<_> = list.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names, ["b<&>", "late", "a"]);
        assert_eq!(list[0].took, Duration::from_millis(600));
        assert_eq!(list[0].waited, Duration::from_millis(400));
        assert_eq!(list[0].ready_at, Duration::from_secs(1));
    }

    #[test]
    fn the_chart_has_a_row_for_each_in_order() {
        let chart = svg(&times(), "host");
        let place = |what: &str| chart.find(what).unwrap_or_else(|| panic!("{what}: {chart}"));
        assert!(place(">a</text>") < place(">b&lt;&amp;&gt;</text>"));
        assert!(place(">never</text>") < place("1 more were first started later"));
        assert!(!chart.contains(">late<"));
        assert!(chart.contains("0.600 s</text>") && chart.contains(">not up<"));
        assert!(chart.contains("began 2.000 s after the kernel"));
        // well-formed, as far as counting goes
        assert_eq!(chart.matches("<text").count(), chart.matches("</text>").count());
        assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_at_all_is_still_a_picture() {
        assert!(svg(&Times::default(), "").ends_with("</svg>\n"));
        let far = Times { began_us: 0, now_us: u64::MAX, services: Vec::new() };
        assert!(svg(&far, "").ends_with("</svg>\n"));
        assert_eq!(grid_step(u64::MAX / 2), 1_000_000_000_000_000_000);
        assert_eq!(grid_step(1_000), 1_000);
        assert_eq!(grid_step(45_000), 5_000);
    }
}
