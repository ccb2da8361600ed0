//! What was built, and of what: `manifest.json` beside the artifacts.
//!
//! A manifest names the packages and other inputs of a build, and for every path of the image what
//! it is, where it comes from and why it is there. Nothing in it depends on who built, where and
//! when, so two builds of the same inputs write the same manifest, and two manifests can be
//! compared ([`diff`](crate::diff)). A bill of materials is made of it alone
//! ([`sbom`](crate::sbom)), as are pictures ([`picture`](crate::picture)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::Path;

use kiln_initramfs::manifest::FileRecord;
use serde::{Deserialize, Serialize};

use crate::definition::Format;
use crate::{Error, Result, cache, digest};

/// The format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;
/// The name that a manifest has in its directory.
pub const FILE_NAME: &str = "manifest.json";
/// No manifest is longer: half a million files are some 200 MB.
const LONGEST: u64 = 512 << 20;

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Artifact {
    /// Its name in the output directory.
    pub path: String,
    /// What it is: `kernel`, or the name of a [format](crate::definition::Format).
    pub kind: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: String,
}

impl Artifact {
    /// Describes a file that was made in `directory`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn of(directory: &Path, name: &str, kind: &str) -> Result<Self> {
        let path = directory.join(name);
        let size = std::fs::metadata(&path).map_err(Error::io("stat", &path))?.len();
        let sha256 = digest::of_file(&path)?;
        Ok(Self { path: name.into(), kind: kind.into(), size, sha256 })
    }
}

/// A binary package that files of the image come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageRecord {
    /// Its name, which is unique in a manifest.
    pub name: String,
    /// Its version, with epoch and revision.
    pub version: String,
    /// The architecture it was built for (`amd64`, `all`).
    pub architecture: String,
    /// The source package that it was built from; security advisories name this one.
    pub source: String,
    /// The source package's version, which can differ from the binary's.
    pub source_version: String,
    /// The SHA-256 of the package's file.
    pub sha256: String,
    /// The licence as an SPDX expression or in the package's own words, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Those of the manifest's packages that it depends on, where known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends: Vec<String>,
    /// Why it is there: who asked for it, or what depends on it.
    pub why: String,
}

/// Something else that the build read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputRecord {
    /// Its name, which is unique in a manifest: `nomad`, `linux`, `image.toml`. No host's path.
    pub name: String,
    /// Its version, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it is, in words: `program`, `kernel source`, `boot loader`, `definition`, `lock`.
    pub kind: String,
    /// The SHA-256 of its content.
    pub sha256: String,
}

/// One path of the image: a [`FileRecord`] without the host's path, and what it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// The path, without a leading slash; control characters and bytes that are no UTF-8 escaped.
    pub path: String,
    /// What it is, in words: `regular file`, `symbolic link`, …
    pub kind: String,
    /// The permission bits, in octal (`0755`).
    pub mode: String,
    /// The owner's number; left out when it is root's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The group's number; left out when it is root's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// The length of a regular file in bytes (a hard link has that of its file).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The SHA-256 of a regular file's content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its SHA-1, which SPDX identifies files by; it vouches for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<String>,
    /// Where a symbolic or hard link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A device's numbers, `MAJOR:MINOR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Extended attributes, with values in hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
    /// Why it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The [package](PackageRecord::name) it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// The [input](InputRecord::name) it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl From<FileRecord> for FileEntry {
    /// Where on the host the content was is left out, because it is the only thing about a record
    /// that is not the same everywhere.
    fn from(record: FileRecord) -> Self {
        Self {
            path: record.path,
            kind: record.kind,
            mode: record.mode,
            uid: record.uid,
            gid: record.gid,
            size: record.size,
            sha256: record.sha256,
            sha1: record.sha1,
            target: record.target,
            device: record.device,
            xattrs: record.xattrs,
            why: record.why,
            package: None,
            input: None,
        }
    }
}

impl FileEntry {
    /// What it takes of the image: hard links take nothing beyond their file.
    #[must_use]
    pub fn own_size(&self) -> u64 {
        if self.kind == "hard link" { 0 } else { self.size.unwrap_or(0) }
    }
}

/// Everything about a build that does not depend on who built it, where and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// The number of this format, [`FORMAT`].
    pub format: u32,
    /// The system's name.
    pub name: String,
    /// The system's version, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The kernel's release, where there is a kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The kernel's command line; empty without a kernel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command_line: String,
    /// The bytes of each of the two slots that the boot partition has, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u64>,
    /// What was made.
    pub artifacts: Vec<Artifact>,
    /// The packages whose files are inside, by name.
    #[serde(default)]
    pub packages: Vec<PackageRecord>,
    /// What else was read, by name.
    #[serde(default)]
    pub inputs: Vec<InputRecord>,
    /// What is inside, each with the reason why it is there, by path.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// A manifest of these files; everything else is then put into its fields.
    #[must_use]
    pub fn new<F: Into<FileEntry>>(name: &str, files: impl IntoIterator<Item = F>) -> Self {
        Self {
            format: FORMAT,
            name: name.into(),
            version: None,
            kernel: None,
            command_line: String::new(),
            slots: None,
            artifacts: Vec::new(),
            packages: Vec::new(),
            inputs: Vec::new(),
            files: files.into_iter().map(Into::into).collect(),
        }
    }

    /// The package of this name.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&PackageRecord> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The first artifact that can be booted.
    #[must_use]
    pub fn bootable(&self) -> Option<&Artifact> {
        let boots = |artifact: &&Artifact| artifact.kind.parse().is_ok_and(Format::is_run);
        self.artifacts.iter().find(boots)
    }

    /// What the image's files take together, in bytes, before any compression.
    #[must_use]
    pub fn content_size(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.own_size()))
    }

    /// Writes `manifest.json` into a directory, packages and inputs sorted by name.
    ///
    /// # Errors
    /// [`Error::Input`] with everything that [`check`](Self::check) finds; [`Error::Io`].
    pub fn write(&self, directory: &Path) -> Result<()> {
        cache::write_file(&directory.join(FILE_NAME), self.to_json()?.as_bytes())
    }

    /// The text of `manifest.json`: the same for the same build, whatever the order in which
    /// packages and inputs were found.
    ///
    /// # Errors
    /// [`Error::Input`] with everything that [`check`](Self::check) finds.
    pub fn to_json(&self) -> Result<String> {
        let sorted = self.sorted();
        sorted.check(FILE_NAME)?;
        let mut text = serde_json::to_string_pretty(&sorted)
            .map_err(|error| Error::input(FILE_NAME, error.to_string()))?;
        text.push('\n');
        Ok(text)
    }

    /// The same with packages, inputs and files in order.
    pub(crate) fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        sorted.packages.sort_by(|a, b| a.name.cmp(&b.name));
        sorted.inputs.sort_by(|a, b| a.name.cmp(&b.name));
        sorted.files.sort_by(|a, b| a.path.cmp(&b.path));
        sorted
    }

    /// Reads a manifest: the file, or the directory that it is in.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] with line and column for what is no manifest of this format,
    /// and with everything that [`check`](Self::check) finds.
    pub fn read(path: &Path) -> Result<Self> {
        let is_directory = std::fs::metadata(path).map_err(Error::io("stat", path))?.is_dir();
        let file = if is_directory { path.join(FILE_NAME) } else { path.to_path_buf() };
        let shown = file.display().to_string();
        let opened = match std::fs::File::open(&file) {
            Err(error) if is_directory && error.kind() == std::io::ErrorKind::NotFound => {
                let reason = "there is no manifest.json in it: give the directory that a build \
                              wrote its images to";
                return Err(Error::input(path.display().to_string(), reason));
            }
            other => other.map_err(Error::io("open", &file))?,
        };
        let mut text = Vec::new();
        // An image that was given by mistake is not read whole to say so.
        let mut opened = opened.take(LONGEST + 1);
        (&mut opened).take(1).read_to_end(&mut text).map_err(Error::io("read", &file))?;
        if text.first().is_some_and(|first| *first == b'{' || first.is_ascii_whitespace()) {
            opened.read_to_end(&mut text).map_err(Error::io("read", &file))?;
        }
        if text.len() as u64 > LONGEST {
            return Err(Error::input(shown, "longer than 512 MiB: this is no manifest"));
        }
        Self::from_json(&text, &shown)
    }

    /// Reads the text of a manifest. `what` names it in errors.
    ///
    /// # Errors
    /// As [`read`](Self::read), without [`Error::Io`].
    pub fn from_json(text: &[u8], what: &str) -> Result<Self> {
        /// What every format has, whatever else there is in it.
        #[derive(Deserialize)]
        struct Head {
            format: Option<u64>,
        }
        let no_manifest = |reason: String| {
            Error::input(
                what,
                format!("{reason}: this is no manifest; give a build's manifest.json"),
            )
        };
        // serde would take an array of the values in order, too.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(no_manifest("it does not begin with `{`".into()));
        }
        let head: Head =
            serde_json::from_slice(text).map_err(|error| no_manifest(error.to_string()))?;
        match head.format {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                let reason = format!(
                    "its format is {format}, and {FORMAT} is the one that is understood: use the \
                     kiln that wrote it, or build again with this one"
                );
                return Err(Error::input(what, reason));
            }
            None => {
                let reason = "it has no `format`, so it is no manifest or older than the first \
                              numbered one: build again";
                return Err(Error::input(what, reason));
            }
        }
        let manifest: Self = serde_json::from_slice(text)
            .map_err(|error| Error::input(what, format!("it cannot be understood: {error}")))?;
        manifest.check(what)?;
        Ok(manifest)
    }

    /// Whether names are unique, references lead somewhere, and digests and modes are such.
    /// `what` names the manifest in the error.
    ///
    /// # Errors
    /// [`Error::Input`] with up to ten problems.
    pub fn check(&self, what: &str) -> Result<()> {
        let mut problems = Problems::default();
        if self.format != FORMAT {
            problems.add(format_args!("its format is {}, not {FORMAT}", self.format));
        }
        problems.unique("artifacts", self.artifacts.iter().map(|artifact| &artifact.path));
        let packages =
            problems.unique("packages", self.packages.iter().map(|package| &package.name));
        let inputs = problems.unique("inputs", self.inputs.iter().map(|input| &input.name));
        problems.unique("files", self.files.iter().map(|file| &file.path));
        for artifact in &self.artifacts {
            problems.digest(&artifact.path, &artifact.sha256, 64);
        }
        for package in &self.packages {
            problems.digest(&package.name, &package.sha256, 64);
            for name in package.depends.iter().filter(|name| !packages.contains(name.as_str())) {
                let package = &package.name;
                problems.add(format_args!("{package}: depends on {name:?}, not in packages"));
            }
        }
        for input in &self.inputs {
            problems.digest(&input.name, &input.sha256, 64);
        }
        for file in &self.files {
            let path = &file.path;
            if let Some(sha256) = &file.sha256 {
                problems.digest(path, sha256, 64);
            }
            if let Some(sha1) = &file.sha1 {
                problems.digest(path, sha1, 40);
            }
            if file.kind == "regular file"
                && (file.size.is_none() || file.sha256.is_none() || file.sha1.is_none())
            {
                problems.add(format_args!("{path}: a regular file needs size, sha256 and sha1"));
            }
            let is_octal = file.mode.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
            if file.mode.len() != 4 || !is_octal {
                problems.add(format_args!("{path}: mode {:?} is not four octal digits", file.mode));
            }
            if let Some(name) = file.package.as_deref().filter(|name| !packages.contains(*name)) {
                problems.add(format_args!("{path}: its package {name:?} is not in packages"));
            }
            if let Some(name) = file.input.as_deref().filter(|name| !inputs.contains(*name)) {
                problems.add(format_args!("{path}: its input {name:?} is not in inputs"));
            }
        }
        problems.into_result(what)
    }
}

/// What is wrong with a manifest, the first of it in words.
#[derive(Default)]
struct Problems {
    told: Vec<String>,
    count: usize,
}

impl Problems {
    fn add(&mut self, problem: fmt::Arguments<'_>) {
        self.count += 1;
        if self.told.len() < 10 {
            self.told.push(problem.to_string());
        }
    }

    fn unique<'a>(
        &mut self,
        list: &str,
        names: impl IntoIterator<Item = &'a String>,
    ) -> BTreeSet<&'a str> {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name.as_str()) {
                self.add(format_args!("{list}: {name:?} is there twice"));
            }
        }
        seen
    }

    fn digest(&mut self, of: &str, digest: &str, digits: usize) {
        let is_hex = digest.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if digest.len() != digits || !is_hex {
            self.add(format_args!("{of}: {digest:?} is no digest of {digits} hexadecimal digits"));
        }
    }

    fn into_result(self, what: &str) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let mut reason = self.told.join("; ");
        if self.count > self.told.len() {
            reason += &format!("; and {} more such", self.count - self.told.len());
        }
        Err(Error::input(what, reason))
    }
}
