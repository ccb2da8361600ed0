//! Bits, the first in the lowest place of a byte (RFC 1951 section 3.1.1).

pub(super) struct Bits<'out> {
    out: &'out mut Vec<u8>,
    held: u64,
    count: u32,
}

impl<'out> Bits<'out> {
    pub(super) fn new(out: &'out mut Vec<u8>) -> Self {
        Self { out, held: 0, count: 0 }
    }

    /// At most 32 bits; the value has no others.
    #[inline]
    pub(super) fn put(&mut self, value: u32, count: u32) {
        self.held |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            let [a, b, c, d, ..] = self.held.to_le_bytes();
            self.out.extend_from_slice(&[a, b, c, d]);
            self.held >>= 32;
            self.count -= 32;
        }
    }

    /// Goes to the next byte.
    pub(super) fn align(&mut self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out.extend(self.held.to_le_bytes().into_iter().take(bytes));
        (self.held, self.count) = (0, 0);
    }

    /// Whole bytes, at a byte.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.align();
        self.out.extend_from_slice(bytes);
    }

    /// An empty stored block, after which the stream is at a byte.
    pub(super) fn sync(&mut self) {
        self.put(0, 3);
        self.bytes(&[0, 0, 0xff, 0xff]);
    }

    pub(super) fn finish(mut self) {
        self.align();
    }
}
