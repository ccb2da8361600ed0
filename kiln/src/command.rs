//! Programs of the host, run to their end with a bound and with an error that says what happened.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Finds a program on PATH, and in the directories for administrators that are not on everybody's.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return path.is_file().then_some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// As [`find`], with an error that names the package to install.
///
/// # Errors
/// [`Error::MissingTool`].
pub fn require(program: &str, purpose: &'static str, package: &str) -> Result<PathBuf> {
    find(program).ok_or_else(|| Error::MissingTool {
        tool: program.into(),
        purpose,
        remedy: format!(
            "`apt-get install {package}`, or `cargo xtask setup` for all that is needed"
        ),
    })
}

/// Runs a command to its end, at most for `limit`, and gives what it printed. Its standard input
/// is empty.
///
/// # Errors
/// [`Error::MissingTool`] when it cannot be started; [`Error::Command`] when it fails or takes
/// too long, with the end of its output.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    let line = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Command {
            command: line.clone(),
            outcome: format!("could not be started: {source}"),
            output: String::new(),
        })?;
    let collect = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                // A broken pipe here means that the child ended; its status tells the rest.
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let stdout = collect(child.stdout.take().map(|stream| Box::new(stream) as _));
    let stderr = collect(child.stderr.take().map(|stream| Box::new(stream) as _));
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    let (status, outcome) = loop {
        match child.try_wait() {
            Ok(Some(status)) => break (Some(status), format!("ended with {status}")),
            Ok(None) if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                break (None, format!("took longer than {} s and was ended", limit.as_secs()));
            }
            Ok(None) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(error) => break (None, format!("could not be waited for: {error}")),
        }
    };
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(Output { status, stdout, stderr }),
        _ => {
            let printed = if stderr.trim_ascii().is_empty() { &stdout } else { &stderr };
            Err(Error::Command {
                command: line,
                outcome,
                output: String::from_utf8_lossy(printed).into_owned(),
            })
        }
    }
}

/// The command as a person would type it, for messages.
#[must_use]
pub fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_says_what_it_printed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo sorry >&2; exit 3"]);
        let message = run(&mut command, Duration::from_secs(20)).unwrap_err().to_string();
        assert!(message.contains("sorry") && message.contains('3'), "{message}");
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let message = run(Command::new("sleep").arg("100"), Duration::from_millis(20))
            .unwrap_err()
            .to_string();
        assert!(message.contains("took longer"), "{message}");
    }
}
