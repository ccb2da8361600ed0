//! A deflate encoder (RFC 1951) whose window can be limited, for what the deflate crates cannot do
//! both fast and well: qcow2 wants blocks of 64 KiB that look back no further than 4 KiB, and gzip
//! made by several threads wants pieces that end at a byte.
//!
//! The stages, each in a file: [`matches`] turns bytes into literals and matches, [`split`] cuts these
//! into blocks, [`huffman`] finds the codes, [`bits`] writes them.

mod bits;
mod blocks;
mod huffman;
mod matches;
mod split;

use bits::Bits;
use matches::Matcher;

/// Length codes begin here; 256 ends a block.
const FIRST_LENGTH: usize = 257;
const END: usize = 256;
/// Symbols of the literal and length alphabet; the last two have a fixed code and are not used.
const LITLENS: usize = 288;
/// Symbols of the distance alphabet.
const DISTS: usize = 30;
const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;

/// A literal (the byte) or a match (length in the high half, distance less one in the low half).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token(u32);

impl Token {
    fn literal(byte: u8) -> Self {
        Self(u32::from(byte))
    }

    fn matched(len: usize, dist: usize) -> Self {
        let (len, dist) = (len.min(MAX_MATCH), dist.clamp(1, 1 << 15) - 1);
        Self(crate::field::narrow32(((len << 16) | dist) as u64))
    }

    /// Length and distance, when it is a match.
    fn parts(self) -> Option<(usize, usize)> {
        let len = self.0 >> 16;
        (len > 0).then_some((len as usize, (self.0 & 0xffff) as usize + 1))
    }
}

/// How often each symbol occurs.
#[derive(Debug, Clone)]
struct Histogram {
    litlens: [u32; LITLENS],
    dists: [u32; DISTS],
}

impl Histogram {
    fn new() -> Self {
        Self { litlens: [0; LITLENS], dists: [0; DISTS] }
    }

    fn count(&mut self, tokens: &[Token]) {
        for token in tokens {
            match token.parts() {
                None => bump(&mut self.litlens, (token.0 & 0xff) as usize),
                Some((len, dist)) => {
                    bump(&mut self.litlens, FIRST_LENGTH + blocks::length_code(len));
                    bump(&mut self.dists, blocks::distance_code(dist));
                }
            }
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.litlens.iter_mut().zip(&other.litlens) {
            *mine += theirs;
        }
        for (mine, theirs) in self.dists.iter_mut().zip(&other.dists) {
            *mine += theirs;
        }
    }
}

fn bump(counts: &mut [u32], symbol: usize) {
    if let Some(count) = counts.get_mut(symbol) {
        *count += 1;
    }
}

/// Compresses piece after piece with the same memory; each piece stands alone.
pub(crate) struct Encoder {
    matcher: Matcher,
    tokens: Vec<Token>,
}

impl Encoder {
    /// Looks back `window` bytes, a power of two up to 32 KiB.
    pub(crate) fn new(window: usize) -> Self {
        Self { matcher: Matcher::new(window), tokens: Vec::new() }
    }

    /// Appends a whole stream.
    pub(crate) fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.pack(bytes, true, out);
    }

    /// Appends a part of a stream that ends at a byte and does not end the stream.
    pub(crate) fn compress_part(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.pack(bytes, false, out);
    }

    fn pack(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
        self.tokens.clear();
        self.matcher.tokens(bytes, &mut self.tokens);
        let mut bits = Bits::new(out);
        let blocks = split::blocks(&self.tokens);
        let count = blocks.len();
        let mut at = 0;
        for (number, (end, counts)) in blocks.into_iter().enumerate() {
            let tokens = self.tokens.get(at..end).unwrap_or_default();
            blocks::write(&mut bits, tokens, counts, last && number + 1 == count);
            at = end;
        }
        if !last {
            bits.sync();
        }
        bits.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(bytes: &[u8], window: usize) -> usize {
        let mut encoder = Encoder::new(window);
        let mut out = Vec::new();
        // Twice: the second must not see the first.
        encoder.compress(bytes, &mut Vec::new());
        encoder.compress(bytes, &mut out);
        let mut back = vec![0; bytes.len()];
        let len = libdeflater::Decompressor::new().deflate_decompress(&out, &mut back).unwrap();
        assert_eq!(len, bytes.len());
        assert!(back == bytes);
        // As part and end.
        let mut parts = Vec::new();
        encoder.compress_part(bytes, &mut parts);
        encoder.compress(b"end", &mut parts);
        let mut back = vec![0; bytes.len() + 3];
        let len = libdeflater::Decompressor::new().deflate_decompress(&parts, &mut back).unwrap();
        assert_eq!(len, bytes.len() + 3);
        assert!(back[..bytes.len()] == *bytes && back.ends_with(b"end"));
        out.len()
    }

    #[test]
    fn plain_cases() {
        assert!(round_trip(&[], 4096) <= 2);
        assert!(round_trip(b"a", 4096) <= 3);
        assert!(round_trip(&vec![0; 65536], 4096) < 100);
        let text: Vec<u8> = (0..9000).flat_map(|at| format!("line {at}\n").into_bytes()).collect();
        assert!(round_trip(&text, 4096) < text.len() / 3);
        assert!(round_trip(&text, 32768) < text.len() / 3);
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..70_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert!(round_trip(&noise, 4096) < noise.len() + 100);
    }

    /// A repetition from 5000 bytes back is out of the window, one from 4096 back is in it.
    #[test]
    fn the_window_is_kept() {
        for (distance, window) in [(4096, 4096), (4097, 4096), (5000, 4096), (32768, 32768)] {
            let mut bytes = b"a needle that is found again".to_vec();
            bytes.resize(distance, b'.');
            bytes.extend_from_slice(b"a needle that is found again");
            let mut tokens = Vec::new();
            Matcher::new(window).tokens(&bytes, &mut tokens);
            let far = tokens.iter().filter_map(|token| token.parts()).map(|(_, dist)| dist).max();
            assert_eq!(far == Some(distance), distance <= window, "{distance} {far:?}");
            round_trip(&bytes, window);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_packed_is_unpacked(
            parts in prop::collection::vec((any::<[u8; 4]>(), 1..3000_usize, any::<bool>()), 0..30),
            wide in any::<bool>(),
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            for (seed, len, again) in parts {
                if again && bytes.len() > len {
                    let from = usize::from(u16::from_le_bytes([seed[0], seed[1]]));
                    let from = from % (bytes.len() - len);
                    bytes.extend_from_within(from..from + len);
                } else {
                    bytes.extend(seed.iter().cycle().take(len).zip(0_u8..=255).map(|(a, b)| a ^ (b >> 4)));
                }
            }
            round_trip(&bytes, if wide { 32768 } else { 4096 });
        }
    }
}
