//! Processes on their way to their programs, so that the loop never waits for a file system that hangs
//! while a program is executed.
//!
//! What takes no waiting the loop does itself: it starts a process, and a thread waits until that has
//! executed its program. What has files to read before is left to the thread as a whole, and so is what
//! is asked for while one is on its way, and what the kernel could take for us while it has our memory
//! ([`spawn::is_quick`]).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::libc;
use rustix::event::EventfdFlags;

use super::spawn::{self, Flight, Gifts, Room, Starter};
use crate::spec::ServiceSpec;
use crate::vocabulary::{Errno, Pid, SpawnError, SpawnStep, Time};

/// How long a process may take from clone to exec before it is given up and killed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the thread's stack: building a plan takes little.
const STACK: usize = 256 << 10;

/// Room for so many jobs is kept.
const MOST_KEPT: usize = 16;

/// A process to start; `Key` is what the caller knows it by.
#[derive(Debug)]
pub(super) struct Job<Key> {
    pub(super) key: Key,
    pub(super) spec: Arc<ServiceSpec>,
    pub(super) gifts: Gifts,
}

/// A new process, and what it is known by as long as it is ours.
type Started = (Pid, Option<OwnedFd>);

/// What became of a [`Job`].
#[derive(Debug)]
pub(super) struct Done<Key> {
    pub(super) key: Key,
    pub(super) result: Result<Started, SpawnError>,
}

/// The caller's side.
pub(super) struct Spawner<Key> {
    shared: Arc<Shared<Key>>,
    wake: Arc<OwnedFd>,
    /// The niceness of the thread, and of what it starts.
    nice: Option<i32>,
    /// Since when it has been seen at the work that it is at, and which that is.
    since: Option<(Time, u64)>,
}

struct Shared<Key> {
    work: Mutex<Work<Key>>,
    more: Condvar,
    /// The process that is being started, from its first moment on; 0: none.
    pid: AtomicI32,
    /// Nobody listens any more: what is started is to be killed.
    abandoned: AtomicBool,
}

struct Work<Key> {
    queue: VecDeque<Job<Key>>,
    done: Vec<Done<Key>>,
    /// The one that is being dealt with, and what it is for people.
    current: Option<(Key, String)>,
    /// That one, once it has been started.
    flight: Option<Flight>,
    /// What the next one gets; whoever starts it takes it.
    room: Option<Room>,
    /// Counts what has been begun.
    turn: u64,
    /// Nothing more is begun for now.
    paused: bool,
    /// The thread is to end.
    closed: bool,
}

impl<Key: Clone + Send + 'static> Spawner<Key> {
    pub(super) fn new() -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(rustix::event::eventfd(0, flags)?);
        let nice = rustix::process::getpriority_process(None).ok();
        Ok(Self { shared: Self::start(&wake, nice)?, wake, nice, since: None })
    }

    fn start(wake: &Arc<OwnedFd>, nice: Option<i32>) -> std::io::Result<Arc<Shared<Key>>> {
        super::reserve::check_thread(STACK)?;
        let work = Work {
            queue: VecDeque::new(),
            done: Vec::new(),
            current: None,
            flight: None,
            room: Some(Room::new()),
            turn: 0,
            paused: false,
            closed: false,
        };
        let shared = Arc::new(Shared {
            work: Mutex::new(work),
            more: Condvar::new(),
            pid: AtomicI32::new(0),
            abandoned: AtomicBool::new(false),
        });
        let (theirs, wake) = (Arc::clone(&shared), Arc::clone(wake));
        let builder = std::thread::Builder::new().name("spawner".into()).stack_size(STACK);
        builder.spawn(move || {
            // by now the loop may have another
            if let Some(nice) = nice {
                let _ = rustix::process::setpriority_process(None, nice);
            }
            theirs.live(&wake);
        })?;
        Ok(shared)
    }

    /// Becomes readable when something is [`done`](Self::done).
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    pub(super) fn post(&mut self, job: Job<Key>, now: Time) {
        let mut work = self.shared.lock();
        let stands = work.paused || work.closed;
        let idle = work.current.is_none() && work.queue.is_empty() && !stands;
        let turn = match work.room.take_if(|_| idle && spawn::is_quick(&job.spec, &job.gifts)) {
            Some(room) => {
                work.take_up(&job);
                let turn = work.turn;
                drop(work);
                self.shared.begin(job, room, Starter::GoesOn, &self.wake);
                turn
            }
            None => {
                work.queue.push_back(job);
                work.turn
            }
        };
        self.shared.more.notify_one();
        self.since.get_or_insert((now, turn));
    }

    /// What has been done since this was last asked, in order. Something that takes longer than it
    /// may has failed, and the thread that is at it is left to itself.
    pub(super) fn done(&mut self, now: Time) -> Vec<Done<Key>> {
        let mut count = [0_u8; 8];
        let _ = rustix::io::read(&*self.wake, &mut count);
        let mut work = self.shared.lock();
        let mut done = std::mem::take(&mut work.done);
        let idle = work.current.is_none() && work.queue.is_empty();
        match (&mut self.since, idle) {
            (since, true) => *since = None,
            (Some((at, turn)), false) if *turn != work.turn => (*at, *turn) = (now, work.turn),
            (Some((at, _)), false) if now.saturating_sub(*at) >= PATIENCE => {
                let stuck = work.current.take();
                let queue = std::mem::take(&mut work.queue);
                work.closed = true;
                // before anybody can tell of it
                self.shared.abandoned.store(true, Ordering::SeqCst);
                drop(work);
                let given_up = stuck.map(|(key, subject)| {
                    let errno = Errno(libc::ETIMEDOUT);
                    let error = SpawnError { step: SpawnStep::Confirm, errno, subject };
                    Done { key, result: Err(error) }
                });
                done.extend(given_up);
                self.abandon(queue, now);
            }
            (since, false) => {
                since.get_or_insert((now, work.turn));
            }
        }
        done
    }

    /// When [`done`](Self::done) has to be asked at the latest.
    pub(super) fn deadline(&self) -> Time {
        self.since.map_or(Time::MAX, |(at, _)| at.saturating_add(PATIENCE))
    }

    /// Whether a process is, or may be, one that is being started and not told of yet.
    pub(super) fn may_have(&self, pid: Pid) -> bool {
        self.shared.pid.load(Ordering::SeqCst) == pid.0
            || self
                .shared
                .lock()
                .done
                .iter()
                .any(|done| done.result.as_ref().is_ok_and(|(known, _)| *known == pid))
    }

    /// Goes on with another thread.
    fn abandon(&mut self, queue: VecDeque<Job<Key>>, now: Time) {
        kill(self.shared.pid.load(Ordering::SeqCst));
        let _ = self.go_on(queue, now);
    }

    /// Has another thread do what was asked for.
    fn go_on(&mut self, queue: VecDeque<Job<Key>>, now: Time) -> std::io::Result<()> {
        self.since = None;
        match Self::start(&self.wake, self.nice) {
            Ok(shared) => {
                self.shared = shared;
                for job in queue {
                    self.post(job, now);
                }
                Ok(())
            }
            Err(error) => {
                // No thread to be had now: as with a fork that fails, it is tried again later.
                let errno = Errno(error.raw_os_error().unwrap_or(libc::EAGAIN));
                let mut work = self.shared.lock();
                work.done.extend(queue.into_iter().map(|job| {
                    let subject = subject(&job.spec);
                    let error = SpawnError { step: SpawnStep::Fork, errno, subject };
                    Done { key: job.key, result: Err(error) }
                }));
                drop(work);
                let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
                Err(error)
            }
        }
    }

    /// Lets the one that is being started come to an end, within bounds, and gives all that were,
    /// and those that were to be. No more are started: this process image is about to be replaced. The
    /// thread stays, for there might be no other if that fails.
    pub(super) fn close(&mut self) -> (Vec<Done<Key>>, VecDeque<Job<Key>>) {
        let mut work = self.shared.lock();
        work.paused = true;
        let queue = std::mem::take(&mut work.queue);
        let (mut work, _) = self
            .shared
            .more
            .wait_timeout_while(work, PATIENCE, |work| work.current.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        let mut done = std::mem::take(&mut work.done);
        if let Some((key, _)) = work.current.take() {
            let pid = self.shared.pid.load(Ordering::SeqCst);
            done.extend((pid > 0).then_some(Done { key, result: Ok((Pid(pid), None)) }));
            // it is left to itself
            work.closed = true;
        }
        (done, queue)
    }

    /// Goes on after [`close`](Self::close), with those that were to be started.
    pub(super) fn reopen(&mut self, queue: VecDeque<Job<Key>>) -> std::io::Result<()> {
        let now = super::now();
        let mut work = self.shared.lock();
        if work.closed {
            drop(work);
            return self.go_on(queue, now);
        }
        work.paused = false;
        drop(work);
        self.since = None;
        queue.into_iter().for_each(|job| self.post(job, now));
        Ok(())
    }
}

fn subject(spec: &ServiceSpec) -> String {
    spec.command.first().cloned().unwrap_or_default()
}

fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // it is reaped as an orphan when it ends
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

impl<Key: Clone> Shared<Key> {
    fn lock(&self) -> MutexGuard<'_, Work<Key>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process of a job that has been taken up.
    fn begin(&self, job: Job<Key>, room: Room, starter: Starter, wake: &OwnedFd) {
        self.pid.store(0, Ordering::SeqCst);
        let begin =
            || spawn::begin(&job.spec, &job.gifts, room, &self.pid, starter, &self.abandoned);
        let begun = catch_unwind(AssertUnwindSafe(begin)).unwrap_or_else(|_| {
            let errno = Errno(libc::EINVAL);
            let subject = subject(&job.spec);
            Err((Room::new(), SpawnError { step: SpawnStep::Prepare, errno, subject }))
        });
        match begun {
            Ok(flight) => self.lock().flight = Some(flight),
            Err((room, error)) => _ = self.finish(room, Err(error), wake),
        }
    }

    /// Tells of what has been dealt with. Gives whether anybody listens.
    fn finish(&self, room: Room, result: Result<Started, SpawnError>, wake: &OwnedFd) -> bool {
        let mut work = self.lock();
        if self.abandoned.load(Ordering::SeqCst) {
            if let Ok((pid, _)) = result {
                kill(pid.0);
            }
            return false;
        }
        work.room = Some(room);
        if let Some((key, _)) = work.current.take() {
            work.done.push(Done { key, result });
        }
        // only now: until it is told of, it is known by this
        self.pid.store(0, Ordering::SeqCst);
        let is_awaited = work.paused;
        drop(work);
        if is_awaited {
            self.more.notify_all();
        }
        let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
        true
    }

    /// The thread's life.
    fn live(&self, wake: &OwnedFd) {
        super::reserve::share_of_all();
        // signals are the loop's affair
        let _ = nix::sys::signal::SigSet::all().thread_block();
        while let Some(next) = self.next() {
            match next {
                Next::Begin(job, room) => self.begin(*job, room, Starter::Waits, wake),
                Next::Land(flight) => {
                    let (room, result) = flight.land();
                    if !self.finish(room, result, wake) {
                        return;
                    }
                }
            }
        }
    }

    fn next(&self) -> Option<Next<Key>> {
        let mut work = self.lock();
        loop {
            if let Some(flight) = work.flight.take() {
                return Some(Next::Land(Box::new(flight)));
            }
            if work.closed {
                return None;
            }
            if work.current.is_none()
                && !work.paused
                && !work.queue.is_empty()
                && let Some(room) = work.room.take()
            {
                let job = work.queue.pop_front()?;
                if work.queue.is_empty() {
                    work.queue.shrink_to(MOST_KEPT);
                }
                work.take_up(&job);
                return Some(Next::Begin(Box::new(job), room));
            }
            work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What the thread does next.
enum Next<Key> {
    /// Start a process.
    Begin(Box<Job<Key>>, Room),
    /// Wait for one that has been started.
    Land(Box<Flight>),
}

impl<Key: Clone> Work<Key> {
    fn take_up(&mut self, job: &Job<Key>) {
        self.current = Some((job.key.clone(), subject(&job.spec)));
        self.turn = self.turn.wrapping_add(1);
    }
}

impl<Key> Drop for Spawner<Key> {
    fn drop(&mut self) {
        self.shared.work.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.more.notify_all();
    }
}
