//! `kiln-supervisor run --keep-going`: what is sound runs although something is not (faults 19 to 21 of
//! docs/supervisor.md), with real processes, also as process 1.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test says so by panicking")]

#[path = "harness/supervised.rs"]
mod supervised;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kiln_supervisor::control::{Client, Effect, Request};
use supervised::running::Running;
use supervised::{PATIENCE, until};

const RUN: [&str; 2] = [env!("CARGO_BIN_EXE_kiln-supervisor"), "run"];

/// Runs the services of a directory's files to their end: exit code, output and what they wrote.
fn run_by(program: &[&str], dir: &Path, words: &[&str]) -> (i32, String, String) {
    let _ = fs::remove_file(dir.join("out"));
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).args(words).current_dir(dir).stdin(Stdio::null());
    command.env("OUT", dir.join("out"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap() + &String::from_utf8(stdout).unwrap();
    let out = fs::read_to_string(dir.join("out")).unwrap_or_default();
    (status.code().unwrap_or(-1), said, out)
}

/// A service that says its name.
fn shot(name: &str, more: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nkind = \"one-shot\"\n\
         command = [\"sh\", \"-c\", \"echo {name} >>$OUT\"]\n{more}\n"
    )
}

fn daemon(name: &str, more: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\ncommand = [\"sleep\", \"1000\"]\n{more}\n")
}

/// What runs, and the lines about what does not. Without the option nothing does.
fn keeps_going(text: &str) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("s.toml"), text).unwrap();
    let (code, said, out) = run_by(&RUN, dir, &["s.toml"]);
    assert_eq!((code, out.as_str()), (2, ""), "{said}");
    let (code, said, out) = run_by(&RUN, dir, &["s.toml", "--keep-going", "--quiet"]);
    assert_eq!(code, 2, "{said}");
    let (_, checked, _) = run_by(&RUN, dir, &["s.toml", "--keep-going", "--check"]);
    assert_eq!(checked, format!("{said}{out}"), "a check says what comes of it, in this order");
    (out, said.lines().map(str::to_owned).collect())
}

#[test]
fn what_is_sound_runs_beside_a_cycle() {
    let text = shot("log", "after = ['one']")
        + &shot("one", "requires = ['two']")
        + &shot("two", "after = ['one']")
        + &shot("needs", "requires = ['one']")
        + &shot("good", "after = ['log']");
    let (out, said) = keeps_going(&text);
    assert_eq!(out, "log\ngood\n");
    assert_eq!(
        said,
        [
            "s.toml:5: dropped: service log: after one, which is left out",
            "s.toml:10: left out: service one: requires two, which depends on one: \
             dependency cycle: one -> two -> one",
            "s.toml:15: left out: service two: after one, which depends on two: \
             dependency cycle: one -> two -> one",
            "s.toml:20: left out: service needs: requires one, which is left out",
        ]
    );
}

#[test]
fn what_is_sound_runs_beside_one_that_requires_itself() {
    let text = shot("self", "requires = ['self']")
        + &shot("good", "wants = ['self']")
        + &shot("own", "after = ['own', 'good']");
    let (out, said) = keeps_going(&text);
    assert_eq!(out, "good\nown\n");
    assert_eq!(
        said,
        [
            "s.toml:5: left out: self requires itself",
            "s.toml:10: dropped: service good: wants self, which is left out",
            "s.toml:15: dropped: own after itself",
        ]
    );
}

#[test]
fn what_is_sound_runs_beside_what_names_nobody() {
    let text = shot("lost", "requires = ['nowhere']")
        + &shot("next", "requires = ['lost']")
        + &shot("last", "requires = ['next', 'good']")
        + &shot("good", "wants = ['mast']");
    let (out, said) = keeps_going(&text);
    assert_eq!(out, "good\n");
    assert_eq!(
        said,
        [
            "s.toml:5: left out: lost requires \"nowhere\", which does not exist, known here: good, \
             last, next",
            "s.toml:10: left out: service next: requires lost, which is left out",
            "s.toml:15: left out: service last: requires next, which requires lost, which is left out",
            "s.toml:20: dropped: good wants \"mast\", which does not exist, did you mean \"last\"?",
        ]
    );
}

/// All three, where the namespace ends with the supervisor.
#[test]
fn process_1_runs_what_is_sound() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "namespaces need root");
        return println!("skipped: root");
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text = shot("one", "after = ['two']")
        + &shot("two", "after = ['one']")
        + &shot("self", "requires = ['self']")
        + &shot("lost", "requires = ['nowhere']")
        + &shot("good", "wants = ['lost', 'one']").replace("echo good", "echo good of $PPID");
    fs::write(dir.join("s.toml"), text).unwrap();
    let program = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child", RUN[0], RUN[1]];
    let (code, said, out) = run_by(&program, dir, &["s.toml"]);
    assert_eq!((code, out.as_str()), (2, ""), "{said}");
    let (code, said, out) = run_by(&program, dir, &["s.toml", "-k"]);
    assert_eq!((code, out.as_str()), (2, "good of 1\n"), "{said}");
    assert_eq!(said.matches(": left out: ").count(), 4, "{said}");
    assert_eq!(said.matches(": started as ").count(), 1, "{said}");
}

#[test]
fn a_table_is_lost_alone_and_what_is_no_file_whole() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let first =
        shot("db", "restrat = 'never'") + &shot("web", "requires = ['db']") + &shot("a", "");
    fs::write(dir.join("first.toml"), first).unwrap();
    fs::write(dir.join("second.toml"), shot("b", "") + "[[service\n").unwrap();
    fs::write(dir.join("third.toml"), shot("c", "wants = ['b', 'a']") + &shot("a", "")).unwrap();
    let words = ["first.toml", "second.toml", "none.toml", "third.toml", "--keep-going"];
    let (code, said, out) = run_by(&RUN, dir, &[&words[..], &["--quiet"]].concat());
    assert_eq!((code, out.as_str()), (2, "a\nc\n"), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 7, "{said}");
    assert!(lines[0].starts_with("none.toml: No such file"), "{said}");
    assert_eq!(
        lines[1..4],
        [
            "first.toml:1: left out: service db: not all that is said of it is understood",
            "first.toml:5: unknown key \"restrat\", did you mean \"restart\"?",
            "first.toml:10: left out: service web: requires db, which is left out",
        ]
    );
    assert!(lines[4].starts_with("second.toml:6: "), "{said}");
    assert_eq!(
        lines[5..],
        [
            "third.toml:5: dropped: c wants \"b\", which does not exist, did you mean \"db\"?",
            "third.toml:7: left out: a is defined twice, first at first.toml:12",
        ]
    );
    // the same as data
    let (code, said, _) = run_by(&RUN, dir, &[&words[..], &["--check", "--json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["order"]), (2, &serde_json::json!(["a", "c"])));
    assert_eq!(report["problems"].as_array().unwrap().len(), 7);
    assert_eq!(report["problems"][6]["line"], 7);
    // nothing is wrong with this one
    fs::write(dir.join("good.toml"), shot("a", "")).unwrap();
    let (code, said, out) = run_by(&RUN, dir, &["good.toml", "-k", "--quiet"]);
    assert_eq!((code, said.as_str(), out.as_str()), (0, "", "a\n"));
}

#[test]
fn a_unit_is_left_out_with_what_belongs_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let unit =
        |more: &str| format!("[Unit]\n{more}\n[Service]\nExecStart=/bin/true\nType=oneshot\n");
    let names = ["good", "confined", "needs", "socketed", "dropped", "made@1", "many@1", "typo"];
    let all: String = names.iter().map(|name| format!("Wants={name}.service\n")).collect();
    let all = all + "Wants=many@1.socket\n";
    // of a target, the assignment is lost alone
    write("u/multi-user.target", &format!("[Unit]\nDescribtion=all\nWants=nothing\n{all}"));
    write("u/good.service", &unit("Wants=confined.service"));
    write("u/confined.service", &(unit("") + "ProtectHome=yes\n"));
    write("u/needs.service", &unit("Requires=confined.service"));
    write("u/socketed.service", &unit(""));
    write("u/socketed.socket", "[Socket]\nListenStream=nowhere\n");
    write("u/many@.service", &unit(""));
    write("u/many@.socket", "[Socket]\nListenStream=1\nno assignment\n");
    write("u/dropped.service", &unit(""));
    write("u/dropped.service.d/a.conf", "no assignment\n");
    write("u/made@.service", &(unit("") + "Nise=3\n"));
    write("u/typo.service", &unit("Nothing=1"));
    write("v/good.service", &unit("Nothing=1"));
    let (code, said, _) = run_by(&RUN, dir, &["u", "v", "--check", "--keep-going"]);
    let told: Vec<&str> = said.lines().filter(|line| line.contains("left out")).collect();
    assert_eq!(
        told,
        [
            "u/confined.service: left out: service confined: not all that is said of it is understood",
            "u/dropped.service: left out: service dropped: not all that is said of it is understood",
            "u/good.service:2: dropped: service good: wants confined, which is left out",
            "u/made@.service: left out: service made@1: not all that is said of it is understood",
            "u/many@.service: left out: service many@1: not all that is said of it is understood",
            "u/needs.service:2: left out: service needs: requires confined, which is left out",
            "u/socketed.service: left out: service socketed: not all that is said of it is understood",
            "u/typo.service: left out: service typo: not all that is said of it is understood",
        ],
        "{said}"
    );
    for expected in [
        "u/confined.service:6: ProtectHome=yes: ",
        "u/socketed.socket:2: ",
        "v/good.service: it is there twice",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!((code, said.lines().last()), (2, Some("good")), "{said}");
    // less confinement is sound
    let more = ["u", "--check", "--keep-going", "--allow-less-confinement"];
    let (_, said, _) = run_by(&RUN, dir, &more);
    let order: Vec<&str> = said.lines().filter(|line| !line.contains(": ")).collect();
    assert_eq!(order, ["confined", "good", "needs"], "{said}");
}

/// What runs is not ended by what somebody has got wrong since: a reload and a new process image go
/// over to files that are sound, or to none.
#[test]
fn what_runs_goes_on_until_all_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (file, socket) = (dir.join("s.toml"), dir.join("control"));
    let lost = daemon("lost", "requires = ['nowhere']");
    fs::write(&file, daemon("a", "") + &daemon("b", "") + &lost).unwrap();
    let mut command = Command::new(RUN[0]);
    command.args([RUN[1], "-k", "s.toml", "--control", "control"]).current_dir(dir);
    command.stdin(Stdio::null()).stdout(File::create(dir.join("out")).unwrap());
    let mut supervisor =
        Running(command.stderr(File::create(dir.join("err")).unwrap()).spawn().unwrap());
    let mut client = until("a client is served", || Client::connect_within(&socket, PATIENCE).ok());
    let up = |client: &mut Client| -> BTreeMap<String, i32> {
        let list = client.status(None).unwrap().into_iter();
        list.filter_map(|status| Some((status.name, status.pid?))).collect()
    };
    let all = |client: &mut Client, names: &[&str]| {
        until(&format!("{names:?} are up"), || Some(up(client)).filter(|it| it.keys().eq(names)))
    };
    let before = all(&mut client, &["a", "b"]);
    let err = || fs::read_to_string(dir.join("err")).unwrap();
    assert!(err().starts_with("s.toml:12: left out: lost requires \"nowhere\""), "{}", err());
    // something is wrong with one that runs, and there is a new one
    fs::write(&file, daemon("a", "") + &daemon("b", "nise = 1") + &daemon("c", "")).unwrap();
    let result = client.act(&Request::Reload { service: None, wait_ms: Some(60_000) }).unwrap();
    assert_eq!(result.effect, Effect::Failed);
    assert!(
        result.text.contains("nothing has changed") && result.text.contains("nise"),
        "{result:?}"
    );
    for turn in 1..=2 {
        let result = client.reexec().unwrap();
        assert_eq!(result.effect, Effect::Done, "{result:?}");
        assert_eq!(all(&mut client, &["a", "b"]), before, "turn {turn}");
    }
    let out = fs::read_to_string(dir.join("out")).unwrap();
    let told = "not all services that are given now are sound: those of before go on\n";
    assert_eq!(out.matches(told).count(), 2, "{out}");
    assert!(err().contains("s.toml:5: left out: service b: not all"), "{}", err());
    // a new image goes over to what is sound
    fs::write(&file, daemon("a", "") + &daemon("b", "") + &daemon("c", "")).unwrap();
    assert_eq!(client.reexec().unwrap().effect, Effect::Done);
    let after = all(&mut client, &["a", "b", "c"]);
    assert_eq!((after["a"], after["b"]), (before["a"], before["b"]));
    client.shutdown(kiln_supervisor::Outcome::Exit, false).unwrap();
    let status = until("it ends", || supervisor.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "nothing is left out any more");
}
