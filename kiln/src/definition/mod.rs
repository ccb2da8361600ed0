//! `image.toml`: one file that says what an image is.
//!
//! Reading is strict: an unknown key, a wrong type or a missing value is a problem with its line
//! and column, and all of them are told at once ([`Definition::parse`]). What can be judged without
//! looking at packages or files is judged here too; the rest is the plan's to find.
//!
//! The whole format is described in `docs/image.toml.md`.

mod check;
mod container;
mod decode;
mod disk;
mod format;
mod place;
mod ramroot;
mod read;
mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_diskimg::Seed;
use kiln_supervisor::ServiceSpec;

pub use container::{Container, Isolators};
pub use disk::{
    Disk, Files, Filesystem, Firmware, FirmwareChoice, PartitionContent, PartitionEntry,
    PartitionSize, Root, SecureBoot,
};
pub use format::Format;
pub(crate) use place::hint;
pub use place::{Place, Placed, Problem};
pub use ramroot::Ramroot;
pub use run::{Forward, Run};

use crate::{Error, Result};

/// The epoch of images whose definition says none: 2026-11-01.
const EPOCH: u64 = 1_793_491_200;

/// What an image is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Definition {
    /// The file that it was read from; relative paths in it begin at its directory.
    pub file: PathBuf,
    /// The system's name: of artifacts, of the host, of partitions.
    pub name: Placed<String>,
    /// The system's name for people; `name` without.
    pub title: Option<String>,
    /// The system's version.
    pub version: Option<String>,
    /// What identifiers on disks are derived from; the name without.
    pub seed: Option<String>,
    /// Seconds since 1970 before which a clock is wrong: the guest sets its own forward to it.
    pub epoch: u64,
    /// What is made unless the command line says otherwise.
    pub formats: Vec<Placed<Format>>,
    /// Where packages come from.
    pub debian: Debian,
    /// Which packages.
    pub packages: Packages,
    /// What else goes in, by name.
    pub inputs: BTreeMap<String, Placed<Input>>,
    /// Process 1; none in a tree that something else runs programs of.
    pub init: Option<Init>,
    /// The kernel; none in a tree that is only archived.
    pub kernel: Option<Kernel>,
    /// What a container of it is started with.
    pub container: Container,
    /// Files, directories and links.
    pub files: Vec<FileEntry>,
    /// Users beside root and nobody.
    pub users: Vec<User>,
    /// Groups beside root, nogroup and those of the users.
    pub groups: Vec<Group>,
    /// What process 1 starts.
    pub services: Vec<Placed<Service>>,
    /// How the network is set up, as TOML text for the guest; by DHCP without.
    pub network: Option<Placed<String>>,
    /// The disk.
    pub disk: Disk,
    /// The root that is fetched at boot; none where all files are in the initramfs.
    pub ramroot: Option<Ramroot>,
    /// How `kiln run` runs it.
    pub run: Run,
}

/// Where Debian packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Debian {
    /// The release, by its code name. Default: `bookworm`.
    pub suite: Placed<String>,
    /// The archive in place of Debian's own, for a mirror or a snapshot.
    pub mirror: Option<Placed<String>>,
    /// The archive of security updates, likewise.
    pub security_mirror: Option<Placed<String>>,
    /// Areas of the archive. Default: `main`.
    pub components: Vec<Placed<String>>,
    /// The OpenPGP keys that releases are signed with. Default: those that Debian installs.
    pub keyring: Option<Placed<PathBuf>>,
}

impl Default for Debian {
    fn default() -> Self {
        Self {
            suite: Placed::nowhere("bookworm".into()),
            mirror: None,
            security_mirror: None,
            components: vec![Placed::nowhere("main".into())],
            keyring: None,
        }
    }
}

/// Packages in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packages {
    /// In the image as a whole, with everything that they depend on.
    pub install: Vec<Placed<String>>,
    /// Unpacked beside it, for single files (`pick`) and for the libraries that programs need.
    pub pick: Vec<Placed<String>>,
    /// Whether recommended packages come with installed ones.
    pub recommends: bool,
    /// Files of packages that stay out, as globs whose `*` matches slashes too. Default:
    /// documentation, manual pages and translations, but not the copyright files.
    pub exclude: Option<Vec<Placed<String>>>,
    /// Choices among alternatives: name to path.
    pub alternatives: BTreeMap<String, Placed<String>>,
}

/// Something that goes into an image and is neither a package nor a file beside the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Input {
    /// The file, unless the command line or the variable names another one.
    pub file: Option<Placed<PathBuf>>,
    /// The variable of the environment that may name the file.
    pub variable: Option<String>,
    /// The program on PATH that is taken.
    pub program: Option<String>,
    /// The Go program that is built where nothing else is found.
    pub go: Option<Placed<String>>,
    /// The program of this workspace that is built where nothing else is found.
    pub cargo: Option<CargoProgram>,
    /// Definitions of container images, which are built and archived together.
    pub images: Vec<Placed<PathBuf>>,
}

/// A binary of this workspace, built static.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CargoProgram {
    /// The package.
    pub package: Placed<String>,
    /// The binary; that of the package's name without.
    pub binary: Option<String>,
    /// Features of the package beside its default ones.
    pub features: Vec<String>,
}

/// Process 1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Init {
    /// Where it comes from.
    pub source: Placed<InitSource>,
    /// Services that it has by itself, which those of the definition may name.
    pub provides: Vec<Placed<String>>,
}

/// Where process 1 comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitSource {
    /// A binary of this workspace, built static: its package.
    Cargo(String),
    /// A file of the host.
    File(PathBuf),
    /// A path of a picked package.
    Pick(String),
    /// A path of the image, to which `/init` becomes a link: an init system from a package.
    Link(String),
}

/// A kernel.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Kernel {
    /// Where it comes from.
    pub source: Placed<KernelSource>,
    /// Configuration fragments, for a kernel from source.
    pub fragments: Vec<Placed<PathBuf>>,
    /// Files that say what its configuration must have, and why.
    pub requirements: Vec<Placed<PathBuf>>,
    /// Modules beyond those that the requirements ask for.
    pub modules: Vec<Placed<String>>,
    /// The command line.
    pub command_line: String,
}

/// Where a kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelSource {
    /// A Debian package, or a meta-package that stands for one.
    Package(String),
    /// Built from the source in a Debian package (`linux-source-6.1`).
    Source(String),
    /// Built from a source tree of the host.
    Tree(PathBuf),
    /// Files of the host.
    Files {
        /// The bootable image.
        image: PathBuf,
        /// `lib/modules/RELEASE`.
        modules: Option<PathBuf>,
        /// Its configuration; looked for beside it without.
        config: Option<PathBuf>,
    },
}

/// One or several paths of the image with one content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEntry {
    /// The paths, absolute.
    pub paths: Vec<Placed<String>>,
    /// What is there.
    pub content: Placed<Content>,
    /// The permission bits; the usual ones of the kind without.
    pub mode: Option<Placed<u16>>,
    /// The owner: a user of the definition or a number. Default: root.
    pub owner: Option<Placed<String>>,
    /// The group, likewise.
    pub group: Option<Placed<String>>,
    /// Why it is there.
    pub why: Option<String>,
}

impl FileEntry {
    /// One path with the usual permissions, owned by root, that no file asked for.
    pub fn new(path: impl Into<String>, content: Content, why: impl Into<String>) -> Self {
        Self {
            paths: vec![Placed::nowhere(path.into())],
            content: Placed::nowhere(content),
            mode: None,
            owner: None,
            group: None,
            why: Some(why.into()),
        }
    }
}

/// What is at a path of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// This text.
    Text(String),
    /// A file of the host.
    File(PathBuf),
    /// A directory of the host with all that is in it.
    Tree(PathBuf),
    /// A file of a picked package.
    Pick(String),
    /// The files of picked packages that a glob matches, one after the other in order.
    Concatenate(String),
    /// An input of this name.
    Input(String),
    /// A symbolic link to this text.
    Link(String),
    /// An empty directory.
    Directory,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The name.
    pub name: Placed<String>,
    /// The number.
    pub uid: Placed<u32>,
    /// The primary group's number. Default: the user's.
    pub gid: u32,
    /// Further groups, by name.
    pub groups: Vec<Placed<String>>,
    /// The home directory.
    pub home: String,
    /// The shell.
    pub shell: String,
    /// Who it is.
    pub comment: String,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// The name.
    pub name: Placed<String>,
    /// The number.
    pub gid: Placed<u32>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Service {
    /// What process 1 gets, but for the numbers of user and group.
    pub spec: ServiceSpec,
    /// The user it runs as, by name or number.
    pub user: Option<Placed<String>>,
    /// The group, likewise. Default: the user's.
    pub group: Option<Placed<String>>,
}

impl Definition {
    /// Reads a definition file.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Plan`] with everything that is wrong with it.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default());
            let at = Place::of(&before, before.len());
            Error::input(format!("{}:{at}", file.display()), "it is not UTF-8 text")
        })?;
        Self::parse(&text, file)
    }

    /// Reads a definition from text; `file` is for messages and relative paths.
    ///
    /// # Errors
    /// [`Error::Plan`] with everything that is wrong with it, in the order of the text.
    pub fn parse(text: &str, file: &Path) -> Result<Self> {
        let (definition, mut problems) = read::definition(text, file);
        if let Some(definition) = &definition {
            problems.extend(check::problems(definition));
        }
        match definition {
            Some(definition) if problems.is_empty() => Ok(definition),
            _ => {
                problems.sort();
                problems.dedup();
                Err(Error::Plan(problems.iter().map(|problem| problem.in_file(file)).collect()))
            }
        }
    }

    /// The system's name for people.
    #[must_use]
    pub fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.name)
    }

    /// What identifiers on disks are derived from.
    #[must_use]
    pub fn seed(&self) -> Seed {
        Seed::new(self.seed.as_deref().unwrap_or(&self.name))
    }

    /// The file system of the disk that is the system's root, and how; without one it is the
    /// initramfs.
    #[must_use]
    pub fn root(&self) -> Option<(Filesystem, Root)> {
        self.disk.partitions.iter().find_map(|partition| match &partition.content.value {
            PartitionContent::Files { filesystem, root, .. } => Some((*filesystem, (*root)?)),
            PartitionContent::Boot | PartitionContent::Empty => None,
        })
    }

    /// The directory that relative paths begin at.
    #[must_use]
    pub fn directory(&self) -> &Path {
        match self.file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// A path of the host as the definition means it.
    #[must_use]
    pub fn host_path(&self, path: &Path) -> PathBuf {
        self.directory().join(path)
    }
}
