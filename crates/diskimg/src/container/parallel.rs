//! Compresses blocks in several threads and gives them back in order.
//!
//! Every block is compressed by itself, so the number of threads does not show in the bytes. What is
//! under way is bounded: a job has at most [`BATCH`] blocks and there are at most `threads` + 2 of
//! them, so that memory does not grow with the disk.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::blocks::{BLOCK, Store};
use super::codec::{Method, Packer};
use crate::field::index;
use crate::{Error, Result};

/// Blocks of a job: enough that handing it over costs nothing beside compressing it.
const BATCH: usize = 4;
/// More threads than this would hold more memory than they save time.
pub(crate) const MAX_THREADS: usize = 32;

/// What is to be compressed: pieces of one length, the last one maybe shorter.
struct Job {
    bytes: Vec<u8>,
    piece: usize,
    packed: Vec<u8>,
    done: SyncSender<Result<Done>>,
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
    jobs: Option<Sender<Job>>,
    pending: VecDeque<(Tag, Receiver<Result<Done>>)>,
    room: usize,
    threads: Vec<JoinHandle<()>>,
    spare: Vec<Done>,
}

fn lost() -> Error {
    Error::io("compress")(std::io::Error::other("a thread ended before its work"))
}

impl<Tag> Pool<Tag> {
    pub(crate) fn new(threads: usize, method: Method) -> Result<Self> {
        let threads = threads.clamp(1, MAX_THREADS);
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Self {
            jobs: Some(jobs),
            pending: VecDeque::new(),
            room: threads + 2,
            threads: Vec::new(),
            spare: Vec::new(),
        };
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let mut packer = Packer::new(method)?;
            let work = move || {
                loop {
                    // The lock is held while waiting: the others wait for it instead of for a job.
                    let job = queue.lock().map_or(None, |queue| queue.recv().ok());
                    let Some(job) = job else { return };
                    let reply = job.done.clone();
                    // Whoever asked may have failed meanwhile; then nobody needs the answer.
                    let _ = reply.send(perform(&mut packer, job));
                }
            };
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
    pub(crate) fn submit(&mut self, tag: Tag, buffer: Done, piece: usize) -> Result<()> {
        let (done, result) = sync_channel(1);
        let job = Job { bytes: buffer.bytes, piece, packed: buffer.packed, done };
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(lost)?;
        self.pending.push_back((tag, result));
        Ok(())
    }

    /// The oldest job, when there are so many that it must be waited for, or when all shall end.
    pub(crate) fn take(&mut self, all: bool) -> Result<Option<(Tag, Done)>> {
        if !all && self.pending.len() < self.room {
            return Ok(None);
        }
        let Some((tag, result)) = self.pending.pop_front() else { return Ok(None) };
        Ok(Some((tag, result.recv().map_err(|_| lost())??)))
    }
}

impl<Tag> Drop for Pool<Tag> {
    fn drop(&mut self) {
        // Without a sender the threads end after what they are at.
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn perform(packer: &mut Packer, job: Job) -> Result<Done> {
    let Job { bytes, piece, mut packed, .. } = job;
    let mut ends = Vec::with_capacity(BATCH);
    for block in bytes.chunks(piece.max(1)) {
        packer.pack(block, &mut packed)?;
        ends.push(packed.len());
    }
    Ok(Done { bytes, packed, ends })
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
            self.pool.submit(first, buffer, index(BLOCK))?;
            self.pass_on(false)?;
        }
        Ok(())
    }
}
