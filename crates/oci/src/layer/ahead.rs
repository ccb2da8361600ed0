//! Layers read ahead: one thread reads and decompresses, another computes the digest, while what comes
//! out is made into files.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// How much goes from one thread to the next at a time.
const CHUNK: usize = 256 << 10;
/// How many such may wait between two threads.
const WAITING: usize = 4;

type Chunk = io::Result<Vec<u8>>;

/// What two other threads have read. An error comes where it arose; after it there is nothing.
pub(crate) struct Ahead {
    chunks: Receiver<Chunk>,
    /// Where chunks go that are used up.
    free: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Ahead {
    /// Reads from `inner` and has `look` see all of it, and then the end.
    pub(crate) fn start<'scope, R, L>(
        scope: &'scope Scope<'scope, '_>,
        inner: R,
        look: L,
    ) -> io::Result<Self>
    where
        R: Read + Send + 'scope,
        L: FnMut(Option<&[u8]>) -> io::Result<()> + Send + 'scope,
    {
        let (read, seen) = sync_channel(WAITING);
        let (free, used) = sync_channel(WAITING.saturating_mul(3));
        let (shown, chunks) = sync_channel(WAITING);
        let spawn = |work: Box<dyn FnOnce() + Send + 'scope>| {
            std::thread::Builder::new().name("layer".into()).spawn_scoped(scope, work).map(drop)
        };
        spawn(Box::new(move || fetch(inner, &read, &used)))?;
        spawn(Box::new(move || watch(look, &seen, &shown)))?;
        Ok(Self { chunks, free, chunk: Vec::new(), at: 0 })
    }
}

/// Reads whole chunks until the end, an error, or nobody wants more.
fn fetch(mut inner: impl Read, to: &SyncSender<Chunk>, used: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = used.try_recv().unwrap_or_default();
        chunk.clear();
        let read = inner.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
        let is_last = chunk.is_empty() || read.is_err();
        if !chunk.is_empty() && to.send(Ok(chunk)).is_err() {
            return;
        }
        if let Err(error) = read {
            let _ = to.send(Err(error));
        }
        if is_last {
            return;
        }
    }
}

fn watch(
    mut look: impl FnMut(Option<&[u8]>) -> io::Result<()>,
    from: &Receiver<Chunk>,
    to: &SyncSender<Chunk>,
) {
    for chunk in from {
        let looked = match &chunk {
            Ok(bytes) => look(Some(bytes)),
            Err(_) => Ok(()),
        };
        let is_last = chunk.is_err() || looked.is_err();
        if to.send(looked.and(chunk)).is_err() || is_last {
            return;
        }
    }
    if let Err(error) = look(None) {
        let _ = to.send(Err(error));
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.chunk.len() {
            match self.chunks.recv() {
                Ok(chunk) => {
                    let used = std::mem::replace(&mut self.chunk, chunk?);
                    self.at = 0;
                    // Where there are enough, it is let go.
                    let _ = self.free.try_send(used);
                }
                Err(_) => return Ok(0),
            }
        }
        let left = self.chunk.get(self.at..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes, and then an error.
    struct Breaks(usize);

    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("broken"));
            }
            let count = self.0.min(buffer.len());
            buffer[..count].fill(b'x');
            self.0 -= count;
            Ok(count)
        }
    }

    #[test]
    fn all_that_is_there_comes_and_the_error_after_it() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 40 * CHUNK + 7] {
            let content: Vec<u8> = (0..=250).cycle().take(len).collect();
            let (mut seen, mut found, mut ends) = (0, Vec::new(), 0);
            std::thread::scope(|scope| {
                let look = |bytes: Option<&[u8]>| {
                    seen += bytes.map_or(0, <[u8]>::len);
                    ends += usize::from(bytes.is_none());
                    Ok(())
                };
                Ahead::start(scope, &content[..], look).unwrap().read_to_end(&mut found).unwrap();
            });
            assert!(found == content && seen == len && ends == 1, "{len}");
            found.clear();
            let error = std::thread::scope(|scope| {
                let mut ahead = Ahead::start(scope, Breaks(len), |_| Ok(())).unwrap();
                ahead.read_to_end(&mut found).unwrap_err().to_string()
            });
            assert_eq!((found.len(), error.as_str()), (len, "broken"));
        }
    }

    #[test]
    fn who_looks_has_a_say() {
        let read = |at: usize| {
            let mut seen = 0;
            let mut found = Vec::new();
            let error = std::thread::scope(|scope| {
                let look = |bytes: Option<&[u8]>| {
                    seen += bytes.map_or(1, <[u8]>::len);
                    if seen > at { Err(io::Error::other("no")) } else { Ok(()) }
                };
                let mut ahead = Ahead::start(scope, io::repeat(1).take(3 << 20), look).unwrap();
                ahead.read_to_end(&mut found).map_err(|error| error.to_string())
            });
            (found.len(), error)
        };
        assert_eq!(read(0), (0, Err("no".into())));
        assert_eq!(read(1 << 20), (1 << 20, Err("no".into())));
        assert_eq!(read(3 << 20), (3 << 20, Err("no".into())));
        assert_eq!(read(4 << 20), (3 << 20, Ok(3 << 20)));
    }

    #[test]
    fn who_wants_no_more_need_not_read_on() {
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, io::repeat(1), |_| Ok(())).unwrap();
            ahead.read_exact(&mut [0; 9]).unwrap();
        });
    }
}
