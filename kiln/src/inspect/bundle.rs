//! Archives with a disk in them: appliances and what clouds import.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use kiln_diskimg::{Limits, dump};
use sha2::{Digest, Sha256};
use tar::Archive;

use super::members::{MEMBERS, Member, Part, tar_members, unpacked, zip_members};
use crate::{Error, Result};

/// The longest descriptor or manifest that is read.
const TEXT: u64 = 1 << 20;
/// The longest disk that is unpacked to look into it.
const DISK: u64 = 64 << 30;

/// An archive, and the disk in it.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct Bundle {
    /// Which kind: `tar`, `ova`, `zip`, `gce`.
    pub kind: &'static str,
    /// Its files in their order.
    pub members: Vec<Member>,
    /// The virtual hardware that a descriptor asks for, in its words.
    pub hardware: Vec<String>,
    /// What is wrong with it.
    pub problems: Vec<String>,
    /// The file that is the disk.
    pub disk_name: Option<String>,
    /// What is in the disk.
    pub disk: Option<Box<dump::Report>>,
}

impl Bundle {
    /// Reads an archive that is not compressed, or a zip archive whose files are not.
    pub(super) fn read(path: &Path, file: &mut File, is_zip: bool) -> Result<Self> {
        let bad = |error: io::Error| Error::input(path.display().to_string(), error.to_string());
        let members = if is_zip { zip_members(file) } else { tar_members(file) }.map_err(bad)?;
        if members.is_empty() {
            let what = if is_zip { "a zip archive" } else { "a tar archive" };
            let reason = format!("damaged: {what} without a file at its start");
            return Err(Error::input(path.display().to_string(), reason));
        }
        let kind = if is_zip { "zip" } else { "tar" };
        let mut bundle = Self {
            kind,
            members,
            hardware: Vec::new(),
            problems: Vec::new(),
            disk_name: None,
            disk: None,
        };
        if let Some(text) = bundle.text(file, ".ovf").map_err(bad)? {
            bundle.hardware = hardware(&text);
            if !is_zip {
                bundle.kind = "ova";
                if bundle.members.first().is_none_or(|first| !first.name.ends_with(".ovf")) {
                    bundle.problems.push("its descriptor is not the first file".to_owned());
                }
            }
        }
        if let Some(text) = bundle.text(file, ".mf").map_err(bad)? {
            bundle.problems.extend(bundle.judged(file, &text).map_err(bad)?);
        }
        let end = file.metadata().map_err(bad)?.len();
        for member in &bundle.members {
            let have = end.saturating_sub(member.at.unwrap_or(end));
            if member.at.is_some() && have < member.len {
                let Member { name, len, .. } = member;
                bundle.problems.push(format!("{name} is cut short: {have} of {len} bytes"));
            }
        }
        let disk = bundle.members.iter().find(|it| it.at.is_some() && is_disk(&it.name)).cloned();
        if let Some(disk) = disk {
            let part = Part::new(file.try_clone().map_err(bad)?, &disk);
            match dump::inspect(part, &Limits::default()) {
                Ok(report) => bundle.disk = Some(Box::new(report)),
                Err(error) => bundle.problems.push(format!("{}: {error}", disk.name)),
            }
            bundle.disk_name = Some(disk.name);
        }
        Ok(bundle)
    }

    /// Reads a compressed tar archive, and the disk in it by unpacking that to a file without a name.
    pub(super) fn read_gzip(path: &Path, file: &File) -> Result<Self> {
        let bad = |error: io::Error| Error::input(path.display().to_string(), error.to_string());
        let file = file.try_clone().map_err(bad)?;
        let mut archive = Archive::new(MultiGzDecoder::new(BufReader::new(file)));
        let mut bundle = Self {
            kind: "tar.gz",
            members: Vec::new(),
            hardware: Vec::new(),
            problems: Vec::new(),
            disk_name: None,
            disk: None,
        };
        for entry in archive.entries().map_err(bad)?.take(MEMBERS) {
            let mut entry = entry.map_err(bad)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let len = entry.size();
            bundle.members.push(Member { name: name.clone(), len, at: None });
            if bundle.disk.is_some() || !is_disk(&name) {
                continue;
            }
            if name == "disk.raw" {
                bundle.kind = "gce";
            }
            if len > DISK {
                bundle.problems.push(format!("{name}: {len} bytes, at most {DISK} are unpacked"));
                continue;
            }
            let disk = unpacked(&mut entry).map_err(bad)?;
            match dump::inspect(disk, &Limits::default()) {
                Ok(report) => bundle.disk = Some(Box::new(report)),
                Err(error) => bundle.problems.push(format!("{name}: {error}")),
            }
            bundle.disk_name = Some(name);
        }
        Ok(bundle)
    }

    /// The text of the first file with this extension.
    fn text(&self, file: &File, extension: &str) -> io::Result<Option<String>> {
        let member = self.members.iter().find(|member| member.name.ends_with(extension));
        let Some(member) = member.filter(|it| it.at.is_some() && it.len <= TEXT) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        Part::new(file.try_clone()?, member).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What is not as an appliance's manifest says (DSP0243, section 5.1).
    fn judged(&self, file: &File, manifest: &str) -> io::Result<Vec<String>> {
        let mut problems = Vec::new();
        for line in manifest.lines() {
            let parsed = line.strip_prefix("SHA256(").and_then(|rest| rest.split_once(")="));
            let Some((name, digest)) = parsed else {
                problems.push(format!("the manifest's line {line:?} is not SHA256(file)= digest"));
                continue;
            };
            let Some(member) = self.members.iter().find(|it| it.name == name) else {
                problems.push(format!("{name} is in the manifest and not in the archive"));
                continue;
            };
            let mut hash = Hash(Sha256::new());
            io::copy(&mut Part::new(file.try_clone()?, member), &mut hash)?;
            let found: String = hash.0.finalize().iter().map(|it| format!("{it:02x}")).collect();
            if found != digest.trim() {
                problems.push(format!("{name} has another digest than the manifest says: {found}"));
            }
        }
        Ok(problems)
    }
}

/// What takes what it is given into a digest.
struct Hash(Sha256);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_disk(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|it| it.to_str()).unwrap_or_default();
    matches!(extension, "vmdk" | "vdi" | "vhd" | "vhdx" | "qcow2" | "raw" | "img")
}

/// What a descriptor's items are called.
fn hardware(descriptor: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in descriptor.split("<Item").skip(1) {
        let name = item.split_once("ElementName>").and_then(|(_, rest)| rest.split_once('<'));
        found.extend(name.map(|(name, _)| name.to_owned()));
    }
    found
}

impl fmt::Display for Bundle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} archive of {} files", self.kind, self.members.len())?;
        for problem in &self.problems {
            writeln!(out, "! {}", problem.escape_debug())?;
        }
        for member in &self.members {
            writeln!(out, "  {:>12}  {}", member.len, member.name.escape_debug())?;
        }
        if !self.hardware.is_empty() {
            let hardware: Vec<String> =
                self.hardware.iter().map(|it| it.escape_debug().to_string()).collect();
            writeln!(out, "machine: {}", hardware.join(", "))?;
        }
        match (&self.disk, &self.disk_name) {
            (Some(disk), Some(name)) => write!(out, "{}: {disk}", name.escape_debug()),
            _ => Ok(()),
        }
    }
}
