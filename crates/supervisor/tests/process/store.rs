//! Descriptors that outlive a process.

use super::*;

/// A service leaves a descriptor with the supervisor, is killed, and has it again.
pub(crate) fn run(dir: &Path) {
    let own = std::env::current_exe().unwrap().display().to_string();
    let mut spec = ServiceSpec::daemon("keeper", [own.as_str(), "--keep"]);
    spec.log = Log::File(plain(dir.join("log")));
    spec.readiness = Readiness::SdNotify;
    spec.fd_store = 1;
    spec.backoff.initial = Duration::from_millis(10);
    let mut starts = 0;
    let mut number = None;
    crate::run(vec![spec], options(), &mut |event| match event {
        Event::Started { pid, .. } => number = Some(*pid),
        Event::Ready { .. } => {
            starts += 1;
            match (starts, number) {
                (1, Some(pid)) => kill(pid, rustix::process::Signal::KILL),
                _ => term_self(),
            }
        }
        _ => {}
    });
}
pub(crate) fn test(dir: &Path) {
    let lines = supervise("descriptors_are_kept_over_a_restart", dir);
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    assert_eq!(count(&lines, "keeper: up after"), 2, "{lines:#?} {log}");
    assert_eq!(log, "stored\nfound secret with content\n", "{lines:#?}");
}
