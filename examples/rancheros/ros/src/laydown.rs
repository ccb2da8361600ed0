//! Systems laid down: on a disk that is to be theirs, or beside the one that runs. `lay-down-os` is the
//! entry point of the installer's image, which has the system in `/dist`; `ros install` and `ros os
//! upgrade` do the same with a CD or an archive of that image.

use std::fmt::Display;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, ValueEnum};
use kiln_cloudconfig::{Kind, Limits, document};
use kiln_diskimg::boot::syslinux::Loader;
use kiln_diskimg::{ByteLen, Table};
use kiln_guest::install::{Disk, Plan};
use kiln_guest::release::Directory;
use kiln_guest::slots::Slots;
use kiln_tree::{Metadata, Node, Source, Tree};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::{configuration, places};

/// What an installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    /// A disk with an MBR
    Generic,
    /// A disk with a GUID partition table
    #[value(alias = "gptsyslinux")]
    Gpt,
    /// The other system of the disk that this one runs from
    Upgrade,
}

/// How a system is laid down.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The disk that is to be the system's, such as /dev/vda
    #[arg(short, long, value_name = "DISK")]
    pub(crate) device: Option<PathBuf>,
    /// The cloud-config that the new system begins with; `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) cloud_config: Option<PathBuf>,
    /// Words that the kernel's command line has besides
    #[arg(short, long, value_name = "WORDS")]
    pub(crate) append: Option<String>,
    /// Over what is on the disk; an older version over a newer one
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Lays down the system of this image.
#[derive(Debug, Parser)]
#[command(name = "lay-down-os", version, max_term_width = 100)]
struct Arguments {
    /// What is done
    #[arg(short = 't', long = "install-type", value_enum, default_value = "gpt")]
    kind: Type,
    #[command(flatten)]
    options: Options,
}

/// `lay-down-os`.
pub(crate) fn main() -> ExitCode {
    let Arguments { kind, options } = Arguments::parse();
    match lay_down(Path::new(places::DIST), kind, &options) {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("lay-down-os: {why}");
            ExitCode::FAILURE
        }
    }
}

fn about<E: Display>(what: impl Display) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

/// Lays down the system in a directory. Says what was done.
///
/// # Errors
/// A sentence.
pub(crate) fn lay_down(dist: &Path, kind: Type, options: &Options) -> Result<String, String> {
    let release = Directory::open(dist).map_err(|error| error.to_string())?;
    match kind {
        Type::Upgrade => upgrade(&release, options),
        Type::Generic => install(release, Table::Mbr, options),
        Type::Gpt => install(release, Table::Gpt, options),
    }
}

fn upgrade(release: &Directory, options: &Options) -> Result<String, String> {
    let mut slots = Slots::of_running_system().map_err(|error| error.to_string())?;
    let words = options.append.as_deref().unwrap_or_default();
    let slot = release.upgrade(&mut slots, words, options.force);
    let slot = slot.map_err(|error| error.to_string())?;
    let version = &release.release().version;
    Ok(format!("version {version} is in slot {slot}: the next start tries it"))
}

fn install(release: Directory, table: Table, options: &Options) -> Result<String, String> {
    let Some(device) = &options.device else {
        return Err("which disk? --device names it, such as /dev/vda".into());
    };
    let state = state(options)?;
    let mut disk = Disk::open(device).map_err(|error| error.to_string())?;
    if let Some(found) = disk.content().filter(|_| !options.force) {
        let shown = device.display();
        return Err(format!("{shown} has {found}: it would be lost; --force takes the disk"));
    }
    let mut seed = [0; 32];
    getrandom(&mut seed, GetRandomFlags::empty()).map_err(about("random bytes"))?;
    let version = release.release().version.clone();
    let mut plan = Plan::new(release, seed);
    plan.title = "RancherOS-like".into();
    (plan.table, plan.slots) = (table, ByteLen::mib(256));
    plan.arguments = options.append.clone().unwrap_or_default();
    plan.bios = Some(Loader::from_package(places::LOADERS).map_err(|error| error.to_string())?);
    plan.uefi = Some(systemd_boot()?);
    plan.data = Some((places::LABEL.into(), state));
    disk.install(&plan).map_err(|error| error.to_string())?;
    Ok(format!("version {version} is on {}", device.display()))
}

fn systemd_boot() -> Result<Source, String> {
    let path = Path::new(places::LOADERS).join("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
    let len = fs::metadata(&path).map_err(about(path.display()))?.len();
    Ok(Source::File { path, len })
}

/// What the state disk has at first.
fn state(options: &Options) -> Result<Tree, String> {
    let mut tree = Tree::new();
    let mut file = |path: &str, bytes: Vec<u8>| {
        // /var/lib/rancher is a directory of the state disk
        let path = path.replacen("/var/lib/", "", 1);
        let node = Node::file(bytes).with(Metadata::new(0o600));
        tree.insert(path, node).map_err(|error| error.to_string())
    };
    if let Some(path) = &options.cloud_config {
        let (name, bytes) = read(path)?;
        check(&name, &bytes, options.force)?;
        file(places::CLOUD_CONFIG, bytes)?;
    }
    if let Some(words) = &options.append {
        file(places::APPEND, words.clone().into_bytes())?;
    }
    Ok(tree)
}

fn read(path: &Path) -> Result<(String, Vec<u8>), String> {
    let most = Limits::default().document_bytes;
    let mut bytes = Vec::new();
    let bound = most as u64 + 1;
    let name = match path.as_os_str() == "-" {
        true => {
            let read = std::io::stdin().lock().take(bound).read_to_end(&mut bytes);
            read.map_err(about("standard input"))?;
            "standard input".to_owned()
        }
        false => {
            let name = path.display().to_string();
            let file = fs::File::open(path).map_err(about(&name))?;
            file.take(bound).read_to_end(&mut bytes).map_err(about(&name))?;
            name
        }
    };
    match bytes.len() > most {
        true => Err(format!("{name}: longer than {most} bytes")),
        false => Ok((name, bytes)),
    }
}

/// A cloud-config that is wrong is found before it is on a disk that nobody can log in to.
pub(crate) fn check(name: &str, bytes: &[u8], forced: bool) -> Result<(), String> {
    let (node, findings) = document::read(name, bytes, &Limits::default());
    let findings = configuration::merge(vec![node], findings).findings;
    let wrong = findings.iter().any(|finding| finding.kind != Kind::NotSupported);
    if wrong && !forced {
        return Err(format!("{findings}\n--force installs with it all the same"));
    }
    if !findings.is_empty() {
        eprintln!("{findings}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: Option<&Path>) -> Options {
        let cloud_config = text.map(Path::to_owned);
        Options { device: None, cloud_config, append: Some("a=b".into()), force: false }
    }

    #[test]
    fn the_new_system_begins_with_its_cloud_config_if_that_is_sound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.yml");
        fs::write(&path, "hostname: a\n").unwrap();
        let tree = state(&options(Some(&path))).unwrap();
        assert!(tree.contains("rancher/conf/cloud-config.yml"));
        assert!(tree.contains("rancher/conf/append"));
        fs::write(&path, "hostnam: a\n").unwrap();
        let error = state(&options(Some(&path))).unwrap_err();
        assert!(error.contains("c.yml:1: unknown key \"hostnam\""), "{error}");
        let mut forced = options(Some(&path));
        forced.force = true;
        state(&forced).unwrap();
        let error = state(&options(Some(&directory.path().join("none")))).unwrap_err();
        assert!(error.contains("none: No such file"), "{error}");
    }
}
