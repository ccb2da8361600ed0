//! Software that Nomad brings to its nodes: an archive made of Debian packages, and the job that
//! downloads and runs it. What Nomad Init's author proposed for Podman, and Podman is what there is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln::build::{self, Report};
use kiln::definition::Definition;
use kiln::{Progress, cache};
use serde_json::{Value, json};

/// What the archive is made of, beside the program's source.
const DEFINITION: &str = "podman/image.toml";
/// What the task does before it is Podman: unpacks, and sees the node's own file systems below a
/// root that is a mount of its own, so that containers can pivot out of it. All mounts end with it.
const SCRIPT: &str = r#"set -e
root=$NOMAD_TASK_DIR/root
if [ ! -e "$NOMAD_TASK_DIR/unpacked" ]; then
    mkdir -p "$root"
    tar -xzf "$NOMAD_TASK_DIR/podman.tar.gz" -C "$root"
    rm "$NOMAD_TASK_DIR/podman.tar.gz"
    touch "$NOMAD_TASK_DIR/unpacked"
fi
mkdir -p /var/lib/nomad/podman
for file in passwd group hosts resolv.conf; do
    [ ! -e "/etc/$file" ] || cp "/etc/$file" "$root/etc/$file"
done
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
exec busybox unshare -m sh -c '
    set -e
    mount --bind "$1" "$1"
    for at in dev proc sys run tmp; do mount --rbind "/$at" "$1/$at"; done
    mount --bind /var/lib/nomad/podman "$1/var/lib/containers"
    cd "$1"
    mkdir -p /run/podman
    exec busybox chroot . /usr/bin/podman system service --time=0 "$2"
' sh "$root" "$1"
"#;

/// The job that runs Podman's API on every node: `url` is where the archive is downloaded from,
/// `listen` where the API is (`unix:///run/podman/podman.sock`, `tcp:0.0.0.0:8181`).
#[must_use]
pub fn podman_job(url: &str, sha256: &str, listen: &str) -> Value {
    json!({
        "ID": "podman",
        "Name": "podman",
        "Type": "system",
        "Datacenters": ["*"],
        "TaskGroups": [{
            "Name": "podman",
            "Count": 1,
            "RestartPolicy": {
                "Attempts": 3,
                "Interval": 600_000_000_000_u64,
                "Delay": 5_000_000_000_u64,
                "Mode": "fail",
            },
            "EphemeralDisk": { "SizeMB": 300 },
            "Tasks": [{
                "Name": "podman",
                "Driver": "raw_exec",
                "Config": { "command": "/bin/sh", "args": ["-c", SCRIPT, "podman", listen] },
                // Nomad's own unpacking knows no symbolic links.
                "Artifacts": [{
                    "GetterSource": url,
                    "GetterMode": "file",
                    "GetterOptions": { "archive": "false", "checksum": format!("sha256:{sha256}") },
                    "RelativeDest": "local/podman.tar.gz",
                }],
                "KillSignal": "SIGTERM",
                "KillTimeout": 20_000_000_000_u64,
                "Resources": { "CPU": 200, "MemoryMB": 256 },
                "LogConfig": { "MaxFiles": 2, "MaxFileSizeMB": 5 },
            }],
        }],
    })
}

/// Builds Podman's archive into a directory, and the job beside it (`podman.nomad.json`). Gives what
/// was built, and where the job is.
///
/// # Errors
/// As [`build::build`].
pub fn podman(
    how: &build::Options,
    out: &Path,
    url: &str,
    listen: &str,
    progress: &Progress,
) -> Result<(Report, PathBuf)> {
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join(DEFINITION);
    let report = build::build(&Definition::read(&definition)?, how, out, progress)?;
    let archive = report.manifest.artifacts.first().context("no archive was built")?;
    let job = out.join("podman.nomad.json");
    let text = json!({ "Job": podman_job(url, &archive.sha256, listen) });
    cache::write_file(&job, (serde_json::to_string_pretty(&text)? + "\n").as_bytes())?;
    Ok((report, job))
}
