//! What copies of one image must not share: the machine's identifier, the kernel's random seed and,
//! where it is asked for, the identifiers of disk, partitions and file systems.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kiln_diskimg::{Guid, Limits, SECTOR, fat, gpt};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};

use crate::console::tell;
use crate::sys::{SEED_LEN, credit};
use crate::{SETTINGS, System, data, disks, files};

const MACHINE_ID: &str = "/etc/machine-id";
/// Where the data disk keeps what is the machine's and not the system's.
const KEPT: &str = ".kiln";
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
    match &kept {
        Some(kept) => seed(&kept.join("random-seed")),
        None => say(format_args!("no disk keeps a random seed: {}", random_sources())),
    }
    let kept = kept.map(|kept| kept.join("machine-id"));
    match machine_id(Path::new(MACHINE_ID), kept.as_deref()) {
        Ok(id) => {
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

/// The machine's identifier (machine-id(5)): the one in the image if there is one, else the kept one,
/// else a new one, which is kept where something keeps it.
fn machine_id(path: &Path, kept: Option<&Path>) -> Result<String, String> {
    let read = |path: &Path| {
        let text = files::read(path).ok().flatten()?;
        let id = text.trim().to_owned();
        let valid = id.len() == 32
            && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && id.bytes().any(|byte| byte != b'0');
        valid.then_some(id)
    };
    if let Some(id) = read(path) {
        return Ok(id);
    }
    let id = match kept.and_then(read) {
        Some(id) => id,
        None => {
            let id = hex(&version_4(random()));
            if let Some(kept) = kept
                && let Err(error) = files::replace(kept, format!("{id}\n").as_bytes(), 0o444, true)
            {
                say(format_args!("{}: {error}", kept.display()));
            }
            id
        }
    };
    files::replace(path, format!("{id}\n").as_bytes(), 0o444, false)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(id)
}

/// RFC 9562 section 5.4, which sd-id128(3) asks for.
fn version_4(mut bytes: [u8; 16]) -> [u8; 16] {
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    bytes
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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

/// Credits the seed that an earlier boot left, after a new one is on the disk: no seed is credited
/// twice, whenever the machine stops.
fn seed(path: &Path) {
    let old = fs::read(path).ok().and_then(|bytes| <[u8; SEED_LEN]>::try_from(bytes).ok());
    let Some(old) = old else {
        // What is written now is used from the next boot on.
        let written = files::replace(path, &random::<SEED_LEN>(), 0o600, true);
        say(match written {
            Ok(()) => format!("the first random seed is kept; until now: {}", random_sources()),
            Err(error) => format!("{}: {error}", path.display()),
        });
        return;
    };
    // Of the generator as it is, seeded or not: together with the old seed it is no worse than that.
    let mut fresh = [0; SEED_LEN];
    let _ = getrandom(&mut fresh, GetRandomFlags::INSECURE);
    let derive = |purpose: &str| -> [u8; SEED_LEN] {
        Sha256::new().chain_update(purpose).chain_update(old).chain_update(fresh).finalize().into()
    };
    if let Err(error) = files::replace(path, &derive("next"), 0o600, true) {
        return say(format_args!("{}: {error}: the seed is not used", path.display()));
    }
    let credited = OpenOptions::new()
        .write(true)
        .open("/dev/urandom")
        .and_then(|random| credit(&random, &derive("now")));
    match credited {
        Ok(()) => {
            // Now that the generator is seeded, a better one for the next time.
            let _ = files::replace(path, &random::<SEED_LEN>(), 0o600, true);
            say("the kernel's random generator has the seed of the boot before");
        }
        Err(error) => say(format_args!("credit the random seed: {error}")),
    }
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

    #[test]
    fn an_identifier_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, kept) = (dir.path().join("etc"), dir.path().join("kept"));
        let first = machine_id(&etc, Some(&kept)).unwrap();
        assert_eq!(fs::read_to_string(&etc).unwrap(), format!("{first}\n"));
        assert_eq!((first.len(), first.as_bytes()[12]), (32, b'4'));
        assert!(matches!(first.as_bytes()[16], b'8' | b'9' | b'a' | b'b'));
        // The next boot of an image without one.
        fs::remove_file(&etc).unwrap();
        assert_eq!(machine_id(&etc, Some(&kept)).unwrap(), first);
        // Without a disk it is another one.
        fs::remove_file(&etc).unwrap();
        assert_ne!(machine_id(&etc, None).unwrap(), first);
        // What is no identifier is replaced; one of the image stays.
        fs::remove_file(&etc).unwrap();
        fs::write(&etc, "uninitialized\n").unwrap();
        assert_eq!(machine_id(&etc, Some(&kept)).unwrap(), first);
    }

    #[test]
    fn a_damaged_kept_identifier_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, kept) = (dir.path().join("etc"), dir.path().join("kept"));
        fs::write(&kept, "0".repeat(32)).unwrap();
        let id = machine_id(&etc, Some(&kept)).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap().trim(), id);
    }
}
