//! File systems of partitions.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use kiln_diskimg::erofs::{self, Algorithm, Compression};
use kiln_diskimg::fat::{self, VolumeSize};
use kiln_diskimg::verity::{self, Verity};
use kiln_diskimg::{Content, Guid, Seed, ext4, squashfs};
use kiln_tree::{Tree, host};

use crate::definition::{Definition, Files, Filesystem};
use crate::{Error, Result};

/// 1980-01-01 00:00:00 UTC, the time that FAT counts from: it has none before.
const FAT_EPOCH: u32 = 315_532_800;
/// Bytes that EROFS compresses to at once: smaller than with one block, and still read in one go.
const CLUSTER: usize = 16 << 10;
/// The same where every byte is carried over a network and held in memory.
const FETCHED_CLUSTER: usize = 64 << 10;

/// A file system as it is asked for.
pub(super) struct Wanted<'a> {
    pub(super) seed: Seed,
    /// The partition's name.
    pub(super) name: &'a str,
    pub(super) label: Option<&'a str>,
    pub(super) filesystem: Filesystem,
    pub(super) size: VolumeSize,
    /// Seconds since 1970.
    pub(super) time: u32,
}

impl Wanted<'_> {
    /// The file system with these files in it; one that compresses does so here.
    pub(super) fn make(&self, tree: &Tree) -> Result<Arc<dyn Content>> {
        let uuid = Some(self.seed.guid(&format!("file system {}", self.name)));
        let label = self.label.map(str::to_owned);
        Ok(match self.filesystem {
            Filesystem::Fat => {
                let mut options = fat_options(self.seed, self.name, self.label, self.size);
                // Nothing is started from it, so it need not know where on the disk it is.
                options.hidden_sectors = 0;
                Arc::new(fat::Volume::plan(tree, &options)?)
            }
            Filesystem::Ext4 => {
                let mut options = ext4::Options::default();
                (options.label, options.uuid, options.size) = (label, uuid, self.size);
                (options.seed, options.created) = (self.seed, self.time);
                Arc::new(ext4::Volume::plan(tree, &options)?)
            }
            Filesystem::Erofs => Arc::new(erofs::Volume::plan(tree, &self.erofs(label, uuid))?),
            Filesystem::ErofsLz4 => {
                let options = self.erofs(label, uuid);
                Arc::new(erofs::Compressed::plan(tree, &options, lz4(), spool()?)?)
            }
            Filesystem::Squashfs => {
                let mut options = squashfs::Options::default();
                options.mtime = self.time;
                Arc::new(squashfs::Image::plan(tree, &options, spool()?)?)
            }
        })
    }

    fn erofs(&self, label: Option<String>, uuid: Option<Guid>) -> erofs::Options {
        let mut options = erofs::Options::default();
        (options.label, options.uuid, options.seed) = (label, uuid, self.seed);
        options.build_time = Some(self.time);
        options
    }
}

/// How EROFS is compressed where it is fetched as a whole: smaller, and slower to make.
pub(crate) fn lz4_high() -> Compression {
    let mut compression = Compression::new(Algorithm::Lz4High);
    compression.cluster = FETCHED_CLUSTER;
    compression
}

/// How EROFS is compressed.
fn lz4() -> Compression {
    let mut compression = Compression::new(Algorithm::Lz4);
    compression.cluster = CLUSTER;
    compression
}

/// A FAT volume of an image; `purpose` is what its number is derived from.
pub(crate) fn fat_options(
    seed: Seed,
    purpose: &str,
    label: Option<&str>,
    size: VolumeSize,
) -> fat::Options {
    let mut options = fat::Options::default();
    options.label = label.map(str::to_uppercase);
    options.volume_id = seed.number(purpose);
    options.size = size;
    options.mtime = Some(FAT_EPOCH);
    options
}

/// A file without a name, gone when it is closed.
fn spool() -> Result<File> {
    tempfile::tempfile().map_err(Error::io("create a file in", &std::env::temp_dir()))
}

/// The files that a definition wants in a file system; `image` are its own.
pub(super) fn files(definition: &Definition, files: &Files, image: Option<&Tree>) -> Result<Tree> {
    match files {
        Files::None => Ok(Tree::new()),
        Files::Image => image
            .cloned()
            .ok_or_else(|| Error::input("the image's files", "there are none for this disk")),
        Files::Tree(path) => directory(&definition.host_path(path)),
    }
}

/// What is in a directory of the host.
pub(super) fn directory(from: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    for entry in std::fs::read_dir(from).map_err(Error::io("read directory", from))? {
        let entry = entry.map_err(Error::io("read directory", from))?;
        let name = entry.file_name();
        let policy = host::Policy::default();
        host::import(&mut tree, &entry.path(), &name.to_string_lossy(), &policy)?;
    }
    Ok(tree)
}

/// A content with the hashes of its blocks.
pub(super) fn verified(content: Arc<dyn Content>, seed: Seed, name: &str) -> Result<Verity> {
    let mut options = verity::Options::default();
    options.seed = seed;
    options.uuid = Some(seed.guid(&format!("verity {name}")));
    Ok(Verity::plan(content, &options)?)
}
