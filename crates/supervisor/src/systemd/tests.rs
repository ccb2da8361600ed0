//! Units as texts.

use std::collections::BTreeSet;
use std::time::Duration;

use super::keys::KEYS;
use super::*;
use crate::reload::Reload;
use crate::spec::{
    Kill, Kind, Log, Namespace, Readiness, Resource, Restart, Seccomp, Signal, Violation,
};

fn sources(texts: &[(&str, &str)]) -> Vec<Source> {
    texts.iter().map(|(name, text)| Source::new(*name, *text)).collect()
}

/// Several units together, none of them named.
fn all(texts: &[(&str, &str)]) -> Units {
    parse(&sources(texts), &Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// A service alone, with lines of its `[Service]`.
fn service(lines: &str) -> (ServiceSpec, Vec<String>) {
    let text = format!("[Service]\nExecStart=/bin/a\n{lines}");
    let mut units = all(&[("a.service", &text)]);
    let lost = units.unsupported.iter().map(ToString::to_string).collect();
    (units.specs.remove(0), lost)
}

fn refused(texts: &[(&str, &str)]) -> Vec<String> {
    let findings = parse(&sources(texts), &Options::default()).unwrap_err();
    findings.0.iter().map(ToString::to_string).collect()
}

fn by_name<'a>(units: &'a Units, name: &str) -> &'a ServiceSpec {
    units.specs.iter().find(|spec| spec.name == name).unwrap()
}

#[test]
fn a_service_is_what_its_unit_says() {
    let (spec, lost) = service(
        "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\nRestart=on-failure\nRestartSec=5\n\
         TimeoutStartSec=1min\nTimeoutStopSec=7\nKillMode=process\nKillSignal=SIGINT\nUser=www\n\
         Environment=A=1 \"B=two words\"\nWorkingDirectory=/srv\nLimitNOFILE=10:20\nNice=5\nUMask=0077\n\
         MemoryMax=64M\nCPUQuota=150%\nPrivateTmp=yes\nPrivateIPC=1\nReadOnlyPaths=/etc -+/usr\n\
         ReadWritePaths=/etc/a -/srv\nReadWritePaths=+/var\n\
         LoadCredential=key:/etc/key\nStandardOutput=null\nNoNewPrivileges=yes\n\
         SystemCallFilter=~mount unshare\nSystemCallErrorNumber=EPERM\n",
    );
    assert_eq!(lost, [] as [&str; 0]);
    assert_eq!((spec.kind, &spec.readiness), (Kind::Daemon, &Readiness::SdNotify));
    assert_eq!(spec.reload, Some(Reload::Signal(Signal::HUP)));
    assert_eq!((spec.restart, spec.backoff.pause.as_secs()), (Restart::OnFailure, 5));
    assert_eq!((spec.ready_timeout.as_secs(), spec.stop_timeout.as_secs()), (60, 7));
    assert_eq!((spec.kill, spec.stop_signal), (Kill::Process, Signal::INT));
    assert_eq!(spec.user, Some("www".into()));
    let env: Vec<_> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(env, ["A=1", "B=two words", "LOGNAME=www", path, "USER=www"]);
    assert!(!spec.inherit_env && !spec.enabled);
    assert_eq!(spec.directory, Some("/srv".into()));
    let limit = spec.limits.resources[0];
    assert_eq!((limit.resource, limit.soft, limit.hard), (Resource::Nofile, Some(10), Some(20)));
    assert_eq!((spec.limits.nice, spec.limits.umask), (Some(5), Some(0o77)));
    let expected = [("cpu.max", "150000 100000"), ("memory.max", "67108864")];
    assert_eq!(spec.cgroup.settings(), expected.map(|(file, value)| (file, value.to_owned())));
    assert!(spec.isolation.private_tmp && spec.isolation.no_new_privs);
    assert_eq!(spec.isolation.namespaces, [Namespace::Ipc]);
    assert_eq!(spec.isolation.read_only, ["/etc", "-/usr"].map(PathBuf::from));
    assert_eq!(spec.isolation.writable, ["/etc/a", "-/srv", "/var"].map(PathBuf::from));
    assert_eq!(spec.isolation.credentials["key"], PathBuf::from("/etc/key"));
    assert_eq!(spec.log, Log::Null);
    let Some(Seccomp::Deny { calls, otherwise: Violation::Fail }) = &spec.isolation.seccomp else {
        panic!("{:?}", spec.isolation.seccomp)
    };
    assert_eq!(format!("{calls:?}"), "[mount, unshare]");
}

#[test]
fn what_is_not_said_is_as_the_manager_has_it() {
    let (spec, _) = service("");
    assert_eq!((spec.restart, spec.backoff.burst), (Restart::Never, 4));
    assert_eq!(spec.backoff.pause, Duration::from_millis(100));
    assert_eq!(spec.backoff.burst_window, Duration::from_secs(10));
    assert_eq!((spec.stop_timeout.as_secs(), spec.limits.umask), (90, Some(0o22)));
    assert_eq!(spec.directory, Some("/".into()));
    let (shot, _) = service("Type=oneshot\nRemainAfterExit=yes\nTimeoutSec=infinity\n");
    assert_eq!((shot.kind, shot.run_timeout), (Kind::OneShot, None));
}

#[test]
fn what_is_lost_is_listed_with_its_place() {
    let (_, lost) =
        service("WatchdogSec=5\nRuntimeDirectory=a\nSendSIGKILL=yes\nExecStop=/bin/b\n");
    assert_eq!(
        lost,
        [
            "a.service:3: WatchdogSec=5: it is not noticed when it hangs",
            "a.service:4: RuntimeDirectory=a: the directory is not made, and its variable is not set",
            "a.service:6: ExecStop=/bin/b: it is stopped by a signal alone",
        ]
    );
}

#[test]
fn what_confines_refuses_unless_less_is_allowed() {
    let text = "[Service]\nExecStart=/a\nProtectHome=yes\nPrivateUsers=no\n\
                MemoryDenyWriteExecute=yes\nSystemCallFilter=@system-service\n";
    let said = refused(&[("a.service", text)]);
    assert_eq!(
        said,
        [
            "a.service:3: ProtectHome=yes: it confines the unit: which cannot be given",
            "a.service:5: MemoryDenyWriteExecute=yes: it confines the unit: which cannot be given",
            "a.service:6: SystemCallFilter=@system-service: it confines the unit: groups of calls and \
             errors of single ones are not known",
        ]
    );
    let options = Options { allow_less_confinement: true, ..Options::default() };
    let units = parse(&sources(&[("a.service", text)]), &options).unwrap();
    let lost: Vec<_> = units.unsupported.iter().map(|it| it.place.line).collect();
    assert!([3, 5, 6].iter().all(|line| lost.contains(&Some(*line))), "{lost:?}");
    // what is taken back later confines nothing
    let text = "[Service]\nExecStart=/a\nProtectHome=yes\nProtectHome=\nPrivateDevices=yes\n\
                PrivateDevices=no\n";
    assert_eq!(all(&[("a.service", text)]).unsupported, []);
}

#[test]
fn what_would_be_something_else_is_refused() {
    for (line, word) in [
        ("Type=forking", "foreground"),
        ("Type=other", "no such type"),
        ("ExecStart=/bin/b", "one command"),
        ("ExecStartPre=/bin/b", "one command"),
        ("ExecReload=/bin/b 'open", "never closed"),
        ("NoNewPriviledges=yes", "did you mean \"NoNewPrivileges\"?"),
        ("RootDirectory=/x", "other files"),
        ("LimitNOFILE=20:10", "SOFT:HARD"),
        ("StandardInput=socket", "/dev/null or a terminal"),
        ("TimeoutStopSec=5 parsecs", "no time span"),
        ("CapabilityBoundingSet=CAP_FLY", "unknown capability"),
        ("RemainAfterExit=perhaps", "yes or no"),
        ("OnCalendar=daily", "unknown key"),
    ] {
        let text = format!("[Service]\nExecStart=/bin/a\n{line}\n");
        let said = refused(&[("a.service", &text)]);
        assert!(said.len() == 1 && said[0].starts_with("a.service:3: "), "{line}: {said:?}");
        assert!(said[0].contains(word), "{said:?}");
    }
    let none = refused(&[("a.service", "[Unit]\nDescription=x\n[Service]\nType=oneshot\n")]);
    assert_eq!(none, ["a.service: it has no ExecStart=, so there is nothing to supervise"]);
    let condition = "[Unit]\nConditionPathExists=!/run/x\n[Service]\nExecStart=/a\n";
    assert!(refused(&[("a.service", condition)])[0].starts_with("a.service:2: "));
    assert!(refused(&[("a.mount", "[Mount]\nWhat=x\n")])[0].contains("only services"));
}

#[test]
fn capabilities_never_become_more() {
    let set = |lines: &str| {
        let (spec, lost) = service(lines);
        let set = spec.isolation.capabilities.clone();
        (set.map(|it| format!("{it:?}")), lost.len())
    };
    let kill = Some("[CAP_KILL]".to_owned());
    // root has what is in bounds
    assert_eq!(set("CapabilityBoundingSet=CAP_KILL\n"), (kill.clone(), 0));
    let but = set("CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_CHOWN\n").0.unwrap();
    assert!(!but.contains("SYS_ADMIN") && !but.contains("CHOWN") && but.contains("CAP_KILL"));
    assert_eq!(set("CapabilityBoundingSet=\n").0, Some("[]".into()));
    // a user has what is ambient, whatever is in bounds
    let (found, lost) = set("User=www\nCapabilityBoundingSet=CAP_KILL CAP_CHOWN\n");
    assert_eq!((found.as_deref(), lost), (Some("[]"), 1));
    let both = "User=www\nCapabilityBoundingSet=CAP_KILL\nAmbientCapabilities=CAP_KILL\n";
    assert_eq!(set(both), (kill.clone(), 0));
    let quiet = "User=www\nAmbientCapabilities=CAP_KILL\nNoNewPrivileges=yes\n";
    assert_eq!(set(quiet), (kill, 0));
}

#[test]
fn the_system_is_protected_as_far_as_it_says() {
    let paths = |lines: &str| {
        let (spec, lost) = service(lines);
        let shown = |paths: &[PathBuf]| {
            let paths = paths.iter().map(|path| path.to_str().unwrap().to_owned());
            paths.collect::<Vec<_>>().join(" ")
        };
        let isolation = &spec.isolation;
        (shown(&isolation.read_only), shown(&isolation.writable), lost.len())
    };
    let of = |read_only: &str, writable: &str, lost| (read_only.into(), writable.into(), lost);
    assert_eq!(paths("ProtectSystem=no\n"), of("", "", 0));
    assert_eq!(paths("ProtectSystem=true\n"), of("/usr -/boot -/efi", "", 0));
    assert_eq!(paths("ProtectSystem=full\n"), of("/usr -/boot -/efi /etc", "", 0));
    let strict = "/dev /proc /sys -/home -/root -/run/user";
    assert_eq!(paths("ProtectSystem=strict\n"), of("/", strict, 0));
    // that they are not made is told
    assert_eq!(
        paths(
            "ProtectSystem=strict\nReadWritePaths=/srv\nStateDirectory=a b:c\nRuntimeDirectory=%N\n"
        ),
        of("/", &format!("/srv {strict} -/run/a -/var/lib/a -/var/lib/b"), 2)
    );
    let text = "[Service]\nExecStart=/a\nProtectSystem=all\n";
    assert!(refused(&[("a.service", text)])[0].contains("expected yes, no, full or strict"));
}

#[test]
fn variables_in_commands_are_those_of_the_unit() {
    let (spec, _) = service(
        "ExecStart=\nExecStart=/bin/a $WORDS ${WORDS} $NONE x%%y\nEnvironment='WORDS=1 2'\n",
    );
    assert_eq!(spec.command, ["/bin/a", "1", "2", "1 2", "x%y"]);
    let text = "[Service]\nEnvironmentFile=/etc/a\nExecStart=/bin/a $OPTIONS\n";
    assert!(
        refused(&[("a.service", text)])[0].contains("OPTIONS is, is known only when it starts")
    );
    let mut options = Options::default();
    options.environment_files.insert("/etc/a".into(), "OPTIONS=\"-x -y\"\n".into());
    let units = parse(&sources(&[("a.service", text)]), &options).unwrap();
    assert_eq!(units.specs[0].command, ["/bin/a", "-x", "-y"]);
    assert_eq!(units.specs[0].env_files, [PathBuf::from("/etc/a")]);
}

#[test]
fn drop_ins_and_instances() {
    let units = all(&[
        (
            "web@.service",
            "[Service]\nExecStart=/bin/web %i %p %I\nNice=1\n[Install]\nWantedBy=multi-user.target\n",
        ),
        ("web@.service.d/a.conf", "[Service]\nNice=2\n"),
        ("web@a-b.service.d/b.conf", "[Service]\nUMask=077\n"),
        ("front.service", "[Unit]\nRequires=web@a-b.service\n[Service]\nExecStart=/bin/front\n"),
        ("front.service.d/x.conf", "[Service]\nExecStart=\nExecStart=/bin/other\n"),
        ("multi-user.target.wants/front.service", ""),
    ]);
    let names: Vec<_> = units.specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["front", "web@a-b"]);
    let front = by_name(&units, "front");
    assert_eq!((front.command[0].as_str(), front.enabled), ("/bin/other", true));
    assert_eq!(front.requires, ["web@a-b"]);
    let web = by_name(&units, "web@a-b");
    assert_eq!(web.command, ["/bin/web", "a-b", "web", "a/b"]);
    assert_eq!((web.limits.nice, web.limits.umask, web.enabled), (Some(2), Some(0o77), true));
}

#[test]
fn targets_become_edges() {
    let run = "[Service]\nExecStart=/bin/x\n";
    let unit = |lines: &str| format!("[Unit]\n{lines}{run}");
    let units = all(&[
        ("link.service", &unit("Before=network.target\nWants=network.target\n")),
        ("web.service", &unit("After=network.target\n")),
        ("group.target", "[Unit]\nRequires=one.service\nWants=two.service missing.service\n"),
        ("one.service", &unit("Before=two.service\n")),
        ("two.service", run),
        ("user.service", &unit("Requires=group.target\nAfter=group.target\n")),
        ("late.service", &unit("After=group.target not-there.service\n")),
        ("boot.target", "[Unit]\nWants=web.service\n[Install]\nWantedBy=default.target\n"),
    ]);
    assert_eq!(by_name(&units, "web").after, ["link"]);
    assert_eq!(by_name(&units, "two").after, ["one"]);
    let user = by_name(&units, "user");
    assert_eq!(
        (&user.requires[..], &user.wants[..]),
        (&["one".to_owned()][..], &["two".to_owned()][..])
    );
    assert_eq!(by_name(&units, "late").after, ["one", "two"]);
    let enabled: Vec<_> = units.specs.iter().filter(|it| it.enabled).map(|it| &*it.name).collect();
    assert_eq!(enabled, ["web"]);
    assert!(units.unsupported.iter().any(|it| it.why == "missing.service is not among the files"));
}

#[test]
fn relations_that_cannot_hold_are_told() {
    let text = "[Unit]\nRequires=databse.service\n[Service]\nExecStart=/a\n";
    let said = refused(&[("web.service", text), ("database.service", "[Service]\nExecStart=/b\n")]);
    assert_eq!(
        said,
        [
            "web.service:2: web requires \"databse\", which does not exist, did you mean \"database\"?"
        ]
    );
    let ring = |other: &str| format!("[Unit]\nAfter={other}.service\n[Service]\nExecStart=/a\n");
    let said = refused(&[("a.service", &ring("b")), ("b.service", &ring("a"))]);
    assert!(said.len() == 1 && said[0].contains("dependency cycle"), "{said:?}");
    // pulled in, and yet later: started by itself
    let units = all(&[
        (
            "a.service",
            "[Unit]\nWants=b.service\nBefore=b.service\n[Service]\nExecStart=/a\n[Install]\nWantedBy=multi-user.target\n",
        ),
        ("b.service", "[Service]\nExecStart=/b\n"),
    ]);
    let b = by_name(&units, "b");
    assert_eq!((b.enabled, &b.after[..]), (true, &["a".to_owned()][..]));
    assert_eq!(units.unsupported.len(), 1);
}

#[test]
fn sockets_and_timers_start_their_services() {
    let texts = [
        ("echo.service", "[Service]\nExecStart=/bin/echo\n"),
        (
            "echo.socket",
            "[Socket]\nListenStream=/run/echo\nListenDatagram=127.0.0.1:53\nSocketMode=0600\n[Install]\nWantedBy=sockets.target\n",
        ),
        ("clean.service", "[Service]\nType=oneshot\nExecStart=/bin/clean\n"),
        (
            "daily.timer",
            "[Timer]\nOnBootSec=5min\nOnUnitActiveSec=1d\nUnit=clean.service\n[Install]\nWantedBy=timers.target\n",
        ),
    ];
    let units = all(&texts);
    let echo = by_name(&units, "echo");
    assert!(echo.on_demand && echo.enabled);
    let shown: Vec<_> =
        echo.sockets.iter().map(|it| (it.listen.to_string(), &*it.name, it.mode)).collect();
    let expected =
        [("unix:/run/echo", "echo.socket", 0o600), ("udp:127.0.0.1:53", "echo.socket", 0o600)];
    assert_eq!(shown, expected.map(|(listen, name, mode)| (listen.to_owned(), name, mode)));
    let timer = by_name(&units, "clean").timer.unwrap();
    assert_eq!((timer.first.as_secs(), timer.every.as_secs()), (300, 86_400));
    // not those that nothing pulls in
    let mut options = Options { targets: Vec::new(), ..Options::default() };
    let idle = parse(&sources(&texts), &options).unwrap();
    assert!(idle.specs.iter().all(|it| !it.enabled && it.sockets.is_empty() && it.timer.is_none()));
    // named together, the socket starts the service
    options.start = vec!["echo.service".into(), "echo.socket".into()];
    assert!(by_name(&parse(&sources(&texts), &options).unwrap(), "echo").on_demand);
    options.start = vec!["echo.service".into()];
    assert!(!by_name(&parse(&sources(&texts), &options).unwrap(), "echo").on_demand);
    let lonely = [("x.socket", "[Socket]\nListenStream=80\n[Install]\nWantedBy=sockets.target\n")];
    assert!(refused(&lonely)[0].contains("x.service, which is not among the files"));
}

#[test]
fn what_means_something_of_services_alone_is_told_of_others() {
    let timer =
        |line: &str| format!("[Unit]\n{line}\nAfter=time-set.target\n[Timer]\nOnActiveSec=1\n");
    let said = refused(&[("a.timer", &timer("ConditionPathExists=/x"))]);
    assert_eq!(said, ["a.timer:2: ConditionPathExists=/x: conditions are asked of services alone"]);
    let units = all(&[("a.timer", &timer("Requires=b.service"))]);
    let lost: Vec<_> = units.unsupported.iter().map(|it| (it.place.line, &*it.key)).collect();
    assert_eq!(lost, [(Some(2), "Requires")]);
}

#[test]
fn units_and_service_files_know_each_other() {
    let units = all(&[
        ("a.toml", "[[service]]\nname = \"db\"\ncommand = [\"/db\"]\nafter = [\"web\"]\n"),
        ("web.service", "[Service]\nExecStart=/web\n"),
        ("job.service", "[Unit]\nRequires=db.service\n[Service]\nExecStart=/job\n"),
    ]);
    assert_eq!(by_name(&units, "job").requires, ["db"]);
    assert_eq!(by_name(&units, "db").after, ["web"]);
}

/// For each supported key of services something that changes what comes of it.
#[test]
fn each_supported_key_does_something() {
    let samples = "Type=oneshot ExecStart= ExecReload=/bin/r ExecStop=/bin/kill -INT $MAINPID;\
        RemainAfterExit=yes Restart=always RestartSec=9 StartLimitBurst=9 StartLimitInterval=9 \
        TimeoutStartSec=9 TimeoutStopSec=9 TimeoutSec=9 KillMode=process KillSignal=INT \
        ReloadSignal=INT User=u Group=g SupplementaryGroups=g Environment=A=1 UnsetEnvironment=PATH \
        EnvironmentFile=/e WorkingDirectory=/w LimitAS=1 LimitCORE=1 LimitCPU=1 LimitDATA=1 \
        LimitFSIZE=1 LimitMEMLOCK=1 LimitMSGQUEUE=1 LimitNICE=1 LimitNOFILE=1 LimitNPROC=1 \
        LimitRTPRIO=1 LimitRTTIME=1 LimitSIGPENDING=1 LimitSTACK=1 Nice=1 OOMScoreAdjust=1 UMask=077 \
        FileDescriptorStoreMax=1 CapabilityBoundingSet=CAP_KILL AmbientCapabilities=CAP_KILL \
        NoNewPrivileges=yes PrivateMounts=yes PrivateTmp=yes PrivateNetwork=yes PrivateIPC=yes \
        ProtectHostname=yes ReadOnlyPaths=/a InaccessiblePaths=/a ReadOnlyDirectories=/a \
        InaccessibleDirectories=/a ReadWritePaths=/a ReadWriteDirectories=/a \
        ProtectSystem=full SystemCallFilter=read SystemCallErrorNumber=EPERM \
        SystemCallArchitectures=native LoadCredential=a:/a MemoryMin=1 MemoryHigh=1 MemoryMax=1 \
        MemorySwapMax=1 CPUQuota=1% CPUWeight=1 IOWeight=1 TasksMax=1 Delegate=yes OOMPolicy=kill \
        Sockets=s.socket StandardOutput=null StandardError=tty StandardInput=tty TTYPath=/t \
        NotifyAccess=all";
    // what means something only beside another key
    let beside = [
        ("ReloadSignal", "Type=notify-reload"),
        ("NotifyAccess", "Type=notify"),
        ("SystemCallErrorNumber", "SystemCallFilter=read"),
        ("TTYPath", "StandardInput=tty"),
    ];
    let read = |lines: &str| {
        let text = format!("[Service]\nExecStart=/bin/a\n{lines}\n");
        let socket = ("s.socket", "[Socket]\nListenStream=1\nService=a.service\n");
        let options = Options { start: vec!["a.service".into()], ..Options::default() };
        parse(&sources(&[("a.service", &text), socket]), &options)
    };
    let supported: BTreeSet<&str> = KEYS
        .iter()
        .filter(|group| group.section == "Service" && group.class == Class::Supported)
        .flat_map(|group| group.keys.iter().copied())
        .collect();
    for key in supported {
        let start =
            samples.find(&format!("{key}=")).unwrap_or_else(|| panic!("no sample of {key}"));
        let sample = match key {
            "ExecStop" => "ExecStop=/bin/kill -INT $MAINPID",
            _ => samples[start..].split_whitespace().next().unwrap(),
        };
        let with = beside.iter().find(|(it, _)| *it == key).map_or("", |(_, other)| other);
        let before = read(with).unwrap();
        let after = read(&format!("{with}\n{sample}"));
        // without a command there is nothing to run; all others are understood
        assert!(after.is_ok() != (key == "ExecStart"), "{sample}: {after:?}");
        assert_ne!(after, Ok(before), "{sample}");
    }
}

#[test]
fn each_key_stands_once_and_in_the_document() {
    let mut seen = BTreeSet::new();
    for group in KEYS {
        for key in group.keys {
            assert!(seen.insert((group.section, *key)), "{key} is there twice");
        }
    }
    let document = include_str!("../../../../docs/systemd-units.md");
    assert!(
        document.ends_with(&reference()),
        "docs/systemd-units.md has other tables than the code; run \
         `cargo run -p kiln-supervisor --features systemd --example unit_keys`"
    );
}

#[test]
fn hostile_units_are_refused_in_bounds() {
    for text in
        ["\u{0}", "[Service", "[Service]\nExecStart", "=", "[Service]\nExecStart=\\", "[X]\na=b"]
    {
        assert!(parse(&sources(&[("a.service", text)]), &Options::default()).is_err(), "{text:?}");
    }
    let long = Source::new("a.service", vec![b'a'; (1 << 20) + 1]);
    assert!(parse(&[long], &Options::default()).is_err());
    // a value with a terminal's controls in it does not reach the terminal
    let (_, lost) = service("Slice=\u{1b}[2J\n");
    assert!(!lost[0].contains('\u{1b}'), "{lost:?}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(
        key in proptest::sample::select(KEYS.iter().flat_map(|it| it.keys).copied().collect::<Vec<_>>()),
        value in "\\PC{0,24}",
    ) {
        for kind in ["Service", "Socket", "Timer", "Unit", "Install"] {
            let text = format!("[Service]\nExecStart=/a\n[{kind}]\n{key}={value}\n");
            for name in ["a.service", "a.socket", "a.timer", "a.target", "a@b.service"] {
                let sources = sources(&[(name, &text)]);
                let options = Options { start: vec![name.into()], ..Options::default() };
                let (sound, findings) = parse_sound(&sources, &options);
                match parse(&sources, &options) {
                    Ok(units) => assert_eq!((units, Vec::new()), (sound, findings.0)),
                    Err(_) => {
                        assert!(!findings.0.is_empty());
                        // not all that is said of the service is understood, unless it is a target
                        assert!(sound.specs.is_empty() || name == "a.target", "{text} {findings}");
                    }
                }
            }
        }
    }
}
