//! What of a file its signature covers, and the checksum of the optional header.

#[cfg(feature = "sign")]
use std::ops::Range;

#[cfg(feature = "sign")]
use super::Headers;
use crate::Result;
use crate::content::Sink;

/// The bytes of a file that Authenticode hashes, in that order, for a file whose content without
/// certificates has `len` bytes: the headers without checksum and without the certificate table's
/// place; the sections by their place in the file; what follows as many bytes as were hashed so far
/// (Microsoft, "Windows Authenticode Portable Executable Signature Format", "Calculating the PE
/// Image Hash"; EDK2 `DxeImageVerificationLib`). In a file without gaps that is all of it, in order.
#[cfg(feature = "sign")]
pub(crate) fn regions(headers: &Headers, len: u64) -> Vec<Range<u64>> {
    let end_of_headers = u64::from(headers.size_of_headers);
    let checksum = headers.checksum_at() as u64;
    let after = checksum + 4;
    let mut regions = match headers.security_at().map(|at| at as u64) {
        Some(at) => vec![0..checksum, after..at, at + 8..end_of_headers],
        None => vec![0..checksum, after..end_of_headers],
    };
    let mut sections: Vec<Range<u64>> = headers
        .sections
        .iter()
        .filter(|section| section.len > 0)
        .map(|it| u64::from(it.offset)..u64::from(it.offset) + u64::from(it.len))
        .collect();
    sections.sort_by_key(|range| range.start);
    let mut hashed = end_of_headers;
    for section in sections {
        hashed = hashed.saturating_add(section.end - section.start);
        regions.push(section);
    }
    if hashed < len {
        regions.push(hashed..len);
    }
    regions
}

/// Sums a file up as the optional header's checksum does: 16-bit words, carries added again, and the
/// file's length. The checksum's own place has to be zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checksum {
    sum: u64,
    len: u64,
    /// The first half of a word that is not complete.
    half: Option<u8>,
}

impl Checksum {
    /// The checksum of what it was given.
    #[must_use]
    pub fn finish(mut self) -> u32 {
        if let Some(half) = self.half {
            self.sum += u64::from(half);
        }
        crate::field::narrow32(u64::from(fold(self.sum)).saturating_add(self.len))
    }
}

/// Adds carries until there are none: ones' complement addition can do so at the end.
fn fold(mut sum: u64) -> u16 {
    loop {
        if let Ok(sum) = u16::try_from(sum) {
            return sum;
        }
        sum = (sum & 0xffff) + (sum >> 16);
    }
}

impl Sink for Checksum {
    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        if let (Some(half), Some((first, rest))) = (self.half, bytes.split_first()) {
            self.sum += u64::from(u16::from_le_bytes([half, *first]));
            (self.half, bytes) = (None, rest);
        }
        // Words of 32 bits sum up to the same after folding, in half the steps.
        let words = bytes.chunks_exact(4);
        let rest = words.remainder();
        let sum: u64 = words
            .map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap_or_default())))
            .sum();
        self.sum = u64::from(fold(self.sum)) + u64::from(fold(sum));
        let pairs = rest.chunks_exact(2);
        if let [last] = pairs.remainder() {
            self.half = Some(*last);
        }
        for pair in pairs {
            self.sum += u64::from(u16::from_le_bytes(pair.try_into().unwrap_or_default()));
        }
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<()> {
        if len > 0 && self.half.is_some() {
            self.data(&[0])?;
            return self.hole(len - 1);
        }
        self.len += len;
        if len % 2 == 1 {
            self.half = Some(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_does_not_depend_on_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..10_007_u32).map(|at| ((at * 7) >> 3).to_le_bytes()[0]).collect();
        let words: u64 = bytes
            .chunks(2)
            .map(|pair| u64::from(pair[0]) + (u64::from(*pair.get(1).unwrap_or(&0)) << 8))
            .sum();
        let folded = (words & 0xffff) + (words >> 16);
        let expected = u32::try_from((folded & 0xffff) + (folded >> 16) + 10_007).unwrap();
        for size in [1, 2, 3, 5, 64, 10_007] {
            let mut sum = Checksum::default();
            bytes.chunks(size).for_each(|part| sum.data(part).unwrap());
            assert_eq!(sum.finish(), expected, "{size}");
        }
        let (mut holes, mut zeroes) = (Checksum::default(), Checksum::default());
        for len in [3, 1, 4, 2, 5] {
            holes.data(&[1, 2, 3]).unwrap();
            holes.hole(len).unwrap();
            zeroes.data(&[1, 2, 3]).unwrap();
            zeroes.data(&vec![0; usize::try_from(len).unwrap()]).unwrap();
        }
        assert_eq!(holes.finish(), zeroes.finish());
    }
}
