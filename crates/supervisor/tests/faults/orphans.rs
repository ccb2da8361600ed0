//! Orphans, in numbers.
#![expect(unsafe_code, reason = "10,000 processes are had by fork alone, without exec")]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kiln_supervisor::{Kill, ServiceSpec};
use nix::unistd::{ForkResult, fork};

use crate::supervised::{PATIENCE, Supervisor, options, sh, supervise, until};
use crate::{children, first_process, inner, is_root, state};

const AT_ONCE: usize = 10_000;
const IN_A_ROW: usize = 20_000;

pub(crate) fn run(dir: &Path) {
    assert!(rustix::process::getpid().is_init());
    let own = std::env::current_exe().unwrap().display().to_string();
    let maker = |name: &str, argument: &str, count: usize| {
        let words = [own.clone(), argument.to_owned(), count.to_string()];
        let mut spec = ServiceSpec::one_shot(name, words);
        (spec.kill, spec.enabled) = (Kill::Process, false);
        spec
    };
    let specs = vec![
        sh("other", "exec sleep 1000"),
        maker("burst", "--orphans-at-once", AT_ONCE),
        maker("row", "--orphans-in-a-row", IN_A_ROW),
    ];
    supervise(specs, options(dir));
}

/// Children that all end when this process does.
pub(crate) fn at_once(count: usize) -> ExitCode {
    let (mut gate, hold) = std::io::pipe().unwrap();
    for _ in 0..count {
        // SAFETY: this process has one thread, and the child only closes, reads and leaves.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { .. } => {}
            ForkResult::Child => {
                drop(hold);
                let _ = std::io::Read::read(&mut gate, &mut [0]);
                leave();
            }
        }
    }
    ExitCode::SUCCESS
}

/// Children's children whose parents have gone, one after the other.
pub(crate) fn in_a_row(count: usize) -> ExitCode {
    for _ in 0..count {
        // SAFETY: this process has one thread, and the child only forks and leaves.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                nix::sys::wait::waitpid(child, None).unwrap();
            }
            ForkResult::Child => {
                // SAFETY: as above; both leave at once.
                let _ = unsafe { fork() };
                leave();
            }
        }
    }
    ExitCode::SUCCESS
}

fn leave() -> ! {
    // SAFETY: it takes no pointer, and ends the process without anything of ours being run.
    unsafe { nix::libc::_exit(0) }
}

/// Starts the maker and asks all the while, until nobody is left but the service that stays.
fn test(name: &str, maker: &str, dir: &Path) {
    if !is_root() {
        return;
    }
    let supervisor = first_process(name, dir);
    let mut client = supervisor.client();
    let first = inner(&supervisor);
    until("other is up", || (client.status(Some("other")).unwrap()[0].state == "up").then_some(()));
    let mut starter = supervisor.client();
    let maker = maker.to_owned();
    let waits = std::thread::spawn(move || starter.start(&maker, PATIENCE * 5));
    let (mut slowest, mut answers, mut ended) = (Duration::ZERO, 0_u32, None);
    loop {
        let asked = Instant::now();
        assert_eq!(client.status(Some("other")).unwrap()[0].state, "up");
        slowest = slowest.max(asked.elapsed());
        answers += 1;
        if waits.is_finished() {
            let ended = *ended.get_or_insert_with(Instant::now);
            if children(first).len() == 1 {
                println!(
                    "{answers} answers, the slowest {slowest:?}; all gone {:?} after",
                    ended.elapsed()
                );
                break;
            }
            assert!(ended.elapsed() < PATIENCE, "{} are left", children(first).len());
        }
    }
    waits.join().unwrap().unwrap();
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    assert!(children(first).iter().all(|pid| state(*pid) != Some('Z')));
    ending(supervisor);
}

fn ending(supervisor: Supervisor) {
    let out = supervisor.end();
    assert_eq!(out.matches("other: started").count(), 1, "{out}");
}

pub(crate) fn burst_test(dir: &Path) {
    test("ten_thousand_orphans_at_once_are_reaped", "burst", dir);
}

pub(crate) fn row_test(dir: &Path) {
    test("twenty_thousand_orphans_in_a_row_are_reaped", "row", dir);
}
