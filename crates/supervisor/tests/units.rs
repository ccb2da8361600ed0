//! `kiln-supervisor run` with systemd's unit files and real processes; this host's own units; and what
//! systemd itself says of the keys.
#![expect(clippy::unwrap_used, reason = "a failed test says so by panicking")]

#[path = "harness/running.rs"]
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kiln_supervisor::Graph;
use kiln_supervisor::systemd::{self, Class, Options};
use running::{PATIENCE, Running, until};

/// Whether a program is there; else the test is skipped, which CI does not take.
fn has(program: &str, word: &str) -> bool {
    let there = Command::new(program).arg(word).output().is_ok_and(|it| it.status.success());
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing");
        println!("skipped: {program}");
    }
    there
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text.replace("DIR", &dir.display().to_string())).unwrap();
}

#[test]
fn a_notify_service_a_socket_and_a_timer_run_from_unit_files() {
    if !has("python3", "-V") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(
        dir,
        "ready.py",
        "import os,socket,time\n\
         open('DIR/out','a').write('ready '+os.environ['A']+os.getcwd()+str(os.nice(0))+'\\n')\n\
         s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
         a=os.environ['NOTIFY_SOCKET']\n\
         s.sendto(b'READY=1','\\0'+a[1:] if a[0]=='@' else a)\n\
         time.sleep(1000)\n",
    );
    write(
        dir,
        "answer.py",
        "import os,socket\n\
         c,_=socket.socket(fileno=3).accept()\n\
         c.sendall((os.environ['LISTEN_FDNAMES']+' '+os.environ.get('CARGO','none')).encode())\n",
    );
    write(
        dir,
        "units/ready.service",
        "[Unit]\nDescription=Ready\nBefore=after.service\n[Service]\nType=notify\nNice=3\n\
         Environment=A=1\nExecStart=/usr/bin/env python3 DIR/ready.py\nTimeoutStopSec=5\n",
    );
    write(dir, "units/ready.service.d/more.conf", "[Service]\nEnvironment=A=2\n");
    write(
        dir,
        "units/after.service",
        "[Unit]\nRequires=ready.service\n[Service]\nType=oneshot\n\
         ExecStart=/bin/sh -c 'echo after >>DIR/out'\n[Install]\nWantedBy=multi-user.target\n",
    );
    write(
        dir,
        "units/answer.service",
        "[Service]\nExecStart=/usr/bin/env python3 DIR/answer.py\nWatchdogSec=10\n",
    );
    write(
        dir,
        "units/answer.socket",
        "[Socket]\nListenStream=DIR/answer.sock\nFileDescriptorName=front\n\
         [Install]\nWantedBy=sockets.target\n",
    );
    write(
        dir,
        "units/tick.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo tick >>DIR/out'\n",
    );
    write(
        dir,
        "units/tick.timer",
        "[Timer]\nOnActiveSec=10ms\nOnUnitActiveSec=50ms\n[Install]\nWantedBy=timers.target\n",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-supervisor"));
    command.arg("run").arg(dir.join("units")).current_dir(dir).stdin(Stdio::null());
    command.env("CARGO", "inherited").stdout(Stdio::null());
    command.stderr(fs::File::create(dir.join("err")).unwrap());
    let mut running = Running(command.spawn().unwrap());
    let out = || fs::read_to_string(dir.join("out")).unwrap_or_default();
    let lines = until("it is done in order, and again and again", || {
        let lines: Vec<String> = out().lines().map(str::to_owned).collect();
        let ticks = lines.iter().filter(|line| *line == "tick").count();
        (ticks >= 3 && lines.iter().any(|line| line == "after")).then_some(lines)
    });
    let place = |what: &str| lines.iter().position(|line| line == what).unwrap();
    assert!(place("ready 2/3") < place("after"), "{lines:?}");
    // each connection starts the service anew
    for _ in 0..2 {
        let mut text = String::new();
        let mut stream =
            until("somebody listens", || UnixStream::connect(dir.join("answer.sock")).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "front none");
    }
    let err = fs::read_to_string(dir.join("err")).unwrap();
    let lost = "answer.service:3: WatchdogSec=10: it is not noticed when it hangs";
    assert!(err.contains(lost), "{err}");
    let pid = rustix::process::Pid::from_child(&running.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = until("it ends", || running.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

/// With all of this machine's mounts.
#[test]
fn a_protected_system_can_be_written_where_it_says() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this takes root");
        return println!("skipped: mounts, without root");
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("open")).unwrap();
    write(
        dir,
        "shut.service",
        "[Service]\nType=oneshot\nProtectSystem=strict\n\
         ReadWritePaths=DIR/open -/no/such/path\nWorkingDirectory=DIR\n\
         ExecStart=/bin/sh -c 'exec >open/log 2>&1; for place in /usr /etc / /var . open /dev/shm; do \
         touch $$place/kiln-test-shut && rm $$place/kiln-test-shut && echo written $$place; done; \
         echo >/dev/null && cat /proc/sys/kernel/ostype'\n",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-supervisor"));
    command.arg("run").arg(dir.join("shut.service")).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = fs::read_to_string(dir.join("open/log")).unwrap();
    let (refused, others): (Vec<&str>, Vec<&str>) =
        log.lines().partition(|line| line.contains("Read-only file system"));
    assert_eq!(others, ["written open", "written /dev/shm", "Linux"], "{log}");
    assert_eq!(refused.len(), 5, "{log}");
}

#[test]
fn a_check_lists_what_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "a.service", "[Service]\nExecStart=/bin/true\nRuntimeDirectory=a\n");
    write(dir, "b@.service", "[Unit]\nAfter=a.service\n[Service]\nExecStart=/bin/true %i\n");
    write(dir, "c.toml", "[[service]]\nname = \"c\"\ncommand = [\"true\"]\nafter = [\"b@x\"]\n");
    let check = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-supervisor"));
        command.args(["run", "--check"]).args(words).current_dir(dir);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, order, said) = check(&["c.toml", "a.service", "b@x.service"]);
    assert_eq!((code, order.as_str()), (Some(0), "a\nb@x\nc\n"), "{said}");
    let lost =
        "a.service:3: RuntimeDirectory=a: the directory is not made, and its variable is not set";
    assert_eq!(said.trim_end(), lost);
    let (_, json, _) = check(&["--json", "a.service"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["unsupported"][0]["line"], 3);
    assert_eq!(value["unsupported"][0]["key"], "RuntimeDirectory");
    write(dir, "d.service", "[Service]\nExecStart=/bin/true\nProtectHome=yes\n");
    let (code, _, said) = check(&["d.service"]);
    assert!(code == Some(2) && said.starts_with("d.service:3: ProtectHome=yes: "), "{said}");
    let (code, _, said) = check(&["d.service", "--allow-less-confinement"]);
    assert!(code == Some(0) && said.contains("less confined"), "{said}");
}

/// Each unit of this host is read, alone and all together, and every key of them is known.
#[test]
fn this_hosts_units_are_read() {
    let dir = Path::new("/lib/systemd/system");
    if !dir.join("multi-user.target").exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", dir.display());
        return println!("skipped: {}", dir.display());
    }
    let mut options = Options::default();
    options.allow_less_confinement = true;
    let (mut sound, mut refused) = (0, 0);
    let mut keys: BTreeMap<Class, usize> = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let kind = file.extension().and_then(|it| it.to_str()).unwrap_or_default();
        if !["service", "socket", "timer", "target"].contains(&kind) || file.is_symlink() {
            continue;
        }
        let name = file.file_name().unwrap().to_str().unwrap();
        let unit = kiln_unit_file::Unit::parse(name, &fs::read(&file).unwrap()).unwrap();
        for setting in &unit.assignments {
            match systemd::class(&setting.section, &setting.key) {
                Some(class) => *keys.entry(class).or_default() += 1,
                None => {
                    _ = unknown.insert(format!("{name}: [{}] {}", setting.section, setting.key))
                }
            }
        }
        let instance = file.with_file_name(name.replace("@.", "@x."));
        match systemd::read(&[instance], &options) {
            Ok(_) => sound += 1,
            Err(findings) => {
                assert!(!findings.0.is_empty(), "{name}");
                refused += 1;
            }
        }
    }
    println!("{sound} sound, {refused} refused, assignments {keys:?}");
    assert_eq!(unknown, BTreeSet::new());
    assert!(sound > 0, "not one of {refused} units is understood");
    let all = systemd::read(&[dir.to_owned()], &options);
    assert!(all.is_err(), "conditions that cannot be asked are not overlooked");
    // together, those that are sound with all that they require
    let (units, findings) = systemd::read_sound(&[dir.to_owned()], &options);
    assert!(Graph::new(&units.specs).is_ok() && !findings.0.is_empty());
    let left = findings.0.iter().filter(|it| it.text.starts_with("left out: ")).count();
    println!("{} services are sound together, {left} are left out", units.specs.len());
    assert!(!units.specs.is_empty() && units.specs.len() <= sound, "{findings}");
}

/// systemd knows every key of the table, but for those that are newer than it is.
#[test]
fn systemd_knows_these_keys() {
    if !has("systemd-analyze", "--version") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    // one unit for each key: some do not take an empty value, and end the reading of their unit
    for (kind, section) in [
        ("service", "Unit"),
        ("service", "Service"),
        ("service", "Install"),
        ("socket", "Socket"),
        ("timer", "Timer"),
    ] {
        for key in keys_of(section).iter().map(String::as_str).chain(["NoSuchKey"]) {
            let path = dir.path().join(format!("{section}-{key}.{kind}"));
            fs::write(&path, format!("[{section}]\n{key}=\n")).unwrap();
            files.push(path);
        }
    }
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["verify", "--man=no"]).args(&files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut strange = BTreeMap::<&str, usize>::new();
    for line in said.lines().filter(|line| line.contains("Unknown key")) {
        if let Some(key) = line.split('\'').nth(1) {
            *strange.entry(key).or_default() += 1;
        }
    }
    assert_eq!(strange.remove("NoSuchKey"), Some(5), "{said}");
    let known = files.len() - 5;
    let strange: BTreeSet<&str> = strange.into_keys().collect();
    println!("{known} keys; not known to this systemd: {strange:?}");
    let newer: BTreeSet<&str> = NEWER.iter().copied().collect();
    let wrong: Vec<_> = strange.difference(&newer).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Keys that came after systemd 252 (its NEWS), which is Debian 12's.
const NEWER: &[&str] = &[
    "AcceptFileDescriptors",
    "ConditionKernelModuleLoaded",
    "ConditionPathIsSocket",
    "ConditionVersion",
    "DebugInvocation",
    "DeferReactivation",
    "DelegateSubgroup",
    "FileDescriptorStorePreserve",
    "ImportCredential",
    "LogFilterPatterns",
    "MemoryPressureThresholdSec",
    "MemoryPressureWatch",
    "MemoryZSwapMax",
    "NFTSet",
    "OpenFile",
    "PassFileDescriptorsToExec",
    "PassPIDFD",
    "PollLimitBurst",
    "PollLimitIntervalSec",
    "PrivateBPF",
    "PrivatePIDs",
    "RandomizedOffsetSec",
    "ReloadSignal",
    "RestartMaxDelaySec",
    "RestartMode",
    "RestartSteps",
    "RootEphemeral",
    "SetLoginEnvironment",
    "SurviveFinalKillSignal",
    "UpheldBy",
    "WantsMountsFor",
];

/// The keys of a section of the table.
fn keys_of(section: &str) -> BTreeSet<String> {
    let reference = systemd::reference();
    let from = reference.split(&format!("\n## `[{section}]`\n")).nth(1).unwrap();
    let own = from.split("\n## ").next().unwrap();
    let rows = own.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let words = rows.flat_map(|row| row.split(", "));
    words.map(|word| word.trim_matches('`').to_owned()).collect()
}
