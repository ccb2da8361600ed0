//! The key that `rancheros ssh` logs in with.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kiln::command;

/// Makes a key where there is none; gives its public half.
///
/// # Errors
/// Without ssh-keygen; what it says.
pub fn ensure(path: &Path) -> Result<String> {
    if !path.exists() {
        let keygen = command::require("ssh-keygen", "to make a key", "openssh-client")?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("make {}", parent.display()))?;
        }
        let mut make = Command::new(keygen);
        make.args(["-q", "-t", "ed25519", "-N", "", "-C", "rancher", "-f"]).arg(path);
        let output = make.output().context("ssh-keygen")?;
        ensure!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
    }
    let public = path.with_extension("pub");
    let text = std::fs::read_to_string(&public);
    Ok(text.with_context(|| format!("read {}", public.display()))?.trim().to_owned())
}

/// Words that have ssh log in to a machine on a port of the loopback interface.
#[must_use]
pub fn ssh(key: &Path, port: u16) -> Vec<String> {
    let mut words = vec!["-p".to_owned(), port.to_string(), "-i".into(), key.display().to_string()];
    // The machine is a new one each time, and nobody is between it and here.
    for option in [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "IdentitiesOnly=yes",
        "LogLevel=ERROR",
        "ConnectTimeout=10",
    ] {
        words.extend(["-o".into(), option.into()]);
    }
    words.push("rancher@127.0.0.1".into());
    words
}
