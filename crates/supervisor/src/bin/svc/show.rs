//! Answers as text.

use std::fmt::Write as _;
use std::time::Duration;

use kiln_supervisor::control::{self, EventLine, ServiceStatus, Times};

/// A value as a line of JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    // plain data always has a form; an empty line is still no panic
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// A table for people.
pub(crate) fn table(list: &[ServiceStatus]) -> String {
    let rows: Vec<[String; 5]> = list
        .iter()
        .map(|status| {
            let since = status.running_ms.map(|ms| age(Duration::from_millis(ms)));
            [
                status.name.clone(),
                status.state.clone(),
                status.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                since.unwrap_or_else(|| "-".to_owned()),
                status.restarts.to_string(),
            ]
        })
        .collect();
    let heads = ["SERVICE", "STATE", "PID", "FOR", "RESTARTS"];
    let mut widths = heads.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: &[String; 5], detail: &str| {
        let mut text = String::new();
        for ((place, cell), width) in cells.iter().enumerate().zip(widths) {
            let _ = match place {
                0 | 1 => write!(text, "{cell:width$}  "),
                _ => write!(text, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(out, "{}", (text + detail).trim_end());
    };
    line(&heads.map(str::to_owned), "");
    for (status, row) in list.iter().zip(&rows) {
        line(row, &detail(status));
    }
    out
}

fn detail(status: &ServiceStatus) -> String {
    let mut text = clean(status.detail.as_deref().unwrap_or_default());
    if let Some(ms) = status.due_ms {
        let what = match status.state.as_str() {
            "backoff" => "starts",
            "stopping" => "is killed",
            _ => "gives up",
        };
        let _ = write!(text, "{}{what} in {}", if text.is_empty() { "" } else { "; " }, ms_of(ms));
    }
    text
}

fn ms_of(ms: u64) -> String {
    age(Duration::from_millis(ms))
}

/// A time in its two largest units.
fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{}.{}s", seconds, time.subsec_millis() / 100),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// Nothing that moves a terminal's cursor.
fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// An event as a line, with the seconds since the kernel's start as its log has them.
pub(crate) fn event(event: &EventLine) -> String {
    let (seconds, micros) = (event.at_us / 1_000_000, event.at_us % 1_000_000);
    let mark = if event.problem { "! " } else { "" };
    format!("[{seconds:5}.{micros:06}] {mark}{}\n", clean(&event.text))
}

/// Who took how long.
pub(crate) fn blame(times: &Times) -> String {
    let mut out = String::from("      TOOK     WAITED   READY AT  SERVICE\n");
    for blame in control::blame(times) {
        let seconds = |time: Duration| format!("{:.3}s", time.as_secs_f64());
        let (took, waited, at) =
            (seconds(blame.took), seconds(blame.waited), seconds(blame.ready_at));
        let _ = writeln!(out, "{took:>10} {waited:>10} {at:>10}  {}", blame.name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> ServiceStatus {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_table_for_people() {
        let list = [
            status(
                r#"{"name":"web","state":"up","one-shot":false,"wanted":true,"pid":712,
                    "running-ms":90061000,"restarts":2,"detail":"before: exit code 1"}"#,
            ),
            status(
                r#"{"name":"a-long-name","state":"backoff","one-shot":false,"wanted":true,
                    "restarts":13,"due-ms":1600,"detail":"exit \u001b[2Jcode 1"}"#,
            ),
        ];
        assert_eq!(
            table(&list),
            "SERVICE      STATE    PID    FOR  RESTARTS\n\
             web          up       712  1d01h         2  before: exit code 1\n\
             a-long-name  backoff    -      -        13  exit  [2Jcode 1; starts in 1.6s\n"
        );
    }

    #[test]
    fn times_for_people() {
        for (ms, expected) in
            [(0, "0.0s"), (9_990, "9.9s"), (59_000, "59s"), (61_000, "1m01s"), (3_600_000, "1h00m")]
        {
            assert_eq!(age(Duration::from_millis(ms)), expected);
        }
    }
}
