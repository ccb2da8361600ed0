//! Netlink messages (netlink(7)): `nlmsghdr` (16 bytes: length, type, flags, sequence, port), a fixed
//! header by type, and attributes (length, type, data, padded to 4 bytes), which may be nested.

/// Asks for something.
pub(crate) const F_REQUEST: u16 = 0x1;
/// An answer in several parts.
#[cfg(test)]
const F_MULTI: u16 = 0x2;
/// Asks to be told when it is done.
pub(crate) const F_ACK: u16 = 0x4;
/// The answer may not be of one moment, because something changed meanwhile.
pub(crate) const F_DUMP_INTR: u16 = 0x10;
/// Asks for everything.
pub(crate) const F_DUMP: u16 = 0x300;
/// What is there is replaced.
pub(crate) const F_REPLACE: u16 = 0x100;
/// What is there is an error.
pub(crate) const F_EXCL: u16 = 0x200;
/// What is not there is made.
pub(crate) const F_CREATE: u16 = 0x400;

/// The bit of an attribute's type that says that it holds others.
const NESTED: u16 = 0x8000;

const HEADER_LEN: usize = 16;

/// A request under construction.
#[derive(Debug, Clone)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A request of a type with its fixed header.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((F_REQUEST | flags).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend_from_slice(fixed);
        let mut message = Self(bytes);
        message.pad();
        message
    }

    /// The same request, which is answered when it is done. Without, only what goes wrong is.
    #[cfg(feature = "container")]
    pub(crate) fn acknowledged(mut self) -> Self {
        if let (Some(flags), Some(field)) = (u16_at(&self.0, 6), self.0.get_mut(6..8)) {
            field.copy_from_slice(&(flags | F_ACK).to_ne_bytes());
        }
        self
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(crate) fn bytes(mut self, kind: u16, data: &[u8]) -> Self {
        let len = u16::try_from(data.len().saturating_add(4)).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        self.pad();
        self
    }

    /// Text with the NUL that the kernel wants after it.
    pub(crate) fn text(self, kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(crate) fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    pub(crate) fn u16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// In network order, as nf_tables has its numbers.
    #[cfg(feature = "container")]
    pub(crate) fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute that holds what `fill` adds.
    pub(crate) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.0.extend(0_u16.to_ne_bytes());
        self.0.extend((kind | NESTED).to_ne_bytes());
        let mut filled = fill(self);
        let len = filled.0.len().saturating_sub(start);
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        if let Some(field) = filled.0.get_mut(start..start.saturating_add(2)) {
            field.copy_from_slice(&len.to_ne_bytes());
        }
        filled
    }

    /// Bytes that are no attribute: the fixed header inside of one.
    pub(crate) fn raw(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.pad();
        self
    }

    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        for (at, value) in [(0_usize, len), (8, sequence)] {
            if let Some(field) = self.0.get_mut(at..at.saturating_add(4)) {
                field.copy_from_slice(&value.to_ne_bytes());
            }
        }
        self.0
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A message that was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Splits what was read at once into messages.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = Received {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body: bytes.get(HEADER_LEN..len)?,
        };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Splits attributes: type (without flags), data.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let attribute = (u16_at(bytes, 2)? & 0x3fff, bytes.get(4..len)?);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

/// The text of an attribute, as far as it is text.
pub(crate) fn text(data: &[u8]) -> String {
    let text = data.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// netlink(7), rtnetlink(7): RTM_NEWLINK with IFLA_IFNAME and nested IFLA_LINKINFO.
    #[test]
    fn golden() {
        let message = Message::new(16, F_ACK | F_CREATE | F_EXCL, &[0; 16])
            .text(3, "br0")
            .nest(18, |info| info.text(1, "bridge").nest(2, |data| data.u8(7, 1)));
        let expected: Vec<u8> = [
            &[72, 0, 0, 0, 16, 0, 0x05, 0x06, 9, 0, 0, 0, 0, 0, 0, 0][..],
            &[0; 16],
            &[8, 0, 3, 0, b'b', b'r', b'0', 0],
            &[28, 0, 18, 0x80],
            &[11, 0, 1, 0, b'b', b'r', b'i', b'd', b'g', b'e', 0, 0],
            &[12, 0, 2, 0x80, 5, 0, 7, 0, 1, 0, 0, 0],
        ]
        .concat();
        let mut expected = expected;
        expected[0] = u8::try_from(expected.len()).unwrap();
        assert_eq!(message.finish(9), expected);
    }

    #[test]
    fn what_is_cut_ends_the_iteration() {
        let whole = Message::new(16, F_MULTI, &[0; 16]).text(3, "eth0").finish(3);
        assert_eq!(messages(&whole).count(), 1);
        for len in 0..whole.len() {
            assert_eq!(messages(&whole[..len]).count(), 0, "{len}");
        }
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0, "length 0 does not loop");
        assert_eq!(messages(&[0; 32]).count(), 0, "length 0 does not loop");
        let received = messages(&whole).next().unwrap();
        let (kind, data) = attributes(&received.body[16..]).next().unwrap();
        assert_eq!((kind, text(data).as_str()), (3, "eth0"));
    }
}
