//! `kiln-supervisor run` with real processes; what dinit's integration tests ask for is asked here too
//! (which, is in docs/supervisor.md).
#![expect(clippy::unwrap_used, reason = "a failed test says so by panicking")]

#[path = "harness/running.rs"]
mod running;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use running::{Running, until};
use serde_json::Value;

/// Runs the services of a file to their end, in a directory of its own: exit code and output.
fn run(dir: &Path, text: &str, words: &[&str]) -> (i32, String) {
    let file = dir.join("services.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-supervisor"));
    command.arg("run").arg(&file).args(words).current_dir(dir).stdin(Stdio::null());
    command.env("OUT", dir.join("out"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap_or(-1), said)
}

/// As [`run`], where all must go well.
fn runs(dir: &Path, text: &str, words: &[&str]) {
    let (code, said) = run(dir, text, words);
    assert_eq!(code, 0, "{said}");
}

fn out(dir: &Path) -> String {
    fs::read_to_string(dir.join("out")).unwrap_or_default()
}

/// A service that runs a shell's line once.
fn shot(name: &str, line: &str, more: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nkind = \"one-shot\"\ncommand = [\"sh\", \"-c\", '''{line}''']\n\
         {more}\n"
    )
}

#[test]
fn a_service_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = run(dir.path(), &shot("basic", "echo ran >>$OUT", ""), &["--quiet"]);
    assert_eq!((code, said.as_str(), out(dir.path()).as_str()), (0, "", "ran\n"));
}

#[test]
fn variables_are_inherited_and_overridden() {
    let dir = tempfile::tempdir().unwrap();
    let line = "echo $OUT_NAME $HELLO ${PATH:+path} >>$OUT";
    let text = shot("a", line, "env = { OUT_NAME = 'mine', HELLO = 'hello' }");
    runs(dir.path(), &text, &[]);
    assert_eq!(out(dir.path()), "mine hello path\n");

    let dir = tempfile::tempdir().unwrap();
    let line = format!("echo \"[$OUT]\" $HELLO >{}", dir.path().join("out").display());
    let text = shot("a", &line, "env = { HELLO = 'hello' }\ninherit-env = false");
    runs(dir.path(), &text, &[]);
    assert_eq!(out(dir.path()), "[] hello\n");
}

#[test]
fn one_that_cannot_be_executed_fails_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[[service]]\nname = \"bad\"\ncommand = [\"/bad-command-which-does-not-exist\"]\n\
        restart = \"never\"\n";
    let (code, said) = run(dir.path(), text, &["--quiet"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("bad: ") && said.contains("ENOENT"), "{said}");
}

#[test]
fn one_that_takes_too_long_fails() {
    let dir = tempfile::tempdir().unwrap();
    let text = shot("slow", "exec sleep 1000", "run-timeout = '10ms'\nstop-timeout = '5s'");
    let text = text + &shot("next", "echo ran >>$OUT", "requires = ['slow']");
    let (code, said) = run(dir.path(), &text, &[]);
    assert_eq!((code, out(dir.path()).as_str()), (1, ""), "{said}");
}

#[test]
fn a_service_without_a_command_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = run(dir.path(), "[[service]]\nname = \"empty\"\n", &[]);
    assert_eq!(code, 2);
    assert!(said.contains("empty"), "{said}");
}

#[test]
fn what_does_not_exist_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for key in ["requires", "wants", "after"] {
        let text = shot("a", "true", &format!("{key} = ['not-there']"));
        let (code, said) = run(dir.path(), &text, &[]);
        assert_eq!(code, 2, "{key}");
        assert!(said.contains("not-there"), "{said}");
    }
}

#[test]
fn cycles_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (first, second) in [("after", "after"), ("requires", "after"), ("wants", "requires")] {
        let text = shot("one", "true", &format!("{first} = ['two']"))
            + &shot("two", "true", &format!("{second} = ['one']"));
        for words in [&[][..], &["--check"]] {
            let (code, said) = run(dir.path(), &text, words);
            assert_eq!(code, 2);
            assert!(said.contains("one") && said.contains("two"), "{said}");
        }
    }
    let (code, said) = run(dir.path(), &shot("self", "true", "after = ['self']"), &[]);
    assert_eq!(code, 2);
    assert!(said.contains("self"), "{said}");
}

#[test]
fn a_diamond_is_no_cycle() {
    let dir = tempfile::tempdir().unwrap();
    let text = shot("boot", "true", "requires = ['middle']\nafter = ['service']")
        + &shot("middle", "true", "requires = ['service']")
        + &shot("service", "echo ran >>$OUT", "");
    runs(dir.path(), &text, &[]);
    assert_eq!(out(dir.path()), "ran\n");
}

#[test]
fn order_holds_whatever_takes_longer() {
    let dir = tempfile::tempdir().unwrap();
    let text = shot("three", "echo three >>$OUT", "after = ['two']")
        + &shot("two", "echo two >>$OUT", "after = ['one']")
        + &shot("one", "sleep 0.2; echo one >>$OUT", "");
    runs(dir.path(), &text, &[]);
    assert_eq!(out(dir.path()), "one\ntwo\nthree\n");
    let (code, said) = run(dir.path(), &text, &["--check"]);
    assert_eq!((code, said.as_str()), (0, "one\ntwo\nthree\n"));
}

#[test]
fn a_log_has_what_was_said_in_each_run() {
    let dir = tempfile::tempdir().unwrap();
    let text = shot("producer", "echo Producing output...", "");
    for _ in 0..2 {
        runs(dir.path(), &text, &["--log-dir", "logs"]);
    }
    let log = fs::read_to_string(dir.path().join("logs/producer.log")).unwrap();
    assert_eq!(log.matches("Producing output...\n").count(), 2, "{log}");
}

#[test]
fn a_one_shot_that_fails_is_said_by_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let text = shot("fails", "exit 3", "") + &shot("next", "echo ran >>$OUT", "after = ['fails']");
    let (code, said) = run(dir.path(), &text, &["--quiet"]);
    assert_eq!((code, out(dir.path()).as_str()), (1, "ran\n"), "{said}");
    assert!(said.contains("fails"), "{said}");
}

#[test]
fn what_is_not_understood_has_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = run(dir.path(), "[[service]]\nname = \"a\"\ncomand = []\n", &[]);
    assert_eq!(code, 2);
    let file = dir.path().join("services.toml");
    let expected =
        format!("{0}:3: unknown key \"comand\", did you mean \"command\"?\n", file.display());
    assert_eq!(said, expected);
    // the same as data
    let (code, said) =
        run(dir.path(), "[[service]]\nname = \"a\"\nnise = []\n", &["--check", "--json"]);
    assert_eq!(code, 2);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["problems"][0]["line"], 3);
    assert_eq!(report["problems"][0]["file"], file.display().to_string());
    assert_eq!(report["order"], serde_json::json!([]));
}

#[test]
fn all_problems_of_all_files_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let more = dir.path().join("more");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("b.toml"), shot("b", "true", "requires = ['c']\nrestrat = 'never'"))
        .unwrap();
    fs::write(more.join("c.toml"), shot("a", "true", "")).unwrap();
    let words = [more.to_str().unwrap(), "--check"];
    let (code, said) = run(dir.path(), &shot("a", "true", "after = ['b']"), &words);
    assert_eq!(code, 2);
    let prefix = format!("{}/", dir.path().display());
    let said = said.replace(&prefix, "");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "more/b.toml:5: b requires \"c\", which does not exist, known here: a",
            "more/b.toml:6: unknown key \"restrat\", did you mean \"restart\"?",
            "more/c.toml:2: a is defined twice, first at services.toml:2",
        ]
    );
    fs::write(more.join("b.toml"), shot("b", "echo b >>$OUT", "requires = ['c']")).unwrap();
    fs::write(more.join("c.toml"), shot("c", "echo c >>$OUT", "")).unwrap();
    let (code, said) = run(dir.path(), &shot("a", "echo a >>$OUT", "after = ['b']"), &[words[0]]);
    assert_eq!((code, out(dir.path()).as_str()), (0, "c\nb\na\n"), "{said}");
}

#[test]
fn garbage_is_refused_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("nul", b"[[service]]\nname = \"a\0\"\n".to_vec()),
        ("not-utf-8", b"[[service]]\nname = \"\xff\"\n".to_vec()),
        ("nested", [b"a = ".to_vec(), vec![b'['; 200_000]].concat()),
        ("huge", vec![b'#'; 9 << 20]),
    ] {
        let file = dir.path().join(name);
        fs::write(&file, bytes).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-supervisor"));
        let output = command.arg("run").arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.starts_with(&file.display().to_string()), "{said}");
        assert!(!said.contains("panicked") && said.len() < 4096, "{said}");
    }
}

#[test]
fn each_service_has_a_control_group() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let found = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let Some(found) = found.and_then(|line| line.split(' ').nth(1)) else {
        return println!("skipped: cgroup2 is not mounted");
    };
    let dir = tempfile::tempdir().unwrap();
    let name = format!("kiln-run-{}", std::process::id());
    let root = format!("{found}/{name}");
    let text = shot("grouped", "grep ^0:: /proc/self/cgroup >>$OUT; sleep 1000 &", "");
    runs(dir.path(), &text, &["--cgroup", &root]);
    assert!(out(dir.path()).ends_with(&format!("{name}/grouped.service\n")), "{}", out(dir.path()));
    // with all that was in it, which may take a moment to die
    until("the group is not in use", || {
        let _ = fs::remove_dir(format!("{root}/grouped.service"));
        let _ = fs::remove_dir(&root);
        (!Path::new(&root).exists()).then_some(())
    });
}

/// `svc reload` and `svc reexec` end in the same services; only what is different is touched.
#[test]
fn a_new_image_goes_over_to_what_its_files_say() {
    let dir = tempfile::tempdir().unwrap();
    let (file, socket) = (dir.path().join("services.toml"), dir.path().join("control"));
    let daemon =
        |name: &str| format!("[[service]]\nname = \"{name}\"\ncommand = [\"sleep\", \"1000\"]\n");
    fs::write(&file, daemon("old") + &daemon("gone")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-supervisor"));
    command.arg("run").arg(&file).arg("--control").arg(&socket).arg("--quiet");
    let mut supervisor = Running(command.stdin(Stdio::null()).spawn().unwrap());
    let svc = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_svc"));
        command.arg("--json").arg("--socket").arg(&socket).args(words).output().unwrap()
    };
    let pids = || -> BTreeMap<String, u64> {
        let said = String::from_utf8(svc(&["status"]).stdout).unwrap();
        let services = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let pid = |it: Value| Some((it["name"].as_str()?.to_owned(), it["pid"].as_u64()?));
        services.filter_map(pid).collect()
    };
    let just = |names: &[&str]| {
        until(&names.join(" and "), || Some(pids()).filter(|found| found.keys().eq(names)))
    };
    let first = just(&["gone", "old"]);
    fs::write(&file, daemon("old") + &daemon("new")).unwrap();
    let done = svc(&["reexec"]);
    assert!(done.status.success(), "{done:?}");
    let second = just(&["new", "old"]);
    assert_eq!(first["old"], second["old"]);
    // a file that says nothing sound is not gone over to, in either way
    fs::write(&file, "[[service]]\nname = \"old\"\ncomand = []\n").unwrap();
    for verb in ["reexec", "reload"] {
        let refused = svc(&[verb]);
        assert_eq!(refused.status.code(), Some(1), "{verb}: {refused:?}");
        assert!(String::from_utf8_lossy(&refused.stdout).contains("did you mean"), "{refused:?}");
    }
    assert_eq!(pids(), second);
    fs::write(&file, daemon("old")).unwrap();
    assert!(svc(&["reload"]).status.success());
    assert_eq!(just(&["old"])["old"], first["old"]);
    assert!(svc(&["shutdown", "exit"]).status.success());
    assert!(supervisor.0.wait().unwrap().success());
}
