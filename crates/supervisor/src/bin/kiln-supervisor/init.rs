//! `kiln-supervisor init [OPTIONS] [--] COMMAND …`: a container's first process.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use kiln_supervisor::unix::console_line;
use kiln_supervisor::unix::init::{self, Event, Options};

const HELP: &str = "Runs a command as a container's first process: passes signals on, reaps all who
end, and leaves with the command's exit code (128 and the signal's number if one ended it)

Usage: kiln-supervisor init [OPTIONS] [--] COMMAND [ARGUMENTS]...

Options:
  -g        Pass signals on to the command's whole process group
  -s        Take in orphans without being PID 1 (as a child subreaper)
  -p SIGNAL Get this signal when the parent ends
  -e CODE   This exit code of the command counts as success (may be repeated)
  -w        Warn of each process that is reaped
  -v        Say what happens
  -h        Print this
";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    command: Vec<OsString>,
    group: bool,
    subreaper: bool,
    parent_death: Option<OsString>,
    success: Vec<OsString>,
    warn: bool,
    verbose: bool,
    help: bool,
}

/// Options end at `--` or at the first word that is none, so that the command's own stay its own.
fn read(words: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let mut words = words.peekable();
    let mut asked = Asked::default();
    while let Some(word) = words.next_if(|word| word.as_bytes().starts_with(b"-")) {
        if word == "--" {
            break;
        }
        let mut letters = word.as_bytes().iter().skip(1).copied();
        if word.len() == 1 {
            return Err("a single - is no option".into());
        }
        while let Some(letter) = letters.next() {
            match letter {
                b'g' => asked.group = true,
                b's' => asked.subreaper = true,
                b'w' => asked.warn = true,
                b'v' => asked.verbose = true,
                b'h' => asked.help = true,
                b'e' | b'p' => {
                    let rest: Vec<u8> = letters.by_ref().collect();
                    let value = match rest.is_empty() {
                        true => words
                            .next()
                            .ok_or_else(|| format!("-{} needs a value", char::from(letter)))?,
                        false => OsStr::from_bytes(&rest).to_owned(),
                    };
                    match letter {
                        b'e' => asked.success.push(value),
                        _ => asked.parent_death = Some(value),
                    }
                }
                other => {
                    return Err(format!("unknown option -{}", char::from(other).escape_default()));
                }
            }
        }
    }
    asked.command = words.collect();
    Ok(asked)
}

fn options(asked: &Asked) -> Result<Options, String> {
    if asked.command.is_empty() {
        return Err("no command to run".into());
    }
    let mut options = Options::new(asked.command.iter());
    options.group = asked.group;
    options.subreaper = asked.subreaper;
    options.parent_death = match &asked.parent_death {
        None => None,
        Some(name) => Some(name.to_string_lossy().parse()?),
    };
    for code in &asked.success {
        let text = code.to_string_lossy();
        let code = text.parse().map_err(|_| format!("-e {text}: exit codes are 0 to 255"))?;
        options.success.push(code);
    }
    Ok(options)
}

pub(crate) fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let asked = match read(words) {
        Ok(asked) => asked,
        Err(problem) => return refuse(&problem),
    };
    if asked.help {
        let _ = std::io::Write::write_all(&mut std::io::stdout(), HELP.as_bytes());
        return ExitCode::SUCCESS;
    }
    let options = match options(&asked) {
        Ok(options) => options,
        Err(problem) => return refuse(&problem),
    };
    let mut tell = |event: Event| {
        let told = match event {
            Event::ReapsNobody => true,
            Event::Reaped(..) => asked.warn || asked.verbose,
            _ => asked.verbose,
        };
        if told {
            console_line(format_args!("kiln-supervisor: {event}"));
        }
    };
    match init::run(&options, &mut tell) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            console_line(format_args!("kiln-supervisor: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn refuse(problem: &str) -> ExitCode {
    console_line(format_args!("kiln-supervisor init: {problem}; see -h"));
    ExitCode::from(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Asked, String> {
        read(words.iter().map(OsString::from))
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let found = asked(&["-gv", "-e", "143", "-e7", "-p", "TERM", "sh", "-c", "-s"]).unwrap();
        assert!(found.group && found.verbose && !found.subreaper);
        assert_eq!(found.success, ["143", "7"]);
        assert_eq!(found.command, ["sh", "-c", "-s"]);
        assert_eq!(asked(&["-s", "--", "-x"]).unwrap().command, ["-x"]);
    }

    #[test]
    fn what_is_no_option_is_named() {
        assert_eq!(asked(&["-x", "true"]).unwrap_err(), "unknown option -x");
        assert_eq!(asked(&["-g", "-e"]).unwrap_err(), "-e needs a value");
        let bad = options(&asked(&["-e", "256", "true"]).unwrap()).unwrap_err();
        assert_eq!(bad, "-e 256: exit codes are 0 to 255");
        assert!(options(&asked(&["-p", "NOPE", "true"]).unwrap()).is_err());
        assert_eq!(options(&asked(&["--"]).unwrap()).unwrap_err(), "no command to run");
    }
}
