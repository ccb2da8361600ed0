//! A root that is fetched into memory when the machine boots, by an initramfs that knows whom to believe.
//!
//! | word of the kernel's command line | what it says |
//! |---|---|
//! | `boot=ramdisk` | that there is such a root |
//! | `ramroot=URL` | where: `http:`, `https:`, `file:` or a path of the initramfs; its list of chunks is beside it, with `.chunks` behind the name |
//! | `ramroot.older` | that it may be older than the initramfs |
//! | `ramroot.patience=SECONDS` | how long it is tried without anything new (900) |
//! | `ip=`, `BOOTIF=` | over which interface, with which address: as everywhere |
//!
//! Without `ramroot=` it is the `/ramroot.*` of the initramfs, else what lies where the image's definition says
//! that such roots lie.
//!
//! | file of the initramfs | what |
//! |---|---|
//! | `/etc/kiln/ramroot.toml` | `system`, `version`, `server`: whose roots are taken, from which version on, and from where |
//! | `/etc/kiln/ramroot.pub` | the keys (PEM) that lists are believed by |
//! | `/etc/ssl/certs/ca-certificates.crt` | the authorities that servers (https) are believed by |

mod memory;
mod settings;
mod watch;

use std::cmp::Ordering;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kiln_diskimg::boot::bls::compare_versions;
use kiln_ramroot::http::{Reach, Url};
use kiln_ramroot::{ChunkList, Kind, Policy, Reader, Source, list, list_beside, local, unpack};
use kiln_supervisor::pid1::{Boot, Loader, loop_device, switch_root};
use rustix::mount::MountFlags;

use crate::console::say;
use crate::release::Keys;
use crate::root::{PLACE, mounted, written_over};
use crate::{System, names, network};
use settings::Settings;
use watch::Watched;

/// How long the network may take; it tells what it waits for.
const NETWORK: Duration = Duration::from_secs(300);
/// How often devices are looked for that come late, until there is a network.
const LATE: Duration = Duration::from_secs(5);
/// Memory that the system has beside its root.
const BESIDE: u64 = 64 << 20;
/// Chunks that are fetched ahead of what unpacks them.
const AHEAD: usize = 4;
/// Whom servers are believed by.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What is left for whoever wants to know.
const NOTE: &str = "/run/kiln/ramroot";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// None where it says only that there is one.
    root: Option<String>,
    older: bool,
    patience: Option<Duration>,
}

impl Wanted {
    /// `None` where the root is where this process already is.
    ///
    /// # Errors
    /// A word whose value is none.
    pub(crate) fn of(boot: &Boot) -> Result<Option<Self>, String> {
        if !switch_root::needed() {
            return Ok(None);
        }
        Self::from_words(|name| boot.argument(name))
    }

    fn from_words<'a>(word: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>, String> {
        let root = word("ramroot").filter(|root| !root.is_empty());
        if root.is_none() && word("boot") != Some("ramdisk") {
            return Ok(None);
        }
        let seconds = word("ramroot.patience").map(str::parse);
        let patience = match seconds {
            Some(Ok(seconds)) => Some(Duration::from_secs(seconds)),
            Some(Err(_)) => return Err("ramroot.patience: it is no number of seconds".into()),
            None => None,
        };
        let older = word("ramroot.older").is_some_and(|value| value != "0");
        Ok(Some(Self { root: root.map(str::to_owned), older, patience }))
    }
}

/// Fetches the root, enters it, and executes its `/init`.
pub(crate) fn enter(system: &System, wanted: &Wanted) -> Result<Infallible, String> {
    let begun = Instant::now();
    let name = &system.name;
    let settings = Settings::read()?;
    let keys = Keys::read(Path::new(settings::KEYS)).map_err(|error| error.to_string())?;
    let place = settings.root(wanted.root.as_deref())?;
    say(name, format_args!("root: {place}"));
    let mut loader = Loader::loadable_of_running_kernel().ok();
    if local(&place).is_none() {
        reach_network(system, loader.as_mut())?;
    }
    let mut policy = Policy::default();
    policy.patience = wanted.patience.unwrap_or(policy.patience);
    policy.seed = seed();
    let reach = reach();
    let source = |url: &str| -> Result<Box<dyn Source>, String> {
        Ok(match local(url) {
            Some(path) => Box::new(path.to_owned()),
            None => Box::new(Url::new(url, &reach).map_err(|error| error.to_string())?),
        })
    };
    let beside = list_beside(&place);
    let verify = |text: &[u8], signature: &[u8; 64]| keys.verify(text, signature).is_ok();
    let mut tell = |line: &str| say(name, format_args!("{beside}: {line}"));
    let list = list(&beside, &mut *source(&beside)?, &policy, &verify, &mut tell);
    let list = Arc::new(list.map_err(|error| error.to_string())?);
    is_acceptable(&list, &settings, wanted.older)?;
    let free = memory::available()?;
    let needed = list.memory() + BESIDE;
    if needed > free {
        return Err(format!(
            "not enough memory: this root ({} {}, {}) needs {} MiB, and {} MiB are free",
            list.system,
            list.version,
            list.kind,
            needed >> 20,
            free >> 20
        ));
    }
    let meter = memory::Meter::start();
    let teller = {
        let name = name.clone();
        move |event: &_| say(&name, format_args!("root: {event}"))
    };
    let reader = Reader::new(source(&place)?, Arc::clone(&list), policy, Box::new(teller));
    let watched = Watched::new(reader.ahead(AHEAD), list.size(), name.clone());
    let root = if list.kind.is_archive() {
        unpacked(&list, watched)?
    } else {
        if let Some(loader) = &mut loader {
            // A kernel may have them built in; what is missing shows when it is used.
            let _ = loader.load(&["loop", "erofs", "overlay"]);
        }
        kept(watched)?
    };
    let note = format!(
        "{} {}, {}: {:.1} MiB in {:.1} s, at most {} MiB of memory in use",
        list.system,
        list.version,
        list.kind,
        mib(list.size()),
        begun.elapsed().as_secs_f64(),
        meter.stop() >> 20
    );
    say(name, format_args!("root: {note}"));
    let _ = std::fs::create_dir_all("/run/kiln").and_then(|()| std::fs::write(NOTE, note + "\n"));
    switch_root::enter(&root, Path::new("/init"))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Whether this initramfs takes that root.
fn is_acceptable(list: &ChunkList, settings: &Settings, older: bool) -> Result<(), String> {
    let (theirs, ours) = (&list.system, &settings.system);
    if theirs != ours {
        return Err(format!("the root is one of {theirs}, and this machine starts {ours}"));
    }
    let behind = compare_versions(&list.version, &settings.version) == Ordering::Less;
    if behind && !older {
        return Err(format!(
            "the root is of version {}, older than this initramfs ({}): `ramroot.older` on the command line \
             allows that",
            list.version, settings.version
        ));
    }
    Ok(())
}

/// Unpacks an archive into a tmpfs.
fn unpacked(list: &ChunkList, reader: impl io::Read) -> Result<PathBuf, String> {
    let root = Path::new(PLACE).join("root");
    // the kernel's usual half may be too little, and all of it would leave nothing
    mounted(Path::new("root"), &root, "tmpfs", MountFlags::NOATIME, "mode=0755,size=90%")?;
    unpack(reader, list.kind, &root, true).map_err(|error| error.to_string())?;
    Ok(root)
}

/// Keeps a file system as it is, and lets what is written go to a tmpfs over it.
fn kept(mut reader: impl io::Read) -> Result<PathBuf, String> {
    let hold = Path::new(PLACE).join("hold");
    mounted(Path::new("root"), &hold, "tmpfs", MountFlags::empty(), "mode=0700,size=90%")?;
    let path = hold.join("root.erofs");
    let fail = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = File::create(&path).map_err(fail)?;
    io::copy(&mut reader, &mut file).map_err(|error| error.to_string())?;
    drop(file);
    let device = loop_device::attach(&path)?;
    let base = Path::new(PLACE).join("base");
    mounted(&device, &base, Kind::Erofs.ending(), MountFlags::RDONLY, "")?;
    written_over(&base)
}

/// Sets up the network and waits until it is there. What does that goes on until the root is entered.
fn reach_network(system: &System, mut loader: Option<&mut Loader>) -> Result<(), String> {
    let mut look = |all: bool| {
        if let Some(loader) = &mut loader {
            let report = loader.cold_plug(16);
            if all {
                say(&system.name, &report);
            }
        }
    };
    look(true);
    let (sender, ready) = mpsc::channel();
    let own = system.clone();
    let thread = std::thread::Builder::new().name("network".into());
    let run = move || {
        let told = sender.clone();
        let ready = move || {
            let _ = told.send(true);
        };
        network::run(&own, &ready);
        let _ = sender.send(false);
    };
    thread.spawn(run).map_err(|error| format!("start a thread: {error}"))?;
    let deadline = Instant::now() + NETWORK;
    loop {
        match ready.recv_timeout(LATE) {
            Ok(true) => return Ok(()),
            Ok(false) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err("the network cannot be set up".into());
            }
            Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => look(false),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let seconds = NETWORK.as_secs();
                return Err(format!(
                    "no network within {seconds} s: see above what was waited for"
                ));
            }
        }
    }
}

/// How servers are reached: names by what the network said of name servers.
fn reach() -> Reach {
    let mut reach = Reach::default();
    reach.authorities = std::fs::read(AUTHORITIES).unwrap_or_default();
    reach.names = Some(Arc::new(|name, patience| {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        names::addresses(name, &text("/etc/hosts"), &text("/etc/resolv.conf"), patience)
    }));
    reach
}

/// What makes this machine ask at another time than its neighbours.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &'static str) -> Result<Option<Wanted>, String> {
        Wanted::from_words(|name| {
            line.split(' ').find_map(|word| {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                (key == name).then_some(value)
            })
        })
    }

    #[test]
    fn words_of_the_command_line() {
        assert_eq!(words("console=ttyS0 root=/dev/sda1"), Ok(None));
        let plain = Wanted { root: None, older: false, patience: None };
        assert_eq!(words("boot=ramdisk quiet"), Ok(Some(plain.clone())));
        let url = "http://192.0.2.1/root.tar.xz";
        let wanted = Wanted { root: Some(url.into()), ..plain.clone() };
        assert_eq!(words("boot=ramdisk ramroot=http://192.0.2.1/root.tar.xz"), Ok(Some(wanted)));
        let wanted = words("ramroot=/a.xz ramroot.older ramroot.patience=60").unwrap().unwrap();
        assert!(wanted.older);
        assert_eq!(wanted.patience, Some(Duration::from_secs(60)));
        assert_eq!(words("boot=ramdisk ramroot= ramroot.older=0"), Ok(Some(plain)));
        words("boot=ramdisk ramroot.patience=long").unwrap_err();
    }

    #[test]
    fn roots_of_other_systems_and_older_ones_are_refused() {
        use std::io::Write as _;
        let list = |system: &str, version: &str| {
            let mut chunker = kiln_ramroot::Chunker::new(io::sink(), 4096);
            chunker.write_all(b"x").unwrap();
            chunker.finish((system, version), ("f", Kind::Tar), 0).unwrap().1
        };
        let settings =
            Settings { system: "hashios".into(), version: "1.10.0".into(), server: None };
        let judged =
            |system, version, older| is_acceptable(&list(system, version), &settings, older);
        for version in ["1.10.0", "1.10.1", "2", "1.11.0-rc1"] {
            assert_eq!(judged("hashios", version, false), Ok(()), "{version}");
        }
        let error = judged("hashios", "1.9.9", false).unwrap_err();
        assert!(error.contains("of version 1.9.9, older than this initramfs (1.10.0)"), "{error}");
        assert_eq!(judged("hashios", "1.9.9", true), Ok(()));
        let error = judged("kurma", "2", true).unwrap_err();
        assert!(error.contains("one of kurma, and this machine starts hashios"), "{error}");
    }
}
