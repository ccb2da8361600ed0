//! LZ4 that takes its time ("LZ4 Block Format Description" of the LZ4 project).
//!
//! A match costs the same wherever it is from, and may be cut short. So of each position only the
//! longest match is wanted; then the cheapest way to the end of a stretch is found from its end on.

use super::codec::Codec;
use super::matches::{Finder, GOOD, Match, SHORTEST};
use crate::field::{index, narrow16, narrow32};

/// No stream is shorter than this one of literals alone may have to be.
const LEAST: usize = 16;
/// Literals that a stream must end with.
const LAST_LITERALS: usize = 5;
/// The last match must begin so many bytes before the end.
const LAST_MATCH: usize = 12;
/// Positions that are decided on at once.
const STRETCH: usize = 4096;
/// The fewest: near the end of the budget a stretch is mostly in vain.
const SHORT_STRETCH: usize = 256;
/// Of these, so many are decided on again with what follows, because a match may go on there.
const AGAIN: usize = 128;
/// The longest match of which a token says all; 254 more take a byte.
const TOKEN_MATCH: usize = 14 + SHORTEST;
/// Bits that hold how far a place is from the end of a stretch, or what the way there costs.
const LEFT_BITS: u32 = 13;

/// The compressor.
pub(super) struct Lz4High {
    finder: Finder,
    ways: Ways,
    out: Vec<u8>,
}

impl Lz4High {
    pub(super) fn new() -> Self {
        Self { finder: Finder::new(), ways: Ways::default(), out: Vec::new() }
    }
}

impl Codec for Lz4High {
    fn fill(&mut self, input: &[u8], budget: usize) -> Option<(usize, &[u8])> {
        let input = input.get(..input.len().min(Finder::MOST))?;
        if input.is_empty() || budget < LEAST {
            return None;
        }
        self.finder.restart();
        self.out.clear();
        self.ways.matches.clear();
        let mut stream = Stream { input, budget, out: &mut self.out, taken: 0 };
        let taken = stream.fill(&mut self.finder, &mut self.ways);
        Some((taken, &self.out))
    }
}

/// A stream that is written.
struct Stream<'a> {
    input: &'a [u8],
    budget: usize,
    out: &'a mut Vec<u8>,
    /// Bytes of the input that are in it.
    taken: usize,
}

impl Stream<'_> {
    /// Writes as much as fits; gives how much of the input that is.
    fn fill(&mut self, finder: &mut Finder, ways: &mut Ways) -> usize {
        // Before the one matches begin, and with the other they end at the latest.
        let begin = (self.input.len() + 1).saturating_sub(LAST_MATCH);
        let end = self.input.len().saturating_sub(LAST_LITERALS);
        let mut at = 0;
        let mut known = Match::default();
        while at < begin {
            let left = self.room().saturating_sub(at - self.taken);
            if left == 0 {
                // Literals alone are too many.
                break;
            }
            let stretch = left.clamp(SHORT_STRETCH, STRETCH).min(begin - at);
            let mut good = Match::default();
            while ways.matches.len() < stretch {
                let place = at + ways.matches.len();
                let found = finder.find(self.input, place, end - place, known.rest());
                known = found;
                if found.len >= GOOD {
                    good = found;
                    break;
                }
                ways.matches.push(found);
            }
            ways.decide();
            let count = ways.matches.len();
            let closed = good.len > 0 || at + count == begin;
            let sure = if closed { count } else { count - AGAIN.min(count / 2) };
            let mut place = 0;
            while place < sure {
                let found = ways.step(place);
                if found.len == 0 {
                    place += 1;
                    continue;
                }
                if !self.sequence(at + place, found) {
                    return self.finish();
                }
                place += found.len;
            }
            at += place;
            ways.matches.drain(..place.min(count));
            if good.len > 0 {
                if !self.sequence(at, good) {
                    return self.finish();
                }
                let after = at + good.len;
                (at + 1..after.min(begin)).for_each(|at| finder.add(self.input, at));
                (at, known) = (after, Match::default());
            }
        }
        self.finish()
    }

    fn room(&self) -> usize {
        self.budget.saturating_sub(self.out.len())
    }

    /// Writes the literals until a place, and a match there; `false` when no more will fit.
    fn sequence(&mut self, at: usize, found: Match) -> bool {
        let literals = at - self.taken;
        // There has to be room for a last token, and for literals behind a match that may be short.
        let fixed = 1 + more_bytes(literals) + literals + 2 + 1 + LAST_MATCH;
        let Some(room) = self.room().checked_sub(fixed) else { return false };
        // A match that is too long may be a shorter one.
        let most = TOKEN_MATCH + 255 * room;
        let len = found.len.min(most);
        self.literals(literals, len - SHORTEST);
        self.out.extend_from_slice(&found.distance.to_le_bytes());
        self.more(len - SHORTEST);
        self.taken = at + len;
        len == found.len
    }

    /// Ends it with as many literals as fit; gives how much of the input is in it.
    fn finish(&mut self) -> usize {
        let mut literals = self.room().saturating_sub(1).min(self.input.len() - self.taken);
        while 1 + more_bytes(literals) + literals > self.room() && literals > 0 {
            literals -= 1;
        }
        self.literals(literals, 0);
        self.taken += literals;
        self.taken
    }

    /// Writes a token and literals.
    fn literals(&mut self, count: usize, matched: usize) {
        let token = count.min(15) << 4 | matched.min(15);
        self.out.push(byte(token));
        self.more(count);
        let literals = self.input.get(self.taken..self.taken + count);
        self.out.extend_from_slice(literals.unwrap_or_default());
    }

    /// Writes what of a length is not in the token.
    fn more(&mut self, len: usize) {
        if let Some(beyond) = len.checked_sub(15) {
            self.out.resize(self.out.len() + beyond / 255, 255);
            self.out.push(byte(beyond % 255));
        }
    }
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

fn more_bytes(len: usize) -> usize {
    len.checked_sub(15).map_or(0, |beyond| beyond / 255 + 1)
}

/// The cheapest ways from the places of a stretch to its end.
#[derive(Default)]
struct Ways {
    /// The longest match of each place.
    matches: Vec<Match>,
    /// What each place costs until the end, and in the bits below how far it is from there: the
    /// least of some is the cheapest, and of these the one that is farthest on.
    costs: Vec<u32>,
    /// How long the match is that is taken at each; 0 for a literal.
    steps: Vec<u16>,
}

impl Ways {
    fn decide(&mut self) {
        let count = self.matches.len();
        self.costs.clear();
        self.costs.resize(count + 1, 0);
        self.steps.clear();
        self.steps.resize(count, 0);
        let mut literals = 0_u32;
        let places = self.matches.iter().zip(&mut self.steps).enumerate();
        for (place, (found, step)) in places.rev() {
            let (before, after) = self.costs.split_at_mut(place + 1);
            literals += 1;
            let more = literals.checked_sub(15).is_some_and(|beyond| beyond.is_multiple_of(255));
            let mut cost = after.first().map_or(0, |next| next >> LEFT_BITS) + 1 + u32::from(more);
            let left = count - place;
            // Longer ones than are good take no part in this.
            for (from, to, price) in [(SHORTEST, TOKEN_MATCH, 3), (TOKEN_MATCH + 1, GOOD, 4)] {
                let reached = after.get(from - 1..found.len.min(to).min(after.len()));
                let Some(least) = reached.unwrap_or_default().iter().min() else { break };
                let with_match = (least >> LEFT_BITS) + price;
                if with_match <= cost {
                    cost = with_match;
                    let left_there = index(u64::from(least & ((1 << LEFT_BITS) - 1)));
                    *step = narrow16((left - left_there) as u64);
                    literals = 0;
                }
            }
            if let Some(own) = before.last_mut() {
                *own = cost << LEFT_BITS | narrow32(left as u64);
            }
        }
    }

    /// The match that is taken at a place; none where it is a literal.
    fn step(&self, place: usize) -> Match {
        let len = self.steps.get(place).copied().map_or(0, usize::from);
        let distance = self.matches.get(place).map_or(0, |found| found.distance);
        Match { len, distance }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads the sequences of a stream as the format has them, and holds it to the rules for its end.
    fn decoded_len(stream: &[u8]) -> usize {
        let mut bytes = stream.iter().copied().map(usize::from);
        let mut len = 0;
        loop {
            let token = bytes.next().unwrap();
            let length = |nibble: usize, bytes: &mut dyn Iterator<Item = usize>| {
                let (mut sum, mut more) = (nibble, if nibble == 15 { 255 } else { 0 });
                while more == 255 {
                    more = bytes.next().unwrap();
                    sum += more;
                }
                sum
            };
            let literals = length(token >> 4, &mut bytes);
            assert_eq!(bytes.by_ref().take(literals).count(), literals);
            len += literals;
            let Some(low) = bytes.next() else {
                assert!(literals >= LAST_LITERALS || len == literals, "{literals} literals");
                return len;
            };
            let distance = low + (bytes.next().unwrap() << 8);
            assert!((1..=len).contains(&distance), "{distance} of {len}");
            let start = len;
            len += SHORTEST + length(token & 15, &mut bytes);
            let behind: usize = bytes.clone().count();
            // A short match must have more literals behind it; other matches have their own bytes.
            assert!(behind > LAST_LITERALS.max(LAST_MATCH.saturating_sub(len - start)));
        }
    }

    /// Compresses all of an input, and has it decompressed by another.
    fn check(lz4: &mut Lz4High, input: &[u8], budget: usize) -> usize {
        let (mut at, mut used) = (0, 0);
        while at < input.len() {
            let (taken, bytes) = lz4.fill(&input[at..], budget).unwrap();
            assert!(taken > 0 && bytes.len() <= budget && bytes[0] != 0);
            let full = at + taken == input.len();
            assert!(full || bytes.len() + 1 >= budget, "{} of {budget}", bytes.len());
            assert_eq!(decoded_len(bytes), taken);
            let back = lz4_flex::block::decompress(bytes, taken).unwrap();
            assert!(back == input[at..at + taken], "{at} {taken}");
            (at, used) = (at + taken, used + bytes.len());
        }
        used
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn any_length_of_anything_decompresses_to_itself() {
        let mut lz4 = Lz4High::new();
        let around = [12, 16, 19, GOOD, 273, 4096, 1 << 16, 70_000];
        let lengths = around.iter().flat_map(|len| len - 2..len + 3).chain(1..40);
        let mixed = noise(50);
        for len in lengths.chain([1 << 20]) {
            for period in [1, 2, 3, 7, 50, usize::MAX] {
                let input: Vec<u8> = if period == usize::MAX {
                    noise(len)
                } else {
                    mixed[..period].iter().copied().cycle().take(len).collect()
                };
                for budget in [LEAST, 37, 300, 4096, 1 << 16] {
                    if len / budget < 2000 {
                        check(&mut lz4, &input, budget);
                    }
                }
            }
        }
    }

    #[test]
    fn distances_end_at_64_kib() {
        let part = noise(40);
        let used = [0xffff, 0x1_0000].map(|apart| {
            let mut input = noise(apart);
            input.extend_from_slice(&part);
            input.extend_from_slice(b"and the end");
            check(&mut Lz4High::new(), &input, 1 << 20)
        });
        assert!(used[0] + 30 < used[1], "{used:?}");
    }

    #[test]
    fn smaller_than_the_fast_one_and_nothing_is_left_of_what_was_before() {
        let text: Vec<u8> = (0..60_000_u32)
            .flat_map(|at| format!("{:x} {} ", at.wrapping_mul(77_777), at % 777).into_bytes())
            .collect();
        let mut lz4 = Lz4High::new();
        let used = check(&mut lz4, &text, 1 << 20);
        let fast = lz4_flex::block::compress(&text).len();
        assert!(used * 10 < fast * 9, "{used} {fast}");
        let again = lz4.fill(&text, 4096).unwrap().1.to_vec();
        assert!(again == Lz4High::new().fill(&text, 4096).unwrap().1);
    }

    #[test]
    fn what_cannot_fit_is_not_searched() {
        let mut lz4 = Lz4High::new();
        for (input, budget) in [(noise(1 << 20), 4096), (noise(1 << 20), LEAST)] {
            let before = lz4.finder.added();
            lz4.fill(&input, budget).unwrap();
            let added = lz4.finder.added() - before;
            assert!(added as usize <= budget + SHORT_STRETCH, "{added}");
        }
    }

    #[test]
    fn tables_start_again_before_positions_overflow() {
        let mut lz4 = Lz4High::new();
        let input = b"some text and some text again, and again".repeat(20);
        let fresh = lz4.fill(&input, 4096).unwrap().1.to_vec();
        for next in [u32::MAX / 2, u32::MAX / 2 + 1] {
            lz4.finder.skip_to(next);
            assert_eq!(lz4.fill(&input, 4096).unwrap().1, fresh);
        }
    }

    fn inputs() -> impl Strategy<Value = Vec<u8>> {
        // Runs of few letters, and copies of what was before.
        let part = (any::<u32>(), 1..400_usize, 1..6_u32, any::<prop::sample::Index>());
        prop::collection::vec(part, 0..60).prop_map(|parts| {
            let mut bytes: Vec<u8> = Vec::new();
            for (seed, len, kind, from) in parts {
                if kind < 3 && !bytes.is_empty() {
                    let from = from.index(bytes.len());
                    let copy: Vec<u8> = bytes[from..].iter().copied().cycle().take(len).collect();
                    bytes.extend(copy);
                } else {
                    let noise = noise(len + 9);
                    let mask = if kind == 3 { 255 } else { 1 };
                    bytes.extend(noise[seed as usize % 9..].iter().map(|byte| byte & mask));
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(input in inputs(), budget in LEAST..9000) {
            check(&mut Lz4High::new(), &input, budget);
        }
    }
}
