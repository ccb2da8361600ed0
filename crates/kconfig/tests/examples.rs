//! The example programs: what they write, and their exit codes.
#![cfg(all(feature = "requirements-toml", feature = "serde"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what it calls")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Cargo builds examples beside the folder of the test programs.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(name)
}

fn run(name: &str, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(example(name)).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn merge_and_check_say_by_their_exit_codes_how_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("base"), "CONFIG_A=m\n").unwrap();
    fs::write(at.join("same"), "CONFIG_A=m\n").unwrap();
    fs::write(at.join("other"), "CONFIG_A=y\n").unwrap();
    fs::write(at.join("needs.toml"), "[[requirement]]\noption='A'\nneed='y'\nreason='r'\n")
        .unwrap();
    fs::write(at.join("bad.toml"), "[[requirement]]\noption='A'\n").unwrap();

    let merged = run("merge", at, &["base", "other", "-o", "out", "--provenance"]);
    assert_eq!(merged.status.code(), Some(0));
    assert_eq!(fs::read_to_string(at.join("out")).unwrap(), "\nCONFIG_A=y\n");
    let told = String::from_utf8(merged.stderr).unwrap();
    assert_eq!(
        told,
        "changed: CONFIG_A: y (other:1) after m (base:1)\n\
         CONFIG_A: y (other:1), after m (base:1)\n"
    );
    let strict = run("merge", at, &["base", "other", "--strict", "-o", "not-written"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(!at.join("not-written").exists());
    let strict = run("merge", at, &["base", "same", "--strict"]);
    assert_eq!((strict.status.code(), &*strict.stdout), (Some(0), &b"\nCONFIG_A=m\n"[..]));
    assert_eq!(run("merge", at, &["base", "none"]).status.code(), Some(2));
    assert_eq!(run("merge", at, &["--unknown"]).status.code(), Some(2));

    assert_eq!(run("check", at, &["out", "needs.toml"]).status.code(), Some(0));
    let missing = run("check", at, &["base", "needs.toml", "--json"]);
    assert_eq!(missing.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&missing.stdout).unwrap();
    assert_eq!(json[0]["findings"][0]["options"][0]["option"], "A");
    assert_eq!(run("check", at, &["base", "bad.toml"]).status.code(), Some(2));
    assert_eq!(run("check", at, &["base"]).status.code(), Some(2));
}
