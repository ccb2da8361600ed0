//! The thread that writes logs, so that a disk which hangs or is slow holds up neither services nor
//! the loop.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::EventfdFlags;

use super::rotating::Rotating;
use crate::graph::ServiceId;
use crate::spec::LogFile;
use crate::unix::reserve;
use crate::vocabulary::{Errno, Time};

/// What waits to be written of one service; more is dropped.
const MOST_OF_ONE: usize = 1 << 20;
/// What waits to be written at all.
const MOST: usize = 16 << 20;
/// The same while memory is short.
const MOST_WHEN_SHORT: usize = 64 << 10;
/// At most this often a loss of a service is reported.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Buffers that are kept for what comes next.
const SPARE: usize = 4;
/// Bytes of the thread's stack.
const STACK: usize = 128 << 10;

/// The loop's side.
#[derive(Debug)]
pub(in crate::unix) struct Writer {
    shared: Arc<Shared>,
    spare: Vec<Vec<u8>>,
    /// What was lost and not told yet.
    losses: BTreeMap<ServiceId, (u64, Errno)>,
    told: BTreeMap<ServiceId, Time>,
}

#[derive(Debug)]
struct Shared {
    work: Mutex<Work>,
    more: Condvar,
    idle: Condvar,
    /// Becomes readable when something was lost.
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct Work {
    queue: VecDeque<Item>,
    /// Bytes of the queue, of all and of each.
    waiting: usize,
    of_each: BTreeMap<ServiceId, usize>,
    spare: Vec<Vec<u8>>,
    losses: Vec<(ServiceId, u64, Errno)>,
    busy: bool,
    closed: bool,
}

#[derive(Debug)]
enum Item {
    Open(ServiceId, LogFile),
    /// Output, and when it was read, in microseconds since 1970.
    Output(ServiceId, Vec<u8>, u64),
    /// All files are opened anew by their names.
    Reopen,
    /// Nothing more comes of a service.
    Close(ServiceId),
}

impl Writer {
    pub(in crate::unix) fn new() -> std::io::Result<Self> {
        reserve::check_thread(STACK)?;
        let shared = Arc::new(Shared {
            work: Mutex::default(),
            more: Condvar::new(),
            idle: Condvar::new(),
            wake: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let theirs = Arc::clone(&shared);
        let builder = std::thread::Builder::new().name("logs".into()).stack_size(STACK);
        builder.spawn(move || theirs.live())?;
        Ok(Self { shared, spare: Vec::new(), losses: BTreeMap::new(), told: BTreeMap::new() })
    }

    /// Becomes readable when something was lost.
    pub(in crate::unix) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }

    /// Where a service's output goes from now on.
    pub(in crate::unix) fn open(&self, id: ServiceId, file: LogFile) {
        self.shared.push(Item::Open(id, file), 0);
    }

    /// Nothing more comes of a service.
    pub(in crate::unix) fn close(&mut self, id: ServiceId) {
        self.told.remove(&id);
        self.losses.remove(&id);
        self.shared.push(Item::Close(id), 0);
    }

    /// All files are to be opened anew; once for all that ask before the thread comes to it, or a storm
    /// of signals would fill our memory while a disk hangs.
    pub(in crate::unix) fn reopen(&self) {
        let is_asked = matches!(self.shared.lock().queue.back(), Some(Item::Reopen));
        if !is_asked {
            self.shared.push(Item::Reopen, 0);
        }
    }

    /// An empty buffer that takes so much, if there is memory for one.
    pub(super) fn buffer(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        reserve::try_grow(&mut buffer, length).then_some(buffer)
    }

    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        // the last one is kept whatever happens: logs go on by it
        if self.spare.len() < if reserve::is_short() { 1 } else { SPARE } {
            self.spare.push(buffer);
        }
    }

    /// Lets go of spare buffers, and of what waits to be written where that is much: memory is short.
    pub(in crate::unix) fn shed(&mut self) {
        self.spare.truncate(1);
        let mut shed = BTreeMap::<ServiceId, u64>::new();
        let mut work = self.shared.lock();
        work.spare.clear();
        if work.waiting <= MOST_WHEN_SHORT {
            return;
        }
        let Work { queue, waiting, of_each, .. } = &mut *work;
        queue.retain(|item| {
            let Item::Output(id, bytes, _) = item else { return true };
            *waiting = waiting.saturating_sub(bytes.len());
            if let Some(own) = of_each.get_mut(id) {
                *own = own.saturating_sub(bytes.len());
            }
            let sum = shed.entry(*id).or_default();
            *sum = sum.saturating_add(bytes.len() as u64);
            false
        });
        drop(work);
        for (id, bytes) in shed {
            self.lost(id, bytes, Errno(nix::libc::ENOMEM));
        }
    }

    /// Has output written, or drops it where too much is waiting already.
    pub(super) fn write(&mut self, id: ServiceId, mut chunk: Vec<u8>) {
        // what was read is often a line in a buffer for a thousand
        if chunk.len() < chunk.capacity() / 4 {
            let mut small = Vec::new();
            if reserve::try_grow(&mut small, chunk.len()) {
                small.extend_from_slice(&chunk);
                self.give_back(std::mem::replace(&mut chunk, small));
            }
        }
        let length = chunk.len();
        let mut work = self.shared.lock();
        let own = work.of_each.get(&id).copied().unwrap_or(0);
        let most = if reserve::is_short() { MOST_WHEN_SHORT } else { MOST };
        let full =
            own.saturating_add(length) > MOST_OF_ONE || work.waiting.saturating_add(length) > most;
        if full {
            drop(work);
            // the disk takes nothing now
            self.lost(id, length as u64, Errno(nix::libc::EAGAIN));
            return self.give_back(chunk);
        }
        work.of_each.insert(id, own.saturating_add(length));
        self.spare.append(&mut work.spare);
        drop(work);
        self.shared.push(Item::Output(id, chunk, now()), length);
    }

    /// Output was lost.
    pub(super) fn lost(&mut self, id: ServiceId, bytes: u64, errno: Errno) {
        let (sum, why) = self.losses.entry(id).or_insert((0, errno));
        *sum = sum.saturating_add(bytes);
        *why = errno;
    }

    /// Whether something was lost that has not been told.
    pub(in crate::unix) fn has_lost(&self) -> bool {
        !self.losses.is_empty()
    }

    /// What was lost since this was last asked, of each service not more often than is good for
    /// people, and when to ask again.
    pub(in crate::unix) fn losses(&mut self, now: Time) -> (Vec<(ServiceId, u64, Errno)>, Time) {
        let mut count = [0_u8; 8];
        let _ = rustix::io::read(&self.shared.wake, &mut count);
        let found = std::mem::take(&mut self.shared.lock().losses);
        for (id, bytes, errno) in found {
            self.lost(id, bytes, errno);
        }
        let (mut due, mut later) = (Vec::new(), Time::MAX);
        for id in self.losses.keys() {
            let told = self.told.get(id).map(|at| at.saturating_add(REPORT_EVERY));
            match told.filter(|at| *at > now) {
                Some(at) => later = later.min(at),
                None => due.push(*id),
            }
        }
        let take = |id| self.losses.remove(&id).map(|(bytes, errno)| (id, bytes, errno));
        let losses: Vec<_> = due.into_iter().filter_map(take).collect();
        for (id, ..) in &losses {
            self.told.insert(*id, now);
        }
        (losses, later)
    }

    /// Waits until all is written, at most so long.
    pub(in crate::unix) fn flush(&self, patience: Duration) {
        let work = self.shared.lock();
        let busy = |work: &mut Work| work.busy || !work.queue.is_empty();
        let _ = self.shared.idle.wait_timeout_while(work, patience, busy);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.more.notify_all();
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000).saturating_add(nanos.unwrap_or(0) / 1000)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: Item, length: usize) {
        let mut work = self.lock();
        work.queue.push_back(item);
        work.waiting = work.waiting.saturating_add(length);
        drop(work);
        self.more.notify_one();
    }

    /// The thread's life.
    fn live(&self) {
        reserve::share_of_all();
        // signals are the loop's affair
        let _ = nix::sys::signal::SigSet::all().thread_block();
        let mut files: BTreeMap<ServiceId, Rotating> = BTreeMap::new();
        let mut items = VecDeque::new();
        while self.next(&mut items) {
            for item in items.drain(..) {
                self.handle(item, &mut files);
            }
        }
    }

    /// Waits for more; false at the end.
    fn next(&self, items: &mut VecDeque<Item>) -> bool {
        let mut work = self.lock();
        work.busy = false;
        loop {
            if !work.queue.is_empty() {
                std::mem::swap(&mut work.queue, items);
                work.busy = true;
                return true;
            }
            self.idle.notify_all();
            if work.closed {
                return false;
            }
            work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn handle(&self, item: Item, files: &mut BTreeMap<ServiceId, Rotating>) {
        match item {
            Item::Open(id, file) => {
                files.insert(id, Rotating::new(file));
            }
            Item::Reopen => files.values_mut().for_each(Rotating::reopen),
            Item::Close(id) => {
                files.remove(&id);
                self.lock().of_each.remove(&id);
            }
            Item::Output(id, bytes, at) => {
                let written = files.get_mut(&id).map(|file| file.append_at(&bytes, at));
                let mut work = self.lock();
                work.waiting = work.waiting.saturating_sub(bytes.len());
                if let Some(own) = work.of_each.get_mut(&id) {
                    *own = own.saturating_sub(bytes.len());
                }
                if let Some(Err((lost, errno))) = written {
                    work.losses.push((id, lost, errno));
                    if work.losses.len() == 1 {
                        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
                    }
                }
                let keeps = work.spare.len() < SPARE && !reserve::is_short();
                if keeps && bytes.capacity() >= super::CHUNK {
                    work.spare.push(bytes);
                }
            }
        }
    }
}
