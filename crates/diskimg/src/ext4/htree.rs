//! The hash by which the names of a large directory are sorted (`fs/ext4/hash.c` of Linux): the
//! first three rounds of MD4 over half of its state, with characters taken as signed numbers.

/// The hash version of the index: half MD4.
pub(super) const HALF_MD4: u8 = 1;
/// No hash has the value that marks the end of a directory.
const END: u32 = 0xffff_fffe;

const ROUNDS: [(u32, [usize; 8], [u32; 4]); 3] = [
    (0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
    (0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
    (0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
];

/// The hash of a name, by which the index is sorted, and the one that decides between equals.
pub(super) fn hash(name: &[u8], seed: &[u32; 4]) -> (u32, u32) {
    let mut state = *seed;
    let mut rest = name;
    while !rest.is_empty() {
        mix(&mut state, &words(rest));
        rest = rest.get(32..).unwrap_or_default();
    }
    let [_, major, minor, _] = state;
    let major = major & !1;
    (if major == END { END - 2 } else { major }, minor)
}

/// The next 32 bytes as words, filled up with the length of what is left.
fn words(rest: &[u8]) -> [u32; 8] {
    let len = crate::field::narrow32(rest.len() as u64);
    let pad = len | len << 8;
    let pad = pad | pad << 16;
    let mut words = [pad; 8];
    for (word, part) in words.iter_mut().zip(rest.chunks(4)) {
        for byte in part {
            let signed = i32::from(byte.cast_signed()).cast_unsigned();
            *word = signed.wrapping_add(*word << 8);
        }
    }
    words
}

fn mix(state: &mut [u32; 4], words: &[u32; 8]) {
    let [mut a, mut b, mut c, mut d] = *state;
    for (round, (constant, order, shifts)) in ROUNDS.iter().enumerate() {
        for (at, shift) in order.iter().zip(shifts.iter().cycle()) {
            let chosen = match round {
                0 => d ^ (b & (c ^ d)),
                1 => (b & c).wrapping_add((b ^ c) & d),
                _ => b ^ c ^ d,
            };
            let word = words.get(*at).copied().unwrap_or(0).wrapping_add(*constant);
            let turned = a.wrapping_add(chosen).wrapping_add(word).rotate_left(*shift);
            (a, b, c, d) = (d, turned, b, c);
        }
    }
    for (place, value) in state.iter_mut().zip([a, b, c, d]) {
        *place = place.wrapping_add(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `debugfs -R 'dx_hash -h half_md4 "NAME"'` gives these.
    #[test]
    fn hashes_are_those_of_debugfs() {
        let seed = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        for (name, expected) in VECTORS {
            assert_eq!(hash(name.as_bytes(), &seed), *expected, "{name}");
        }
    }

    const VECTORS: &[(&str, (u32, u32))] = &[
        ("a", (0xd5fa_7d7a, 0xacb4_8187)),
        ("hello.txt", (0xa26e_1d86, 0x133b_3f98)),
        ("Grüße", (0x8069_ed98, 0x7513_aca6)),
        (
            "a rather long name of a kernel module with more than thirty-two characters.ko.xz",
            (0xbf41_0526, 0x0f28_56da),
        ),
    ];
}
