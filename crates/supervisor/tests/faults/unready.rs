//! Configurations that are none, and services that are never ready.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln_supervisor::{Outcome, Readiness, Restart};

use crate::supervised::{PATIENCE, Supervisor, options, sh, supervise, until};

pub(crate) fn nothing_run(_: &Path) {}

/// Each is refused with exit code 2 and a line that names the file, in bounded time and memory.
pub(crate) fn configuration_test(dir: &Path) {
    let huge = "a".repeat(64 << 20);
    let good = "[[service]]\nname = \"a\"\ncommand = [\"true\"]\n";
    let nested = format!("{good}x = {}", "[".repeat(1 << 20));
    let many = (0..20_000).map(|n| format!("[[service]]\nname=\"s{n}\"\ncommand=[\"true\"]\n"));
    let many: String = many.collect();
    let nul = good.replace("true", "tr\0ue");
    let cases: [(&str, &[u8], &str); 9] = [
        ("empty-name", b"[[service]]\nname = \"\"\ncommand = [\"true\"]\n", "name"),
        ("nul", nul.as_bytes(), "nul:3: "),
        ("nul-escaped", b"[[service]]\nname = \"a\"\ncommand = [\"tr\\u0000ue\"]\n", "NUL"),
        ("not-utf8", b"[[service]]\nname = \"a\"\ncommand = [\"\xff\xfe\"]\n", "UTF-8"),
        ("huge", huge.as_bytes(), "longer than"),
        ("nested", nested.as_bytes(), "nested:4: "),
        ("many", many.as_bytes(), "many"),
        ("unknown-key", b"[[service]]\nname = \"a\"\ncomand = []\n", "unknown-key:3: "),
        (
            "wrong-type",
            b"[[service]]\nname = \"a\"\ncommand = [\"true\"]\nenabled = 7\n",
            "wrong-type:4: ",
        ),
    ];
    for (name, bytes, expected) in cases {
        let file = dir.join(name);
        std::fs::write(&file, bytes).unwrap();
        refused(&file, expected);
    }
    refused(Path::new("/dev/zero"), "not a regular file");
    refused(&dir.join("none"), "none");
}

fn refused(file: &Path, expected: &str) {
    let mut command = Command::new("sh");
    // less memory than a reader without bounds would take of /dev/zero
    command.args(["-c", "ulimit -v 2000000; exec \"$0\" run \"$1\""]);
    command.arg(env!("CARGO_BIN_EXE_kiln-supervisor")).arg(file).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{}: {said}", file.display());
    assert!(said.contains(expected), "{}: {said}", file.display());
    assert!(said.len() < 4096, "{}: {} bytes of complaint", file.display(), said.len());
}

pub(crate) fn run(dir: &Path) {
    let mut never = sh("never", "trap '' TERM; while :; do sleep 0.05; done");
    never.readiness = Readiness::NotifyFd(3);
    never.ready_timeout = Duration::from_secs(1);
    never.stop_timeout = Duration::from_millis(200);
    never.restart = Restart::Never;
    let mut closes = sh("closes", "exec 3>&-; exec sleep 1000");
    closes.readiness = Readiness::NotifyFd(3);
    closes.ready_timeout = Duration::from_secs(1);
    closes.restart = Restart::Never;
    let after = |name: &str, required: &str| {
        let mut spec = sh(name, "exec sleep 1000");
        spec.requires = vec![required.into()];
        spec
    };
    let specs = vec![
        after("after-never", "never"),
        after("after-closes", "closes"),
        never,
        closes,
        sh("other", "exec sleep 1000"),
    ];
    supervise(specs, options(dir));
}

pub(crate) fn never_test(dir: &Path) {
    let name = "readiness_that_never_comes_starts_nobody_else";
    let supervisor = Supervisor::start(name, dir);
    let mut client = supervisor.client();
    for name in ["never", "closes", "after-never", "after-closes"] {
        let last = until(name, || {
            let status = client.status(Some(name)).unwrap().remove(0);
            (status.state == "failed").then_some(status.detail)
        });
        let why = if name.starts_with("after") { "required service" } else { "not ready" };
        assert!(last.as_ref().is_some_and(|text| text.contains(why)), "{name}: {last:?}");
    }
    assert_eq!(client.status(Some("other")).unwrap()[0].state, "up");
    let out = supervisor.end();
    assert!(!out.contains("after-never: started") && !out.contains("after-closes: started"));
}

/// One is not ready and ignores to be asked, one waits for it; all of it has 20 s.
pub(crate) fn shutdown_test(dir: &Path) {
    let supervisor = Supervisor::start("a_shutdown_while_starting_ends", dir);
    let mut client = supervisor.client();
    until("it is being started", || {
        (client.status(Some("never")).unwrap()[0].state == "unready").then_some(())
    });
    let began = Instant::now();
    client.shutdown(Outcome::Exit, false).unwrap();
    until("it ends", || (!supervisor.is_alive()).then_some(()));
    println!("ended after {:?}", began.elapsed());
    assert!(began.elapsed() < PATIENCE);
    let out = supervisor.out();
    assert!(out.contains("all services stopped: exit"), "{out}");
    assert!(!out.contains("after-never: started"), "{out}");
}
