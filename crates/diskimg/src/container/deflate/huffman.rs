//! Codes of limited length for symbols that occur so often.

/// The lengths of a prefix code, at most `limit` bits each; 0 for what does not occur.
pub(super) fn lengths<const N: usize>(counts: &[u32; N], limit: usize) -> [u8; N] {
    let mut lengths = [0; N];
    let mut symbols: Vec<(u32, usize)> = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(at, count)| (*count, at))
        .collect();
    match symbols.as_slice() {
        [] => return lengths,
        [(_, only)] => {
            if let Some(length) = lengths.get_mut(*only) {
                *length = 1;
            }
            return lengths;
        }
        _ => {}
    }
    symbols.sort_unstable();
    let mut of_length = depths(&symbols, limit);
    // The rarest symbols get the longest codes.
    let mut length = limit;
    for (_, symbol) in symbols {
        while length > 1 && of_length.get(length).is_none_or(|count| *count == 0) {
            length -= 1;
        }
        if let Some(count) = of_length.get_mut(length) {
            *count = count.saturating_sub(1);
        }
        if let Some(place) = lengths.get_mut(symbol) {
            *place = u8::try_from(length).unwrap_or(0);
        }
    }
    lengths
}

/// How many symbols have a code of each length: Huffman's tree over the sorted counts, then codes
/// that are too long moved up and the room for them taken from shorter ones.
fn depths(symbols: &[(u32, usize)], limit: usize) -> Vec<u32> {
    let count = symbols.len();
    // Leaves first, then the nodes in the order of their making, which is that of their weight.
    let mut weights: Vec<u64> = symbols.iter().map(|(weight, _)| u64::from(*weight)).collect();
    let mut parents = vec![0_usize; 2 * count - 1];
    let (mut leaf, mut node) = (0, count);
    for made in count..2 * count - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let leaf_weight = if leaf < count { weights.get(leaf).copied() } else { None };
            let node_weight = if node < made { weights.get(node).copied() } else { None };
            let takes_leaf = match (leaf_weight, node_weight) {
                (Some(leaf), Some(node)) => leaf <= node,
                (leaf, _) => leaf.is_some(),
            };
            let taken = if takes_leaf { &mut leaf } else { &mut node };
            weight += weights.get(*taken).copied().unwrap_or(0);
            if let Some(parent) = parents.get_mut(*taken) {
                *parent = made;
            }
            *taken += 1;
        }
        weights.push(weight);
    }
    let mut depth = vec![0_usize; 2 * count - 1];
    let mut of_length = vec![0_u32; limit + 1];
    for at in (0..2 * count - 2).rev() {
        let parent = parents.get(at).copied().unwrap_or(0);
        let own = depth.get(parent).copied().unwrap_or(0) + 1;
        if let Some(place) = depth.get_mut(at) {
            *place = own;
        }
        if at < count
            && let Some(place) = of_length.get_mut(own.min(limit))
        {
            *place += 1;
        }
    }
    // Kraft's sum in units of the longest code.
    let mut used: u64 = (1..)
        .zip(of_length.iter().skip(1))
        .map(|(length, count)| u64::from(*count) << (limit - length))
        .sum();
    while used > 1 << limit {
        // The longest code that is shorter than the limit becomes one bit longer.
        let Some(length) =
            (1..limit).rev().find(|length| of_length.get(*length).is_some_and(|count| *count > 0))
        else {
            break;
        };
        used -= 1 << (limit - length - 1);
        if let Some(place) = of_length.get_mut(length) {
            *place -= 1;
        }
        if let Some(place) = of_length.get_mut(length + 1) {
            *place += 1;
        }
    }
    // Where no code was short by little, more room was made than was needed; and what inflates takes
    // no code with room left (RFC 1951 says nothing of it, zlib and libdeflate refuse it).
    while used < 1 << limit {
        let room = (1 << limit) - used;
        let fits = |length: usize| 1_u64 << (limit - length) <= room;
        let Some(length) = (2..=limit)
            .rev()
            .find(|length| fits(*length) && of_length.get(*length).is_some_and(|it| *it > 0))
        else {
            break;
        };
        used += 1 << (limit - length);
        if let Some(place) = of_length.get_mut(length) {
            *place -= 1;
        }
        if let Some(place) = of_length.get_mut(length - 1) {
            *place += 1;
        }
    }
    of_length
}

/// The codes of these lengths (RFC 1951 section 3.2.2), their first bit lowest.
pub(super) fn codes<const N: usize>(lengths: &[u8; N]) -> [u16; N] {
    let mut next = [0_u16; 17];
    let mut of_length = [0_u16; 16];
    for length in lengths.iter().filter(|length| **length > 0) {
        if let Some(count) = of_length.get_mut(usize::from(*length)) {
            *count += 1;
        }
    }
    let mut code = 0_u16;
    for (length, count) in of_length.iter().enumerate() {
        code = code.wrapping_add(*count).wrapping_shl(1);
        if let Some(place) = next.get_mut(length + 1) {
            *place = code;
        }
    }
    let mut codes = [0; N];
    for (place, length) in codes.iter_mut().zip(lengths).filter(|(_, length)| **length > 0) {
        if let Some(code) = next.get_mut(usize::from(*length)) {
            *place = code.reverse_bits() >> (16 - u16::from(*length));
            *code = code.wrapping_add(1);
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_rfc() {
        // RFC 1951 section 3.2.2: the example ABCDEFGH.
        let codes = codes(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let printed = [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111_u16];
        for ((code, expected), length) in codes.iter().zip(printed).zip([3, 3, 3, 3, 3, 2, 4, 4]) {
            assert_eq!(code.reverse_bits() >> (16 - length), expected);
        }
    }

    #[test]
    fn lengths_fill_the_code_and_keep_the_limit() {
        // Fibonacci's numbers make the deepest tree.
        let mut counts = [0_u32; 30];
        let (mut a, mut b) = (1, 1);
        for count in &mut counts {
            *count = a;
            (a, b) = (b, a + b);
        }
        for limit in [5, 7, 15] {
            let lengths = lengths(&counts, limit);
            assert!(lengths.iter().all(|length| (1..=limit).contains(&usize::from(*length))));
            let used: u64 =
                lengths.iter().map(|length| 1_u64 << (limit - usize::from(*length))).sum();
            assert_eq!(used, 1 << limit, "{limit}");
        }
    }

    /// A code with room left is refused by what inflates: the image could not be read.
    #[test]
    fn no_code_has_room_left_whatever_the_counts() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as u32
        };
        for round in 0..200_000 {
            let mut counts = [0_u32; 19];
            let symbols = 2 + random() as usize % 18;
            for count in counts.iter_mut().take(symbols) {
                // Steep, so that the tree is deeper than the limit.
                *count = 1 << (random() % 16);
            }
            let limit = if round % 2 == 0 { 7 } else { 5 };
            let lengths = lengths(&counts, limit);
            let used = lengths.iter().filter(|length| **length > 0);
            let used: u64 = used.map(|length| 1_u64 << (limit - usize::from(*length))).sum();
            assert_eq!(used, 1 << limit, "{counts:?} {lengths:?}");
        }
    }
}
