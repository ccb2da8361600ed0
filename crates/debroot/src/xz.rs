//! xz, as a reader over the decoder that is fed by hand: it is compiled once, in its own crate,
//! and so is fast in unoptimised builds of others too.

use std::io::{self, Read};

use lzma_rust2::{Action, Status, XzStream};

/// The most memory that unpacking may take, in KiB: what `xz -9` needs, four times.
const MEMORY: u32 = 256 << 10;

/// The unpacked bytes of one or more xz streams. Their checks are verified at the end.
pub(crate) struct Reader<R> {
    inner: R,
    stream: XzStream,
    input: Vec<u8>,
    /// What of `input` is filled and not yet consumed.
    rest: std::ops::Range<usize>,
    ended: bool,
    done: bool,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            stream: XzStream::new_mem_limit(true, MEMORY),
            input: vec![0; 1 << 16],
            rest: 0..0,
            ended: false,
            done: false,
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.done && !buffer.is_empty() {
            if self.rest.is_empty() && !self.ended {
                let count = self.inner.read(&mut self.input)?;
                self.rest = 0..count;
                self.ended = count == 0;
            }
            let input = self.input.get(self.rest.clone()).unwrap_or_default();
            let action = if self.ended { Action::Finish } else { Action::Run };
            let result = self.stream.process(input, buffer, action)?;
            self.rest.start += result.bytes_consumed;
            self.done = result.status == Status::StreamEnd;
            if result.bytes_produced > 0 {
                return Ok(result.bytes_produced);
            }
            if !self.done && self.ended && result.bytes_consumed == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the xz data is cut off"));
            }
        }
        Ok(0)
    }
}
