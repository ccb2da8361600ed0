//! A volume planned from a tree: its size is found, and a place for everything.

use kiln_tree::Tree;

use super::checksum::Sums;
use super::extents::{self, Blocks, Run};
use super::geometry::{self, Fixed, Geometry, MAX_BLOCKS, Places};
use super::outline::{self, File};
use super::{BLOCK, special};
use crate::content::{and_largest, largest_files};
use crate::error::Problems;
use crate::fat::VolumeSize;
use crate::field::narrow32;
use crate::guid::{Guid, Seed};
use crate::units::ByteLen;
use crate::{Error, Result};

/// Bytes for which there is an inode, as `mke2fs` has it.
const BYTES_PER_INODE: u64 = 16_384;
/// So many inodes at least are free, unless a number is asked for.
const SPARE_INODES: u64 = 64;
/// The least journal that Linux takes (`JBD2_MIN_JOURNAL_BLOCKS`), and the largest here.
const JOURNAL: std::ops::RangeInclusive<u32> = 1024..=10_240_000;

/// Which journal a volume has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Journal {
    /// As large as `mke2fs` makes it: 4 MiB to 1 GiB, none on a volume of less than 8 MiB.
    #[default]
    Auto,
    /// None.
    None,
    /// So many blocks of 4096 bytes, at least 1024.
    Blocks(u32),
}

impl Journal {
    fn blocks(self, of: u64) -> u32 {
        match self {
            Self::Auto => geometry::default_journal(of),
            Self::None => 0,
            Self::Blocks(count) => count,
        }
    }
}

/// What a volume should be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Its label, at most 16 bytes.
    pub label: Option<String>,
    /// What identifiers are derived from that are not given.
    pub seed: Seed,
    /// Its UUID; from the seed when absent.
    pub uuid: Option<Guid>,
    /// How large it is, in whole blocks of 4096 bytes. Default: from its content, no headroom.
    pub size: VolumeSize,
    /// At least so many inodes. Default: one for every 16 KiB, and some more than the tree needs.
    pub inodes: Option<u32>,
    /// The journal. Default: as `mke2fs` makes it.
    pub journal: Journal,
    /// Hundredths of the blocks that only root can use, at most 50. Default: 0.
    pub reserved_percent: u8,
    /// When the volume was made, in seconds since 1970. Default: 0.
    pub created: u32,
    /// The time of every file and directory in seconds since 1970; those of the tree when absent.
    pub mtime: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            label: None,
            seed: Seed::default(),
            uuid: None,
            size: VolumeSize::FromContent { headroom: ByteLen::ZERO },
            inodes: None,
            journal: Journal::Auto,
            reserved_percent: 0,
            created: 0,
            mtime: None,
        }
    }
}

/// A volume of which every byte is decided, except those inside of the files, which are read when
/// it is written.
#[derive(Debug, Clone)]
pub struct Volume {
    pub(super) options: Options,
    pub(super) uuid: Guid,
    pub(super) hash_seed: [u32; 4],
    /// Bytes: some more than the blocks, when those would not have made a group.
    pub(super) len: u64,
    pub(super) files: Vec<File>,
    pub(super) layout: Layout,
    /// For who has to make room.
    pub(super) largest: String,
}

/// Where everything is.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    /// Metadata in the order of their blocks, and by group.
    pub(super) fixed: Vec<Fixed>,
    pub(super) places: Vec<Places>,
    /// The block with the numbers of the blocks for later descriptors.
    pub(super) resize: u64,
    pub(super) journal: Blocks,
    /// By file: the block of its attributes (0 for none), and its own.
    pub(super) files: Vec<(u64, Blocks)>,
    /// Every block before this one is used.
    pub(super) frontier: u64,
    /// All blocks that are used.
    pub(super) used: u64,
}

/// Gives out the blocks between the metadata, in order.
#[derive(Clone, Copy)]
struct Space<'fixed> {
    ahead: &'fixed [Fixed],
    next: u64,
}

impl Space<'_> {
    fn take(&mut self, mut count: u64) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::with_capacity(usize::from(count > 0));
        while count > 0 {
            let mut room = u64::MAX;
            while let Some((fixed, rest)) = self.ahead.split_first() {
                if fixed.start > self.next {
                    room = fixed.start - self.next;
                    break;
                }
                self.next = self.next.max(fixed.start + fixed.len);
                self.ahead = rest;
            }
            let len = count.min(room);
            runs.push(Run { start: self.next, len });
            self.next += len;
            count -= len;
        }
        runs
    }

    fn one(&mut self) -> u64 {
        self.take(1).first().map_or(0, |run| run.start)
    }

    /// Blocks for a content, after those of the tree that leads to it.
    fn body(&mut self, count: u64) -> Blocks {
        let mut tree = 0;
        loop {
            let mut space = *self;
            let numbers = space.take(tree);
            let runs = space.take(count);
            let needed = extents::tree_len(&runs);
            if needed <= tree {
                *self = space;
                let tree = numbers.iter().flat_map(|run| run.start..run.start + run.len);
                return Blocks { tree: tree.take(crate::field::index(needed)).collect(), runs };
            }
            tree = needed;
        }
    }
}

impl Volume {
    /// Decides where everything goes. A directory `lost+found` is added when the tree has none.
    ///
    /// # Errors
    /// [`Error::Plan`] with everything that is wrong: attributes that ext4 cannot hold, links to
    /// nothing, numbers of devices, files of more than 16 TiB, a label, a size that is too small
    /// (with the size that would do, and the largest files).
    pub fn plan(tree: &Tree, options: &Options) -> Result<Self> {
        let mut problems = Vec::new();
        let uuid = options.uuid.unwrap_or_else(|| options.seed.guid("ext4"));
        let hash_seed = hash_seed(options.seed);
        if let Some(label) = options.label.as_deref().filter(|label| label.len() > 16) {
            problems.push(format!(
                "label {label:?}: it has {} bytes, expected at most 16",
                label.len()
            ));
        }
        if let Some(label) = options.label.as_deref().filter(|label| label.contains('\0')) {
            problems.push(format!("label {label:?}: it has a NUL"));
        }
        if options.reserved_percent > 50 {
            let percent = options.reserved_percent;
            problems.push(format!("{percent} % of the blocks are reserved, expected at most 50"));
        }
        if let Journal::Blocks(count) = options.journal
            && !JOURNAL.contains(&count)
        {
            problems.push(format!(
                "a journal of {count} blocks, expected {} to {}",
                JOURNAL.start(),
                JOURNAL.end()
            ));
        }
        let sums = Sums::new(&uuid.0);
        let files = outline::files(tree, options.mtime, sums, &hash_seed, &mut problems);
        Problems(problems).check("ext4 volume")?;

        let (layout, len) = match options.size {
            VolumeSize::Fixed(size) => {
                let blocks = (size.0 / BLOCK).min(MAX_BLOCKS);
                let layout = lay_out(&files, options, Geometry::round_down(blocks));
                let missing = layout.missing(ByteLen::ZERO, options);
                let largest = size.0.div_ceil(BLOCK) > MAX_BLOCKS;
                if missing > 0 || largest {
                    let problem = too_small(tree, &files, options, size, largest);
                    return Err(Error::Plan {
                        what: "ext4 volume",
                        problems: Problems(vec![problem]),
                    });
                }
                (layout, size.0)
            }
            VolumeSize::FromContent { headroom } => {
                let Some(layout) = smallest(&files, options, headroom) else {
                    let problem = "the content is larger than 16 TiB".to_owned();
                    return Err(Error::Plan {
                        what: "ext4 volume",
                        problems: Problems(vec![problem]),
                    });
                };
                let len = layout.geometry.blocks * BLOCK;
                (layout, len)
            }
        };
        let largest = largest_files(tree);
        Ok(Self { options: options.clone(), uuid, hash_seed, len, files, layout, largest })
    }

    /// How the volume is divided.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.layout.geometry
    }

    /// Its identifier.
    #[must_use]
    pub fn uuid(&self) -> Guid {
        self.uuid
    }

    /// What it was asked to be.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Bytes of blocks that hold nothing, the reserved ones among them.
    #[must_use]
    pub fn free(&self) -> ByteLen {
        ByteLen(self.layout.geometry.blocks.saturating_sub(self.layout.used) * BLOCK)
    }

    /// Inodes that are used, those that every volume has among them.
    pub(super) fn used_inodes(&self) -> u32 {
        narrow32(self.files.len() as u64 + u64::from(special::FIRST) - 3)
    }
}

fn hash_seed(seed: Seed) -> [u32; 4] {
    let bytes = seed.guid("ext4 names").0;
    [0, 4, 8, 12].map(|at| crate::field::u32_le(&bytes, at).unwrap_or(0))
}

fn reserved(blocks: u64, options: &Options) -> u64 {
    blocks * u64::from(options.reserved_percent) / 100
}

/// Finds a place for everything on so many blocks, or beyond their end.
fn lay_out(files: &[File], options: &Options, blocks: u64) -> Layout {
    let used = files.len() as u64 + u64::from(special::FIRST);
    let inodes = options.inodes.map_or_else(
        || (blocks * BLOCK / BYTES_PER_INODE).max(used + SPARE_INODES),
        |inodes| used.max(u64::from(inodes)),
    );
    let geometry = Geometry::new(blocks, inodes, options.journal.blocks(blocks));
    let (fixed, places) = geometry.metadata();
    let mut space = Space { ahead: &fixed, next: 0 };
    let resize = space.one();
    let journal = space.body(u64::from(geometry.journal));
    let mut placed = vec![(0, Blocks::default()); files.len()];
    // Directories stand together, so that a search does not lead all over the disk.
    for directories in [true, false] {
        for (file, place) in files.iter().zip(&mut placed) {
            if file.is_directory() == directories {
                let attributes = if file.xattrs.needs_block() { space.one() } else { 0 };
                *place = (attributes, space.body(file.blocks()));
            }
        }
    }
    let frontier = space.next;
    let beyond: u64 = space
        .ahead
        .iter()
        .map(|fixed| (fixed.start + fixed.len).saturating_sub(fixed.start.max(frontier)))
        .sum();
    let used = frontier + beyond;
    Layout { geometry, fixed, places, resize, journal, files: placed, frontier, used }
}

impl Layout {
    /// How many blocks it lacks when so much is to stay free.
    fn missing(&self, headroom: ByteLen, options: &Options) -> u64 {
        let blocks = self.geometry.blocks;
        if let Some(missing) = self.geometry.missing_for_inodes() {
            return missing;
        }
        let end = self.fixed.last().map_or(0, |fixed| fixed.start + fixed.len);
        let beyond = self.frontier.max(end).saturating_sub(blocks);
        let free = headroom.0.div_ceil(BLOCK).saturating_add(reserved(blocks, options));
        beyond.max(self.used.saturating_add(free).saturating_sub(blocks))
    }
}

/// The smallest volume with so much headroom.
fn smallest(files: &[File], options: &Options, headroom: ByteLen) -> Option<Layout> {
    let content: u64 = files.iter().map(File::blocks).sum();
    let mut blocks = content.saturating_add(headroom.0 / BLOCK).saturating_add(16);
    while blocks <= MAX_BLOCKS {
        blocks = Geometry::round_up(blocks);
        let layout = lay_out(files, options, blocks);
        match layout.missing(headroom, options) {
            0 => return Some(layout),
            missing => blocks += missing,
        }
    }
    None
}

/// Says by how much a size is too small, and what takes most of it.
fn too_small(
    tree: &Tree,
    files: &[File],
    options: &Options,
    size: ByteLen,
    too_large: bool,
) -> String {
    if too_large {
        return format!("{size} are more than the {} blocks that a volume has here", MAX_BLOCKS);
    }
    let needed = smallest(files, options, ByteLen::ZERO)
        .map(|layout| layout.geometry.blocks * BLOCK)
        // Rounding of the last group can make a larger size too small.
        .map(|needed| needed.max(size.0.saturating_add(1).next_multiple_of(BLOCK)));
    let Some(needed) = needed else { return "the content is larger than 16 TiB".to_owned() };
    format!(
        "the content is {} bytes more than a volume of {size} holds; raise its size to {needed}{}",
        needed - size.0,
        and_largest(&largest_files(tree))
    )
}
