//! The lock as text, what is refused of it, and what changed.
#![cfg(feature = "lock")]

use kiln_debroot::lock::Input;
use kiln_debroot::{Archive, Index, Lock, Request, resolve};
use proptest::prelude::*;

fn lock(version: &str) -> Lock {
    let mut index = Index::new("amd64");
    let digest = format!("{:064x}", version.len());
    let packages = format!(
        "Package: libc6\nSource: glibc (2.36-9)\nVersion: {version}\nArchitecture: amd64\n\
         Filename: pool/main/g/glibc/libc6.deb\nSize: 2757\nSHA256: {digest}\n\n\
         Package: app\nVersion: 1:2.0-1\nArchitecture: all\nDepends: libc6\n\
         Filename: pool/main/a/app.deb\nSize: 10\nSHA256: {:064x}\n",
        1
    );
    index.add("http://archive.example/debian", &packages, "Packages").expect("an index");
    let request = Request::new(["app"]);
    let archives = [Archive::new("http://archive.example/debian", "stable", "amd64", *b"key")];
    let mut lock = Lock::new(&archives, &request, &resolve(&index, &request).expect("resolved"));
    lock.inputs.push(Input::new("nomad", "1.9", format!("{:064x}", 7), "a \"module\"\nin Go"));
    lock
}

#[test]
fn text() {
    insta::assert_snapshot!(lock("2.36-9+deb12u10"), @r#"
    # What goes into the image, to the byte. Made by kiln, not by hand.
    version = 1
    request = "7ff90774cddd5d42db8330302dde78955208a43dba8f6434cd6d4bc7f0d32569"

    [[package]]
    name = "app"
    version = "1:2.0-1"
    architecture = "all"
    source = "app"
    source_version = "1:2.0-1"
    archive = "http://archive.example/debian"
    path = "pool/main/a/app.deb"
    size = 10
    sha256 = "0000000000000000000000000000000000000000000000000000000000000001"
    depends = ["libc6"]

    [[package]]
    name = "libc6"
    version = "2.36-9+deb12u10"
    architecture = "amd64"
    source = "glibc"
    source_version = "2.36-9"
    archive = "http://archive.example/debian"
    path = "pool/main/g/glibc/libc6.deb"
    size = 2757
    sha256 = "000000000000000000000000000000000000000000000000000000000000000f"
    needed_by = "app"

    [[input]]
    name = "nomad"
    version = "1.9"
    sha256 = "0000000000000000000000000000000000000000000000000000000000000007"
    what = """
    a "module"
    in Go"""
    "#);
}

#[test]
fn there_and_back() {
    let lock = lock("2.36-9+deb12u10");
    assert_eq!(Lock::parse(&lock.to_string(), "kiln.lock").unwrap(), lock);
    let mut empty = Lock::default();
    empty.request = lock.request;
    assert_eq!(Lock::parse(&empty.to_string(), "x").unwrap(), empty);
}

#[test]
fn differences() {
    let old = lock("2.36-9+deb12u10");
    let mut new = lock("2.36-9+deb12u11");
    new.inputs.clear();
    new.packages.remove(0);
    assert_eq!(Lock::diff(&old, &old).to_string(), "nothing changes\n");
    insta::assert_snapshot!(Lock::diff(&old, &new), @r"
    app 1:2.0-1 removed
    libc6 2.36-9+deb12u10 → 2.36-9+deb12u11
    nomad 1.9 removed
    ");
    insta::assert_snapshot!(Lock::diff(&new, &old), @r"
    app 1:2.0-1 added
    libc6 2.36-9+deb12u11 → 2.36-9+deb12u10
    nomad 1.9 added
    ");
    let mut rebuilt = old.clone();
    rebuilt.packages[1].sha256 = format!("{:064x}", 99);
    assert_eq!(Lock::diff(&old, &rebuilt).to_string(), "libc6 2.36-9+deb12u10 has other bytes\n");
}

#[test]
fn a_lock_answers_one_question() {
    let archive = || Archive::new("http://archive.example/debian", "stable", "amd64", *b"key");
    let lock = lock("2.36-9+deb12u10");
    assert!(lock.answers(&[archive()], &Request::new(["app"])));
    let mut other_key = archive();
    other_key.keyring = b"new key".to_vec();
    assert!(lock.answers(&[other_key], &Request::new(["app"])));
    assert!(!lock.answers(&[archive()], &Request::new(["app", "more"])));
    assert!(!lock.answers(&[archive()], &Request::new(["app"]).with_recommends(true)));
    assert!(!lock.answers(&[archive().with_components(["contrib"])], &Request::new(["app"])));
}

#[test]
fn mistakes_are_named_with_their_line() {
    let good = lock("2.36-9+deb12u10").to_string();
    let mut messages = String::new();
    for (from, to) in [
        ("version = 1\n", "version = 9\n"),
        ("request = \"", "request = \"zz"),
        ("size = 10\n", "size = -10\n"),
        ("size = 10\n", "size = 10\nsiez = 10\n"),
        ("name = \"app\"", "name = \"libc6\""),
        ("name = \"app\"", "name = \"../app\""),
        ("path = \"pool/main/a/app.deb\"", "path = \"/etc/app.deb\""),
        ("version = \"1:2.0-1\"", "version = \"new\""),
        ("architecture = \"all\"\n", ""),
        ("archive = \"http://archive.example/debian\"", "archive = \"archive\""),
        ("sha256 = \"0000", "sha256 = \"000"),
        ("[[input]]", "[[inputs]]"),
        ("[[input]]", "[[input"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let error = Lock::parse(&text, "kiln.lock").unwrap_err();
        messages.push_str(&format!("{error}\n"));
    }
    insta::assert_snapshot!(messages, @r#"
    kiln.lock:2: this lock is of version 9, and version 1 is understood here
    kiln.lock:3: "zz7ff90774cddd5d42db8330302dde78955208a43dba8f6434cd6d4bc7f0d32569" is no SHA-256 of 64 lower-case hexadecimal digits
    kiln.lock:13: invalid value: integer `-10`, expected u64
    kiln.lock:14: unknown field `siez`, expected one of `name`, `version`, `architecture`, `source`, `source_version`, `archive`, `path`, `size`, `sha256`, `needed_by`, `depends`
    kiln.lock:18: "libc6" is in the lock already, at line 6
    kiln.lock:6: "../app" is no name of a package
    kiln.lock:12: "/etc/app.deb" is no path below an archive
    kiln.lock:7: "new" is no version of a package
    kiln.lock:5: missing field `architecture`
    kiln.lock:11: "archive" is no address of an archive
    kiln.lock:14: "000000000000000000000000000000000000000000000000000000000000001" is no SHA-256 of 64 lower-case hexadecimal digits
    kiln.lock:29: unknown field `inputs`, expected one of `version`, `request`, `package`, `input`
    kiln.lock:29: unclosed array table, expected `]]`
    "#);
}

proptest! {
    #[test]
    fn nothing_panics(text in any::<String>()) {
        let _ = Lock::parse(&text, "kiln.lock");
    }

    #[test]
    fn damage_never_panics(at in 0usize..900, new in any::<u8>()) {
        let mut bytes = lock("2.36-9+deb12u10").to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = new;
        if let Ok(text) = String::from_utf8(bytes) {
            let _ = Lock::parse(&text, "kiln.lock");
        }
    }

    #[test]
    fn any_input_survives(name in ".*", version in ".*", what in ".*") {
        let mut lock = Lock::default();
        lock.request = format!("{:064x}", 3);
        lock.inputs.push(Input::new(name, version, format!("{:064x}", 7), what));
        prop_assert_eq!(Lock::parse(&lock.to_string(), "kiln.lock").unwrap(), lock);
    }
}
