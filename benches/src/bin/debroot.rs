//! Debian packages: our unpacking beside `dpkg-deb --extract` of the same files; our index beside
//! apt's cache made of the same archive.
//!
//! Ours does more while it unpacks: it checks each file's digest, keeps owners, modes and links of
//! an image in a tree, and reads the scripts for alternatives. dpkg-deb runs once for each package
//! and sets owners and times on disk. apt also reads the descriptions and writes its cache.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, seconds, take_turns};
use kiln_benches::{Result, machine};
use kiln_debroot::fetch::AptHelper;
use kiln_debroot::root::Options;
use kiln_debroot::{Archive, Lock, LockedPackage, Request, Root, archive, download, resolve};

/// Unpacking Debian packages and reading their index, beside dpkg-deb and apt
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// The package that is unpacked with all that it needs
    #[arg(long, default_value = "podman")]
    package: String,
    /// The release of Debian
    #[arg(long, default_value = "bookworm")]
    suite: String,
    /// Whose signatures are trusted
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/usr/share/keyrings/debian-archive-keyring.gpg"
    )]
    keyring: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("debroot", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new();
    if !machine::are_installed(&["dpkg-deb", "apt-get"]) {
        return Ok(report);
    }
    let keyring = std::fs::read(&arguments.keyring)
        .map_err(|error| format!("{}: {error}", arguments.keyring.display()))?;
    let archives = archive::debian(&arguments.suite, "amd64", &keyring);
    let store = machine::cache().join("debroot");
    let n = arguments.common.n;
    indexes(&mut report, n, &archives, &arguments.keyring, &store)?;
    let request = Request::new([&*arguments.package]);
    let fetch = AptHelper::default();
    let index = archive::read(&archives, now()?, &store.join("indexes"), &fetch)?;
    let lock = Lock::new(&archives, &request, &resolve(&index, &request)?);
    let place = download::by_digest(store.join("packages"));
    let files = download::download(&lock, &place, Some(&fetch))?;
    let packages: Vec<_> = lock.packages.iter().cloned().zip(files).collect();
    unpacking(&mut report, n, &arguments.package, &packages)?;
    Ok(report)
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn unpacking(
    report: &mut Report,
    n: u32,
    name: &str,
    packages: &[(LockedPackage, PathBuf)],
) -> Result<()> {
    let fresh = || tempfile::tempdir().map_err(kiln_benches::Error::from);
    let mut contenders = [
        Contender::new("kiln-debroot, in this process", || {
            let scratch = fresh()?;
            let root = scratch.path().join("root");
            seconds(|| {
                Root::unpack(packages, &root, &Options::default())?;
                Ok(())
            })
        }),
        Contender::new("dpkg-deb --extract, each package", || {
            let scratch = fresh()?;
            seconds(|| {
                packages.iter().try_for_each(|(_, path)| {
                    let mut peer = Command::new("dpkg-deb");
                    succeed(peer.arg("--extract").arg(path).arg(scratch.path()))
                })
            })
        }),
    ];
    take_turns(1, &mut contenders)?;
    let samples = take_turns(n, &mut contenders)?;
    let bytes: u64 = packages.iter().map(|(package, _)| package.size).sum();
    let what = format!("unpack {name}: {} packages, {} kB", packages.len(), bytes / 1000);
    report.contest(&what, Unit::Seconds, &contenders, samples);
    Ok(())
}

fn indexes(
    report: &mut Report,
    n: u32,
    archives: &[Archive],
    keyring: &Path,
    store: &Path,
) -> Result<()> {
    let fetch = AptHelper::default();
    let apt = Apt::new(archives, keyring)?;
    let mut contenders = [
        Contender::new("kiln-debroot: fetch, verify, read", || {
            seconds(|| {
                let index = archive::read(archives, now()?, &store.join("indexes"), &fetch)?;
                if index.is_empty() { Err("no package was found".into()) } else { Ok(()) }
            })
        }),
        Contender::new("apt-get update (nothing new), gencaches", || {
            seconds(|| {
                succeed(apt.command("apt-get").args(["-qq", "update"]))?;
                succeed(apt.command("apt-cache").arg("gencaches"))
            })
        }),
    ];
    take_turns(1, &mut contenders)?;
    let samples = take_turns(n, &mut contenders)?;
    report.contest("the index of three suites", Unit::Seconds, &contenders, samples);
    Ok(())
}

/// apt with these archives and nothing of the host's configuration of them.
struct Apt {
    directory: tempfile::TempDir,
}

impl Apt {
    fn new(archives: &[Archive], keyring: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        for path in ["state/lists/partial", "cache/archives/partial", "parts"] {
            std::fs::create_dir_all(directory.path().join(path))?;
        }
        let line = |archive: &Archive| {
            let (keyring, Archive { uri, suite, components, .. }) = (keyring.display(), archive);
            format!("deb [signed-by={keyring}] {uri} {suite} {}\n", components.join(" "))
        };
        let sources: String = archives.iter().map(line).collect();
        std::fs::write(directory.path().join("sources.list"), sources)?;
        std::fs::write(directory.path().join("status"), "")?;
        Ok(Self { directory })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (key, path) in [
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::Etc::SourceParts", "parts"),
        ] {
            let path = self.directory.path().join(path);
            command.arg("-o").arg(format!("{key}={}", path.display()));
        }
        command.args(["-o", "APT::Architectures=amd64", "-o", "APT::Sandbox::User=root"]);
        command
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
