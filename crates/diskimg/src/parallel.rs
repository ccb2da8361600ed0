//! Work on several threads, its results in order: the same bytes whatever the number of threads.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Error, Result};

/// How many threads to use when the caller does not say. It changes how long something takes, and
/// not a byte of it.
pub(crate) fn threads(asked: Option<NonZeroUsize>) -> usize {
    asked.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

struct State<T> {
    /// The next item that nobody works on.
    next: usize,
    /// Items whose results were consumed.
    consumed: usize,
    done: BTreeMap<usize, Result<T>>,
    /// Results that were consumed, whose memory is used again.
    spare: Vec<T>,
    /// Threads that work.
    workers: usize,
    stop: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // What a thread that panicked left is a counter too low, and the panic goes on anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'state>(&self, state: MutexGuard<'state, State<T>>) -> MutexGuard<'state, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a thread has ended, however it did.
struct Worker<'shared, T>(&'shared Shared<T>);

impl<T> Drop for Worker<'_, T> {
    fn drop(&mut self) {
        self.0.lock().workers -= 1;
        self.0.changed.notify_all();
    }
}

/// Tells the threads to end, however consuming did.
struct Consumer<'shared, T>(&'shared Shared<T>);

impl<T> Drop for Consumer<'_, T> {
    fn drop(&mut self) {
        self.0.lock().stop = true;
        self.0.changed.notify_all();
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
    let ahead = threads * 3;
    let shared = Shared {
        state: Mutex::new(State {
            next: 0,
            consumed: 0,
            done: BTreeMap::new(),
            spare: Vec::new(),
            workers: threads,
            stop: false,
        }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _worker = Worker(&shared);
                let mut state = shared.lock();
                while !state.stop && state.next < items.len() {
                    if state.next >= state.consumed + ahead {
                        state = shared.wait(state);
                        continue;
                    }
                    let at = state.next;
                    state.next += 1;
                    let mut result = state.spare.pop().unwrap_or_default();
                    drop(state);
                    let done = match items.get(at) {
                        Some(item) => work(item, &mut result).map(|()| result),
                        None => Ok(result),
                    };
                    state = shared.lock();
                    state.done.insert(at, done);
                    shared.changed.notify_all();
                }
            });
        }
        let _consumer = Consumer(&shared);
        for (at, item) in items.iter().enumerate() {
            let mut state = shared.lock();
            let mut result = loop {
                if let Some(done) = state.done.remove(&at) {
                    break done?;
                }
                if state.workers == 0 {
                    let reason = "a thread ended without a result";
                    return Err(Error::io("work on threads")(std::io::Error::other(reason)));
                }
                state = shared.wait(state);
            };
            drop(state);
            consume(item, &mut result)?;
            let mut state = shared.lock();
            state.consumed = at + 1;
            state.spare.push(result);
            drop(state);
            shared.changed.notify_all();
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
}
