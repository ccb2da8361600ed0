//! `ros os`.

use clap::{Args, Subcommand};
use kiln_guest::slots::{Slot, Slots, Status};
use kiln_guest::trial;
use serde::Serialize;

use super::{Failure, Result, carried};
use crate::laydown::{Options, Type};
use crate::{configuration, files, places, releases};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The version that runs
    Version,
    /// The versions that are on this disk, which one is started, and those that are to be had
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Puts another version beside this one, and starts it: if it does not work, this one comes back
    Upgrade(Upgrade),
    /// Goes back to the version before this one
    Rollback {
        /// Even if it was never seen to work
        #[arg(short, long)]
        force: bool,
        /// Goes on with this system, where else the machine starts anew
        #[arg(long)]
        no_reboot: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    image: carried::From,
    /// Pulls the image and changes nothing yet
    #[arg(long)]
    stage: bool,
    /// An older version too
    #[arg(short, long)]
    force: bool,
    /// Words that the kernel's command line has besides, in place of those that were said last
    #[arg(long, value_name = "WORDS")]
    append: Option<String>,
    /// Goes on with this system, where else the machine starts anew
    #[arg(long)]
    no_reboot: bool,
}

/// A version on the disk.
#[derive(Debug, Serialize)]
struct Version {
    slot: String,
    version: String,
    /// Whether it has been seen to work.
    good: bool,
    running: bool,
    /// Whether it is started next.
    next: bool,
}

/// A version that may be had.
#[derive(Debug, Serialize)]
struct Available {
    image: String,
    /// Whether it is what people should have.
    current: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Listed {
    Here(Version),
    There(Available),
}

pub(crate) fn run(command: Command) -> Result {
    match command {
        Command::Version => {
            println!("{}", version()?);
            Ok(())
        }
        Command::List { json } => list(json),
        Command::Upgrade(arguments) => upgrade(&arguments),
        Command::Rollback { force, no_reboot } => {
            let mut slots = Slots::of_running_system().map_err(Failure::new)?;
            let next = slots.roll_back(force).map_err(Failure::new)?;
            let status = slots.status();
            drop(slots);
            let version = next.and_then(|slot| status.slot(slot)).map(|it| it.version.as_str());
            println!("version {} is started next", version.unwrap_or("?"));
            if no_reboot { Ok(()) } else { super::power::reboot() }
        }
    }
}

/// What runs.
fn version() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").map_err(Failure::about("os-release"))?;
    let value = text.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    let value = value.ok_or_else(|| Failure::new("/etc/os-release has no VERSION_ID"))?;
    Ok(value.trim_matches('"').to_owned())
}

fn list(json: bool) -> Result {
    let versions = match trial::status().map_err(Failure::new)? {
        Some(status) => versions(&status),
        None => vec![Version {
            slot: "-".into(),
            version: version()?,
            good: true,
            running: true,
            next: false,
        }],
    };
    let mut listed: Vec<Listed> = versions.into_iter().map(Listed::Here).collect();
    // what is here is told whatever is wrong elsewhere
    let releases = releases::of(&configuration::load().rancher);
    let (found, failed) = match releases {
        Ok(found) => (found.unwrap_or_default(), None),
        Err(why) => (releases::Releases::default(), Some(why)),
    };
    listed.extend(found.available.into_iter().map(|image| {
        let current = found.current.as_ref() == Some(&image);
        Listed::There(Available { image, current })
    }));
    if json {
        println!("{}", serde_json::to_string_pretty(&listed).map_err(Failure::new)?);
    } else {
        listed.iter().for_each(show);
    }
    failed.map_or(Ok(()), |why| Err(Failure::new(why)))
}

fn show(listed: &Listed) {
    match listed {
        Listed::Here(Version { slot, version, good, running, next }) => {
            let mut said = Vec::new();
            said.extend(running.then_some("running"));
            said.extend(next.then_some("next"));
            said.extend((!good).then_some("never seen to work"));
            println!("{slot}  {version:<16} {}", said.join(", "));
        }
        Listed::There(Available { image, current }) => {
            println!("-  {image}{}", if *current { "  current" } else { "" });
        }
    }
}

fn versions(status: &Status) -> Vec<Version> {
    let is_next =
        |slot| status.starts.iter().any(|(_, always, once)| once.or(*always) == Some(slot));
    let found = Slot::ALL.into_iter().filter_map(|slot| Some((slot, status.slot(slot)?)));
    found
        .map(|(slot, record)| Version {
            slot: slot.to_string(),
            version: record.version.clone(),
            good: record.good,
            running: status.running == Some(slot),
            next: is_next(slot),
        })
        .collect()
}

fn upgrade(arguments: &Upgrade) -> Result {
    let image = match arguments.image.image.clone() {
        Some(image) => Some(image),
        None => configured()?,
    };
    if arguments.stage {
        let image = image.ok_or_else(|| Failure::new("which image? --image names it"))?;
        return carried::pull(&image);
    }
    // Without a slot to put it into, nothing is pulled.
    drop(Slots::of_running_system().map_err(Failure::new)?);
    let words = match &arguments.append {
        Some(words) => Some(words.clone()),
        None => files::read(std::path::Path::new(places::APPEND))
            .map_err(Failure::about(places::APPEND))?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    };
    let options =
        Options { device: None, cloud_config: None, append: words, force: arguments.force };
    carried::lay_down(&carried::From { image }, Type::Upgrade, &options)?;
    if let Some(words) = &arguments.append {
        files::replace(places::APPEND, words.as_bytes(), 0o600)
            .map_err(Failure::about(places::APPEND))?;
    }
    if arguments.no_reboot { Ok(()) } else { super::power::reboot() }
}

/// What the configuration says: an image, or the current one of a list.
fn configured() -> Result<Option<String>> {
    let rancher = configuration::load().rancher;
    if rancher.upgrade.image.is_some() {
        return Ok(rancher.upgrade.image);
    }
    let releases = releases::of(&rancher).map_err(Failure::new)?;
    Ok(releases.and_then(|releases| releases.current))
}
