//! The longest earlier copy of what is at a position: chains of positions with equal hashes.
//!
//! There are two kinds: of positions at which seven bytes are equal, where long matches are found
//! among few candidates, and of four, for what is shorter. To beat a match, a chain is followed not
//! of the bytes at the position but of those with which a longer match would end: mostly it is
//! empty.

use crate::field::{narrow16, narrow32};

/// How far back a match may be.
const FARTHEST: u32 = 0xffff;
/// The shortest match.
pub(super) const SHORTEST: usize = 4;
/// From this length on a match is good: nothing better is looked for.
pub(super) const GOOD: usize = 255;
/// Candidates that are looked at, of those with seven bytes and of those with four.
const LONG_TRIES: u32 = 64;
const SHORT_TRIES: u32 = 96;

const LONG: usize = 7;
const HASH_BITS: u32 = 16;
const PLACES: usize = 1 << HASH_BITS;
const WINDOW: usize = 1 << 16;

/// A copy of earlier bytes; none when its length is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Match {
    pub(super) len: usize,
    pub(super) distance: u16,
}

impl Match {
    /// What is left of it a byte later.
    pub(super) fn rest(self) -> Self {
        if self.len > SHORTEST { Self { len: self.len - 1, ..self } } else { Self::default() }
    }
}

/// The positions of one hash.
struct Chains {
    /// How many bytes are hashed.
    bytes: usize,
    /// The latest position, by hash.
    heads: Box<[u32; PLACES]>,
    /// How far before a position the one before it is.
    links: Box<[u16; WINDOW]>,
}

impl Chains {
    fn new(bytes: usize) -> Self {
        Self { bytes, heads: Box::new([0; PLACES]), links: Box::new([0; WINDOW]) }
    }

    fn head(&mut self, input: &[u8], at: usize) -> &mut u32 {
        let kept = eight(input, at) << (64 - 8 * self.bytes);
        let hash = kept.wrapping_mul(0x9e37_79b1_85eb_ca87);
        &mut self.heads[(hash >> (64 - HASH_BITS)) as usize]
    }

    /// Adds a position.
    fn add(&mut self, input: &[u8], at: usize, position: u32) {
        let before = std::mem::replace(self.head(input, at), position);
        let link = position.saturating_sub(before).min(FARTHEST);
        self.links[position as usize % WINDOW] = narrow16(u64::from(link));
    }

    fn before(&self, position: u32) -> u32 {
        position.saturating_sub(u32::from(self.links[position as usize % WINDOW]))
    }
}

/// Finds matches within one input after the other.
pub(super) struct Finder {
    short: Chains,
    long: Chains,
    /// The position of the input's start. Positions before are of other inputs: so nothing has to be
    /// cleared for a new one.
    base: u32,
    /// The first position that was not added.
    next: u32,
}

impl Finder {
    /// The longest input.
    pub(super) const MOST: usize = 1 << 30;

    pub(super) fn new() -> Self {
        Self { short: Chains::new(SHORTEST), long: Chains::new(LONG), base: 1, next: 1 }
    }

    /// Begins another input.
    pub(super) fn restart(&mut self) {
        self.base = self.next;
        if self.base > u32::MAX / 2 {
            *self = Self::new();
        }
    }

    /// Begins as if there had been as many positions.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, next: u32) {
        self.next = next;
    }

    /// How many positions there were.
    #[cfg(test)]
    pub(super) fn added(&self) -> u32 {
        self.next
    }

    /// Adds a position of the input, which has to be the next one.
    pub(super) fn add(&mut self, input: &[u8], at: usize) {
        debug_assert_eq!((self.next - self.base) as usize, at);
        self.short.add(input, at, self.next);
        self.long.add(input, at, self.next);
        self.next += 1;
    }

    /// Adds a position, and finds a match for it of at most `most` bytes; one that is known to be
    /// there comes out when there is no longer one.
    pub(super) fn find(&mut self, input: &[u8], at: usize, most: usize, known: Match) -> Match {
        let place = Place { input, at, most, base: self.base };
        let mut best = known;
        place.longer(&mut self.long, LONG_TRIES, GOOD, &mut best);
        if best.len < LONG {
            // What has seven was found already.
            place.longer(&mut self.short, SHORT_TRIES, LONG - 1, &mut best);
        }
        self.add(input, at);
        best
    }
}

/// Where a match is looked for.
struct Place<'input> {
    input: &'input [u8],
    at: usize,
    most: usize,
    base: u32,
}

impl Place<'_> {
    /// Follows chains for a match that is longer than the best one, until one is good.
    fn longer(&self, chains: &mut Chains, tries: u32, good: usize, best: &mut Match) {
        let here = self.base + narrow32(self.at as u64);
        let start = four(self.input, self.at);
        let mut tries = tries;
        while best.len < good && best.len < self.most {
            // The bytes that end with the first one which a longer match has and this one has not:
            // fewer places have these.
            let skipped = (best.len + 1).saturating_sub(chains.bytes);
            let mut position = *chains.head(self.input, self.at + skipped);
            let before = best.len;
            while best.len == before {
                let Some(left) = tries.checked_sub(1) else { return };
                tries = left;
                let Some(source) = position.checked_sub(narrow32(skipped as u64)) else { return };
                if source < self.base || here - source > FARTHEST {
                    return;
                }
                let from = (source - self.base) as usize;
                if four(self.input, from) == start {
                    let len = common(self.input, from, self.at, self.most);
                    if len > best.len && len >= SHORTEST {
                        *best = Match { len, distance: narrow16(u64::from(here - source)) };
                    }
                }
                position = chains.before(position);
            }
        }
    }
}

/// How many bytes are equal at two places, the second of which is the later one.
fn common(input: &[u8], from: usize, at: usize, most: usize) -> usize {
    let late = input.get(at..at + most).unwrap_or_default();
    let early = input.get(from..from + late.len()).unwrap_or_default();
    let mut len = 0;
    for (a, b) in early.chunks_exact(8).zip(late.chunks_exact(8)) {
        let differing = number(a) ^ number(b);
        if differing != 0 {
            return len + (differing.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    let rest = early.iter().zip(late).skip(len);
    len + rest.take_while(|(a, b)| a == b).count()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// Eight bytes of the input, zero where it ends before.
fn eight(input: &[u8], at: usize) -> u64 {
    input.get(at..at + 8).map_or(0, number)
}

fn four(input: &[u8], at: usize) -> u32 {
    let bytes = input.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}
