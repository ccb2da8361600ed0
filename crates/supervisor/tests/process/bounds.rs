//! Users, limits, isolation.

use super::*;

/// What a service finds about itself.
pub(crate) fn run(dir: &Path) {
    std::fs::write(dir.join("env"), "FROM_FILE=file\nBOTH=file\n").unwrap();
    std::fs::write(dir.join("secret"), "s3cret").unwrap();
    let log = plain(dir.join("log"));
    let text = "echo id $(id -u) $(id -g) $(id -G | wc -w); echo limits $(ulimit -n) $(ulimit -Hn) $(nice) $(umask); \
                echo oom $(cat /proc/self/oom_score_adj); echo env $FROM_FILE $BOTH; \
                echo caps $(grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | tr -d '\\n\\t'); \
                echo secret $(cat $CREDENTIALS_DIRECTORY/token) $(stat -c %a%u $CREDENTIALS_DIRECTORY/token); \
                touch /usr/file 2>/dev/null && echo writable; echo hidden $(ls /var/log 2>/dev/null | wc -l) $(cat /etc/passwd | wc -l); \
                echo tmp $(ls /tmp | wc -l); touch /tmp/mine && echo own tmp; \
                echo pids $(ls -d /proc/[0-9]* | wc -l); echo net $(grep -c : /proc/net/dev)";
    let mut spec = ServiceSpec::one_shot("inside", ["/bin/sh", "-c", text]);
    spec.log = Log::File(log);
    spec.user = Some("nobody".into());
    spec.env_files = vec![dir.join("env"), "-/no/such/file".into()];
    spec.env.insert("BOTH".into(), "spec".into());
    spec.limits.nice = Some(5);
    spec.limits.oom_score_adj = Some(321);
    spec.limits.umask = Some(0o027);
    spec.limits.resources =
        vec![ResourceLimit { resource: Resource::Nofile, soft: Some(123), hard: Some(456) }];
    let isolation = &mut spec.isolation;
    isolation.capabilities = Some(vec!["CAP_NET_BIND_SERVICE".parse().unwrap()]);
    isolation.no_new_privs = true;
    isolation.namespaces = vec![Namespace::Pid, Namespace::Net, Namespace::Ipc, Namespace::Uts];
    isolation.private_tmp = true;
    isolation.read_only = vec!["/usr".into()];
    isolation.hidden = vec!["/var/log".into(), "/etc/passwd".into()];
    isolation.credentials.insert("token".into(), dir.join("secret"));
    // what nobody may read, nobody is told
    let mut lost = ServiceSpec::one_shot("lost", ["/bin/true"]);
    lost.user = Some("no-such-user".into());
    let mut bad = ServiceSpec::one_shot("bad", ["/bin/true"]);
    bad.isolation.read_only = vec!["/no/such/path".into()];
    let mut options = options();
    // where the service sees it: its /tmp is another one
    let base = Path::new("/run").join(format!("kiln-test-{}", std::process::id()));
    options.credentials_dir.clone_from(&base);
    crate::run(vec![spec, lost, bad], options, &mut |_| {});
    println!("0 credentials left: {}", base.join("inside").exists());
    let _ = std::fs::remove_dir(base);
}
pub(crate) fn test(dir: &Path) {
    let lines = supervise("bounds_and_isolation_hold", dir);
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    let has = |line: &str| assert!(log.lines().any(|l| l == line), "{line}: {log} {lines:#?}");
    has("id 65534 65534 1");
    has("limits 123 456 5 0027");
    has("oom 321");
    has("env file spec");
    has("caps CapEff:0000000000000400CapBnd:0000000000000400NoNewPrivs:1");
    has("secret s3cret 40065534");
    assert!(!log.contains("writable"), "{log}");
    has("own tmp");
    has("net 1");
    has("hidden 0 0");
    assert_eq!(count(&lines, "lost: cannot prepare user no-such-user: ENOENT"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "bad: cannot prepare /no/such/path: ENOENT"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "credentials left: false"), 1);
}

/// A service that is started again at once has its credentials each time: what the run before
/// leaves is not cleared away under its successor.
pub(crate) fn again_run(dir: &Path) {
    std::fs::write(dir.join("secret"), "s3cret").unwrap();
    let text = "[ -s $CREDENTIALS_DIRECTORY/token ] || echo missing; exec sleep 0.01";
    let mut spec = sh("again", text);
    spec.log = Log::File(plain(dir.join("log")));
    spec.backoff.initial = Duration::from_millis(1);
    spec.backoff.max = Duration::from_millis(1);
    spec.isolation.credentials.insert("token".into(), dir.join("secret"));
    let mut options = options();
    options.credentials_dir = dir.join("credentials");
    let mut starts = 0;
    crate::run(vec![spec], options, &mut |event| {
        starts += i32::from(matches!(event, Event::Started { .. }));
        if starts == 60 {
            starts += 1;
            term_self();
        }
    });
}

pub(crate) fn again_test(dir: &Path) {
    let lines = supervise("credentials_are_there_after_a_restart_at_once", dir);
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    assert_eq!(log, "", "{lines:#?}");
    assert_eq!(count(&lines, "again: started"), 60, "{lines:#?}");
    assert!(!dir.join("credentials/again").exists());
}

/// Who has the same memory has the same score, for the kernel: a new process has ours.
pub(crate) fn score_run(_: &Path) {
    let score = || std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let before = score();
    let mut spec = sh("likely", "exec sleep 100");
    spec.limits.oom_score_adj = Some(432);
    let quiet = sh("other", "exec sleep 100");
    let mut left = 2;
    super::run(vec![spec, quiet], options(), &mut |event| {
        left -= i32::from(matches!(event, Event::Ready { .. }));
        if left == 0 {
            left -= 1;
            println!("0 ours is the same: {}", score() == before);
            term_self();
        }
    });
}

pub(crate) fn score_test(dir: &Path) {
    let lines = supervise("a_score_is_that_of_its_service_alone", dir);
    assert_eq!(count(&lines, "ours is the same: true"), 1, "{lines:#?}");
}
