//! Compressors, asked for as much as fits into a physical cluster.

/// Compresses to a given length.
pub(super) trait Codec {
    /// Compresses as much of the start of `input` as fits into `budget` bytes. Gives how much that
    /// was, and the compressed bytes, of which the first is not zero; `None` when it gains nothing.
    fn fill(&mut self, input: &[u8], budget: usize) -> Option<(usize, &[u8])>;
}

#[cfg(feature = "lz4")]
pub(super) mod lz4 {
    //! LZ4 blocks ("LZ4 Block Format Description" of the LZ4 project).
    //!
    //! The crate compresses a given input, not to a given length. So somewhat more than will fit is
    //! compressed, and the stream is cut: after any sequence the rest may be literals.

    use super::Codec;

    /// Literals that a stream must end with at least: five by the format, and the last match must
    /// begin twelve bytes before the end.
    const LAST_LITERALS: usize = 12;

    pub(in crate::erofs) struct Lz4 {
        out: Vec<u8>,
        /// What the last attempt took, the best guess for the next.
        last: usize,
    }

    impl Lz4 {
        pub(in crate::erofs) fn new() -> Self {
            Self { out: Vec::new(), last: 0 }
        }
    }

    impl Codec for Lz4 {
        fn fill(&mut self, input: &[u8], budget: usize) -> Option<(usize, &[u8])> {
            let guess = if self.last == 0 { budget * 2 } else { self.last };
            // Incompressible input is told from as much as would do.
            let mut window = (guess + guess / 8 + 256).max(budget + budget / 32).min(input.len());
            loop {
                let part = input.get(..window)?;
                let most = lz4_flex::block::get_maximum_output_size(window);
                if self.out.len() < most {
                    self.out.resize(most, 0);
                }
                let len = lz4_flex::block::compress_into(part, &mut self.out).ok()?;
                if len > budget {
                    let (taken, len) = cut(part, self.out.get_mut(..len)?, budget)?;
                    self.last = taken;
                    return Some((taken, self.out.get(..len)?));
                }
                if window == input.len() {
                    self.last = window;
                    return Some((window, self.out.get(..len)?));
                }
                // It compresses better than was thought.
                let better = window.saturating_mul(budget) / len.max(1);
                window = better.saturating_add(better / 16 + 1024).min(input.len());
            }
        }
    }

    /// Cuts a stream so that it has at most `budget` bytes, which it exceeds. Gives how much of the
    /// input is left in it, and its length.
    fn cut(input: &[u8], stream: &mut [u8], budget: usize) -> Option<(usize, usize)> {
        // The last place at which literals may begin: in the stream, in the input.
        let mut place = (0, 0);
        let (mut at, mut taken) = (0, 0);
        loop {
            let token = *stream.get(at)?;
            let mut literals = usize::from(token >> 4);
            let mut next = at + 1;
            if literals == 15 {
                literals += extension(stream, &mut next)?;
            }
            // After the literals come two bytes of distance.
            next += literals + 2;
            let longer = next;
            let mut matched = usize::from(token & 15) + 4;
            if token & 15 == 15 {
                matched += extension(stream, &mut next)?;
            }
            if next + 1 + LAST_LITERALS > budget {
                // A long match may be a shorter one.
                let room = budget.saturating_sub(longer + 1 + LAST_LITERALS);
                if token & 15 == 15 && room > 0 {
                    let last = longer + room - 1;
                    stream.get_mut(longer..last)?.fill(255);
                    *stream.get_mut(last)? = 254;
                    place = (last + 1, taken + literals + 4 + 15 + 255 * (room - 1) + 254);
                }
                break;
            }
            (at, taken) = (next, taken + literals + matched);
            place = (at, taken);
        }
        let (at, taken) = place;
        let room = budget.checked_sub(at + 1)?;
        let rest = input.len().checked_sub(taken)?;
        // A length of 15 and more takes a byte, and one for each 255 beyond.
        let mut literals = room.min(rest);
        while literals + extension_len(literals) > room {
            literals -= 1;
        }
        if literals < LAST_LITERALS {
            return None;
        }
        let mut end = at + 1;
        let mut beyond = literals.checked_sub(15);
        *stream.get_mut(at)? = u8::try_from(literals.min(15)).ok()? << 4;
        while let Some(more) = beyond {
            *stream.get_mut(end)? = u8::try_from(more.min(255)).ok()?;
            end += 1;
            beyond = more.checked_sub(255);
        }
        let bytes = input.get(taken..taken + literals)?;
        stream.get_mut(end..end + literals)?.copy_from_slice(bytes);
        Some((taken + literals, end + literals))
    }

    fn extension_len(len: usize) -> usize {
        len.checked_sub(15).map_or(0, |more| more / 255 + 1)
    }

    fn extension(stream: &[u8], at: &mut usize) -> Option<usize> {
        let mut sum = 0;
        loop {
            let byte = *stream.get(*at)?;
            *at += 1;
            sum += usize::from(byte);
            if byte != 255 {
                return Some(sum);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn cut_streams_decompress_to_the_start_of_the_input() {
            let text: Vec<u8> = (0..60_000_u32)
                .flat_map(|at| format!("{at:x} {} ", at % 77).into_bytes())
                .collect();
            let mut state = 7_u32;
            let mut noise = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let noise: Vec<u8> = (0..300_000).map(|_| noise()).collect();
            let mut mixed = Vec::new();
            for (a, b) in text.chunks(300).zip(noise.chunks(100)) {
                mixed.extend_from_slice(a);
                mixed.extend_from_slice(b);
            }
            let zeroes = vec![0; 2 << 20];
            for input in [text, noise, mixed, zeroes] {
                for budget in [4096, 65_536] {
                    let mut lz4 = Lz4::new();
                    let mut at = 0;
                    let mut used = 0;
                    while at < input.len() {
                        let Some((taken, bytes)) = lz4.fill(&input[at..], budget) else { break };
                        assert!(bytes.len() <= budget && bytes[0] != 0);
                        let full = at + taken == input.len();
                        assert!(full || bytes.len() + 3 >= budget, "{} {taken}", bytes.len());
                        let back = lz4_flex::block::decompress(bytes, taken).unwrap();
                        assert!(back == input[at..at + taken]);
                        at += taken;
                        used += bytes.len();
                    }
                    assert_eq!(at, input.len());
                    // Each cut starts with an empty window: some more than in one piece.
                    let whole = lz4_flex::block::compress(&input).len();
                    assert!(used < whole * 3 / 2 + budget, "{used} {whole}");
                }
            }
        }
    }
}
