//! Frames: how messages lie in a stream of bytes.
//!
//! ```text
//! length u32, big-endian | kind u8 | so many bytes of payload
//! ```
//! Kind 0 is a message, JSON (RFC 8259); kind 1 is data as it is: a piece of a log.

use crate::unix::reserve::try_grow;

/// The longest payload that either side takes.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// What comes before a payload.
pub const HEADER: usize = 5;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A message in JSON.
    Message,
    /// Bytes as they are.
    Data,
}

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// What is in it.
    pub payload: Vec<u8>,
}

/// Why bytes are no frame. There is no way to find the next one: the connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than is taken; nothing was set aside for it.
    #[error("a frame of {length} bytes, at most {limit} are taken here")]
    TooLong {
        /// What its header says.
        length: u32,
        /// What is taken.
        limit: usize,
    },
    /// A kind that there is not.
    #[error("frame kind {0} is unknown")]
    UnknownKind(u8),
    /// The system gives no memory for it.
    #[error("there is no memory for this frame")]
    NoMemory,
}

/// Appends a frame to `out`. A payload above [`MAX_PAYLOAD`] is cut: whoever makes one keeps its
/// pieces smaller.
pub fn encode(kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
    let payload = payload.get(..MAX_PAYLOAD).unwrap_or(payload);
    let length = u32::try_from(payload.len()).unwrap_or(0);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(match kind {
        FrameKind::Message => 0,
        FrameKind::Data => 1,
    });
    out.extend_from_slice(payload);
}

/// Takes bytes as they come and gives whole frames.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Where in the buffer the next frame begins.
    start: usize,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(MAX_PAYLOAD)
    }
}

impl Decoder {
    /// Takes payloads of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, limit: limit.min(MAX_PAYLOAD) }
    }

    /// Takes longer or shorter payloads from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_PAYLOAD);
    }

    /// How many bytes to read at most before frames are taken out: so the buffer stays within one
    /// frame.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_add(HEADER).saturating_sub(self.pending())
    }

    /// Bytes that were pushed and are not yet part of a frame that was given.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len().saturating_sub(self.start)
    }

    /// Makes room for so many more bytes. Without it [`push`](Self::push) does; this one says whether
    /// there is memory for them.
    pub fn make_room(&mut self, length: usize) -> bool {
        self.buffer.drain(..self.start.min(self.buffer.len()));
        self.start = 0;
        try_grow(&mut self.buffer, length)
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start.min(self.buffer.len()));
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether [`frame`](Self::frame) has something to say.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        rest.first_chunk::<HEADER>().is_some_and(|&[a, b, c, d, kind]| {
            let wanted = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            kind > 1 || wanted > self.limit || rest.len().saturating_sub(HEADER) >= wanted
        })
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// What cannot be a frame; every later call says the same. One for which there is no memory may be
    /// asked for again.
    pub fn frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let Some((&[a, b, c, d, kind], body)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        if wanted > self.limit {
            return Err(FrameError::TooLong { length, limit: self.limit });
        }
        let kind = match kind {
            0 => FrameKind::Message,
            1 => FrameKind::Data,
            other => return Err(FrameError::UnknownKind(other)),
        };
        let Some(whole) = body.get(..wanted) else { return Ok(None) };
        let mut payload = Vec::new();
        if !try_grow(&mut payload, wanted) {
            return Err(FrameError::NoMemory);
        }
        payload.extend_from_slice(whole);
        self.start = self.start.saturating_add(HEADER).saturating_add(wanted);
        if self.start >= self.buffer.len() {
            // an idle connection holds no memory
            self.buffer = Vec::new();
            self.start = 0;
        }
        Ok(Some(Frame { kind, payload }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
        let payload = prop::collection::vec(any::<u8>(), 0..300);
        prop::collection::vec((any::<bool>(), payload), 0..12)
    }

    fn kind(data: bool) -> FrameKind {
        if data { FrameKind::Data } else { FrameKind::Message }
    }

    proptest! {
        /// However a stream is cut, the same frames come out.
        #[test]
        fn cuts_do_not_matter(frames in frames(), cuts in prop::collection::vec(1_usize..97, 1..40)) {
            let mut bytes = Vec::new();
            for (data, payload) in &frames {
                encode(kind(*data), payload, &mut bytes);
            }
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            let mut rest = bytes.as_slice();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let take = (*cuts.next().unwrap()).min(rest.len()).min(decoder.room());
                let (now, later) = rest.split_at(take);
                decoder.push(now);
                rest = later;
                while let Some(frame) = decoder.frame().unwrap() {
                    found.push((frame.kind, frame.payload));
                }
            }
            let wanted: Vec<_> = frames.into_iter().map(|(d, p)| (kind(d), p)).collect();
            prop_assert_eq!(found, wanted);
            prop_assert_eq!(decoder.pending(), 0);
        }

        /// Garbage neither panics nor makes the buffer grow, and an error stays one.
        #[test]
        fn garbage_is_bounded(pieces in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 1..200), 1..40), limit in 0_usize..500) {
            let mut decoder = Decoder::new(limit);
            for piece in pieces {
                let take = piece.len().min(decoder.room());
                decoder.push(&piece[..take]);
                prop_assert!(decoder.pending() <= limit + HEADER);
                loop {
                    match decoder.frame() {
                        Ok(Some(frame)) => prop_assert!(frame.payload.len() <= limit),
                        Ok(None) => break,
                        Err(error) => {
                            prop_assert_eq!(decoder.frame(), Err(error));
                            return Ok(());
                        }
                    }
                }
                prop_assert!(decoder.room() > 0, "a frame that can never be whole");
            }
        }
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = Vec::new();
        encode(FrameKind::Message, b"{}", &mut bytes);
        assert_eq!(bytes, [0, 0, 0, 2, 0, b'{', b'}']);
        let mut decoder = Decoder::default();
        decoder.push(&[0, 1, 0, 1, 0]);
        let error = decoder.frame().unwrap_err();
        assert_eq!(error.to_string(), "a frame of 65537 bytes, at most 65536 are taken here");
    }
}
