//! Cuts a stream of bytes and holes into blocks and passes on those that are not zero.
//!
//! All formats store 64 KiB at a time (a qcow2 cluster, a VMDK grain; for a raw file it keeps holes
//! large enough to be worth one; others gather some into one block), so they share this.

use crate::content::Sink;
use crate::field::index;
use crate::{Error, Result};

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 64 << 10;
/// How many blocks are gathered before they are passed on.
const GATHERED: usize = 16 * (64 << 10);
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// What stores blocks.
pub(crate) trait Store {
    /// Stores consecutive blocks from a number on. Only the disk's last block may be shorter.
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()>;
}

pub(crate) struct Blocks<S> {
    store: S,
    format: &'static str,
    len: u64,
    /// Where the next byte belongs.
    position: u64,
    /// What was not yet passed on. It begins at a block's start and ends at the position.
    gathered: Vec<u8>,
}

impl<S: Store> Blocks<S> {
    pub(crate) fn new(store: S, len: u64, format: &'static str) -> Self {
        Self { store, format, len, position: 0, gathered: Vec::with_capacity(GATHERED) }
    }

    /// Gives the store back when exactly the announced length has come.
    pub(crate) fn finish(mut self) -> Result<S> {
        if self.position != self.len {
            let reason = format!("the content ended here, expected {} bytes", self.len);
            return Err(Error::malformed(self.format, self.position, reason));
        }
        self.pass_on()?;
        Ok(self.store)
    }

    fn advance(&mut self, count: u64) -> Result<()> {
        match self.position.checked_add(count).filter(|end| *end <= self.len) {
            Some(end) => {
                self.position = end;
                Ok(())
            }
            None => {
                let reason = format!(
                    "the content goes on for {count} bytes beyond its announced length of {}",
                    self.len
                );
                Err(Error::malformed(self.format, self.position, reason))
            }
        }
    }

    fn pass_on(&mut self) -> Result<()> {
        let start = self.position - self.gathered.len() as u64;
        store_blocks(&mut self.store, start / BLOCK, &self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}

/// Stores the blocks that are not zero, neighbours together.
fn store_blocks(store: &mut impl Store, first: u64, bytes: &[u8]) -> Result<()> {
    let block = index(BLOCK);
    let mut run: Option<usize> = None;
    let mut at = 0;
    for part in bytes.chunks(block) {
        let zero = ZEROES.get(..part.len()) == Some(part);
        match (zero, run) {
            (false, None) => run = Some(at),
            (true, Some(from)) => {
                let stretch = bytes.get(from..at).unwrap_or_default();
                store.put(first + (from / block) as u64, stretch)?;
                run = None;
            }
            _ => {}
        }
        at += part.len();
    }
    match run {
        Some(from) => {
            let stretch = bytes.get(from..).unwrap_or_default();
            store.put(first + (from / block) as u64, stretch)
        }
        None => Ok(()),
    }
}

impl<S: Store> Sink for Blocks<S> {
    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            // Whole blocks need not be gathered.
            let whole = bytes.len() / index(BLOCK) * index(BLOCK);
            if self.gathered.is_empty() && whole > 0 {
                let (now, later) = bytes.split_at(whole);
                let start = self.position;
                self.advance(whole as u64)?;
                store_blocks(&mut self.store, start / BLOCK, now)?;
                bytes = later;
                continue;
            }
            let room = GATHERED.saturating_sub(self.gathered.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.advance(now.len() as u64)?;
            self.gathered.extend_from_slice(now);
            if self.gathered.len() >= GATHERED {
                self.pass_on()?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<()> {
        // To the end of the block the zeroes are stored with it, if it is stored.
        let fill = if self.position.is_multiple_of(BLOCK) {
            0
        } else {
            (BLOCK - self.position % BLOCK).min(len)
        };
        self.data(ZEROES.get(..index(fill)).unwrap_or_default())?;
        let rest = len - fill;
        if rest >= BLOCK {
            self.pass_on()?;
            self.advance(rest / BLOCK * BLOCK)?;
        }
        self.data(ZEROES.get(..index(rest % BLOCK)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<(u64, usize)>);

    impl Store for Seen {
        fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
            self.0.push((block, bytes.len()));
            Ok(())
        }
    }

    #[test]
    fn only_blocks_with_something_in_them_are_stored() {
        let block = index(BLOCK);
        let mut blocks = Blocks::new(Seen::default(), BLOCK * 40 + 100, "test");
        blocks.data(b"x").unwrap();
        blocks.hole(BLOCK * 3).unwrap();
        blocks.data(&vec![1; block * 2 - 1]).unwrap();
        blocks.data(&vec![0; block * 2]).unwrap();
        blocks.hole(BLOCK * 33).unwrap();
        blocks.data(&[7; 100]).unwrap();
        let seen = blocks.finish().unwrap();
        // Blocks 0; 3 and 4; the last one, which is short.
        let total: usize = seen.0.iter().map(|(_, len)| len).sum();
        assert_eq!(total, block + 2 * block + 100, "{:?}", seen.0);
        assert_eq!(seen.0.last(), Some(&(40, 100)));
    }

    #[test]
    fn a_wrong_length_is_an_error() {
        let mut long = Blocks::new(Seen::default(), 10, "test");
        assert!(long.data(&[0; 11]).is_err());
        let mut short = Blocks::new(Seen::default(), 10, "test");
        short.hole(9).unwrap();
        assert!(short.finish().is_err());
    }
}
