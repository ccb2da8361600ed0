//! The socket through panics, idleness and loss.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use kiln_supervisor::control::ControlOptions;
use kiln_supervisor::unix::{self, OnPanic, Request, Source};
use kiln_supervisor::{Outcome, Readiness};

use crate::supervised::{Supervisor, options, sh, socket, supervise, until};

/// Panics for each byte that somebody writes into a FIFO.
#[derive(Debug)]
struct Gate(std::fs::File);

impl Source for Gate {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
    fn take(&mut self) -> std::io::Result<Vec<Request>> {
        std::io::Read::read(&mut self.0, &mut [0])?;
        Ok(vec![Request::Panic])
    }
}

/// What panics for each byte that is written into a directory's FIFO.
pub(crate) fn panics(dir: &Path) -> Box<dyn Source> {
    // both ends, so that it never ends
    let file = std::fs::File::options().read(true).write(true).open(dir.join("fifo")).unwrap();
    Box::new(Gate(file))
}

/// Makes that FIFO.
pub(crate) fn fifo(dir: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = dir.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

pub(crate) fn panic_run(dir: &Path) {
    let mut ready = sh("ready", "echo >&3; exec sleep 1000");
    ready.readiness = Readiness::NotifyFd(3);
    let mut options = options(dir);
    options.on_panic = OnPanic::Reexec { limit: 5 };
    options.sources.push(panics(dir));
    let outcome = supervise(vec![ready, sh("stopped", "exec sleep 1000")], options);
    assert_eq!(outcome, Outcome::Exit);
}

pub(crate) fn panic_test(dir: &Path) {
    fifo(dir);
    let fifo = dir.join("fifo");
    let supervisor = Supervisor::start("a_panic_keeps_the_socket_and_the_times", dir);
    let mut client = supervisor.client();
    let pid = |client: &mut kiln_supervisor::control::Client| {
        let status = client.status(Some("ready")).unwrap().remove(0);
        (status.state == "up").then(|| status.pid.unwrap())
    };
    let before = until("it is up", || pid(&mut client));
    let times = client.times().unwrap();
    // what was asked for before a panic stays done
    client.stop("stopped", Duration::from_secs(60)).unwrap();
    for panics in 1..=3 {
        let mut old = supervisor.client();
        std::fs::OpenOptions::new().write(true).open(&fifo).unwrap().write_all(b"x").unwrap();
        // a connection from before is closed, not left in doubt
        until("the old connection ends", || old.status(None).is_err().then_some(()));
        let mut new = supervisor.client();
        assert_eq!(new.supervisor(), i32::try_from(supervisor.pid()).unwrap());
        assert_eq!(pid(&mut new), Some(before), "the same process");
        let stopped = new.status(Some("stopped")).unwrap().remove(0);
        assert_eq!(stopped.state, "down", "after panic {panics}");
        let now = new.times().unwrap();
        let of = |times: &kiln_supervisor::control::Times| {
            times.services.iter().find(|s| s.name == "ready").unwrap().runs.clone()
        };
        assert_eq!((now.began_us, of(&now)), (times.began_us, of(&times)));
        // and it still acts
        new.restart("stopped", Duration::from_secs(60)).unwrap();
        new.stop("stopped", Duration::from_secs(60)).unwrap();
    }
    let out = supervisor.end();
    assert!(out.contains("resumed after panic 3"), "{out}");
    assert_eq!(out.matches("ready: started").count(), 1, "{out}");
}

pub(crate) fn idle_run(dir: &Path) {
    let specs = (0..10).map(|n| sh(&format!("s{n}"), "exec sleep 1000")).collect();
    supervise(specs, options(dir));
}

pub(crate) fn idle_test(dir: &Path) {
    let supervisor = Supervisor::start("nobody_connected_means_no_wakeups", dir);
    let mut client = supervisor.client();
    until("all are up", || {
        let list = client.status(None).unwrap();
        list.iter().all(|status| status.state == "up").then_some(())
    });
    let count = || supervisor.number("voluntary_ctxt_switches");
    // Connected and silent: the next deadline is minutes away. The window is what is measured.
    let during = |seconds| {
        let before = count();
        std::thread::sleep(Duration::from_secs(seconds));
        count() - before
    };
    until("it has gone to sleep", || (during(1) == 0).then_some(()));
    assert_eq!(during(2), 0, "with a silent client");
    drop(client);
    until("it has gone to sleep", || (during(1) == 0).then_some(()));
    assert_eq!(during(3), 0, "with nobody");
    supervisor.end();
}

pub(crate) fn late_run(dir: &Path) {
    let mut options = options(dir);
    options.role = unix::Role::Init;
    supervise(vec![sh("a", "exec sleep 1000")], options);
}

/// A machine's first process goes on without its socket, and makes it when it can.
pub(crate) fn late_test(dir: &Path) {
    std::fs::write(dir.join("run"), "in the way of the directory").unwrap();
    let supervisor = Supervisor::start("a_first_process_goes_on_without_its_socket", dir);
    until("it tells of it", || supervisor.out().contains("no control socket at").then_some(()));
    until("it goes on", || supervisor.out().contains("a: up").then_some(()));
    std::fs::remove_file(dir.join("run")).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(supervisor.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    supervisor.client();
    supervisor.end();
}

pub(crate) fn lost_run(dir: &Path) {
    supervise(vec![sh("a", "exec sleep 1000")], options(dir));
}

pub(crate) fn lost_test(dir: &Path) {
    let supervisor = Supervisor::start("a_lost_socket_is_made_anew_and_a_live_one_kept", dir);
    supervisor.client();
    // nobody takes the place of one who listens
    let mut second = unix::Options::default();
    second.control = Some(ControlOptions::new(socket(dir)));
    let error = unix::run(Vec::new(), second, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("another process listens there"), "{error}");
    supervisor.client();
    // somebody empties the directory
    std::fs::remove_dir_all(socket(dir).parent().unwrap()).unwrap();
    let pid = i32::try_from(supervisor.pid()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    supervisor.client();
    supervisor.end();
}
