//! Orphans, in numbers.
#![expect(unsafe_code, reason = "10,000 processes are had by fork alone, without exec")]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use kiln_supervisor::{Kill, ServiceSpec};
use nix::unistd::{ForkResult, fork};
use rustix::system::sysinfo;

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
                let _ = gate.read(&mut [0]);
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

/// Starts the maker and asks all the while, until nobody is left but the service that stays. A process that
/// only echoes is asked in turn: what it waits for too is the kernel's, with thousands ending on few processors.
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
    let mut echo = Echo::start();
    let mut few = sysinfo().procs;
    let waits = std::thread::spawn(move || starter.start(&maker, PATIENCE * 5));
    let (mut answers, mut echoes, mut ended) = (vec![], vec![], None);
    loop {
        let asked = Instant::now();
        assert_eq!(client.status(Some("other")).unwrap()[0].state, "up");
        answers.push(asked.elapsed());
        let asked = Instant::now();
        echo.ask();
        echoes.push(asked.elapsed());
        if waits.is_finished() {
            let ended: Instant = *ended.get_or_insert_with(Instant::now);
            let ago = ended.elapsed();
            // the kernel keeps everybody's end waiting while it lists thousands of children, for long
            // enough to be taken for the supervisor's doing
            if sysinfo().procs <= few.saturating_add(50) {
                if children(first).len() == 1 {
                    println!("answers: {}; echoes: {}", spread(&mut answers), spread(&mut echoes));
                    println!("all gone {ago:?} after");
                    break;
                }
            } else if ago > PATIENCE / 2 {
                few = u16::MAX; // others have come
            }
            assert!(ago < PATIENCE, "{} are left", children(first).len());
        }
    }
    waits.join().unwrap().unwrap();
    let slowest = answers.last().unwrap();
    assert!(*slowest < Duration::from_secs(10), "{slowest:?}");
    assert!(children(first).iter().all(|pid| state(*pid) != Some('Z')));
    ending(supervisor);
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let part = |thousandths: usize| times[(times.len() - 1) * thousandths / 1000];
    let [p50, p99, p999, slowest] = [500, 990, 999, 1000].map(part);
    format!("{} in {p50:?}, p99 {p99:?}, p99.9 {p999:?}, slowest {slowest:?}", times.len())
}

/// A process that sends back each byte.
struct Echo {
    stream: UnixStream,
    process: Child,
}

impl Echo {
    fn start() -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        let far = std::process::Stdio::from(std::os::fd::OwnedFd::from(far));
        let mut command = Command::new(std::env::current_exe().unwrap());
        let process = command.args(["--echo", "1"]).stdin(far).spawn().unwrap();
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: near, process }
    }

    fn ask(&mut self) {
        self.stream.write_all(&[1]).unwrap();
        self.stream.read_exact(&mut [0]).unwrap();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends back what comes in, until nothing more does.
pub(crate) fn echo(at_once: usize) -> ExitCode {
    let mut stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut bytes = vec![0; at_once];
    while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
    ExitCode::SUCCESS
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
