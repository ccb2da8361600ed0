//! The shell against a real kernel, in network namespaces that the tests make: what `ip` and `nft` say
//! of it, and packets. Bonds, VLANs and tunnels, which not every kernel has, are tested in a machine
//! that is booted for it (`e2e/tests/links.rs`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]
#![cfg(all(feature = "container", feature = "toml"))]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kiln_network::container::Namespace;

mod containers;
mod declared;
mod packets;

/// Patience with a loaded machine; passing never takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Whether tests can run here. Where `CI` is set they must.
pub(crate) fn ready(tools: &[&str]) -> bool {
    let mut missing: Vec<&str> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root");
    }
    missing.extend(tools.iter().filter(|tool| {
        !["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|d| Path::new(d).join(tool).exists())
    }));
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "missing in CI: {}", missing.join(", "));
    println!("skipped: {}", missing.join(", "));
    false
}

/// Does something in a namespace of its own, so that the host's network is never touched.
pub(crate) fn apart<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    Namespace::new().unwrap().run(what).unwrap()
}

/// Runs a program in the namespace of this thread.
pub(crate) fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", words.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn ip(line: &str) -> String {
    run(&[&["ip"], &line.split_whitespace().collect::<Vec<_>>()[..]].concat())
}

/// What `ip -j` says.
pub(crate) fn ip_json(line: &str) -> Vec<serde_json::Value> {
    let text = ip(&format!("-j -d {line}"));
    // Of nothing, some versions say nothing.
    if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).unwrap() }
}

/// Waits until something holds.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
