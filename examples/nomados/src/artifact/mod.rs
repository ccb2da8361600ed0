//! Software that Nomad brings to its nodes: an archive made of Debian packages, and the job that
//! downloads and runs it. What Nomad Init's author proposed for Podman, and Podman is what there is.

pub mod archive;
mod iptables;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln::{Cache, Error, Progress, cache, debian, digest};
use kiln_initramfs::elf::{self, Resolver, Root};
use kiln_tree::{Node, Tree, host};
use serde_json::{Value, json};

/// The packages that Podman and its helpers are from, with those of all libraries that they need.
const PACKAGES: &[&str] = &[
    "aardvark-dns",
    "catatonit",
    "conmon",
    "crun",
    "golang-github-containers-common",
    "golang-github-containers-image",
    "libassuan0",
    "libaudit1",
    "libblkid1",
    "libbz2-1.0",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcrypt1",
    "libdevmapper1.02.1",
    "libgcc-s1",
    "libgcrypt20",
    "libglib2.0-0",
    "libgpg-error0",
    "libgpgme11",
    "liblz4-1",
    "liblzma5",
    "libpam0g",
    "libpcre2-8-0",
    "libseccomp2",
    "libselinux1",
    "libsemanage2",
    "libsepol2",
    "libsubid4",
    "libsystemd0",
    "libudev1",
    "libyajl2",
    "libzstd1",
    "netavark",
    "podman",
];
/// Podman and what it starts. None of these is named in its ELF header.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/bin/podman", "Podman"),
    ("/usr/bin/conmon", "Podman starts it for each container"),
    ("/usr/bin/crun", "the container runtime"),
    ("/usr/libexec/podman/catatonit", "process 1 of pods and of containers with --init"),
    ("/usr/lib/podman/netavark", "container networks"),
    ("/usr/lib/podman/aardvark-dns", "names of containers"),
];
/// Directories with what Podman reads: policies, registries, system call filters.
const SETTINGS: &[&str] = &["etc/containers", "usr/share/containers"];
const CONTAINERS_CONF: &str = "\
# There is neither systemd nor a journal.
[containers]
log_driver = \"k8s-file\"

[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
runtime = \"crun\"

[network]
network_backend = \"netavark\"
";
const STORAGE_CONF: &str = "\
[storage]
driver = \"overlay\"
runroot = \"/run/containers/storage\"
graphroot = \"/var/lib/containers/storage\"
";
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

/// What was made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Made {
    /// The archive.
    pub archive: PathBuf,
    /// The job's file, JSON of Nomad's API.
    pub job: PathBuf,
    /// How many files the archive has, and their bytes.
    pub files: usize,
    /// Their bytes.
    pub unpacked: u64,
    /// The archive's bytes.
    pub len: u64,
}

/// Podman's tree.
///
/// # Errors
/// Those of getting packages; a library that none of them has, by name.
pub fn podman_tree(cache: &Cache) -> Result<Tree> {
    let packages: Vec<&str> = PACKAGES.iter().chain(iptables::PACKAGES).copied().collect();
    let sysroot = debian::sysroot(cache, &packages)?;
    let mut options = elf::Options::new(&sysroot);
    options.ld_cache = false;
    let mut roots: Vec<Root> =
        PROGRAMS.iter().map(|(path, why)| Root::in_sysroot(*path).because(*why)).collect();
    roots.extend(iptables::roots());
    let closure = Resolver::new(options)
        .and_then(|mut resolver| resolver.closure_of(&roots))
        .map_err(Error::from)
        .context("Podman's programs")?;
    let mut tree = Tree::new();
    for name in ["bin", "sbin", "lib", "lib64"] {
        tree.insert(format!("usr/{name}"), Node::directory())?;
        tree.insert(name, Node::symlink(format!("usr/{name}")).because("merged /usr"))?;
    }
    closure.add_to(&mut tree, &host::Policy::default()).map_err(Error::from)?;
    iptables::add_links(&mut tree)?;
    for path in SETTINGS {
        let from = sysroot.join(path);
        if from.is_dir() {
            host::import(&mut tree, &from, path, &host::Policy::default())
                .with_context(|| format!("take {}", from.display()))?;
        }
    }
    for (path, text) in [
        ("etc/containers/containers.conf", CONTAINERS_CONF),
        ("etc/containers/storage.conf", STORAGE_CONF),
    ] {
        let file = Node::file(text).because("Podman without systemd");
        tree.replace(path, file)?;
    }
    for path in [
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "root",
        "etc/ssl/certs",
        "var/lib/containers",
        "var/tmp",
    ] {
        tree.insert(path, Node::directory().because("a place for mounts and files of the node"))?;
    }
    let link = Node::symlink("/run").because("programs look for sockets there");
    tree.insert("var/run", link)?;
    Ok(tree)
}

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

/// Writes Podman's archive, and beside it the job (`podman.nomad.json`).
///
/// # Errors
/// As [`podman_tree`]; what the file system refuses.
pub fn podman(
    cache: &Cache,
    out: &Path,
    url: &str,
    listen: &str,
    progress: &Progress,
) -> Result<Made> {
    let step = progress.step("getting Podman and its helpers");
    let tree = podman_tree(cache)?;
    step.done();
    let step = progress.step("packing them");
    let records = kiln_initramfs::manifest::files(&tree).map_err(Error::from)?;
    let key = digest::of_parts(
        records
            .iter()
            .map(|record| format!("{record:?}"))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_bytes),
    );
    let kept = cache.get_or_make(format!("artifact/podman-{key}.tar.gz"), |made| {
        archive::write_file(&tree, made)
            .map_err(|error| Error::input("Podman's archive", format!("{error:#}")))
    })?;
    let bytes = std::fs::read(&kept).with_context(|| format!("read {}", kept.display()))?;
    cache::write_file(out, &bytes)?;
    let job = out.with_file_name("podman.nomad.json");
    let text = json!({ "Job": podman_job(url, &digest::of_bytes(&bytes), listen) });
    cache::write_file(&job, (serde_json::to_string_pretty(&text)? + "\n").as_bytes())?;
    step.done();
    let len = bytes.len() as u64;
    Ok(Made { archive: out.into(), job, files: tree.len(), unpacked: tree.content_len(), len })
}
