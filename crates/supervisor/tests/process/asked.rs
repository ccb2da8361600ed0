//! Readiness that is asked for.

use super::*;

/// Ready when it says so in three ways: a Unix socket, a TCP port, a command.
pub(crate) fn run(dir: &Path) {
    let own = std::env::current_exe().unwrap().display().to_string();
    let listener = |name: &str, address: &str| {
        let arguments = ["--serve".to_owned(), address.to_owned()];
        let mut spec = ServiceSpec::daemon(name, [own.clone()].into_iter().chain(arguments));
        spec.log = Log::Null;
        spec.readiness = Readiness::Connect(address.parse().unwrap());
        spec
    };
    let path = dir.join("socket");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap();
    drop(free);
    let file = dir.join("file");
    let mut probed = sh("probed", &format!("sleep 0.3; touch {}; exec sleep 100", file.display()));
    let mut probe = Probe::new(["test", "-e", &file.display().to_string()]);
    probe.every = Duration::from_millis(50);
    probed.readiness = Readiness::Probe(probe);
    let mut hangs = sh("hangs", "exec sleep 100");
    let mut probe = Probe::new(["sleep", "100"]);
    (probe.every, probe.timeout) = (Duration::from_millis(10), Duration::from_millis(100));
    hangs.readiness = Readiness::Probe(probe);
    hangs.ready_timeout = Duration::from_millis(500);
    hangs.restart = Restart::Never;
    let specs = vec![
        listener("unix", &format!("unix:{}", path.display())),
        listener("tcp", &format!("tcp:{port}")),
        probed,
        hangs,
    ];
    let mut left = 4;
    crate::run(specs, options(), &mut |event| {
        left -= i32::from(matches!(event, Event::Ready { .. } | Event::Failed { .. }));
        if left == 0 {
            left -= 1;
            term_self();
        }
    });
}
pub(crate) fn test(dir: &Path) {
    let lines = supervise("services_are_asked_whether_they_are_ready", dir);
    for name in ["unix", "tcp", "probed"] {
        assert_eq!(count(&lines, &format!("{name}: up after")), 1, "{lines:#?}");
    }
    assert_eq!(count(&lines, "hangs: failed: not ready in time"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "all services stopped"), 1);
}
