//! Lines on the console.

use std::fmt;

use kiln_supervisor::unix;

/// A line of process 1, with the seconds since the kernel started.
pub(crate) fn say(system: &str, what: impl fmt::Display) {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split_whitespace().next().unwrap_or("?");
    unix::console_line(format_args!("[{seconds:>8}] {system}: {what}"));
}

/// A line of a service. Never waits for the console, and does not mind when there is none.
pub(crate) fn tell(service: &str, what: impl fmt::Display) {
    unix::console_line(format_args!("{service}: {what}"));
}
