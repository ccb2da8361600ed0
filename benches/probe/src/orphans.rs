//! Processes that lose their parent, and end all at once.

use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions};

use crate::notes::{self, Notes};
use crate::{Error, start_again};

/// How long it waits for its orphans to be reaped before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Notes `released`, `reaped` when none of them is left, and how many were left after a second.
pub(crate) fn run(file: &str, number: usize) -> Result<ExitCode, Error> {
    let notes = Notes::open(file)?;
    let (hold, holder) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&holder, rustix::io::FdFlags::CLOEXEC)?;
    let (read, write) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdin(&hold)?;
    rustix::stdio::dup2_stdout(&write)?;
    drop((hold, write));
    let spawner = start_again(&format!("spawn:{number}"))?;
    // Nobody but the spawner has the pipe's other end now, so that its end is seen.
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stdin(&null)?;
    let mut bytes = Vec::new();
    std::fs::File::from(read).take(number as u64 * 4).read_to_end(&mut bytes)?;
    rustix::process::waitpid(Some(spawner), WaitOptions::empty())?;
    let mut orphans: Vec<Pid> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .filter_map(|bytes| Pid::from_raw(i32::from_ne_bytes(*bytes)))
        .collect();
    if orphans.len() != number {
        return Err(format!("{} of {number} were started", orphans.len()).into());
    }
    let (start, released) = (Instant::now(), notes::now());
    drop(holder);
    let mut after_a_second = None;
    loop {
        // The last ones first: those before them are mostly gone when they are.
        while orphans.last().is_some_and(|pid| rustix::process::test_kill_process(*pid).is_err()) {
            orphans.pop();
        }
        if after_a_second.is_none() && start.elapsed() >= Duration::from_secs(1) {
            orphans.retain(|pid| rustix::process::test_kill_process(*pid).is_ok());
            after_a_second = Some(orphans.len());
        }
        if orphans.is_empty() || start.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    notes.add("released", released)?;
    notes.add("left", after_a_second.unwrap_or(0) as u64)?;
    notes.add(if orphans.is_empty() { "reaped" } else { "given-up" }, notes::now())?;
    Ok(ExitCode::SUCCESS)
}

/// Starts them, says their numbers to standard output, and ends before them.
pub(crate) fn spawn(number: usize) -> Result<ExitCode, Error> {
    let out = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdout(&null)?;
    for _ in 0..number {
        let pid = start_again("wait")?;
        rustix::io::write(&out, &pid.as_raw_nonzero().get().to_ne_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until nobody holds the other end of standard input.
pub(crate) fn wait() -> Result<ExitCode, Error> {
    let mut byte = [0];
    rustix::io::read(rustix::stdio::stdin(), &mut byte)?;
    Ok(ExitCode::SUCCESS)
}
