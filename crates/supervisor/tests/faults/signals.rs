//! Many signals, and many that are one.

use std::path::Path;

use kiln_supervisor::{Log, LogFile};
use rustix::process::Signal;

use crate::supervised::{Supervisor, options, sh, supervise, until};
use crate::{children, signal, state};

const SERVICES: usize = 200;
const STORM: usize = 1_000_000;

pub(crate) fn run(dir: &Path) {
    let mut options = options(dir);
    options.reap_orphans = Some(true);
    let mut specs: Vec<_> =
        (0..SERVICES).map(|number| sh(&format!("s{number}"), "exec sleep 1000")).collect();
    specs[0].command[2] = "while :; do echo line; sleep 0.1; done".into();
    specs[0].log = Log::File(LogFile::new(dir.join("s0.log")));
    supervise(specs, options);
}

/// The numbers of all services that are up.
fn up(client: &mut kiln_supervisor::control::Client) -> Vec<i32> {
    let list = client.status(None).unwrap();
    list.iter().filter(|status| status.state == "up").filter_map(|status| status.pid).collect()
}

/// `SIGCHLD` is one signal however many have ended: while it is stopped, all of its children end.
pub(crate) fn ends_test(dir: &Path) {
    let supervisor = Supervisor::start("ends_that_come_together_are_all_seen", dir);
    let mut client = supervisor.client();
    let all = |client: &mut _| Some(up(client)).filter(|pids| pids.len() == SERVICES);
    let before = until("all are up", || all(&mut client));
    let own = i32::try_from(supervisor.pid()).unwrap();
    signal(own, Signal::STOP);
    until("it is stopped", || (state(own) == Some('T')).then_some(()));
    before.iter().for_each(|pid| signal(*pid, Signal::KILL));
    until("all are zombies", || before.iter().all(|pid| state(*pid) == Some('Z')).then_some(()));
    signal(own, Signal::CONT);
    let after = until("all are up again", || {
        all(&mut client).filter(|pids| !pids.iter().any(|pid| before.contains(pid)))
    });
    let mut found = children(own);
    found.retain(|pid| !after.contains(pid));
    assert!(found.is_empty(), "{found:?} beside the services");
    let out = supervisor.end();
    // that of a service's child is told as an orphan's
    let is_end = |line: &&str| line.contains(" ended after ") && line.contains("SIGKILL");
    assert_eq!(out.lines().filter(is_end).count(), SERVICES, "{out}");
}

/// A million of each kind: the supervisor lives, its services are the same, and it still does what
/// the signal asks for.
pub(crate) fn storm_test(dir: &Path) {
    let supervisor = Supervisor::start("a_storm_of_signals_changes_nothing", dir);
    let mut client = supervisor.client();
    let all = |client: &mut _| Some(up(client)).filter(|pids| pids.len() == SERVICES);
    let before = until("all are up", || all(&mut client));
    let log = dir.join("s0.log");
    until("there is a log", || log.exists().then_some(()));
    std::fs::rename(&log, dir.join("old.log")).unwrap();
    let own = i32::try_from(supervisor.pid()).unwrap();
    for kind in [Signal::CHILD, Signal::USR1, Signal::USR2, Signal::HUP] {
        for _ in 0..STORM {
            signal(own, kind);
        }
        assert_eq!(client.status(Some("s0")).unwrap()[0].state, "up", "after {kind:?}");
    }
    until("the log is made anew", || log.exists().then_some(()));
    assert_eq!(all(&mut client), Some(before));
    supervisor.end();
}
