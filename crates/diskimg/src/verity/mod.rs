//! dm-verity: a hash tree over a content, by which Linux checks every block that it reads.
//!
//! The tree is of format 1 with SHA-256 and blocks of 4096 bytes on both sides (Linux,
//! `Documentation/admin-guide/device-mapper/verity.rst`), with or without the superblock that
//! `veritysetup` reads:
//!
//! | part | blocks |
//! |---|---|
//! | data, filled up with zeroes to whole blocks | as many as they are |
//! | superblock, if wanted | 1 |
//! | hashes of hashes, the topmost level first | 1, … |
//! | hashes of the data's blocks, 128 in a block | 1/128 of the data |
//!
//! The data are hashed while they are written, on several threads; only the hashes are held in
//! memory, 1/127 of the data. [`Verity::protected`] is data and tree in one content;
//! [`Verity::data`] and [`Verity::tree`] are contents for two partitions. The root hash is known
//! once the data were written, or at once by [`Verity::root_hash`], which reads them a first time.
//!
//! # Example: a protected content
//!
//! ```
//! use kiln_diskimg::verity::{self, Options, Verity};
//! use kiln_diskimg::{Content, Zeroes};
//!
//! let verity = Verity::plan(Zeroes(1 << 20), &Options::default())?;
//! let mut disk = Vec::new();
//! verity.protected().write_to(&mut disk)?;
//! let root = verity.root_hash()?;
//!
//! let parameters = verity::Parameters::read(&mut disk, 1 << 20)?;
//! verity::verify(&mut disk, None, &parameters, root)?;
//! disk[5000] = 1;
//! let error = verity::verify(&mut disk, None, &parameters, root).unwrap_err().to_string();
//! assert!(error.contains("byte 4096: data block 1 "), "{error}");
//! # Ok::<(), kiln_diskimg::Error>(())
//! ```

mod hash;
mod superblock;
mod tree;
mod verify;

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use crate::guid::{Guid, Seed};

pub use tree::{Data, HashTree, Protected, Verity};
pub use verify::verify;

/// Bytes of a block, of data and of hashes.
pub const BLOCK: u64 = 4096;
/// Bytes of a hash.
const DIGEST: usize = 32;
/// Hashes in a block.
const PER_BLOCK: u64 = BLOCK / DIGEST as u64;
/// The longest salt in bytes (what the superblock has room for).
pub const MAX_SALT: usize = 256;

/// How a tree is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// What identifier and salt are derived from.
    pub seed: Seed,
    /// What is hashed before every block, at most 256 bytes; 32 bytes from the seed when absent.
    pub salt: Option<Vec<u8>>,
    /// The superblock's identifier; from the seed when absent.
    pub uuid: Option<Guid>,
    /// Whether there is a superblock, from which `veritysetup` knows everything but the root hash.
    /// Default: yes.
    pub superblock: bool,
    /// How many threads hash. Default: as many as the machine runs at once. The hashes do not
    /// depend on it.
    pub threads: Option<NonZeroUsize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: Seed::default(), salt: None, uuid: None, superblock: true, threads: None }
    }
}

/// What is needed to check data against a tree, apart from the root hash.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameters {
    /// How many blocks of data there are, from the start of their source.
    pub data_blocks: u64,
    /// The block of its source at which the tree begins; after the superblock, if there is one.
    pub tree_block: u64,
    /// What is hashed before every block.
    pub salt: Vec<u8>,
}

impl Parameters {
    /// A table line of the device mapper for these data, as `dmsetup` and the kernel's
    /// `dm-mod.create=` take it; `data` and `tree` are devices ("/dev/vda2").
    #[must_use]
    pub fn table(&self, data: &str, tree: &str, root: RootHash) -> String {
        let Self { data_blocks, tree_block, salt } = self;
        let sectors = data_blocks.saturating_mul(BLOCK / crate::units::SECTOR);
        let salt = if salt.is_empty() { "-".to_owned() } else { Hex(salt).to_string() };
        format!(
            "0 {sectors} verity 1 {data} {tree} {BLOCK} {BLOCK} {data_blocks} {tree_block} sha256 \
             {root} {salt}"
        )
    }

    /// The levels of the tree, from the hashes of data up: at which block each begins, and how many
    /// blocks it has. None when there is but one block of data.
    fn levels(&self) -> Vec<(u64, u64)> {
        let mut counts = Vec::new();
        let mut below = self.data_blocks;
        while below > 1 {
            below = below.div_ceil(PER_BLOCK);
            counts.push(below);
        }
        // The topmost comes first.
        let mut next = self.tree_block;
        let mut levels: Vec<(u64, u64)> = counts
            .iter()
            .rev()
            .map(|count| {
                let first = next;
                next = next.saturating_add(*count);
                (first, *count)
            })
            .collect();
        levels.reverse();
        levels
    }
}

/// The hash that vouches for all of a content. It prints as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootHash(pub [u8; DIGEST]);

impl RootHash {
    /// The identifiers that the partitions of data and of the tree have under the Discoverable
    /// Partitions Specification: the two halves of the hash. systemd finds them by that.
    #[must_use]
    pub fn partition_guids(self) -> (Guid, Guid) {
        let half = |at| Guid(crate::field::array(&self.0, at).unwrap_or_default());
        (half(0), half(16))
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(out)
    }
}

/// A root hash that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no root hash: expected 64 hexadecimal digits")]
pub struct ParseRootHashError(String);

impl FromStr for RootHash {
    type Err = ParseRootHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseRootHashError(text.chars().take(80).collect());
        let digits: Vec<u32> = text.chars().map_while(|digit| digit.to_digit(16)).collect();
        if digits.len() != 2 * DIGEST || text.len() != 2 * DIGEST {
            return Err(error());
        }
        let mut hash = [0; DIGEST];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            let value = pair.iter().fold(0, |value, digit| value << 4 | digit);
            *byte = u8::try_from(value).map_err(|_| error())?;
        }
        Ok(Self(hash))
    }
}

struct Hex<'bytes>(&'bytes [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}
