//! `kurma-upgrade`: another version is put beside the one that runs, and tried once. It counts from when it is
//! seen to work; until then, the one that runs now comes back by itself.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kiln_guest::release::{self, Directory, INITRD, KERNEL, Keys};
use kiln_guest::slots::Slots;
use kiln_supervisor::Outcome;
use kiln_supervisor::control::{Client, Effect, socket_path};
use kiln_supervisor::pid1::kexec;
use rustix::fs::{FlockOperation, flock};

use crate::places;

/// Puts another version of the system beside the one that runs, and starts it.
#[derive(Debug, Parser)]
#[command(name = "kurma-upgrade", version)]
struct Arguments {
    /// The version: an archive of kernel and initramfs, signed; - for the standard input
    archive: PathBuf,
    /// Even if it is older than what runs
    #[arg(long)]
    force: bool,
    /// Words that the kernel's command line has besides
    #[arg(long, value_name = "WORDS")]
    append: Option<String>,
    /// Starts it without the firmware in between, the first time
    #[arg(long)]
    kexec: bool,
    /// Starts the machine anew at once
    #[arg(long)]
    restart: bool,
}

/// Does it. `words` are the arguments, the program's name among them.
pub(crate) fn run(words: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(words);
    let done = upgrade(&arguments).and_then(|done| {
        println!("{done}");
        if arguments.restart { restart() } else { Ok(()) }
    });
    ended(done)
}

/// Starts the machine anew: the kernel that is loaded, if there is one.
pub(crate) fn restarted() -> ExitCode {
    ended(restart())
}

fn ended(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn restart() -> Result<(), String> {
    let outcome = if kexec::is_loaded() { Outcome::Kexec } else { Outcome::Reboot };
    let asked =
        Client::connect(socket_path()).and_then(|mut client| client.shutdown(outcome, false));
    match asked {
        Ok(answer) if answer.effect != Effect::Failed => Ok(()),
        Ok(answer) => Err(answer.text),
        Err(error) => Err(error.to_string()),
    }
}

/// A directory that is this process's alone, empty, and gone with it.
struct Incoming(File);

impl Incoming {
    fn open() -> Result<Self, String> {
        let about = |error: io::Error| format!("{}: {error}", places::INCOMING);
        fs::create_dir_all(places::INCOMING).map_err(about)?;
        let directory = File::open(places::INCOMING).map_err(about)?;
        flock(&directory, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| "another version comes in already".to_owned())?;
        let incoming = Self(directory);
        // what was left when the power went
        incoming.clear();
        Ok(incoming)
    }

    fn clear(&self) {
        for entry in fs::read_dir(places::INCOMING).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.clear();
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn upgrade(arguments: &Arguments) -> Result<String, String> {
    // without a slot or a key nothing needs to come
    drop(Slots::of_running_system().map_err(|error| error.to_string())?);
    let keys = Path::new(places::KEYS);
    if !keys.exists() {
        return Err("this system trusts nobody: it was built without a key".to_owned());
    }
    let keys = Keys::read(keys).map_err(|error| error.to_string())?;
    let _incoming = Incoming::open()?;
    let archive: Box<dyn Read> = match arguments.archive.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => {
            let path = &arguments.archive;
            Box::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?)
        }
    };
    let place = Path::new(places::INCOMING);
    release::unpack(archive, place).map_err(|error| error.to_string())?;
    let found = Directory::open_signed(place, &keys).map_err(|error| error.to_string())?;
    let words = arguments.append.as_deref().unwrap_or_default();
    let mut slots = Slots::of_running_system().map_err(|error| error.to_string())?;
    let slot = found.upgrade(&mut slots, words, arguments.force);
    let slot = slot.map_err(|error| error.to_string())?;
    if arguments.kexec {
        let line = slots.command_line(slot, &found.command_line(words));
        kexec::load(&place.join(KERNEL), Some(&place.join(INITRD)), &line)?;
    }
    let version = &found.release().version;
    Ok(format!("version {version} is in slot {slot}: the next start tries it"))
}
