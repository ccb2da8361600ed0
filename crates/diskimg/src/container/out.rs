//! A file that is mostly written in order: small writes are gathered, seeks are made only where the
//! order is left.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use crate::{Error, Result};

/// How much is gathered; what is longer is written as it comes, without another copy.
const GATHERED: usize = 256 << 10;

pub(crate) struct Out<W: Write> {
    writer: BufWriter<W>,
    action: &'static str,
    /// Where the writer is.
    position: u64,
}

impl<W: Write> Out<W> {
    /// The writer is at its start; `action` says in errors what is done.
    pub(crate) fn new(writer: W, action: &'static str) -> Self {
        Self { writer: BufWriter::with_capacity(GATHERED, writer), action, position: 0 }
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(Error::io(self.action))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The writer, when everything is written.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        self.writer.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

impl<W: Write + Seek> Out<W> {
    pub(crate) fn seek(&mut self, to: u64) -> Result<()> {
        if to != self.position {
            self.writer.seek(SeekFrom::Start(to)).map_err(Error::io(self.action))?;
            self.position = to;
        }
        Ok(())
    }

    pub(crate) fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.seek(at)?;
        self.write(bytes)
    }

    /// Gives the file its length, when a hole is at its end.
    pub(crate) fn set_len(&mut self, written: u64, len: u64) -> Result<()> {
        if written < len { self.write_at(len - 1, &[0]) } else { Ok(()) }
    }
}
