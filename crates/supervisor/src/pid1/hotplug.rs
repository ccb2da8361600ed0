//! Devices that come late: their modules, and firmware that the kernel asks for through sysfs.
//!
//! For a process of its own beside PID 1: loading a module may take as long as its device likes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Component, Path, PathBuf};

use rustix::event::{PollFd, PollFlags};

use super::modules::{Loader, Report};
use super::uevent::{Announcement, Uevents};

/// Where the kernel itself looks for firmware, with its release below and without
/// (`Documentation/driver-api/firmware/fw_search_path.rst`).
const FIRMWARE: [&str; 2] = ["/lib/firmware/updates", "/lib/firmware"];
/// Larger firmware is refused.
const LARGEST: u64 = 256 << 20;

/// What was done for a device.
#[derive(Debug)]
#[non_exhaustive]
pub enum Done {
    /// Modules were loaded, or could not be.
    Modules(Report),
    /// Firmware of this name was given to the kernel, or why not.
    Firmware(String, Result<(), String>),
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Modules(report) => report.fmt(f),
            Self::Firmware(name, Ok(())) => write!(f, "firmware {name} loaded"),
            Self::Firmware(name, Err(why)) => write!(f, "firmware {name}: {why}"),
        }
    }
}

/// Listens to what the kernel announces.
#[derive(Debug)]
#[non_exhaustive]
pub struct HotPlug {
    /// Where firmware is looked for, in order (default: where the kernel does, which may not have found
    /// it because it was not there yet).
    pub firmware: Vec<PathBuf>,
    uevents: Uevents,
    loader: Loader,
}

impl HotPlug {
    /// Begins to listen. What is there already is for [`Loader::cold_plug`], afterwards.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn listen(loader: Loader) -> io::Result<Self> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let places = FIRMWARE.map(Path::new);
        let firmware = places.iter().flat_map(|place| [place.join(&release), place.to_path_buf()]);
        Ok(Self { firmware: firmware.collect(), uevents: Uevents::listen()?, loader })
    }

    /// Loads what the devices that are there already ask for ([`Loader::cold_plug`]).
    pub fn cold_plug(&mut self, max_rounds: u32) -> Report {
        self.loader.cold_plug(max_rounds)
    }

    /// Waits for news, and does what it asks for. Devices without a module give no word.
    ///
    /// # Errors
    /// Waiting fails.
    pub fn turn(&mut self, tell: &mut dyn FnMut(&Done)) -> io::Result<()> {
        let mut fds = [PollFd::from_borrowed_fd(self.uevents.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut aliases: Vec<String> = Vec::new();
        let mut wanted: Vec<(String, PathBuf)> = Vec::new();
        let taken = self.uevents.take(|news| {
            if news.get("ACTION") != Some(b"add") {
                return;
            }
            if let Some(alias) = text(news, "MODALIAS") {
                aliases.push(alias);
            }
            if let (Some(b"firmware"), Some(name), Some(device)) =
                (news.get("SUBSYSTEM"), text(news, "FIRMWARE"), text(news, "DEVPATH"))
            {
                wanted.push((name, Path::new("/sys").join(device.trim_start_matches('/'))));
            }
        });
        // A driver waits for it.
        for (name, device) in wanted {
            let given = give(&self.firmware, &name, &device);
            tell(&Done::Firmware(name, given));
        }
        if !aliases.is_empty() || taken.is_err() {
            let mut report = self.loader.load_for(aliases);
            if taken.is_err() {
                // Not all was heard: look at all devices.
                report.add(self.loader.cold_plug(16));
            }
            if !report.loaded.is_empty() || !report.failed.is_empty() {
                tell(&Done::Modules(report));
            }
        }
        Ok(())
    }
}

fn text(news: &Announcement<'_>, key: &str) -> Option<String> {
    let bytes = news.get(key)?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Gives the firmware that a request in sysfs waits for, or tells it that there is none: a driver
/// would wait a minute for an answer.
fn give(places: &[PathBuf], name: &str, request: &Path) -> Result<(), String> {
    let loading = |word: &str| {
        let file = OpenOptions::new().write(true).open(request.join("loading"));
        file.and_then(|mut file| file.write_all(word.as_bytes()))
            .map_err(|error| format!("answer the request: {error}"))
    };
    let done = find(places, name).and_then(|mut file| {
        loading("1")?;
        let data = OpenOptions::new().write(true).open(request.join("data"));
        data.and_then(|mut data| io::copy(&mut file, &mut data).map(|_| ()))
            .map_err(|error| format!("hand it over: {error}"))?;
        loading("0")
    });
    if done.is_err() {
        // The first error is the one to tell.
        let _ = loading("-1");
    }
    done
}

/// The file of a firmware's name, which must not lead elsewhere.
fn find(places: &[PathBuf], name: &str) -> Result<File, String> {
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err("it is no name of firmware".into());
    }
    for place in places {
        if let Ok(file) = File::open(place.join(name)) {
            let fits = file.metadata().is_ok_and(|data| data.is_file() && data.len() <= LARGEST);
            return if fits { Ok(file) } else { Err("it is no file, or too large".into()) };
        }
    }
    Err("there is none".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_is_given_or_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let request = dir.path().join("request");
        let places = ["none", "firmware"].map(|name| dir.path().join(name));
        std::fs::create_dir_all(places[1].join("vendor")).unwrap();
        std::fs::create_dir_all(&request).unwrap();
        std::fs::write(places[1].join("vendor/a.bin"), "bytes").unwrap();
        for name in ["loading", "data"] {
            std::fs::write(request.join(name), "").unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(request.join(name)).unwrap();
        give(&places, "vendor/a.bin", &request).unwrap();
        // Over a plain file the last word stands in place of the first.
        assert_eq!((read("loading").as_str(), read("data").as_str()), ("0", "bytes"));
        for name in ["b.bin", "../../etc/shadow", "/etc/shadow", "vendor"] {
            assert!(give(&places, name, &request).is_err(), "{name}");
            assert_eq!(read("loading"), "-1");
            std::fs::write(request.join("loading"), "").unwrap();
        }
    }
}
