//! gzip and base64, bounded.

use std::io::Read;

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;

/// What became of compressed bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inflated {
    /// They are whole.
    Bytes(Vec<u8>),
    /// There would be more than was allowed.
    TooLong,
    /// They are no gzip, or damaged, or end too early.
    Broken,
}

/// RFC 1952: all members.
pub(crate) fn gunzip(bytes: &[u8], most: usize) -> Inflated {
    let mut out = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut reader = flate2::read::MultiGzDecoder::new(bytes).take(limit);
    match reader.read_to_end(&mut out) {
        Ok(_) if out.len() > most => Inflated::TooLong,
        Ok(_) => Inflated::Bytes(out),
        Err(_) => Inflated::Broken,
    }
}

/// RFC 4648 section 4. White space is passed over: contents stand in several lines.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let dense: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(dense).ok()
}
