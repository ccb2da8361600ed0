//! `image.toml`: one file that says what an image is.
//!
//! Reading is strict: an unknown key, a wrong type or a missing value is a problem with its line
//! and column, and all of them are told at once ([`Definition::parse`]). What can be judged without
//! looking at packages or files is judged here too; the rest is the plan's to find.
//!
//! The whole format is described in `docs/image.toml.md`.

mod check;
mod decode;
mod place;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{ByteLen, Seed, container};
use kiln_supervisor::ServiceSpec;

pub(crate) use place::hint;
pub use place::{Place, Placed, Problem};

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
    /// How `kiln run` runs it.
    pub run: Run,
}

/// What is made of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Format {
    /// The initramfs, and its kernel beside it.
    Initramfs,
    /// Kernel and initramfs as one program that UEFI starts.
    Uki,
    /// A disk, as it is.
    Raw,
    /// The same through zstd, with a map for `bmaptool`.
    RawZst,
    /// A disk for QEMU.
    Qcow2,
    /// The same, compressed by zstd.
    Qcow2Zstd,
    /// A disk for VMware and VirtualBox.
    Vmdk,
    /// The same, compressed, for imports.
    VmdkStream,
    /// A disk for VirtualBox.
    Vdi,
    /// A disk for older Hyper-V.
    Vhd,
    /// A disk for Azure.
    VhdFixed,
    /// A disk for Hyper-V.
    Vhdx,
    /// An appliance for VMware, VirtualBox and others.
    Ova,
    /// The same, for VirtualBox, as a zip archive.
    VboxZip,
    /// A disk for Google Compute Engine.
    Gce,
    /// A CD, which is a disk too.
    Iso,
    /// The file tree as an archive, for containers and other systems to unpack.
    Tar,
    /// The same through gzip.
    TarGz,
    /// The same through zstd.
    TarZst,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Initramfs,
        Self::Uki,
        Self::Raw,
        Self::RawZst,
        Self::Qcow2,
        Self::Qcow2Zstd,
        Self::Vmdk,
        Self::VmdkStream,
        Self::Vdi,
        Self::Vhd,
        Self::VhdFixed,
        Self::Vhdx,
        Self::Ova,
        Self::VboxZip,
        Self::Gce,
        Self::Iso,
        Self::Tar,
        Self::TarGz,
        Self::TarZst,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Initramfs => "initramfs",
            Self::Uki => "uki",
            Self::Ova => "ova",
            Self::VboxZip => "vbox-zip",
            Self::Gce => "gce",
            Self::Iso => "iso",
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
            disk => disk.container().map_or("disk", container::Format::name),
        }
    }

    /// How the disk is stored, where it is a disk and nothing around it.
    #[must_use]
    pub fn container(self) -> Option<container::Format> {
        Some(match self {
            Self::Raw => container::Format::Raw,
            Self::RawZst => container::Format::RawZst,
            Self::Qcow2 => container::Format::Qcow2,
            Self::Qcow2Zstd => container::Format::Qcow2Zstd,
            Self::Vmdk => container::Format::Vmdk,
            Self::VmdkStream => container::Format::VmdkStream,
            Self::Vdi => container::Format::Vdi,
            Self::Vhd => container::Format::Vhd,
            Self::VhdFixed => container::Format::VhdFixed,
            Self::Vhdx => container::Format::Vhdx,
            _ => return None,
        })
    }

    /// What the name of its file ends in, another one for each format.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Uki => "efi",
            Self::RawZst => "raw.zst",
            Self::Qcow2Zstd => "zstd.qcow2",
            Self::VmdkStream => "stream.vmdk",
            Self::VhdFixed => "fixed.vhd",
            Self::VboxZip => "vbox.zip",
            Self::Gce => "gce.tar.gz",
            other => other.name(),
        }
    }

    /// Whether it is the tree alone, which nothing boots.
    #[must_use]
    pub fn is_archive(self) -> bool {
        matches!(self, Self::Tar | Self::TarGz | Self::TarZst)
    }

    /// Whether the disk is in it that the definition describes.
    #[must_use]
    pub fn is_disk(self) -> bool {
        !self.is_archive() && !matches!(self, Self::Initramfs | Self::Uki | Self::Iso)
    }

    /// Whether something that starts the kernel is part of it.
    #[must_use]
    pub fn has_loader(self) -> bool {
        !self.is_archive() && self != Self::Initramfs
    }

    /// Whether QEMU runs it as it is.
    #[must_use]
    pub fn is_run(self) -> bool {
        let packed = [Self::Uki, Self::RawZst, Self::Ova, Self::VboxZip, Self::Gce];
        !self.is_archive() && !packed.contains(&self)
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("{name:?} is no format; known are {known}")
        })
    }
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

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disk {
    /// Its length; just large enough without.
    pub size: Option<Placed<ByteLen>>,
    /// What starts it. Default: all, with keys of one's own UEFI.
    pub firmware: Vec<Placed<Firmware>>,
    /// What UEFI verifies. Default: nothing.
    pub secure_boot: Option<Placed<SecureBoot>>,
    /// Its partitions. Default: one to boot from.
    pub partitions: Vec<PartitionEntry>,
}

/// What starts a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Firmware {
    /// A PC's BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

impl Firmware {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bios, Self::Uefi];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

/// What starts a disk, as a command line says it: `bios`, `uefi`, `both`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareChoice(pub Vec<Firmware>);

impl std::str::FromStr for FirmwareChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "both" {
            return Ok(Self(Firmware::ALL.to_vec()));
        }
        let found = Firmware::ALL.into_iter().find(|firmware| firmware.name() == text);
        let found = found.ok_or_else(|| format!("{text:?} is neither bios nor uefi nor both"))?;
        Ok(Self(vec![found]))
    }
}

/// Whom UEFI with Secure Boot has to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecureBoot {
    /// The key in this directory.
    Keys(PathBuf),
    /// The distribution, by way of its shim.
    Shim,
}

impl std::str::FromStr for SecureBoot {
    type Err = std::convert::Infallible;

    /// `shim`, or a directory (`./shim` too).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "shim" { Self::Shim } else { Self::Keys(text.into()) })
    }
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionEntry {
    /// Its name in the partition table.
    pub name: Placed<String>,
    /// What it is for.
    pub kind: Placed<PartitionType>,
    /// How large it is.
    pub size: Placed<PartitionSize>,
    /// What is in it.
    pub content: Placed<PartitionContent>,
    /// The label of its file system.
    pub label: Option<Placed<String>>,
}

/// How large a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionSize {
    /// So many bytes: `64MiB`.
    Fixed(ByteLen),
    /// As large as its content and so much more: `content`, `content+16MiB`.
    Content {
        /// Bytes that stay free.
        headroom: ByteLen,
    },
    /// What is left of the disk: `rest`.
    Rest,
}

/// What is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionContent {
    /// The boot loader with kernel and initramfs, on FAT.
    Boot,
    /// A file system.
    Files {
        /// Which one.
        filesystem: Filesystem,
        /// What is in it.
        files: Files,
        /// How it is the system's root, if it is.
        root: Option<Root>,
    },
    /// Nothing: zeroes.
    Empty,
}

/// What is in a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Files {
    /// Nothing.
    None,
    /// A directory of the host.
    Tree(PathBuf),
    /// The image's files.
    Image,
}

/// How a file system is the system's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Root {
    /// As it is.
    Plain,
    /// With every block verified against a hash on the kernel's command line (dm-verity).
    Verified,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filesystem {
    /// FAT, which every system reads.
    Fat,
    /// ext4.
    Ext4,
    /// EROFS, read-only.
    Erofs,
    /// The same, compressed.
    ErofsLz4,
    /// SquashFS, read-only, compressed.
    Squashfs,
}

impl Filesystem {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Fat, Self::Ext4, Self::Erofs, Self::ErofsLz4, Self::Squashfs];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fat => "fat",
            Self::Ext4 => "ext4",
            Self::Erofs => "erofs",
            Self::ErofsLz4 => "erofs-lz4",
            Self::Squashfs => "squashfs",
        }
    }

    /// The kernel module that reads it.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Fat => "vfat",
            Self::Ext4 => "ext4",
            Self::Erofs | Self::ErofsLz4 => "erofs",
            Self::Squashfs => "squashfs",
        }
    }

    /// Whether a system can write to it.
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(self, Self::Fat | Self::Ext4)
    }

    /// Whether it can be larger than its content.
    #[must_use]
    pub fn is_sized(self) -> bool {
        self.is_writable()
    }
}

/// How an image is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// Memory. Default: 1 GiB.
    pub memory: Option<Placed<ByteLen>>,
    /// Ports of the guest that the host reaches, each with the host's.
    pub forwards: Vec<Placed<Forward>>,
}

/// A port of the host's loopback interface that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// UDP in place of TCP.
    pub udp: bool,
    /// The port on 127.0.0.1; 0 lets the system choose a free one.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
}

impl std::str::FromStr for Forward {
    type Err = String;

    /// `8080:80`, `80`, `udp:5353:53`.
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || {
            format!("{text:?} is no forwarded port; expected HOST:GUEST, GUEST or udp:HOST:GUEST")
        };
        let (udp, ports) = match text.split_once(':') {
            Some(("udp", rest)) => (true, rest),
            Some(("tcp", rest)) => (false, rest),
            _ => (false, text),
        };
        let (host, guest) = ports.split_once(':').unwrap_or((ports, ports));
        let host = host.parse().map_err(|_| error())?;
        let guest = guest.parse().ok().filter(|guest| *guest != 0).ok_or_else(error)?;
        Ok(Self { udp, host, guest })
    }
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
