//! The block map of bmap-tools, version 2.0: which blocks of a disk must be written, and their
//! digests.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Bytes of a block of the map.
const BLOCK: u64 = 4096;
/// Ranges closer than this are one, so that the map of a disk in shreds stays short.
const MERGE: u64 = 1 << 20;
const ZEROES: usize = 64;

/// Collects ranges; they are given in order and begin at multiples of [`BLOCK`].
pub(super) struct Map {
    len: u64,
    ranges: Vec<(u64, u64, [u8; 32])>,
    /// First byte and end of the range in the making, and its digest so far.
    open: Option<(u64, u64, Sha256)>,
}

impl Map {
    pub(super) fn new(len: u64) -> Self {
        Self { len, ranges: Vec::new(), open: None }
    }

    pub(super) fn data(&mut self, at: u64, bytes: &[u8]) {
        if let Some((_, end, digest)) = &mut self.open
            && at - *end < MERGE
        {
            let zeroes = [0; 4096];
            let mut gap = at - *end;
            while gap > 0 {
                let now = gap.min(4096);
                digest.update(zeroes.get(..crate::field::index(now)).unwrap_or_default());
                gap -= now;
            }
            digest.update(bytes);
            *end = at + bytes.len() as u64;
            return;
        }
        self.close();
        self.open = Some((at, at + bytes.len() as u64, Sha256::new_with_prefix(bytes)));
    }

    fn close(&mut self) {
        if let Some((start, end, digest)) = self.open.take() {
            self.ranges.push((start / BLOCK, (end - 1) / BLOCK, digest.finalize().into()));
        }
    }

    /// The map as XML, its own digest filled in.
    pub(super) fn finish(mut self) -> String {
        self.close();
        let mapped: u64 = self.ranges.iter().map(|(first, last, _)| last - first + 1).sum();
        let placeholder = "0".repeat(ZEROES);
        let mut out = format!(
            "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    \
             <ImageSize> {} </ImageSize>\n    <BlockSize> {BLOCK} </BlockSize>\n    \
             <BlocksCount> {} </BlocksCount>\n    <MappedBlocksCount> {mapped} </MappedBlocksCount>\n    \
             <ChecksumType> sha256 </ChecksumType>\n    \
             <BmapFileChecksum> {placeholder} </BmapFileChecksum>\n    <BlockMap>\n",
            self.len,
            self.len.div_ceil(BLOCK)
        );
        for (first, last, digest) in &self.ranges {
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            let _ = writeln!(out, "        <Range chksum=\"{hex}\"> {range} </Range>");
        }
        out.push_str("    </BlockMap>\n</bmap>\n");
        // The digest is that of the file with zeroes in its place.
        let digest: String =
            Sha256::digest(&out).iter().map(|byte| format!("{byte:02x}")).collect();
        out.replacen(&placeholder, &digest, 1)
    }
}
