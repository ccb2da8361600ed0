//! Cuts tokens into blocks where what they consist of changes, so that each has a code of its own.

use super::{END, Histogram, Token};

/// Tokens that are looked at together.
const STEP: usize = 2048;
/// What a further block costs: its codes, in bits, about.
const HEADER: u64 = 60 * 8;
/// Fractions of a bit are counted in 1/256.
const UNIT: u64 = 256;

/// The base-2 logarithm in 1/256, by integers so that every machine cuts alike.
fn log2(value: u64) -> u64 {
    let whole = u64::from(value.max(1).ilog2());
    // The mantissa's fraction in 1/256, and a parabola that is off by less than a hundredth.
    let fraction = ((value.max(1) << 8) >> whole) & 255;
    whole * UNIT + fraction + fraction * (256 - fraction) * 88 / (256 * 256)
}

/// Bits that the symbols take with the best code.
fn cost(counts: &Histogram) -> u64 {
    let entropy = |counts: &[u32]| {
        let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let own: u64 = counts
            .iter()
            .filter(|count| **count > 0)
            .map(|count| u64::from(*count) * log2(u64::from(*count)))
            .sum();
        (total * log2(total)).saturating_sub(own) / UNIT
    };
    entropy(&counts.litlens) + entropy(&counts.dists)
}

/// Where each block ends, and what it has in it, its end included. There is at least one.
pub(super) fn blocks(tokens: &[Token]) -> Vec<(usize, Histogram)> {
    let mut blocks = Vec::new();
    let mut current = Histogram::new();
    let mut current_cost = 0;
    let mut end = 0;
    for step in tokens.chunks(STEP) {
        let mut counts = Histogram::new();
        counts.count(step);
        let own_cost = cost(&counts);
        let mut both = current.clone();
        both.add(&counts);
        let both_cost = cost(&both);
        if end > 0 && current_cost + own_cost + HEADER < both_cost {
            blocks.push((end, current));
            (current, current_cost) = (counts, own_cost);
        } else {
            (current, current_cost) = (both, both_cost);
        }
        end += step.len();
    }
    blocks.push((end, current));
    for (_, counts) in &mut blocks {
        super::bump(&mut counts.litlens, END);
    }
    blocks
}
