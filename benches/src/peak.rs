//! The most memory that a process held.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;

/// Runs a program to its end; gives its `VmHWM` (proc(5)) in MiB, looked at every two milliseconds.
///
/// # Errors
/// It cannot be started, or fails.
pub fn mebibytes(mut command: Command) -> Result<f64> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut highest = 0.0_f64;
    let status = loop {
        highest = high_water_mark(&child).unwrap_or_default().max(highest);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if status.success() { Ok(highest) } else { Err(status.to_string().into()) }
}

fn high_water_mark(child: &Child) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kibibytes| kibibytes / 1024.0)
}
