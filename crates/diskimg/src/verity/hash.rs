//! Hashes blocks as they pass by, on threads of their own.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{BLOCK, DIGEST};
use crate::Result;
use crate::content::{Content, Sink};
use crate::field::index;
use crate::parallel::Queue;

static ZEROES: [u8; 4096] = [0; 4096];
/// Bytes that are hashed at once by one thread, a multiple of a block.
const CHUNK: usize = 1 << 20;

/// Hashes blocks with a salt.
#[derive(Clone)]
pub(super) struct Hasher(Sha256);

impl Hasher {
    pub(super) fn new(salt: &[u8]) -> Self {
        Self(Sha256::new_with_prefix(salt))
    }

    pub(super) fn block(&self, block: &[u8]) -> [u8; DIGEST] {
        self.0.clone().chain_update(block).finalize().into()
    }

    /// The hashes of many blocks, one after the other.
    pub(super) fn blocks(&self, blocks: &[u8]) -> Vec<u8> {
        blocks.chunks(index(BLOCK)).flat_map(|block| self.block(block)).collect()
    }
}

/// Gives a content to a sink, filled up with zeroes to whole blocks, and the hashes of its blocks.
pub(super) fn pass(
    content: &dyn Content,
    hasher: &Hasher,
    threads: usize,
    sink: &mut dyn Sink,
) -> Result<Vec<u8>> {
    let queue = Queue::new(threads);
    let hashes = std::thread::scope(|scope| -> Result<_> {
        let _closing = queue.closing();
        for _ in 0..threads {
            scope.spawn(|| {
                queue.work(|(first, chunk): (u64, Vec<u8>)| {
                    Ok((first, hasher.blocks(&chunk), chunk))
                });
            });
        }
        let mut passing = Passing {
            sink,
            queue: &queue,
            room: threads as u64 * 3,
            hashes: BTreeMap::new(),
            zero: hasher.block(&ZEROES),
            gathered: Vec::with_capacity(CHUNK),
            blocks: 0,
        };
        content.write_to(&mut passing)?;
        let ragged = passing.gathered.len() as u64 % BLOCK;
        if ragged > 0 {
            passing.hole(BLOCK - ragged)?;
        }
        passing.pass_on()?;
        while passing.take()?.is_some() {}
        Ok(passing.hashes)
    })?;
    let mut all = Vec::with_capacity(index(content.len().div_ceil(BLOCK)) * DIGEST);
    for hashed in hashes.into_values() {
        match hashed {
            Hashed::Some(hashes) => all.extend_from_slice(&hashes),
            Hashed::Same(hash, count) => all.extend(std::iter::repeat_n(hash, count).flatten()),
        }
    }
    Ok(all)
}

/// What is known of consecutive blocks.
enum Hashed {
    Some(Vec<u8>),
    /// So many blocks of one hash.
    Same([u8; DIGEST], usize),
}

/// The first block, and the bytes from it on; the same with its hashes.
type Hashing = Queue<(u64, Vec<u8>), (u64, Vec<u8>, Vec<u8>)>;

struct Passing<'pass> {
    sink: &'pass mut dyn Sink,
    queue: &'pass Hashing,
    /// How many chunks may be under way.
    room: u64,
    /// By the first block.
    hashes: BTreeMap<u64, Hashed>,
    /// The hash of a block of zeroes.
    zero: [u8; DIGEST],
    /// What was not passed on; it begins a block.
    gathered: Vec<u8>,
    /// How many blocks were passed on.
    blocks: u64,
}

impl Passing<'_> {
    fn zeroes(&mut self, len: u64) -> Result<()> {
        let mut left = len;
        while left > 0 {
            let now = left.min(BLOCK);
            self.data(ZEROES.get(..index(now)).unwrap_or_default())?;
            left -= now;
        }
        Ok(())
    }

    fn pass_on(&mut self) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.sink.data(&self.gathered)?;
        let mut fresh = None;
        while self.queue.pending() >= self.room {
            fresh = self.take()?;
        }
        let mut fresh = fresh.unwrap_or_else(|| Vec::with_capacity(CHUNK));
        fresh.clear();
        let chunk = std::mem::replace(&mut self.gathered, fresh);
        let first = self.blocks;
        self.blocks += chunk.len() as u64 / BLOCK;
        self.queue.submit((first, chunk));
        Ok(())
    }

    /// Keeps the oldest chunk's hashes and gives its memory back.
    fn take(&mut self) -> Result<Option<Vec<u8>>> {
        let Some((first, hashes, chunk)) = self.queue.take()? else { return Ok(None) };
        self.hashes.insert(first, Hashed::Some(hashes));
        Ok(Some(chunk))
    }
}

impl Sink for Passing<'_> {
    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = CHUNK.saturating_sub(self.gathered.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.gathered.extend_from_slice(now);
            if self.gathered.len() >= CHUNK {
                self.pass_on()?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<()> {
        let ragged = self.gathered.len() as u64 % BLOCK;
        let fill = if ragged == 0 { 0 } else { (BLOCK - ragged).min(len) };
        self.zeroes(fill)?;
        let rest = len - fill;
        let whole = rest / BLOCK;
        // A short hole is not worth an entry of its own.
        if whole <= 16 {
            return self.zeroes(rest);
        }
        self.pass_on()?;
        let same = Hashed::Same(self.zero, index(whole));
        self.hashes.insert(self.blocks, same);
        self.sink.hole(whole * BLOCK)?;
        self.blocks += whole;
        self.zeroes(rest % BLOCK)
    }
}

/// Takes everything and keeps nothing.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn data(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn hole(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}
