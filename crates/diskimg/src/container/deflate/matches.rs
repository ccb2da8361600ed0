//! Finds what was there before: hash chains over four bytes and the last place of three, and a match
//! is taken only when the next byte has none that is better ("lazy").

use super::{MAX_MATCH, MIN_MATCH, Token};

const HASH4_BITS: u32 = 14;
const HASH3_BITS: u32 = 13;
/// How many places of a chain are looked at. Twice as many, and twice [`LAZY`], make a disk 0.7 %
/// smaller in 17 % more time.
const DEPTH: u32 = 6;
/// A match of this length is taken without looking on.
const NICE: usize = 32;
/// After a match of this length no better one is looked for.
const LAZY: usize = 8;

pub(super) struct Matcher {
    window: usize,
    /// The last place of four bytes of that hash, plus one.
    head4: Vec<u32>,
    /// The same for three bytes.
    head3: Vec<u32>,
    /// The place before of the same hash, plus one, by place within the window.
    before: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Match {
    len: usize,
    dist: usize,
}

impl Match {
    /// Whether it is worth a literal before it: each byte of length is worth about four bits, and a
    /// distance costs its logarithm.
    fn is_better_than(self, other: Self, margin: i32) -> bool {
        let log = |dist: usize| i32::try_from(dist.max(1).ilog2()).unwrap_or(0);
        let gain = |it: Self| i32::try_from(it.len * 4).unwrap_or(0) - log(it.dist);
        self.len >= MIN_MATCH && gain(self) - gain(other) > margin
    }
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(four) => u32::from_le_bytes(*four),
        None => 0,
    }
}

#[inline]
fn hash(value: u32, bits: u32) -> usize {
    (value.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize
}

/// How many bytes are equal, at most `max`; `earlier` < `at`.
#[inline]
fn equal(bytes: &[u8], earlier: usize, at: usize, max: usize) -> usize {
    let (Some(left), Some(right)) = (bytes.get(earlier..), bytes.get(at..)) else { return 0 };
    let right = right.get(..max).unwrap_or(right);
    let mut len = 0;
    let (left_words, _) = left.as_chunks::<8>();
    let (right_words, rest) = right.as_chunks::<8>();
    for (a, b) in left_words.iter().zip(right_words) {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return len + (differing.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    let left = left.get(len..).unwrap_or_default();
    len + left.iter().zip(rest).take_while(|(a, b)| a == b).count()
}

impl Matcher {
    pub(super) fn new(window: usize) -> Self {
        let window = window.clamp(1 << 8, 1 << 15).next_power_of_two();
        Self {
            window,
            head4: vec![0; 1 << HASH4_BITS],
            head3: vec![0; 1 << HASH3_BITS],
            before: vec![0; window],
        }
    }

    /// Enters a place and gives the ones before it that may be equal, each plus one.
    #[inline]
    fn enter(&mut self, value: u32, at: usize) -> (u32, u32) {
        let entry = crate::field::narrow32(at as u64 + 1);
        let (mut last4, mut last3) = (0, 0);
        if let Some(head) = self.head4.get_mut(hash(value, HASH4_BITS)) {
            last4 = std::mem::replace(head, entry);
        }
        if let Some(head) = self.head3.get_mut(hash(value << 8, HASH3_BITS)) {
            last3 = std::mem::replace(head, entry);
        }
        if let Some(before) = self.before.get_mut(at & (self.window - 1)) {
            *before = last4;
        }
        (last4, last3)
    }

    /// Enters a place and finds the longest match for it that is longer than `than`.
    #[inline]
    fn find(&mut self, bytes: &[u8], at: usize, depth: u32, than: usize) -> Match {
        let max = (bytes.len() - at).min(MAX_MATCH);
        if max < 4 {
            return Match::default();
        }
        let value = word(bytes, at);
        let (last4, last3) = self.enter(value, at);
        let oldest = at.saturating_sub(self.window);
        let mut best = Match { len: than, dist: 0 };
        if best.len < MIN_MATCH {
            let place = (last3 as usize).wrapping_sub(1);
            if last3 > 0 && place >= oldest && (word(bytes, place) ^ value) & 0x00ff_ffff == 0 {
                best = Match { len: MIN_MATCH, dist: at - place };
            }
        }
        let mut next = last4;
        // The four bytes that a longer match ends with.
        let mut tail = word(bytes, (at + best.len).saturating_sub(3));
        for _ in 0..depth {
            let place = (next as usize).wrapping_sub(1);
            if next == 0 || place < oldest || place >= at || best.len >= max {
                break;
            }
            let ends_alike =
                best.len < 4 || word(bytes, (place + best.len).saturating_sub(3)) == tail;
            if ends_alike && word(bytes, place) == value {
                let len = equal(bytes, place, at, max);
                if len > best.len {
                    best = Match { len, dist: at - place };
                    if len >= NICE {
                        break;
                    }
                    tail = word(bytes, (at + len).saturating_sub(3));
                }
            }
            next = self.before.get(place & (self.window - 1)).copied().unwrap_or(0);
        }
        if best.dist == 0 { Match::default() } else { best }
    }

    /// Appends what the bytes consist of.
    pub(super) fn tokens(&mut self, bytes: &[u8], tokens: &mut Vec<Token>) {
        self.head4.fill(0);
        self.head3.fill(0);
        let literal = |at: usize| Token::literal(bytes.get(at).copied().unwrap_or(0));
        let mut at = 0;
        let mut held = Match::default();
        while at < bytes.len() {
            if held.len < MIN_MATCH {
                held = self.find(bytes, at, DEPTH, 0);
                // Three bytes from far away cost as much as three literals.
                if held.len < MIN_MATCH || (held.len == MIN_MATCH && held.dist > 4096) {
                    held = Match::default();
                    tokens.push(literal(at));
                    at += 1;
                    continue;
                }
            }
            let mut entered = 1;
            if held.len < LAZY && at + 1 < bytes.len() {
                let next = self.find(bytes, at + 1, DEPTH / 2, held.len - 1);
                if next.is_better_than(held, 2) {
                    tokens.push(literal(at));
                    at += 1;
                    held = next;
                    continue;
                }
                entered = 2;
            }
            tokens.push(Token::matched(held.len, held.dist));
            let end = at + held.len;
            for place in at + entered..end.min(bytes.len().saturating_sub(3)) {
                self.enter(word(bytes, place), place);
            }
            at = end;
            held = Match::default();
        }
    }
}
