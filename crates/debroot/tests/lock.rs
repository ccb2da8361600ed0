//! The lock as text, what is refused of it, and what changed.
#![expect(clippy::unwrap_used, reason = "in helpers of tests, where a panic is a failure")]
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
    index.add("http://archive.example/debian", &packages, "Packages").unwrap();
    let request = Request::new(["app"]);
    let archives = [Archive::new("http://archive.example/debian", "stable", "amd64", *b"key")];
    let mut lock = Lock::new(&archives, &request, &resolve(&index, &request).unwrap());
    lock.inputs.push(Input::new("nomad", "1.9", format!("{:064x}", 7), "a \"module\"\nin Go"));
    lock
}

#[test]
fn text() {
    insta::assert_snapshot!(lock("2.36-9+deb12u10"), @"");
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
    insta::assert_snapshot!(Lock::diff(&old, &new), @"");
    insta::assert_snapshot!(Lock::diff(&new, &old), @"");
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
    insta::assert_snapshot!(messages, @"");
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
