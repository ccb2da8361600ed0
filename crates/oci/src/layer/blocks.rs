//! Compression by all processors: what is compressed is cut into blocks, which are compressed each on
//! its own and written in order. What is written depends on the content alone, not on the machine.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// More threads than this hold more memory than they save time.
const MOST_THREADS: usize = 16;

/// Compresses one block to something that a decoder takes when it stands after another such block.
pub(super) type Compress = fn(&[u8]) -> io::Result<Vec<u8>>;

type Outcome = io::Result<Vec<u8>>;
/// A block, and where it goes.
type Job = (Vec<u8>, SyncSender<Outcome>);

/// A writer that compresses what goes through it.
pub(crate) struct Blocks<W> {
    out: W,
    compress: Compress,
    /// How long a block is.
    size: usize,
    block: Vec<u8>,
    /// The blocks that are being compressed, in order.
    under_way: VecDeque<Receiver<Outcome>>,
    /// There are none before there is a whole block.
    workers: Option<Workers>,
}

impl<W: Write> Blocks<W> {
    pub(super) fn new(out: W, size: usize, compress: Compress) -> Self {
        let under_way = VecDeque::new();
        Self { out, compress, size, block: Vec::new(), under_way, workers: None }
    }

    /// Writes what is left. Something that is empty becomes one empty block.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if let Some(workers) = self.workers.take() {
            if !self.block.is_empty() {
                self.under_way.push_back(workers.give(std::mem::take(&mut self.block))?);
            }
            while !self.under_way.is_empty() {
                self.take()?;
            }
            workers.end();
        } else {
            let compressed = (self.compress)(&self.block)?;
            self.out.write_all(&compressed)?;
        }
        Ok(self.out)
    }

    /// A block is whole.
    fn pass_on(&mut self) -> io::Result<()> {
        let compress = self.compress;
        let workers = self.workers.get_or_insert_with(|| Workers::start(compress));
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(self.size));
        let most = workers.threads.len().saturating_add(1);
        self.under_way.push_back(workers.give(block)?);
        while self.under_way.len() > most {
            self.take()?;
        }
        Ok(())
    }

    /// Writes the first of the blocks that are under way.
    fn take(&mut self) -> io::Result<()> {
        let Some(first) = self.under_way.pop_front() else { return Ok(()) };
        let compressed = first.recv().map_err(|_| gone())??;
        self.out.write_all(&compressed)
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.size.saturating_sub(self.block.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.block.extend_from_slice(taken);
        if self.block.len() >= self.size {
            self.pass_on()?;
        }
        Ok(taken.len())
    }

    /// Blocks are as long as they are: what is under way stays so.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Threads that compress.
struct Workers {
    jobs: SyncSender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(compress: Compress) -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let (jobs, queue) = sync_channel::<Job>(count);
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..count)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    loop {
                        let job = match queue.lock() {
                            Ok(queue) => queue.recv(),
                            Err(_) => return,
                        };
                        let Ok((block, result)) = job else { return };
                        // Nobody may want it any more.
                        let _ = result.send(compress(&block));
                    }
                })
            })
            .collect();
        Self { jobs, threads }
    }

    fn give(&self, block: Vec<u8>) -> io::Result<Receiver<Outcome>> {
        let (result, later) = sync_channel(1);
        self.jobs.send((block, result)).map_err(|_| gone())?;
        Ok(later)
    }

    fn end(self) {
        drop(self.jobs);
        for thread in self.threads {
            // Its results have come, so it has not panicked.
            let _ = thread.join();
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(block: &[u8]) -> io::Result<Vec<u8>> {
        if block.contains(&b'!') {
            return Err(io::Error::other("no"));
        }
        // The first ones take longest.
        std::thread::yield_now();
        Ok([b"<", block, b">"].concat())
    }

    fn written(content: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut blocks = Blocks::new(Vec::new(), 4, marked);
        for piece in content.chunks(piece) {
            blocks.write_all(piece)?;
            blocks.flush()?;
        }
        blocks.finish()
    }

    #[test]
    fn blocks_are_in_order_and_depend_on_the_content_alone() {
        assert_eq!(written(b"", 1).unwrap(), b"<>");
        assert_eq!(written(b"abc", 1).unwrap(), b"<abc>");
        assert_eq!(written(b"abcd", 3).unwrap(), b"<abcd>");
        let long: Vec<u8> = (b'a'..=b'z').cycle().take(1001).collect();
        let expected: Vec<u8> =
            long.chunks(4).flat_map(|block| [b"<", block, b">"].concat()).collect();
        for piece in [1, 3, 4, 5, 1001] {
            assert_eq!(written(&long, piece).unwrap(), expected);
        }
        for at in [0, 500, 1000] {
            let mut bad = long.clone();
            bad[at] = b'!';
            assert_eq!(written(&bad, 7).unwrap_err().to_string(), "no");
        }
    }
}
