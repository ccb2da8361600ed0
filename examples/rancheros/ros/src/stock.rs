//! Images of the system's containers that are at hand: those that the system brings, and archives on the disk
//! that is kept. People put them there, or the user's engine does, of what it has or pulls.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kiln_guest::containers::{self, Images, Unpacked};
use kiln_oci::{Limits, docker};

use crate::boot::Problems;
use crate::compose::Service;
use crate::places;
use crate::role::Role;
use crate::schema::Rancher;
use crate::units;

/// Images, and where they are unpacked.
pub(crate) struct Stock {
    /// On the disk that is kept, if that can be used.
    kept: Option<Vec<Images>>,
    /// In memory: a disk that is full does not keep people from getting at the machine.
    spare: Vec<Images>,
}

impl Stock {
    /// What the system brings goes before what is on the disk.
    ///
    /// # Errors
    /// A sentence: the system's own cannot be read.
    pub(crate) fn open(problems: &mut Problems) -> Result<Self, String> {
        let place = Path::new(places::NOW).join("images");
        let mut spare = vec![Images::open(Path::new(places::IMAGES), &place)?];
        for archive in archives(Path::new(places::SYSTEM_PRELOAD)) {
            spare.extend(problems.take("preload", Images::open(&archive, &place)));
        }
        let place = Path::new(places::UNPACKED);
        let kept: Result<Vec<Images>, String> =
            spare.iter().map(|images| images.unpacked_below(place)).collect();
        Ok(Self { kept: problems.take(places::UNPACKED, kept), spare })
    }

    /// An image, unpacked; `name` is who needs it.
    ///
    /// # Errors
    /// A sentence: it is not at hand, or it is broken.
    pub(crate) fn unpacked(
        &self,
        name: &str,
        image: &str,
        problems: &mut Problems,
    ) -> Result<Unpacked, String> {
        let of = |all: &[Images]| match all.iter().find(|images| images.has(image)) {
            Some(images) => images.unpacked(image),
            None => Err(format!("the image {image} is not at hand")),
        };
        match self.kept.as_deref().map(of) {
            None => of(&self.spare),
            Some(Ok(found)) => Ok(found),
            // what is wrong with the image itself is told once
            Some(Err(why)) => match of(&self.spare) {
                Ok(found) => {
                    problems.note(format_args!("{name}: {why}: nothing of it is kept"));
                    Ok(found)
                }
                Err(_) => Err(why),
            },
        }
    }

    /// Removes what was unpacked of other images.
    pub(crate) fn retain(&self, unpacked: &[Unpacked]) {
        if let Some(images) = self.kept.as_ref().and_then(|images| images.first()) {
            images.retain(unpacked);
        }
    }

    /// A configuration whose console and engine are there: in place of one whose image is not at hand yet, or
    /// broken, the default.
    pub(crate) fn settle(&self, rancher: &Rancher, problems: &mut Problems) -> Rancher {
        let mut settled = rancher.clone();
        for role in Role::ALL {
            let chosen = role.chosen(rancher);
            let found = role.choices(rancher).into_iter().find(|(name, _)| *name == chosen);
            let Some((name, service)) = found.filter(|(name, _)| *name != role.default()) else {
                continue;
            };
            if let Err(why) = self.unpacked(name, &service.image, problems) {
                let noun = role.noun();
                problems.note(format_args!("{noun} {name}: {why}: it is the default meanwhile"));
                role.choose_default(&mut settled);
            }
        }
        settled
    }
}

/// Archives of a directory, in order of name.
fn archives(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "tar")).collect();
    found.sort();
    found
}

/// Whether an image is at hand, by the names that archives have.
pub(crate) fn is_at_hand(image: &str) -> bool {
    let mut all = vec![PathBuf::from(places::IMAGES)];
    all.extend(archives(Path::new(places::SYSTEM_PRELOAD)));
    all.iter().any(|archive| names(archive, image))
}

fn names(archive: &Path, image: &str) -> bool {
    docker::Archive::open(archive, Limits::default())
        .is_ok_and(|archive| archive.tags().iter().any(|tags| tags.iter().any(|tag| tag == image)))
}

/// Images of the system's services that are not at hand.
pub(crate) fn missing(rancher: &Rancher, is_at_hand: impl Fn(&str) -> bool) -> Vec<String> {
    let is_missing = |service: &&Service| {
        let runs = units::is_system(service) && !units::is_volumes_only(service);
        runs && units::is_there(rancher, service) && !is_at_hand(&service.image)
    };
    let missing = rancher.services.values().filter(is_missing);
    let mut images: Vec<String> = missing.map(|service| service.image.clone()).collect();
    images.sort();
    images.dedup();
    images
}

/// Has the user's engine save an image where the system finds it: what the engine has, else what it pulls.
///
/// # Errors
/// What the engine says.
pub(crate) fn fetch(image: &str, docker: impl Fn() -> Command) -> Result<(), String> {
    let directory = Path::new(places::SYSTEM_PRELOAD);
    let place = directory.join(format!("{}.tar", containers::digest(image.as_bytes())));
    let beside = place.with_extension("new");
    let sentence = |error: std::io::Error| format!("{}: {error}", place.display());
    fs::create_dir_all(directory).map_err(sentence)?;
    let mut ask = docker();
    ask.args(["image", "inspect", image]).stdout(Stdio::null()).stderr(Stdio::null());
    let had = ask.status().is_ok_and(|status| status.success());
    if !had {
        succeed(docker().args(["image", "pull", "--quiet", image]))?;
    }
    let saved = succeed(docker().args(["image", "save", "--output"]).arg(&beside).arg(image));
    if !had {
        // nobody runs anything of it
        let _ = succeed(docker().args(["image", "rm", image]));
    }
    saved?;
    if !names(&beside, image) {
        let _ = fs::remove_file(&beside);
        return Err("the engine knows it by another name: see `docker image ls`".into());
    }
    // after a crash it is whole, or not there and fetched again
    File::open(&beside).and_then(|file| file.sync_all()).map_err(sentence)?;
    fs::rename(&beside, &place).map_err(sentence)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(sentence)
}

/// What a command says if it fails.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use kiln_oci::{Image, Settings};

    use super::*;
    use crate::configuration;

    #[test]
    fn archives_are_known_by_the_names_in_them() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let image = Image::build(Vec::new(), &Settings::default()).unwrap();
        let images = [(vec!["here:5000/mine:1".to_owned()], &image)];
        let bytes = docker::write(Vec::new(), &images, docker::Form::Layout).unwrap();
        for name in ["b.tar", "a.tar", "c.new"] {
            fs::write(place(name), &bytes).unwrap();
        }
        fs::write(place("broken.tar"), &bytes[..700]).unwrap();
        let found = archives(directory.path());
        assert_eq!(found, ["a.tar", "b.tar", "broken.tar"].map(place));
        assert!(names(&found[0], "here:5000/mine:1") && !names(&found[0], "mine:1"));
        assert!(!names(&found[2], "here:5000/mine:1"));
        // unpacked once below either directory
        let images = Images::open(&found[0], &place("one")).unwrap();
        assert!(images.has("here:5000/mine:1") && !images.has("mine:1"));
        let other = images.unpacked_below(&place("two")).unwrap();
        assert!(other.unpacked("here:5000/mine:1").unwrap().root.starts_with(place("two")));
    }

    #[test]
    fn what_the_services_that_are_there_lack_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("more.yml");
        let text = "rancher:\n  console: mine\n  services_include: {off: false}\n  services:\n    mine:\n      image: \
                    m:1\n      labels: {io.rancher.os.scope: system, io.rancher.os.console: mine}\n    other:\n      \
                    image: o:1\n      labels: {io.rancher.os.scope: system, io.rancher.os.console: other}\n    \
                    off:\n      image: f:1\n      labels: {io.rancher.os.scope: system}\n    on:\n      image: n:1\n      \
                    labels: {io.rancher.os.scope: system}\n    users:\n      image: u:1\n";
        fs::write(&file, text).unwrap();
        let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/os-config.yml");
        let found = configuration::load_from(&[built_in.into(), file], "");
        assert_eq!(found.findings.to_string(), "");
        let shipped = |image: &str| image.starts_with("rancher/os-");
        assert_eq!(missing(&found.rancher, shipped), ["m:1", "n:1"]);
        assert!(missing(&found.rancher, |_| true).is_empty());
    }
}
