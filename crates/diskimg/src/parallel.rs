//! Work on several threads, its results in order: the same bytes whatever the number of threads.
//!
//! [`Queue`] is what they share. [`in_order`] is for items that are all known; who gets its jobs one
//! by one submits them to a queue itself and takes the oldest result when enough are under way.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Error, Result};

/// How many threads to use when the caller does not say. It changes how long something takes, and
/// not a byte of it.
pub(crate) fn threads(asked: Option<NonZeroUsize>) -> usize {
    asked.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

struct State<J, R> {
    /// Jobs that nobody works on, by number.
    waiting: VecDeque<(u64, J)>,
    done: BTreeMap<u64, Result<R>>,
    submitted: u64,
    taken: u64,
    /// Threads that may still take a job.
    workers: usize,
    /// No job is begun any more.
    closed: bool,
}

/// Jobs for threads, and their results in the order of submission.
pub(crate) struct Queue<J, R> {
    state: Mutex<State<J, R>>,
    /// A job waits, or there will be none.
    job: Condvar,
    /// A job is done, or a thread has ended.
    result: Condvar,
}

impl<J, R> Queue<J, R> {
    /// For so many threads, each of which has to call [`Queue::work`].
    pub(crate) fn new(threads: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            done: BTreeMap::new(),
            submitted: 0,
            taken: 0,
            workers: threads,
            closed: false,
        };
        Self { state: Mutex::new(state), job: Condvar::new(), result: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<J, R>> {
        // No thread panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn submit(&self, job: J) {
        let mut state = self.lock();
        let number = state.submitted;
        state.waiting.push_back((number, job));
        state.submitted += 1;
        drop(state);
        self.job.notify_one();
    }

    /// How many results are still to be taken.
    pub(crate) fn pending(&self) -> u64 {
        let state = self.lock();
        state.submitted - state.taken
    }

    /// The oldest job's result, which is waited for; `None` when every one was taken.
    pub(crate) fn take(&self) -> Result<Option<R>> {
        let mut state = self.lock();
        while state.taken < state.submitted {
            let oldest = state.taken;
            if let Some(done) = state.done.remove(&oldest) {
                state.taken += 1;
                return done.map(Some);
            }
            if state.workers == 0 {
                let reason = "a thread ended without a result";
                return Err(Error::io("work on threads")(std::io::Error::other(reason)));
            }
            state = self.result.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(None)
    }

    /// Does jobs until the queue is closed: what a thread has to call.
    pub(crate) fn work(&self, mut perform: impl FnMut(J) -> Result<R>) {
        let worker = Worker(self);
        let mut state = self.lock();
        while !state.closed {
            let Some((number, job)) = state.waiting.pop_front() else {
                state = self.job.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let done = perform(job);
            state = self.lock();
            state.done.insert(number, done);
            self.result.notify_all();
        }
        drop(state);
        drop(worker);
    }

    /// Lets the threads end after what they are at.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.job.notify_all();
    }

    /// Closes the queue when it goes out of scope.
    pub(crate) fn closing(&self) -> Closing<'_, J, R> {
        Closing(self)
    }
}

/// Says that a thread has ended, however it did.
struct Worker<'queue, J, R>(&'queue Queue<J, R>);

impl<J, R> Drop for Worker<'_, J, R> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        // After a panic it is 0 already.
        state.workers = state.workers.saturating_sub(1);
        if std::thread::panicking() {
            // Its result will not come, so nobody shall wait for it.
            state.workers = 0;
            state.closed = true;
        }
        drop(state);
        self.0.job.notify_all();
        self.0.result.notify_all();
    }
}

/// Closes a queue, however its scope is left.
pub(crate) struct Closing<'queue, J, R>(&'queue Queue<J, R>);

impl<J, R> Drop for Closing<'_, J, R> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Does `work` for every item on threads, and `consume`s the results here, in the order of the
/// items. At most three results per thread exist at a time; `work` is given one that was consumed,
/// for its memory.
///
/// # Errors
/// The first error in the order of the items.
pub(crate) fn in_order<I: Sync, T: Default + Send>(
    threads: usize,
    items: &[I],
    work: impl Fn(&I, &mut T) -> Result<()> + Sync,
    mut consume: impl FnMut(&I, &mut T) -> Result<()>,
) -> Result<()> {
    let threads = threads.min(items.len());
    if threads <= 1 {
        let mut result = T::default();
        return items.iter().try_for_each(|item| {
            work(item, &mut result)?;
            consume(item, &mut result)
        });
    }
    let queue: Queue<(&I, T), T> = Queue::new(threads);
    std::thread::scope(|scope| {
        let _closing = queue.closing();
        for _ in 0..threads {
            scope.spawn(|| {
                queue.work(|(item, mut result)| work(item, &mut result).map(|()| result));
            });
        }
        let mut ahead = items.iter();
        for item in ahead.by_ref().take(threads * 3) {
            queue.submit((item, T::default()));
        }
        for item in items {
            let Some(mut result) = queue.take()? else { break };
            consume(item, &mut result)?;
            if let Some(next) = ahead.next() {
                queue.submit((next, result));
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_wins() {
        let items: Vec<u32> = (0..500).collect();
        for threads in [1, 2, 7] {
            let mut seen = Vec::new();
            let double = |item: &u32, out: &mut u32| {
                *out = item * 2;
                if matches!(*item, 300 | 301) {
                    return Err(Error::unsupported("test", item.to_string()));
                }
                Ok(())
            };
            let error = in_order(threads, &items, double, |_, out: &mut u32| {
                seen.push(*out);
                Ok(())
            });
            assert_eq!(error.unwrap_err().to_string(), "test: 300 is not supported");
            assert_eq!(seen, (0..300).map(|item| item * 2).collect::<Vec<u32>>());
            let stopped = in_order(
                threads,
                &items,
                |_, _: &mut u32| Ok(()),
                |item, _| {
                    if *item == 7 { Err(Error::unsupported("test", "seven")) } else { Ok(()) }
                },
            );
            assert!(stopped.is_err());
        }
    }

    #[test]
    fn a_thread_that_panics_leaves_nobody_waiting() {
        let queue: Queue<u32, u32> = Queue::new(2);
        let ended = std::thread::scope(|scope| {
            let _closing = queue.closing();
            let workers = [(); 2].map(|()| {
                scope.spawn(|| {
                    queue.work(|job| {
                        assert_ne!(job, 1, "this panic is the test's");
                        Ok(job)
                    });
                })
            });
            (0..8).for_each(|job| queue.submit(job));
            // The first job may be done before the second one panics.
            assert!((0..2).any(|_| queue.take().is_err()));
            queue.close();
            workers.map(std::thread::ScopedJoinHandle::join)
        });
        assert_eq!(ended.iter().filter(|outcome| outcome.is_err()).count(), 1);
    }
}
