//! Headers of tar archives: POSIX.1-1988 (ustar), and old GNU tar's for sparse files. Entries are put
//! together here because their lengths are known only after them, and because of the sparse map.

use crate::field::put;

const BLOCK: usize = 512;
/// Sparse entries in the header, and in each block after it.
const IN_HEADER: usize = 4;
const IN_BLOCK: usize = 21;

/// Zeroes from so many bytes to the next block.
pub(super) fn padding(len: u64) -> &'static [u8] {
    static ZEROES: [u8; BLOCK] = [0; BLOCK];
    let over = len % BLOCK as u64;
    let count = if over == 0 { 0 } else { BLOCK as u64 - over };
    ZEROES.get(..crate::field::index(count)).unwrap_or_default()
}

/// A number in octal, or in binary when it has more than 33 bits, which GNU, BSD and VMware read.
fn number<const N: usize>(value: u64) -> [u8; N] {
    let mut field = [0; N];
    let octal = format!("{value:0width$o}", width = N - 1);
    if octal.len() < N {
        put(&mut field, 0, octal.as_bytes());
    } else {
        put(&mut field, N - 8, &value.to_be_bytes());
        put(&mut field, 0, &[0x80]);
    }
    field
}

/// A file that belongs to nobody in particular and was made in 1970.
fn header(name: &str, stored: u64, kind: u8, magic: [u8; 8]) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    put(&mut header, 0, name.as_bytes());
    put(&mut header, 100, &number::<8>(0o644));
    put(&mut header, 108, &number::<8>(0));
    put(&mut header, 116, &number::<8>(0));
    put(&mut header, 124, &number::<12>(stored));
    put(&mut header, 136, &number::<12>(0));
    put(&mut header, 156, &[kind]);
    put(&mut header, 257, &magic);
    header
}

/// Sets the checksum, of which the field itself counts as spaces.
fn seal(mut header: [u8; BLOCK]) -> [u8; BLOCK] {
    put(&mut header, 148, &[b' '; 8]);
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    put(&mut header, 148, &number::<7>(sum));
    header
}

/// The header of a file; the name has less than 100 bytes.
pub(super) fn file(name: &str, len: u64) -> [u8; BLOCK] {
    seal(header(name, len, b'0', *b"ustar\x0000"))
}

/// The header of a sparse file of `len` bytes, and its map. The ranges are first byte and end.
pub(super) fn sparse(name: &str, len: u64, ranges: &[(u64, u64)]) -> Vec<u8> {
    let stored = ranges.iter().map(|(start, end)| end - start).sum();
    let mut head = header(name, stored, b'S', *b"ustar  \0");
    // The map ends where the file does.
    let end = (len, len);
    let entries: Vec<[u8; 24]> = ranges
        .iter()
        .chain([&end])
        .map(|(start, end)| {
            let mut entry = [0; 24];
            put(&mut entry, 0, &number::<12>(*start));
            put(&mut entry, 12, &number::<12>(end - start));
            entry
        })
        .collect();
    let (first, more) = entries.split_at(entries.len().min(IN_HEADER));
    put(&mut head, 386, first.as_flattened());
    put(&mut head, 482, &[u8::from(!more.is_empty())]);
    put(&mut head, 483, &number::<12>(len));
    let mut out = seal(head).to_vec();
    let count = more.len().div_ceil(IN_BLOCK);
    for (at, entries) in more.chunks(IN_BLOCK).enumerate() {
        let mut block = [0; BLOCK];
        put(&mut block, 0, entries.as_flattened());
        put(&mut block, 504, &[u8::from(at + 1 < count)]);
        out.extend_from_slice(&block);
    }
    out
}
