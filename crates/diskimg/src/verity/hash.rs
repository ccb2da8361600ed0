//! Hashes blocks as they pass by, on threads of their own.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::{BLOCK, DIGEST};
use crate::content::{Content, Sink};
use crate::field::index;
use crate::{Error, Result};

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
    let hashes = Mutex::new(BTreeMap::new());
    let (to_hash, chunks) = std::sync::mpsc::sync_channel(threads * 2);
    let (give_back, spare) = std::sync::mpsc::sync_channel(threads * 4);
    // A receiver has one owner; a thread holds it only while it waits.
    let chunks = Mutex::new(chunks);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let give_back = give_back.clone();
            let (chunks, hashes) = (&chunks, &hashes);
            scope.spawn(move || {
                while let Some((first, chunk)) = next(chunks) {
                    let hashed = Hashed::Some(hasher.blocks(&chunk));
                    hashes.lock().unwrap_or_else(PoisonError::into_inner).insert(first, hashed);
                    // When nobody wants the memory it is freed.
                    let _ = give_back.try_send(chunk);
                }
            });
        }
        let mut passing = Passing {
            sink,
            to_hash,
            spare,
            hashes: &hashes,
            zero: hasher.block(&ZEROES),
            gathered: Vec::with_capacity(CHUNK),
            blocks: 0,
        };
        content.write_to(&mut passing)?;
        let ragged = passing.gathered.len() as u64 % BLOCK;
        if ragged > 0 {
            passing.hole(BLOCK - ragged)?;
        }
        passing.pass_on()
        // The sender ends here, and so do the threads.
    })?;
    let hashes = hashes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut all = Vec::with_capacity(index(content.len().div_ceil(BLOCK)) * DIGEST);
    for hashed in hashes.into_values() {
        match hashed {
            Hashed::Some(hashes) => all.extend_from_slice(&hashes),
            Hashed::Same(hash, count) => all.extend(std::iter::repeat_n(hash, count).flatten()),
        }
    }
    Ok(all)
}

fn next(chunks: &Mutex<Receiver<(u64, Vec<u8>)>>) -> Option<(u64, Vec<u8>)> {
    chunks.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// What is known of consecutive blocks.
enum Hashed {
    Some(Vec<u8>),
    /// So many blocks of one hash.
    Same([u8; DIGEST], usize),
}

struct Passing<'pass> {
    sink: &'pass mut dyn Sink,
    to_hash: SyncSender<(u64, Vec<u8>)>,
    spare: Receiver<Vec<u8>>,
    /// By the first block.
    hashes: &'pass Mutex<BTreeMap<u64, Hashed>>,
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
        let mut fresh = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        fresh.clear();
        let chunk = std::mem::replace(&mut self.gathered, fresh);
        let first = self.blocks;
        self.blocks += chunk.len() as u64 / BLOCK;
        self.to_hash.send((first, chunk)).map_err(|_| {
            Error::io("hash")(std::io::Error::other("the threads that hash have ended"))
        })
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
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner).insert(self.blocks, same);
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
