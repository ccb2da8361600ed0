//! What an extent holds.

use super::index::Stretch;
use super::superblock::Superblock;
use crate::field::index;

/// Appends the bytes of an extent; says what is wrong with it.
pub(super) fn stretch(
    superblock: &Superblock,
    stretch: &Stretch,
    stored: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let len = stretch.end.checked_sub(stretch.start).ok_or("an extent ends before it begins")?;
    let Some(algorithm) = stretch.algorithm else {
        if len > stored.len() as u64 {
            return Err(format!(
                "{len} bytes are said to be in {} that are not compressed",
                stored.len()
            ));
        }
        let offset = if stretch.rotated {
            index(stretch.start % (1 << superblock.block_bits)).min(stored.len())
        } else {
            0
        };
        let (left, right) = stored.split_at(offset);
        out.extend(right.iter().chain(left).take(index(len)));
        return Ok(());
    };
    let zeroes = stored.iter().take_while(|byte| **byte == 0).count();
    let packed = stored.get(zeroes..).unwrap_or_default();
    match algorithm {
        #[cfg(feature = "lz4")]
        0 => {
            // No byte of LZ4 says more than 255.
            if len > packed.len() as u64 * 255 + 64 {
                return Err(format!("{} bytes cannot decompress to {len}", packed.len()));
            }
            let start = out.len();
            out.resize(start + index(len), 0);
            let place = out.get_mut(start..).unwrap_or_default();
            match lz4_flex::block::decompress_into(packed, place) {
                Ok(count) if count as u64 == len => Ok(()),
                Ok(count) => Err(format!("an extent of {len} bytes has only {count}")),
                Err(error) => Err(format!("an extent does not decompress: {error}")),
            }
        }
        other => {
            let name = match other {
                0 => "LZ4 (the feature lz4 is off)",
                1 => "LZMA",
                2 => "DEFLATE",
                3 => "Zstandard",
                _ => "no known algorithm",
            };
            Err(format!("an extent of {} bytes by {name} cannot be read", packed.len()))
        }
    }
}
