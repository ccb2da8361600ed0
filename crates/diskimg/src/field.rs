//! Fixed-width numbers at an offset of a block. Reads outside the block give `None`, writes outside
//! it do nothing: a wrong offset can neither panic nor reach another field.

macro_rules! get {
    ($name:ident, $type:ty, $from:ident) => {
        pub(crate) fn $name(block: &[u8], at: usize) -> Option<$type> {
            let end = at.checked_add(size_of::<$type>())?;
            block.get(at..end)?.try_into().ok().map(<$type>::$from)
        }
    };
}

get!(u16_le, u16, from_le_bytes);
get!(u32_le, u32, from_le_bytes);
get!(u64_le, u64, from_le_bytes);
get!(u32_be, u32, from_be_bytes);
get!(u64_be, u64, from_be_bytes);

/// The bytes `at..at + N`, when the block is that long.
pub(crate) fn array<const N: usize>(block: &[u8], at: usize) -> Option<[u8; N]> {
    block.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Writes bytes at an offset.
pub(crate) fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    let place = at.checked_add(bytes.len()).and_then(|end| block.get_mut(at..end));
    debug_assert!(place.is_some(), "field at {at} is outside of its block");
    if let Some(place) = place {
        place.copy_from_slice(bytes);
    }
}

/// The same number in 32 bits. For values that planning has bounded; a larger one saturates, which
/// a reader would notice, where truncation would look right.
pub(crate) fn narrow32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The same number in 16 bits, as [`narrow32`].
pub(crate) fn narrow16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// The same number as a length in memory, as [`narrow32`].
pub(crate) fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
