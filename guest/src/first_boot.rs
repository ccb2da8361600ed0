//! What copies of one image must not share: the machine's identifier, the kernel's random seed and,
//! where it is asked for, the identifiers of disk, partitions and file systems.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kiln_diskimg::{Guid, Limits, SECTOR, fat, gpt};
use kiln_supervisor::pid1::{machine_id, random_seed};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::console::tell;
use crate::{SETTINGS, System, clock, data, disks, files};

/// Where the data disk keeps what is the machine's and not the system's.
pub(crate) const KEPT: &str = ".kiln";
/// The random seed there.
pub(crate) const SEED: &str = "random-seed";
/// The time of the last power off there.
pub(crate) const CLOCK: &str = "clock";
/// How long the kernel's generator may take to have a seed.
const PATIENCE: Duration = Duration::from_secs(20);

fn say(what: impl std::fmt::Display) {
    tell("first-boot", what);
}

/// The settings, in the table `[first-boot]` of their file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// The GUID that every copy of the image's disk has before its first boot.
    image_disk: Option<String>,
    /// What is made anew beyond what always is.
    randomize: Vec<Randomize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Randomize {
    /// The GUIDs of the disk and its partitions, the volume ids of its FAT file systems.
    Disk,
}

impl Settings {
    fn read(path: &Path) -> Result<Self, String> {
        #[derive(Default, serde::Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        struct Whole {
            first_boot: Settings,
        }
        let text = match files::read(path) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        toml::from_str::<Whole>(&text)
            .map(|whole| whole.first_boot)
            .map_err(|error| files::toml_problem(path, &text, &error))
    }
}

/// Gives every disk that still is a plain copy of the image identifiers of its own, if that is asked
/// for by the settings or by `kiln.randomize=disk` on the command line. A disk that has them is no
/// plain copy any more, so that this happens once.
pub(crate) fn disks() {
    let settings = match Settings::read(&Path::new(SETTINGS).join("first-boot.toml")) {
        Ok(settings) => settings,
        Err(problem) => return say(problem),
    };
    let on_command_line = files::command_line()
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("kiln.randomize="))
        .any(|value| value.split(',').any(|what| what == "disk"));
    if !on_command_line && !settings.randomize.contains(&Randomize::Disk) {
        return;
    }
    let image = match settings.image_disk.as_deref().map(str::parse::<Guid>) {
        Some(Ok(image)) => image,
        Some(Err(error)) => return say(format_args!("image-disk: {error}")),
        None => {
            return say(
                "no image-disk in the settings: which disk is a copy of the image is not known",
            );
        }
    };
    let mut found = false;
    for device in disks::whole() {
        match randomize(&device, image) {
            Ok(Some(disk)) => {
                found = true;
                say(format_args!("{}: the disk is now {disk}", device.display()));
            }
            Ok(None) => {}
            Err(problem) => say(format_args!("{}: {problem}", device.display())),
        }
    }
    if !found {
        say("no disk is a plain copy of the image: identifiers stay");
    }
}

/// Changes the identifiers of a disk whose primary header has the image's GUID. That header is
/// written last: after a crash before it, all of this is done again.
fn randomize(device: &Path, image: Guid) -> Result<Option<Guid>, String> {
    let Ok(mut disk) = File::open(device) else { return Ok(None) };
    if gpt::primary_disk_guid(&mut disk).ok().flatten() != Some(image) {
        return Ok(None);
    }
    let mut disk = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .map_err(|error| format!("open for writing: {error}"))?;
    let limits = Limits::default();
    let table = gpt::read_device(&mut disk, &limits).map_err(|error| error.to_string())?;
    for (_, entry) in &table.entries {
        let id = u32::from_ne_bytes(random());
        // What is not FAT has its identifiers elsewhere, and is left alone.
        let _ = fat::set_volume_id(&mut disk, entry.first.saturating_mul(SECTOR), id.max(1))
            .map_err(|error| error.to_string())?;
    }
    let mut new = || Guid(version_4(random()));
    let renamed = gpt::rename(&mut disk, &limits, &mut new).map_err(|error| error.to_string())?;
    Ok(Some(renamed.disk))
}

/// The service: seed and identifier.
pub(crate) fn run(system: &System) -> ExitCode {
    if system.data.is_none() {
        disks();
    }
    let kept = system
        .data
        .as_ref()
        .filter(|data| data::is_kept(&data.directory))
        .map(|data| data.directory.join(KEPT));
    if let Some(kept) = &kept
        && let Err(error) = make_private(kept)
    {
        say(format_args!("{}: {error}", kept.display()));
    }
    if let Some(kept) = &kept
        && let Err(problem) = clock::not_before(&kept.join(CLOCK))
    {
        say(problem);
    }
    match &kept {
        Some(kept) => seed(&kept.join(SEED)),
        None => say(format_args!("no disk keeps a random seed: {}", random_sources())),
    }
    let kept = kept.map(|kept| kept.join("machine-id"));
    let line = files::command_line();
    let words = line.split_whitespace().rev();
    let argument = words.filter_map(|word| word.strip_prefix("systemd.machine_id=")).next();
    match machine_id::set(argument, kept.as_deref()) {
        Ok((id, _)) => {
            say(format_args!("machine-id {id}"));
            ExitCode::SUCCESS
        }
        Err(problem) => {
            say(problem);
            ExitCode::FAILURE
        }
    }
}

fn make_private(directory: &Path) -> std::io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// RFC 9562 section 5.4.
fn version_4(mut bytes: [u8; 16]) -> [u8; 16] {
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    bytes
}

/// Random bytes: waits for a seeded generator, but not for ever.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let flags = if Instant::now() < deadline {
            GetRandomFlags::NONBLOCK
        } else {
            say("the kernel has no random seed yet: identifiers may be guessed");
            GetRandomFlags::INSECURE
        };
        match getrandom(&mut bytes, flags) {
            Ok(len) if len == N => return bytes,
            _ if flags == GetRandomFlags::INSECURE => return bytes,
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Gives the kernel the seed that an earlier boot left.
fn seed(path: &Path) {
    say(match random_seed::load(path, PATIENCE) {
        Ok(random_seed::Loaded::Credited) => {
            "the kernel's random generator has the seed of the boot before".to_owned()
        }
        Ok(random_seed::Loaded::First) => {
            format!("the first random seed is kept; until now: {}", random_sources())
        }
        Err(error) => format!("{}: {error}", path.display()),
    });
}

/// Where the kernel's randomness comes from otherwise.
fn random_sources() -> String {
    let device = fs::read_to_string("/sys/class/misc/hw_random/rng_current").unwrap_or_default();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let mut sources: Vec<&str> = Vec::new();
    if !matches!(device.trim(), "" | "none") {
        sources.push(device.trim());
    }
    for (flag, name) in [("rdseed", "RDSEED"), ("rdrand", "RDRAND")] {
        if flags.split_whitespace().any(|word| word == flag) {
            sources.push(name);
        }
    }
    if sources.is_empty() {
        "the kernel seeds itself from timing alone".into()
    } else {
        format!("the kernel seeds itself from {}", sources.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_strict() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("first-boot.toml");
        assert_eq!(Settings::read(&path), Ok(Settings::default()));
        fs::write(&path, "[first-boot]\nimage-disk = \"x\"\nrandomize = [\"disk\"]\n").unwrap();
        let read = Settings::read(&path).unwrap();
        assert_eq!((read.image_disk.as_deref(), read.randomize.len()), (Some("x"), 1));
        fs::write(&path, "[first-boot]\nrandomize = [\"dusk\"]\n").unwrap();
        assert!(Settings::read(&path).unwrap_err().contains(":2:14: unknown variant"));
    }
}
