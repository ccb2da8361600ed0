//! How files are compressed.

use super::codec::{self, Codec};
use super::lz4_high::Lz4High;
use super::{BLOCK, superblock};
use crate::field::index;

/// The longest physical cluster (`Z_EROFS_PCLUSTER_MAX_SIZE`).
const MAX_CLUSTER: usize = 1 << 20;

/// What compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// LZ4, which Linux reads since 5.4.
    Lz4,
    /// LZ4 that takes some twenty times as long to compress, and makes programs smaller by a
    /// sixth. What reads it sees no difference.
    Lz4High,
}

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compression {
    /// What compresses.
    pub algorithm: Algorithm,
    /// Bytes of a physical cluster, what is decompressed at once: a multiple of 4096, at most 1
    /// MiB. Larger ones make the volume smaller and reading a single page slower. Default: 4096;
    /// more needs Linux 5.13.
    pub cluster: usize,
}

impl Compression {
    /// The algorithm with clusters of a block.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, cluster: index(BLOCK) }
    }

    /// Whether there are clusters of more than a block.
    pub(super) fn is_big(&self) -> bool {
        self.cluster > index(BLOCK)
    }

    /// The algorithm's number.
    pub(super) fn algorithm(&self) -> u8 {
        match self.algorithm {
            Algorithm::Lz4 | Algorithm::Lz4High => 0,
        }
    }

    /// What the superblock says of the algorithms.
    pub(super) fn algorithms(&self) -> u16 {
        if self.is_big() { 1 << self.algorithm() } else { 0 }
    }

    /// The features that are needed, and the configurations after the superblock, each with its
    /// length before it.
    pub(super) fn features(&self) -> (u32, Vec<u8>) {
        if !self.is_big() {
            return (superblock::ZERO_PADDING, Vec::new());
        }
        let mut configs = Vec::new();
        match self.algorithm {
            Algorithm::Lz4 | Algorithm::Lz4High => {
                let blocks = crate::field::narrow16((self.cluster as u64).div_ceil(BLOCK));
                configs.extend_from_slice(&14_u16.to_le_bytes());
                // The greatest distance: 0 is the format's.
                configs.extend_from_slice(&0_u16.to_le_bytes());
                configs.extend_from_slice(&blocks.to_le_bytes());
                configs.extend_from_slice(&[0; 10]);
            }
        }
        (superblock::ZERO_PADDING | superblock::COMPRESSOR_CONFIGS, configs)
    }

    pub(super) fn check(&self, problems: &mut Vec<String>) {
        let cluster = self.cluster;
        if cluster == 0 || !cluster.is_multiple_of(index(BLOCK)) || cluster > MAX_CLUSTER {
            problems.push(format!(
                "physical clusters of {cluster} bytes, expected a multiple of {BLOCK} up to \
                 {MAX_CLUSTER}"
            ));
        }
    }

    /// Bytes of a file that are compressed in one go: the last cluster of each is not full. What
    /// takes long anyway takes the memory of larger ones.
    pub(super) fn piece(&self) -> u64 {
        match self.algorithm {
            Algorithm::Lz4 => 2 << 20,
            Algorithm::Lz4High => 4 << 20,
        }
    }

    pub(super) fn codec(&self) -> Box<dyn Codec> {
        match self.algorithm {
            Algorithm::Lz4 => Box::new(codec::lz4::Lz4::new()),
            Algorithm::Lz4High => Box::new(Lz4High::new()),
        }
    }
}
