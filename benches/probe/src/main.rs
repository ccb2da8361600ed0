//! What supervisors supervise in `benches/src/bin/supervisor.rs`.
//!
//! Everything is in the first argument, `VERB:FIELD:FIELD…`, because a line `#!PROGRAM ARGUMENT` has
//! room for one; more arguments are ignored, except by `launch`.
//!
//! | argument | what it does |
//! |---|---|
//! | `launch:NOTES PROGRAM …` | notes `launch`, and becomes the program |
//! | `exec:PROGRAM:WORD:…` | becomes the program |
//! | `live:NOTES:NAME:LEAST:MOST` | notes its start, lives so many milliseconds, notes its end |
//! | `stay:NOTES:NAME` | notes its start, and stays |
//! | `crash:NOTES:NAME` | notes its start, and fails |
//! | `floor:NOTES:NAME:N` | the least that starting N programs can cost: N times `stay`, by vfork |
//! | `floor:NOTES:NAME:N:GROUPS` | the same with a control group for each below this directory: it is made and entered before the vfork, so that the child begins in it |
//! | `orphans:NOTES:N` | N processes lose their parent, then end all at once |
//! | `write:NOTES:MEBIBYTES` | writes lines to standard output, as fast as they are taken |
//! | `lag:NOTES:MILLISECONDS` | writes a line each 200 µs, and notes how long that took |
#![forbid(unsafe_code)]

mod notes;
mod orphans;
mod output;

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};

use notes::Notes;

/// Why a probe did not do its work. It is read by people only.
type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // The first thing: this is what "runs" means in the figures.
    let start = notes::now();
    let arguments: Vec<String> = std::env::args().collect();
    let what = arguments.get(1).map(String::as_str).unwrap_or_default();
    match run(start, what, arguments.get(2..).unwrap_or_default()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("probe {what}: {error}");
            ExitCode::from(111)
        }
    }
}

fn run(start: u64, what: &str, more: &[String]) -> Result<ExitCode, Error> {
    let fields: Vec<&str> = what.split(':').collect();
    match *fields.as_slice() {
        ["launch", file] => {
            let (program, rest) = more.split_first().ok_or("no program")?;
            Notes::open(file)?.add("launch", notes::now())?;
            Err(Command::new(program).args(rest).exec().into())
        }
        ["exec", program, ref words @ ..] => Err(Command::new(program).args(words).exec().into()),
        ["live", file, name, least, most] => {
            let notes = Notes::open(file)?;
            notes.add(name, start)?;
            let (least, most): (u64, u64) = (least.parse()?, most.parse()?);
            // Processes that start together should not end together.
            let chance = (start ^ (start >> 12)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let span = most.saturating_sub(least).max(1);
            std::thread::sleep(Duration::from_millis(least + chance % span));
            notes.add(&format!("{name}/end"), notes::now())?;
            Ok(ExitCode::SUCCESS)
        }
        ["stay", file, name] => {
            Notes::open(file)?.add(name, start)?;
            loop {
                std::thread::park();
            }
        }
        ["crash", file, name] => {
            Notes::open(file)?.add(name, start)?;
            Ok(ExitCode::FAILURE)
        }
        ["floor", file, name, number] => floor(file, name, number.parse()?, None),
        ["floor", file, name, number, groups] => floor(file, name, number.parse()?, Some(groups)),
        ["orphans", file, number] => orphans::run(file, number.parse()?),
        ["wait"] => orphans::wait(),
        ["spawn", number] => orphans::spawn(number.parse()?),
        ["write", file, mebibytes] => output::write(file, mebibytes.parse()?),
        ["lag", file, milliseconds] => output::lag(file, milliseconds.parse()?),
        _ => Err("no such verb, or not its fields".into()),
    }
}

/// glibc's posix_spawn is vfork and execve, with nothing between them that was not asked for.
fn start_again(argument: &str) -> Result<rustix::process::Pid, Error> {
    let own = CString::new(std::env::args().next().unwrap_or_default())?;
    let arguments = [own.clone(), CString::new(argument)?];
    let (actions, attributes) = (PosixSpawnFileActions::init()?, PosixSpawnAttr::init()?);
    let pid =
        posix_spawn::<_, CString, CString>(own.as_c_str(), &actions, &attributes, &arguments, &[])?;
    Ok(rustix::process::Pid::from_raw(pid.as_raw()).ok_or("no process")?)
}

fn floor(file: &str, name: &str, number: u32, groups: Option<&str>) -> Result<ExitCode, Error> {
    let argument = format!("stay:{file}:{name}");
    let mut children = Vec::new();
    for count in 0..number {
        if let Some(groups) = groups {
            let group = format!("{groups}/{count}");
            std::fs::create_dir_all(&group)?;
            std::fs::write(format!("{group}/cgroup.procs"), "0")?;
        }
        let pid = start_again(&argument)?;
        children.push(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?);
    }
    for _ in &children {
        rustix::process::wait(rustix::process::WaitOptions::empty())?;
    }
    Ok(ExitCode::SUCCESS)
}
