//! The words of the command line: `container --runtime crun --bundle DIR --id NAME`.

use std::ffi::OsString;
use std::process::ExitCode;

use super::{Event, NOT_RUN, Options, leave, run};
use crate::unix::console_line;

const HELP: &str =
    "Runs a container by an OCI runtime: deletes what is left of it from before, creates
and starts it, passes signals on, deletes it and ends as it ended (125: there was none)

Usage: kiln-supervisor container [OPTIONS] --bundle DIR --id NAME

Options:
  --bundle DIR       The directory with config.json
  --id NAME          What the container is known by
  --runtime NAME     crun (default) or runc
  --program PATH     The runtime's program (default: by its name, in PATH)
  --state-dir DIR    Where the runtime keeps what it knows (default: its own place)
  --preserve-fds N   Descriptors from 3 on that the container inherits
  --notify PATH      A notification socket's file, which the container is given; a copy
                     of config.json that says so is written beside it
  --verbose          Say what happens
  --help             Print this
";

/// What was asked for.
#[derive(Debug, PartialEq)]
enum Asked {
    Run { options: Box<Options>, verbose: bool },
    Help,
}

fn read(words: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let mut words = words;
    let mut options = Options::new("", "");
    let mut verbose = false;
    while let Some(word) = words.next() {
        let name = word.to_string_lossy().into_owned();
        match name.as_str() {
            "--verbose" => verbose = true,
            "--help" | "-h" => return Ok(Asked::Help),
            "--bundle" | "--id" | "--runtime" | "--program" | "--state-dir" | "--preserve-fds"
            | "--notify" => {
                let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
                let text = || value.to_string_lossy().into_owned();
                match name.as_str() {
                    "--bundle" => options.bundle = value.into(),
                    "--id" => options.id = text(),
                    "--runtime" => options.runtime = text().parse()?,
                    "--program" => options.program = Some(value.into()),
                    "--state-dir" => options.state_dir = Some(value.into()),
                    "--notify" => options.notify_socket = Some(value.into()),
                    _ => {
                        let bad = |_| format!("--preserve-fds {}: expected a number", text());
                        options.preserve_fds = text().parse().map_err(bad)?;
                    }
                }
            }
            other => return Err(format!("unknown option {}", other.escape_debug())),
        }
    }
    if options.bundle.as_os_str().is_empty() {
        return Err("--bundle is missing".into());
    }
    if options.id.is_empty() || options.id.starts_with('-') {
        return Err("--id is missing, or begins with -".into());
    }
    Ok(Asked::Run { options: Box::new(options), verbose })
}

/// What `container` is followed by on the command line of `kiln-supervisor`, or of a guest's `/init`. Comes
/// back only if there was no container that it could end as; complaints go to standard error.
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let (options, verbose) = match read(words) {
        Ok(Asked::Run { options, verbose }) => (options, verbose),
        Ok(Asked::Help) => {
            let _ = std::io::Write::write_all(&mut std::io::stdout(), HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            console_line(format_args!("kiln-supervisor container: {problem}; see --help"));
            return ExitCode::from(NOT_RUN);
        }
    };
    let tell = |what: &dyn std::fmt::Display| {
        console_line(format_args!("container {}: {what}", options.id));
    };
    let ended = run(&options, &mut |event| {
        if verbose || matches!(event, Event::Without(_)) {
            tell(&event);
        }
    });
    match ended {
        Ok(status) => leave(status),
        Err(error) => {
            tell(&error);
            ExitCode::from(NOT_RUN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RuntimeName;

    fn asked(words: &str) -> Result<Asked, String> {
        read(words.split_whitespace().map(OsString::from))
    }

    #[test]
    fn words_are_options() {
        let line = "--runtime runc --bundle /b --id web --program /x/runc --state-dir /run/r \
                    --preserve-fds 2 --notify /run/n --verbose";
        let Asked::Run { options, verbose: true } = asked(line).unwrap() else { unreachable!() };
        assert_eq!((options.runtime, options.preserve_fds), (RuntimeName::Runc, 2));
        assert_eq!((options.bundle.to_str(), options.id.as_str()), (Some("/b"), "web"));
        assert_eq!(options.program, Some("/x/runc".into()));
        assert_eq!(options.state_dir, Some("/run/r".into()));
        assert_eq!(options.notify_socket, Some("/run/n".into()));
    }

    #[test]
    fn what_is_no_option_is_named() {
        for (line, complaint) in [
            ("--bundle /b", "--id is missing, or begins with -"),
            ("--id x", "--bundle is missing"),
            ("--id", "--id needs a value"),
            ("--bundle /b --id x --runtime y", "unknown OCI runtime \"y\", expected crun or runc"),
            ("--preserve-fds -1", "--preserve-fds -1: expected a number"),
            ("/b", "unknown option /b"),
        ] {
            assert_eq!(asked(line).unwrap_err(), complaint);
        }
        assert_eq!(asked("--help"), Ok(Asked::Help));
    }
}
