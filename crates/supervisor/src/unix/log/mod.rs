//! A service's output: read from a pipe that outlives the service's restarts, and written by a thread
//! to a file that is rotated by size. Whatever happens to the file, the pipe is emptied, so the
//! service never waits for its log; what cannot be written is counted.

mod rotating;
mod stamp;
mod writer;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(super) use writer::Writer;

use crate::graph::ServiceId;
use crate::spec::Log;
use crate::unix::reserve;
use crate::vocabulary::Errno;

/// At most so much is read of a pipe before others have their turn.
const CHUNK: usize = 64 << 10;
/// And so much where there is no memory for that.
const PIECE: usize = 4 << 10;

/// Both ends of a service's output pipe, and where it goes.
#[derive(Debug)]
pub(super) struct LogPipe {
    pub(super) read: OwnedFd,
    pub(super) write: Arc<OwnedFd>,
    /// What was asked for when it was made.
    pub(super) log: Log,
    pub(super) sink: Sink,
}

#[derive(Debug)]
pub(super) enum Sink {
    /// The file that the writer has for the service.
    File,
    /// The supervisor's standard error, each line with this prefix; the rest is a line begun.
    Console(String, Vec<u8>),
}

impl LogPipe {
    pub(super) fn new(sink: Sink, log: Log) -> rustix::io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Self::with_ends(read, write, sink, log)
    }

    /// A pipe taken over from an earlier process image.
    pub(super) fn with_ends(
        read: OwnedFd,
        write: OwnedFd,
        sink: Sink,
        log: Log,
    ) -> rustix::io::Result<Self> {
        // the reader's open file description only: a service's writes block as it expects
        rustix::io::ioctl_fionbio(&read, true)?;
        Ok(Self { read, write: Arc::new(write), log, sink })
    }

    /// Moves what is in the pipe, at most one chunk. Returns how many bytes there were.
    pub(super) fn pump(&mut self, id: ServiceId, writer: &mut Writer) -> usize {
        let Some(mut chunk) = writer.buffer(CHUNK) else { return self.pump_piece(id, writer) };
        let read = rustix::io::read(&self.read, rustix::buffer::spare_capacity(&mut chunk));
        let Ok(length @ 1..) = read else {
            writer.give_back(chunk);
            return 0;
        };
        self.pass_on(id, chunk, writer);
        length
    }

    /// The same without memory for a chunk. What there is no memory to keep is lost: the service must
    /// not wait for it.
    fn pump_piece(&mut self, id: ServiceId, writer: &mut Writer) -> usize {
        let mut piece = [0_u8; PIECE];
        let Ok(length @ 1..) = rustix::io::read(&self.read, &mut piece) else { return 0 };
        let mut chunk = Vec::new();
        if reserve::try_grow(&mut chunk, length) {
            chunk.extend_from_slice(piece.get(..length).unwrap_or_default());
            self.pass_on(id, chunk, writer);
        } else {
            writer.lost(id, length as u64, Errno(nix::libc::ENOMEM));
        }
        length
    }

    fn pass_on(&mut self, id: ServiceId, chunk: Vec<u8>, writer: &mut Writer) {
        match &mut self.sink {
            Sink::File => writer.write(id, chunk),
            Sink::Console(prefix, partial) => {
                if let Err((lost, why)) = console(prefix, partial, &chunk) {
                    writer.lost(id, lost, why);
                }
                writer.give_back(chunk);
            }
        }
    }

    /// Moves what a service wrote last.
    pub(super) fn drain(&mut self, id: ServiceId, writer: &mut Writer) {
        // a pipe holds at most 1 MiB; a writer that lives on must not keep us
        for _ in 0..64 {
            if self.pump(id, writer) == 0 {
                break;
            }
        }
    }
}

/// Whole lines with a prefix; a line without end is kept until it has one or is long. The error is
/// how many bytes are lost, and why.
fn console(prefix: &str, partial: &mut Vec<u8>, chunk: &[u8]) -> Result<(), (u64, Errno)> {
    if !reserve::try_grow(partial, chunk.len()) {
        return Err((chunk.len() as u64, Errno(nix::libc::ENOMEM)));
    }
    partial.extend_from_slice(chunk);
    let end = match partial.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => at.saturating_add(1),
        None if partial.len() >= 4096 => partial.len(),
        None => return Ok(()),
    };
    let mut text = Vec::new();
    let lines = partial.iter().take(end).filter(|byte| **byte == b'\n').count();
    let prefixes = lines.saturating_add(1).saturating_mul(prefix.len());
    if !reserve::try_grow(&mut text, end.saturating_add(prefixes)) {
        let lost = partial.len() as u64;
        partial.clear();
        return Err((lost, Errno(nix::libc::ENOMEM)));
    }
    for line in partial.get(..end).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(line);
    }
    partial.drain(..end);
    let left = super::console::write(&text).len();
    if left == 0 { Ok(()) } else { Err((left as u64, Errno(nix::libc::EAGAIN))) }
}
