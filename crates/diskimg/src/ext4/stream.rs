//! A volume written from its first byte to its last.

use std::io::{ErrorKind, Read};

use kiln_tree::Source;

use super::checksum::Sums;
use super::extents::{self, Blocks, Run};
use super::geometry::{ADDRESSES, Fixed, Metadata, PER_GROUP};
use super::inode::{Inode, flag, format};
use super::outline::{self, Body, File};
use super::superblock::{self, Descriptor, Super};
use super::volume::Volume;
use super::{BLOCK, BLOCK_LEN, DESCRIPTOR_LEN, Geometry, INODE_LEN, special};
use crate::content::{Content, Sink};
use crate::field::{index, narrow16, narrow32, put};
use crate::{Error, Result};

/// How much is passed on at once.
const GATHERED: usize = 1 << 20;
/// From this length on zeroes are passed on as a hole.
const HOLE: u64 = 64 << 10;
/// The most names of a directory that are counted (`EXT4_LINK_MAX`, `dir_nlink`).
const MAX_LINKS: u32 = 65_000;

impl Content for Volume {
    fn len(&self) -> u64 {
        self.len
    }

    fn largest_files(&self) -> String {
        self.largest.clone()
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        let mut writer = Writer::new(self, sink);
        let layout = &self.layout;
        writer.at(layout.resize)?;
        writer.out.data(&resize_block(&layout.geometry))?;
        if let Some(first) = layout.journal.runs.first() {
            let seed = writer.sums.inode(special::JOURNAL);
            writer.tree(&layout.journal, seed)?;
            writer.at(first.start)?;
            writer.out.data(&superblock::journal(layout.geometry.journal))?;
        }
        for directories in [true, false] {
            for (at, file) in self.files.iter().enumerate() {
                if file.is_directory() == directories {
                    writer.file(at, file)?;
                }
            }
        }
        writer.at(layout.geometry.blocks)?;
        writer.out.seek(self.len)?;
        writer.out.flush()
    }
}

struct Writer<'volume, 'sink> {
    volume: &'volume Volume,
    sums: Sums,
    superblock: Super,
    /// The descriptors of all groups.
    descriptors: Vec<u8>,
    uninitialised: Vec<bool>,
    /// Metadata that are still to be written.
    ahead: &'volume [Fixed],
    out: Stream<'sink>,
}

impl<'volume, 'sink> Writer<'volume, 'sink> {
    fn new(volume: &'volume Volume, sink: &'sink mut dyn Sink) -> Self {
        let layout = &volume.layout;
        let geometry = &layout.geometry;
        let sums = Sums::new(&volume.uuid.0);
        let mut label = [0; 16];
        put(&mut label, 0, volume.options.label.as_deref().unwrap_or_default().as_bytes());
        let content: u64 = layout.files.iter().map(|(_, blocks)| blocks.count()).sum();
        let superblock = Super {
            uuid: volume.uuid.0,
            label,
            hash_seed: volume.hash_seed,
            created: volume.options.created,
            free_blocks: geometry.blocks.saturating_sub(layout.used),
            free_inodes: geometry.inodes().saturating_sub(u64::from(volume.used_inodes())),
            reserved_blocks: geometry.blocks * u64::from(volume.options.reserved_percent) / 100,
            kbytes: content * (BLOCK / 1024),
            journal: (geometry.journal > 0)
                .then(|| extents::emit(&layout.journal, sums.inode(special::JOURNAL)).0),
        };
        let mut writer = Self {
            volume,
            sums,
            superblock,
            descriptors: Vec::new(),
            uninitialised: Vec::new(),
            ahead: &layout.fixed,
            out: Stream::new(sink),
        };
        writer.describe();
        writer
    }

    /// Makes the descriptors.
    fn describe(&mut self) {
        let layout = &self.volume.layout;
        let geometry = &layout.geometry;
        let per_group = geometry.inodes_per_group;
        let mut directories = vec![0_u32; layout.places.len()];
        for (at, file) in self.volume.files.iter().enumerate() {
            if file.is_directory() {
                let group = (outline::number(at) - 1) / per_group;
                if let Some(count) = directories.get_mut(group as usize) {
                    *count += 1;
                }
            }
        }
        let mut bytes = Vec::with_capacity(layout.places.len() * DESCRIPTOR_LEN);
        for ((group, places), directories) in (0..).zip(&layout.places).zip(directories) {
            let inodes = self.inodes(group);
            let mut descriptor = Descriptor {
                places: *places,
                free_inodes: per_group - inodes,
                unused_inodes: per_group - inodes,
                directories,
                flags: Descriptor::INODE_ZEROED,
                ..Descriptor::default()
            };
            if inodes == 0 {
                descriptor.flags |= Descriptor::INODE_UNINIT;
            } else {
                let bits = self.inode_bitmap(group);
                let counted = bits.get(..per_group as usize / 8).unwrap_or_default();
                descriptor.inode_bitmap_sum = self.sums.bitmap(counted);
            }
            let unused = self.is_unused(group);
            self.uninitialised.push(unused);
            if unused {
                descriptor.flags |= Descriptor::BLOCK_UNINIT;
                descriptor.free_blocks = PER_GROUP - geometry.base_len(group);
            } else {
                let bits = self.block_bitmap(group);
                descriptor.block_bitmap_sum = self.sums.bitmap(&bits);
                descriptor.free_blocks =
                    bits.iter().map(|byte| u64::from(byte.count_zeros())).sum();
            }
            bytes.extend_from_slice(&descriptor.emit(group, self.sums));
        }
        self.descriptors = bytes;
    }

    /// How many inodes of a group are used: they have the lowest numbers.
    fn inodes(&self, group: u32) -> u32 {
        let per_group = self.volume.layout.geometry.inodes_per_group;
        let before = u64::from(group) * u64::from(per_group);
        narrow32(u64::from(self.volume.used_inodes()).saturating_sub(before)).min(per_group)
    }

    /// Metadata that reach into a group.
    fn metadata(&self, group: u32) -> impl Iterator<Item = &'volume Fixed> + use<'volume> {
        let (start, end) = (Geometry::start(group), Geometry::start(group) + PER_GROUP);
        let fixed = &self.volume.layout.fixed;
        let first = fixed.partition_point(|fixed| fixed.start + fixed.len <= start);
        fixed.get(first..).unwrap_or_default().iter().take_while(move |fixed| fixed.start < end)
    }

    /// Whether nothing but a backup is in a group. The last one's bitmap is always written, because
    /// it may not be a whole group.
    fn is_unused(&self, group: u32) -> bool {
        let layout = &self.volume.layout;
        group + 1 < layout.geometry.groups
            && layout.frontier <= Geometry::start(group)
            && self.metadata(group).all(|fixed| fixed.what == Metadata::Base)
    }

    fn block_bitmap(&self, group: u32) -> Vec<u8> {
        let layout = &self.volume.layout;
        let start = Geometry::start(group);
        let mut bits = vec![0; BLOCK_LEN];
        set(&mut bits, 0, layout.frontier.saturating_sub(start));
        for fixed in self.metadata(group) {
            let from = fixed.start.saturating_sub(start);
            set(&mut bits, from, fixed.start + fixed.len - start);
        }
        set(&mut bits, layout.geometry.end(group) - start, PER_GROUP);
        bits
    }

    fn inode_bitmap(&self, group: u32) -> Vec<u8> {
        let mut bits = vec![0; BLOCK_LEN];
        set(&mut bits, 0, u64::from(self.inodes(group)));
        set(&mut bits, u64::from(self.volume.layout.geometry.inodes_per_group), PER_GROUP);
        bits
    }

    /// Goes to a block; writes the metadata before it.
    fn at(&mut self, block: u64) -> Result<()> {
        while let Some((fixed, rest)) = self.ahead.split_first()
            && fixed.start < block
        {
            self.ahead = rest;
            self.out.seek(fixed.start * BLOCK)?;
            self.fixed(fixed)?;
        }
        self.out.seek(block * BLOCK)
    }

    fn fixed(&mut self, fixed: &Fixed) -> Result<()> {
        let group = fixed.group;
        match fixed.what {
            Metadata::Base => self.base(group),
            Metadata::BlockBitmap => {
                match self.uninitialised.get(group as usize) {
                    // Left out: a hole.
                    Some(true) => Ok(()),
                    _ => self.out.data(&self.block_bitmap(group)),
                }
            }
            Metadata::InodeBitmap if self.inodes(group) == 0 => Ok(()),
            Metadata::InodeBitmap => self.out.data(&self.inode_bitmap(group)),
            Metadata::InodeTable => {
                let first = group * self.volume.layout.geometry.inodes_per_group;
                for number in first + 1..=first + self.inodes(group) {
                    let bytes = self.inode(number);
                    self.out.data(&bytes)?;
                }
                Ok(())
            }
        }
    }

    /// A superblock with all descriptors.
    fn base(&mut self, group: u32) -> Result<()> {
        let geometry = &self.volume.layout.geometry;
        let start = Geometry::start(group) * BLOCK;
        if group == 0 {
            self.out.seek(superblock::OFFSET)?;
        }
        self.out.data(&self.superblock.emit(geometry, group))?;
        self.out.seek(start + BLOCK)?;
        self.out.data(&self.descriptors)?;
        if group > 0 {
            return Ok(());
        }
        // The blocks for later descriptors name their places in the other groups.
        let reserve = 1 + u64::from(geometry.descriptor_blocks);
        let backups: Vec<u64> = geometry.backups().map(Geometry::start).collect();
        for number in reserve..reserve + u64::from(geometry.reserved_descriptor_blocks) {
            self.out.seek(number * BLOCK)?;
            for backup in &backups {
                self.out.data(&narrow32(backup + number).to_le_bytes())?;
            }
        }
        Ok(())
    }

    fn inode(&self, number: u32) -> [u8; INODE_LEN] {
        let layout = &self.volume.layout;
        let geometry = &layout.geometry;
        let mut inode = Inode {
            number,
            mode: format::REGULAR | 0o600,
            uid: 0,
            gid: 0,
            links: 1,
            len: 0,
            time: self.volume.options.created,
            flags: 0,
            blocks: 0,
            xattr_block: 0,
            body: [0; 60],
            xattrs: None,
        };
        let seed = self.sums.inode(number);
        match number {
            special::RESIZE => {
                // Doubly indirect: the direct and indirect blocks before it are missing.
                inode.len = (ADDRESSES * ADDRESSES + ADDRESSES + 12) * BLOCK;
                let backups = geometry.backups().count() as u64;
                inode.blocks = 1 + u64::from(geometry.reserved_descriptor_blocks) * (1 + backups);
                put(&mut inode.body, 13 * 4, &narrow32(layout.resize).to_le_bytes());
            }
            special::JOURNAL if geometry.journal > 0 => {
                inode.len = u64::from(geometry.journal) * BLOCK;
                inode.blocks = layout.journal.count();
                inode.flags = flag::EXTENTS;
                inode.body = extents::emit(&layout.journal, seed).0;
            }
            _ => {
                let place = outline::place(number);
                let found =
                    place.and_then(|at| self.volume.files.get(at).zip(layout.files.get(at)));
                let Some((file, (xattr_block, blocks))) = found else {
                    // One that has its number only.
                    return [0; INODE_LEN];
                };
                inode.mode = file.mode;
                (inode.uid, inode.gid) = (file.uid, file.gid);
                let many = file.is_directory() && file.links > MAX_LINKS;
                inode.links = if many { 1 } else { narrow16(u64::from(file.links)) };
                inode.len = file.len();
                inode.time = file.time;
                inode.blocks = blocks.count() + u64::from(*xattr_block != 0);
                inode.xattr_block = *xattr_block;
                inode.xattrs = Some(&file.xattrs);
                match &file.body {
                    Body::Nothing => {}
                    Body::Device(body) => inode.body = *body,
                    body => match file.short_link() {
                        Some(text) => inode.body = text,
                        None => {
                            let indexed = matches!(body, Body::Directory(it) if it.indexed);
                            inode.flags = flag::EXTENTS | if indexed { flag::INDEX } else { 0 };
                            inode.body = extents::emit(blocks, seed).0;
                        }
                    },
                }
            }
        }
        inode.emit(self.sums)
    }

    /// The blocks that lead to a content, where there are any.
    fn tree(&mut self, blocks: &Blocks, seed: u32) -> Result<()> {
        if blocks.tree.is_empty() {
            return Ok(());
        }
        for (number, bytes) in blocks.tree.iter().zip(extents::emit(blocks, seed).1) {
            self.at(*number)?;
            self.out.data(&bytes)?;
        }
        Ok(())
    }

    fn file(&mut self, at: usize, file: &File) -> Result<()> {
        let Some((xattr_block, blocks)) = self.volume.layout.files.get(at) else { return Ok(()) };
        if *xattr_block != 0 {
            self.at(*xattr_block)?;
            self.out.data(&file.xattrs.block(*xattr_block, self.sums))?;
        }
        self.tree(blocks, self.sums.inode(outline::number(at)))?;
        match &file.body {
            Body::Nothing | Body::Device(_) => Ok(()),
            Body::Link(text) => self.bytes(text, &blocks.runs),
            Body::Directory(directory) => self.bytes(&directory.bytes, &blocks.runs),
            Body::File(Source::Bytes(bytes)) => self.bytes(bytes, &blocks.runs),
            Body::File(source) => self.source(source, &blocks.runs),
        }
    }

    fn bytes(&mut self, mut bytes: &[u8], runs: &[Run]) -> Result<()> {
        for run in runs {
            self.at(run.start)?;
            let len = bytes.len().min(index(run.len * BLOCK));
            let (now, later) = bytes.split_at(len);
            self.out.data(now)?;
            bytes = later;
        }
        self.out.fill_block()
    }

    /// Reads a file of the host where its bytes are passed on from.
    fn source(&mut self, source: &Source, runs: &[Run]) -> Result<()> {
        let mut reader = source.open().map_err(Error::io("open a file of the tree"))?;
        let mut left = source.len();
        for run in runs {
            self.at(run.start)?;
            let mut here = left.min(run.len * BLOCK);
            left -= here;
            while here > 0 {
                // A byte more than there should be: where it does not come, the file ends.
                let more = usize::from(left == 0);
                let room = self.out.room()?;
                let wanted = index(here).saturating_add(more).min(room.len());
                let count = read(&mut reader, room.get_mut(..wanted).unwrap_or_default())?;
                here = here.saturating_sub(count as u64);
                self.out.advance(count);
                if here == 0 && left == 0 && count > 0 && count < wanted {
                    return self.out.fill_block();
                }
                if count == 0 {
                    let ended = std::io::Error::from(ErrorKind::UnexpectedEof);
                    return Err(Error::io("read a file of the tree")(ended));
                }
            }
        }
        // It is an error when it goes on.
        read(&mut reader, &mut [0])?;
        self.out.fill_block()
    }
}

fn read(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match reader.read(buffer) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read a file of the tree")(error)),
        }
    }
}

/// The block that names the blocks for later descriptors, in the places of their numbers.
fn resize_block(geometry: &Geometry) -> Vec<u8> {
    let mut block = vec![0; BLOCK_LEN];
    let first = u64::from(geometry.descriptor_blocks);
    for number in first..first + u64::from(geometry.reserved_descriptor_blocks) {
        let at = index(number % ADDRESSES * 4);
        put(&mut block, at, &narrow32(number + 1).to_le_bytes());
    }
    block
}

/// Sets the bits from one to before another, as far as there are any.
fn set(bits: &mut [u8], from: u64, to: u64) {
    let end = bits.len().saturating_mul(8);
    let (mut from, to) = (index(from).min(end), index(to).min(end));
    while from < to {
        if from.is_multiple_of(8) && to - from >= 8 {
            bits.get_mut(from / 8..to / 8).unwrap_or_default().fill(0xff);
            from = to / 8 * 8;
            continue;
        }
        if let Some(byte) = bits.get_mut(from / 8) {
            *byte |= 1 << (from % 8);
        }
        from += 1;
    }
}

/// Gathers small pieces into large ones, which end at multiples of their length so that containers
/// need not gather them again.
struct Stream<'sink> {
    sink: &'sink mut dyn Sink,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are filled, and that can be.
    filled: usize,
    end: usize,
    /// Bytes that were passed on.
    passed: u64,
}

impl<'sink> Stream<'sink> {
    fn new(sink: &'sink mut dyn Sink) -> Self {
        Self { sink, buffer: vec![0; GATHERED], filled: 0, end: GATHERED, passed: 0 }
    }

    fn flush(&mut self) -> Result<()> {
        if self.filled > 0 {
            self.sink.data(self.buffer.get(..self.filled).unwrap_or_default())?;
            self.passed += self.filled as u64;
            self.filled = 0;
        }
        self.end = GATHERED - index(self.passed % GATHERED as u64);
        Ok(())
    }

    /// Where the next bytes belong: never empty.
    fn room(&mut self) -> Result<&mut [u8]> {
        if self.filled >= self.end {
            self.flush()?;
        }
        Ok(self.buffer.get_mut(self.filled..self.end).unwrap_or_default())
    }

    /// So many bytes of the room have been filled.
    fn advance(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(self.end);
    }

    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            put(room, 0, now);
            self.advance(now.len());
            bytes = later;
        }
        Ok(())
    }

    /// Goes on to an offset, over zeroes.
    fn seek(&mut self, offset: u64) -> Result<()> {
        let position = self.passed + self.filled as u64;
        let mut len = offset.checked_sub(position).ok_or_else(|| {
            Error::malformed("ext4", position, format!("the layout goes back to byte {offset}"))
        })?;
        if len >= HOLE {
            self.flush()?;
            self.sink.hole(len)?;
            self.passed += len;
            return self.flush();
        }
        while len > 0 {
            let room = self.room()?;
            let count = room.len().min(index(len));
            room.get_mut(..count).unwrap_or_default().fill(0);
            self.advance(count);
            len -= count as u64;
        }
        Ok(())
    }

    /// Goes on to the end of the block.
    fn fill_block(&mut self) -> Result<()> {
        let position = self.passed + self.filled as u64;
        self.seek(position.next_multiple_of(BLOCK))
    }
}
