//! `kurma build`, without what takes minutes: artifacts that are supplied, checksums and their signature.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn kurma(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kurma"));
    command.args(arguments).current_dir(directory).output().unwrap()
}

fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_step_has_what_it_needs_and_they_can_be_drawn() {
    let work = tempfile::tempdir().unwrap();
    let steps = answer(&kurma(&["build", "--list", "--json"], work.path()));
    let steps = steps.as_array().unwrap();
    let needs =
        |name: &str| steps.iter().find(|step| step["step"] == name).unwrap()["needs"].clone();
    assert_eq!(needs("console"), json!(["base", "cli"]));
    assert_eq!(needs("disk"), json!(["init"]));
    for platform in ["virtualbox", "vmware", "vmx", "openstack", "aws"] {
        assert_eq!(needs(platform), json!(["disk"]));
    }
    let drawn = kurma(&["build", "all", "--graph", "graph.svg"], work.path());
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let picture = std::fs::read_to_string(work.path().join("graph.svg")).unwrap();
    assert!(picture.contains("console.aci") && picture.ends_with("</svg>\n"), "{picture}");
    let wrong = kurma(&["build", "konsole", "--out", "out"], work.path());
    assert_eq!(wrong.status.code(), Some(1));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("there is no step \"konsole\"; did you mean \"console\"?"), "{said}");
}

#[test]
fn what_is_given_to_others_is_signed_and_made_of_what_is_supplied() {
    let work = tempfile::tempdir().unwrap();
    let mut arguments: Vec<String> =
        ["build", "dist", "--out", "out", "--key", "key", "--json"].map(str::to_owned).into();
    let steps =
        ["cli", "server", "init", "disk", "virtualbox", "vmware", "vmx", "openstack", "aws"];
    for step in steps {
        std::fs::write(work.path().join(step), step).unwrap();
        arguments.push(format!("--use={step}={step}"));
    }
    let run = |more: &[&str]| {
        let all: Vec<&str> =
            arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        kurma(&all, work.path())
    };
    // A key is made when that was asked for, and not otherwise.
    let without = run(&[]);
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(!without.status.success() && said.contains("step dist: read key"), "{said}");
    let ran = |answer: &Value| -> Vec<String> {
        let done = answer["done"].as_array().unwrap();
        let ran = done.iter().filter(|done| done["ran"] == true);
        ran.map(|done| done["step"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ran(&answer(&run(&["--new-key"]))), ["dist"]);
    let dist = work.path().join("out/dist");
    let check = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(&dist).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (good, said) = check("sha256sum", &["--check", "--strict", "SHA256SUMS"]);
    assert!(good && said.lines().count() == steps.len(), "{said}");
    let (public, sums, signature) = (
        std::fs::read_to_string(dist.join("release.pub")).unwrap(),
        std::fs::read(dist.join("SHA256SUMS")).unwrap(),
        std::fs::read(dist.join("SHA256SUMS.sig")).unwrap(),
    );
    kiln::sign::verify(&public, &sums, &signature).unwrap();

    assert!(ran(&answer(&run(&["--new-key"]))).is_empty());
    std::fs::write(work.path().join("disk"), "another").unwrap();
    let changed = answer(&run(&[]));
    assert_eq!(ran(&changed), ["dist"]);
    let why = changed["done"].as_array().unwrap().last().unwrap()["why"].clone();
    assert_eq!(why, "ran: disk's kurma.raw is another");
    let made = std::fs::read_to_string(dist.join("kurma.raw")).unwrap();
    assert_eq!(made, "another");
    // Another key signs anew.
    std::fs::remove_file(work.path().join("key")).unwrap();
    let again = answer(&run(&["--new-key"]));
    assert_eq!(ran(&again), ["dist"]);
    assert!(
        kiln::sign::verify(&public, &sums, &std::fs::read(dist.join("SHA256SUMS.sig")).unwrap())
            .is_err()
    );
}
