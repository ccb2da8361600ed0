//! Blocks as RFC 1951 section 3.2.3 has them: the smallest of the dynamic and the fixed code. A part
//! that does not compress at all is rare in what gets here, and what is no smaller in the end is
//! stored as it is by the image format; so there are no stored blocks.

use super::bits::Bits;
use super::huffman::{codes, lengths};
use super::{DISTS, END, FIRST_LENGTH, Histogram, LITLENS, MIN_MATCH, Token};

/// The order in which the lengths of the code lengths' codes are stored.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The first length of each length code, and its further bits.
const LENGTHS: [(usize, u32); 29] = length_table();
/// The same for distances.
const DISTANCES: [(usize, u32); DISTS] = distance_table();
/// The code of each length less three.
const LENGTH_CODES: [usize; 256] = length_codes();

const fn length_table() -> [(usize, u32); 29] {
    let mut table = [(258, 0); 29];
    let (mut code, mut bits, mut first) = (0, 0, MIN_MATCH);
    while code < 28 {
        table[code] = (first, bits);
        first += 1 << bits;
        code += 1;
        // From the eighth code on, four have the same number of bits.
        if code >= 8 && code.is_multiple_of(4) {
            bits += 1;
        }
    }
    table
}

const fn distance_table() -> [(usize, u32); DISTS] {
    let mut table = [(0, 0); DISTS];
    let (mut code, mut bits, mut first) = (0, 0, 1);
    while code < DISTS {
        table[code] = (first, bits);
        first += 1 << bits;
        code += 1;
        if code >= 4 && code.is_multiple_of(2) {
            bits += 1;
        }
    }
    table
}

const fn length_codes() -> [usize; 256] {
    let mut codes = [0; 256];
    let mut code = 0;
    while code < LENGTHS.len() {
        let (first, bits) = LENGTHS[code];
        let mut at = 0;
        while at < 1 << bits && first - MIN_MATCH + at < 256 {
            codes[first - MIN_MATCH + at] = code;
            at += 1;
        }
        code += 1;
    }
    codes
}

#[inline]
pub(super) fn length_code(len: usize) -> usize {
    LENGTH_CODES.get(len.wrapping_sub(MIN_MATCH)).copied().unwrap_or(0)
}

#[inline]
pub(super) fn distance_code(dist: usize) -> usize {
    let less = dist.max(1) - 1;
    if less < 4 {
        return less;
    }
    // Two codes for each power of two.
    let log = less.ilog2() as usize;
    log * 2 + ((less >> (log - 1)) & 1)
}

/// Code lengths for all symbols.
struct Code {
    litlens: [u8; LITLENS],
    dists: [u8; DISTS],
}

impl Code {
    fn fixed() -> Self {
        let mut litlens = [8; LITLENS];
        for (symbol, length) in litlens.iter_mut().enumerate() {
            *length = match symbol {
                0..144 | 280.. => 8,
                144..256 => 9,
                _ => 7,
            };
        }
        Self { litlens, dists: [5; DISTS] }
    }

    /// Bits that the symbols take, without the bits that follow length and distance codes, which
    /// every code has.
    fn cost(&self, counts: &Histogram) -> u64 {
        let sum = |counts: &[u32], lengths: &[u8]| -> u64 {
            counts
                .iter()
                .zip(lengths)
                .map(|(count, length)| u64::from(*count) * u64::from(*length))
                .sum()
        };
        sum(&counts.litlens, &self.litlens) + sum(&counts.dists, &self.dists)
    }
}

/// Writes a block of these tokens.
pub(super) fn write(bits: &mut Bits<'_>, tokens: &[Token], counts: Histogram, last: bool) {
    let dynamic = Code { litlens: lengths(&counts.litlens, 15), dists: lengths(&counts.dists, 15) };
    let header = Lengths::new(&dynamic);
    let fixed = Code::fixed();
    bits.put(u32::from(last), 1);
    if header.cost() + dynamic.cost(&counts) < fixed.cost(&counts) {
        bits.put(2, 2);
        header.write(bits);
        write_tokens(bits, tokens, &dynamic);
    } else {
        bits.put(1, 2);
        write_tokens(bits, tokens, &fixed);
    }
}

/// A symbol's code and how many bits it has.
type Coded = (u16, u8);

fn coded<const N: usize>(lengths: &[u8; N]) -> [Coded; N] {
    let mut coded = codes(lengths).map(|code| (code, 0));
    for (place, length) in coded.iter_mut().zip(lengths) {
        place.1 = *length;
    }
    coded
}

fn write_tokens(bits: &mut Bits<'_>, tokens: &[Token], code: &Code) {
    let litlens = coded(&code.litlens);
    let dists = coded(&code.dists);
    let litlen = |symbol: usize| litlens.get(symbol).copied().unwrap_or((0, 0));
    for token in tokens {
        let Some((len, dist)) = token.parts() else {
            let (code, count) = litlen((token.0 & 0xff) as usize);
            bits.put(u32::from(code), u32::from(count));
            continue;
        };
        let symbol = length_code(len);
        let (code, count) = litlen(FIRST_LENGTH + symbol);
        let (first, more) = LENGTHS.get(symbol).copied().unwrap_or((3, 0));
        let rest = crate::field::narrow32((len - first) as u64);
        bits.put(u32::from(code) | (rest << count), u32::from(count) + more);
        let symbol = distance_code(dist);
        let (code, count) = dists.get(symbol).copied().unwrap_or((0, 0));
        let (first, more) = DISTANCES.get(symbol).copied().unwrap_or((1, 0));
        let rest = crate::field::narrow32((dist - first) as u64);
        bits.put(u32::from(code) | (rest << count), u32::from(count) + more);
    }
    let (code, count) = litlen(END);
    bits.put(u32::from(code), u32::from(count));
}

/// The code lengths of a dynamic block, run-length encoded (RFC 1951 section 3.2.7).
struct Lengths {
    litlens: usize,
    dists: usize,
    /// Symbol, and the value of its further bits.
    runs: Vec<(usize, u32)>,
    code: [u8; 19],
    /// How many of the code's lengths are stored.
    stored: usize,
}

const RUN_BITS: [(usize, u32); 3] = [(16, 2), (17, 3), (18, 7)];

fn run_bits(symbol: usize) -> u32 {
    RUN_BITS.iter().find(|(run, _)| *run == symbol).map_or(0, |(_, bits)| *bits)
}

impl Lengths {
    fn new(code: &Code) -> Self {
        let used = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|length| *length > 0).map_or(least, |at| (at + 1).max(least))
        };
        let (litlens, dists) = (used(&code.litlens, FIRST_LENGTH), used(&code.dists, 1));
        let all: Vec<u8> = code
            .litlens
            .iter()
            .take(litlens)
            .chain(code.dists.iter().take(dists))
            .copied()
            .collect();
        let mut runs = Vec::new();
        let mut counts = [0; 19];
        for run in all.chunk_by(|a, b| a == b) {
            let value = run.first().copied().unwrap_or(0);
            let mut left = run.len();
            let mut push = |symbol: usize, extra: usize| {
                super::bump(&mut counts, symbol);
                runs.push((symbol, crate::field::narrow32(extra as u64)));
            };
            if value == 0 {
                while left >= 11 {
                    let now = left.min(138);
                    push(18, now - 11);
                    left -= now;
                }
                if left >= 3 {
                    push(17, left - 3);
                    left = 0;
                }
            } else {
                push(usize::from(value), 0);
                left -= 1;
                while left >= 3 {
                    let now = left.min(6);
                    push(16, now - 3);
                    left -= now;
                }
            }
            for _ in 0..left {
                push(usize::from(value), 0);
            }
        }
        let code = lengths(&counts, 7);
        let is_stored = |at: &usize| code.get(*at).is_some_and(|length| *length > 0);
        let stored = ORDER.iter().rposition(is_stored).map_or(4, |at| (at + 1).max(4));
        Self { litlens, dists, runs, code, stored }
    }

    fn cost(&self) -> u64 {
        let runs: u64 = self
            .runs
            .iter()
            .map(|(symbol, _)| {
                let length = self.code.get(*symbol).copied().unwrap_or(0);
                u64::from(length) + u64::from(run_bits(*symbol))
            })
            .sum();
        14 + 3 * self.stored as u64 + runs
    }

    fn write(&self, bits: &mut Bits<'_>) {
        let number = |value: usize| crate::field::narrow32(value as u64);
        bits.put(number(self.litlens - FIRST_LENGTH), 5);
        bits.put(number(self.dists - 1), 5);
        bits.put(number(self.stored - 4), 4);
        for at in ORDER.iter().take(self.stored) {
            bits.put(u32::from(self.code.get(*at).copied().unwrap_or(0)), 3);
        }
        let coded = coded(&self.code);
        for (symbol, extra) in &self.runs {
            let (code, count) = coded.get(*symbol).copied().unwrap_or((0, 0));
            bits.put(u32::from(code), u32::from(count));
            bits.put(*extra, run_bits(*symbol));
        }
    }
}
