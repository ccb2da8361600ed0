//! Compresses blocks in several threads and gives them back in order.
//!
//! Every block is compressed by itself, so the number of threads does not show in the bytes. What is
//! under way is bounded: a job has at most [`BATCH`] blocks and there are at most `threads` + 2 of
//! them, so that memory does not grow with the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::blocks::{BLOCK, Store};
use super::codec::{Method, Packer};
use crate::field::index;
use crate::parallel::Queue;
use crate::{Error, Result};

/// Blocks of a job: enough that handing it over costs nothing beside compressing it.
const BATCH: usize = 4;
/// More threads than this would hold more memory than they save time.
pub(crate) const MAX_THREADS: usize = 32;

/// What is to be compressed: pieces of one length, the last one maybe shorter.
struct Job {
    buffer: Done,
    piece: usize,
}

/// A job's pieces, and where each ends in what came out.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) bytes: Vec<u8>,
    pub(crate) packed: Vec<u8>,
    pub(crate) ends: Vec<usize>,
}

/// Threads that compress. The tag of a job comes back with it, in the order of submission.
pub(crate) struct Pool<Tag> {
    queue: Arc<Queue<Job, Done>>,
    tags: VecDeque<Tag>,
    room: usize,
    threads: Vec<JoinHandle<()>>,
    spare: Vec<Done>,
}

impl<Tag> Pool<Tag> {
    pub(crate) fn new(threads: usize, method: Method) -> Result<Self> {
        let threads = threads.clamp(1, MAX_THREADS);
        let mut pool = Self {
            queue: Arc::new(Queue::new(threads)),
            tags: VecDeque::new(),
            room: threads + 2,
            threads: Vec::new(),
            spare: Vec::new(),
        };
        for _ in 0..threads {
            let queue = Arc::clone(&pool.queue);
            let mut packer = Packer::new(method)?;
            let work = move || queue.work(|job| perform(&mut packer, job));
            let thread = std::thread::Builder::new().name("kiln-compress".to_owned()).spawn(work);
            pool.threads.push(thread.map_err(Error::io("start a thread"))?);
        }
        Ok(pool)
    }

    /// Empty buffers for a job.
    pub(crate) fn buffer(&mut self) -> Done {
        self.spare.pop().unwrap_or_default()
    }

    /// Gives a job's buffers back.
    pub(crate) fn recycle(&mut self, mut done: Done) {
        done.bytes.clear();
        done.packed.clear();
        done.ends.clear();
        self.spare.push(done);
    }

    /// Hands a job over.
    pub(crate) fn submit(&mut self, tag: Tag, buffer: Done, piece: usize) {
        self.queue.submit(Job { buffer, piece });
        self.tags.push_back(tag);
    }

    /// The oldest job, when there are so many that it must be waited for, or when all shall end.
    pub(crate) fn take(&mut self, all: bool) -> Result<Option<(Tag, Done)>> {
        if !all && self.tags.len() < self.room {
            return Ok(None);
        }
        Ok(self.queue.take()?.and_then(|done| Some((self.tags.pop_front()?, done))))
    }
}

impl<Tag> Drop for Pool<Tag> {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // What a thread could say was said by the queue.
            let _ = thread.join();
        }
    }
}

fn perform(packer: &mut Packer, job: Job) -> Result<Done> {
    let Job { mut buffer, piece } = job;
    for block in buffer.bytes.chunks(piece.max(1)) {
        packer.pack(block, &mut buffer.packed)?;
        buffer.ends.push(buffer.packed.len());
    }
    Ok(buffer)
}

/// A block, compressed and as it is. It is whole: the disk's last one is filled up with zeroes.
pub(crate) struct Piece<'bytes> {
    pub(crate) packed: &'bytes [u8],
    pub(crate) plain: &'bytes [u8],
}

/// What stores compressed blocks.
pub(crate) trait Packed {
    /// Stores a block; they come in the order of the disk.
    fn put(&mut self, block: u64, piece: Piece<'_>) -> Result<()>;
}

/// A store that compresses what it passes on.
pub(crate) struct Compressing<P> {
    pool: Pool<u64>,
    inner: P,
}

impl<P: Packed> Compressing<P> {
    pub(crate) fn new(inner: P, threads: usize, method: Method) -> Result<Self> {
        Ok(Self { pool: Pool::new(threads, method)?, inner })
    }

    fn pass_on(&mut self, all: bool) -> Result<()> {
        while let Some((first, done)) = self.pool.take(all)? {
            let mut start = 0;
            let blocks = done.bytes.chunks(index(BLOCK)).zip(&done.ends);
            for (number, (plain, end)) in (first..).zip(blocks) {
                let packed = done.packed.get(start..*end).unwrap_or_default();
                self.inner.put(number, Piece { packed, plain })?;
                start = *end;
            }
            self.pool.recycle(done);
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<P> {
        self.pass_on(true)?;
        Ok(self.inner)
    }
}

impl<P: Packed> Store for Compressing<P> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        let step = BATCH * index(BLOCK);
        for (first, part) in (block..).step_by(BATCH).zip(bytes.chunks(step)) {
            let mut buffer = self.pool.buffer();
            buffer.bytes.extend_from_slice(part);
            buffer.bytes.resize(part.len().next_multiple_of(index(BLOCK)), 0);
            self.pool.submit(first, buffer, index(BLOCK));
            self.pass_on(false)?;
        }
        Ok(())
    }
}
