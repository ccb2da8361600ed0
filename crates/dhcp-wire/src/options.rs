//! The options field: code, length, data; long options in several pieces; more of them in sname and
//! file when option 52 says so.
//!
//! Pieces of one code are concatenated in the order options, file, sname (RFC 3396 section 5), so an
//! option that may stand only once and stands twice has the wrong length and is not believed.

use core::net::Ipv4Addr;

use crate::Packet;

/// Option numbers (RFC 2132 unless noted).
pub mod code {
    /// Padding, no length byte.
    pub const PAD: u8 = 0;
    /// Subnet mask, 4 bytes.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers, n × 4 bytes.
    pub const ROUTER: u8 = 3;
    /// Domain name servers, n × 4 bytes.
    pub const DNS: u8 = 6;
    /// Host name.
    pub const HOST_NAME: u8 = 12;
    /// Domain name.
    pub const DOMAIN_NAME: u8 = 15;
    /// Interface MTU, 2 bytes.
    pub const MTU: u8 = 26;
    /// Broadcast address, 4 bytes.
    pub const BROADCAST: u8 = 28;
    /// NTP servers, n × 4 bytes.
    pub const NTP: u8 = 42;
    /// Address asked for, 4 bytes.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Lease time in seconds, 4 bytes.
    pub const LEASE_TIME: u8 = 51;
    /// 1: file holds options, 2: sname, 3: both.
    pub const OVERLOAD: u8 = 52;
    /// Message type, 1 byte.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier, 4 bytes.
    pub const SERVER_ID: u8 = 54;
    /// Codes that the client asks for.
    pub const PARAMETER_LIST: u8 = 55;
    /// Text for people, in a NAK or DECLINE.
    pub const MESSAGE: u8 = 56;
    /// Largest message that the client takes, 2 bytes, at least 576.
    pub const MAX_SIZE: u8 = 57;
    /// T1 in seconds, 4 bytes.
    pub const RENEWAL_TIME: u8 = 58;
    /// T2 in seconds, 4 bytes.
    pub const REBINDING_TIME: u8 = 59;
    /// Vendor class of the client.
    pub const VENDOR_CLASS: u8 = 60;
    /// Client identifier, at least 2 bytes.
    pub const CLIENT_ID: u8 = 61;
    /// Vendor's own options, in a form that the vendor class tells.
    pub const VENDOR: u8 = 43;
    /// Name of the server of the boot file, where sname holds options.
    pub const BOOT_SERVER: u8 = 66;
    /// Name of the boot file, where file holds options.
    pub const BOOT_FILE: u8 = 67;
    /// Class of the user (RFC 3004), which boot loaders write as plain text.
    pub const USER_CLASS: u8 = 77;
    /// What kinds of machine the client is, n × 2 bytes (RFC 4578 section 2.1).
    pub const ARCHITECTURES: u8 = 93;
    /// Interface of the client's network driver, 3 bytes (RFC 4578 section 2.2).
    pub const NETWORK_INTERFACE: u8 = 94;
    /// Identifier of the client's machine: a type (0), then 16 bytes (RFC 4578 section 2.3).
    pub const MACHINE_ID: u8 = 97;
    /// Domain search list, RFC 3397.
    pub const DOMAIN_SEARCH: u8 = 119;
    /// Classless static routes, RFC 3442.
    pub const CLASSLESS_ROUTES: u8 = 121;
    /// Options of gPXE and iPXE, encapsulated.
    pub const IPXE: u8 = 175;
    /// End, no length byte.
    pub const END: u8 = 255;
}

/// Iterates over the whole options in one area; stops at END, at the end of the bytes, or at the
/// first option that would reach past it.
#[derive(Clone, Debug)]
pub struct RawOptions<'a> {
    rest: &'a [u8],
}

impl<'a> RawOptions<'a> {
    /// Reads `area`: what follows the cookie, or file, or sname.
    #[must_use]
    pub const fn new(area: &'a [u8]) -> Self {
        Self { rest: area }
    }
}

impl<'a> Iterator for RawOptions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.rest {
                [code::PAD, rest @ ..] => self.rest = rest,
                [code::END, ..] | [] | [_] => return None,
                [code, len, rest @ ..] => {
                    let (data, rest) = rest.split_at_checked(usize::from(*len))?;
                    self.rest = rest;
                    return Some((*code, data));
                }
            }
        }
    }
}

/// The options of one message, each code once, in order of first appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    /// No options.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Collects the options of a message, from file and sname too when overloaded. Option 52 inside
    /// file or sname is ignored, so nothing can loop.
    #[must_use]
    pub fn decode(packet: &Packet<'_>) -> Self {
        let mut all = Self::new();
        all.read(packet.options());
        let overload = packet.overload();
        if overload & 1 != 0 {
            all.read(packet.file());
        }
        if overload & 2 != 0 {
            all.read(packet.sname());
        }
        all.remove(code::OVERLOAD);
        all
    }

    fn read(&mut self, area: &[u8]) {
        let inner = self.get(code::OVERLOAD).is_some();
        for (code, data) in RawOptions::new(area) {
            if !(inner && code == code::OVERLOAD) {
                self.append(code, data);
            }
        }
    }

    fn append(&mut self, code: u8, data: &[u8]) {
        match self.0.iter_mut().find(|(seen, _)| *seen == code) {
            Some((_, all)) => all.extend_from_slice(data),
            None => self.0.push((code, data.to_vec())),
        }
    }

    /// Sets `code` to `data`, replacing what was there. PAD, END and OVERLOAD carry no data of
    /// their own and are left out.
    pub fn set(&mut self, code: u8, data: impl Into<Vec<u8>>) -> &mut Self {
        if matches!(code, code::PAD | code::END | code::OVERLOAD) {
            return self;
        }
        let data = data.into();
        match self.0.iter_mut().find(|(seen, _)| *seen == code) {
            Some((_, all)) => *all = data,
            None => self.0.push((code, data)),
        }
        self
    }

    /// Takes `code` out.
    pub fn remove(&mut self, code: u8) {
        self.0.retain(|(seen, _)| *seen != code);
    }

    /// The data of `code`, of any length, or `None` when absent.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(seen, _)| *seen == code).map(|(_, data)| data.as_slice())
    }

    /// `code` as exactly `N` bytes.
    #[must_use]
    pub fn fixed<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        self.get(code)?.try_into().ok()
    }

    /// `code` as one address.
    #[must_use]
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.fixed::<4>(code).map(Ipv4Addr::from)
    }

    /// `code` as whole addresses; bytes left over at the end are dropped.
    pub fn addresses(&self, code: u8) -> impl Iterator<Item = Ipv4Addr> {
        self.get(code)
            .unwrap_or_default()
            .chunks_exact(4)
            .filter_map(|octets| <[u8; 4]>::try_from(octets).ok())
            .map(Ipv4Addr::from)
    }

    /// `code` as a big-endian number of 4 bytes.
    #[must_use]
    pub fn number(&self, code: u8) -> Option<u32> {
        self.fixed::<4>(code).map(u32::from_be_bytes)
    }

    /// All options, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(code, data)| (*code, data.as_slice()))
    }

    /// Appends the options to `out`, data over 255 bytes in pieces (RFC 3396 section 6), then END.
    /// An option without data is written with length 0.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (code, data) in self.iter() {
            if data.is_empty() {
                out.extend([code, 0]);
            }
            for piece in data.chunks(255) {
                out.push(code);
                out.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
                out.extend_from_slice(piece);
            }
        }
        out.push(code::END);
    }
}

/// Domain names in DNS wire form with compression pointers, as option 119 carries them (RFC 3397
/// section 2), each as text without a final dot; `None` when any of it is malformed.
///
/// Pointers may only point back, so decoding ends after at most as many jumps as there are bytes.
#[must_use]
pub fn domain_list(data: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let mut name = String::new();
        let mut cursor = at;
        let mut lowest = at;
        let mut end = None;
        loop {
            let len = usize::from(*data.get(cursor)?);
            match len {
                0 => {
                    end = end.or(Some(cursor + 1));
                    break;
                }
                1..=63 => {
                    let label = data.get(cursor + 1..cursor + 1 + len)?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(core::str::from_utf8(label).ok().filter(|l| l.is_ascii())?);
                    cursor += 1 + len;
                }
                192.. => {
                    let target = (len & 63) << 8 | usize::from(*data.get(cursor + 1)?);
                    end = end.or(Some(cursor + 2));
                    if target >= lowest {
                        return None;
                    }
                    lowest = target;
                    cursor = target;
                }
                _ => return None,
            }
            if name.len() > 253 {
                return None;
            }
        }
        if name.is_empty() || names.len() >= 32 {
            return None;
        }
        names.push(name);
        at = end?;
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field;

    fn packet(options: &[u8], file: &[u8], sname: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; field::OPTIONS];
        bytes[field::COOKIE].copy_from_slice(&field::MAGIC);
        bytes[field::FILE.start..field::FILE.start + file.len()].copy_from_slice(file);
        bytes[field::SNAME.start..field::SNAME.start + sname.len()].copy_from_slice(sname);
        bytes.extend_from_slice(options);
        bytes
    }

    fn decode(options: &[u8], file: &[u8], sname: &[u8]) -> Options {
        let bytes = packet(options, file, sname);
        Options::decode(&Packet::new(&bytes).unwrap())
    }

    #[test]
    fn rfc2132_options_end_at_end_overrun_or_missing_length() {
        let all = decode(&[0, 0, 1, 4, 255, 255, 0, 0, 255, 3, 4, 1, 2, 3, 4], &[], &[]);
        assert_eq!(all.iter().count(), 1);
        assert_eq!(all.address(1), Some(Ipv4Addr::new(255, 255, 0, 0)));
        assert_eq!(decode(&[1, 4, 255, 255, 0, 0, 3, 200, 1], &[], &[]).iter().count(), 1);
        assert_eq!(decode(&[1, 4, 255, 255, 0, 0, 3], &[], &[]).iter().count(), 1);
    }

    #[test]
    fn rfc3396_pieces_join_across_overloaded_fields_in_order_options_file_sname() {
        let all = decode(
            &[52, 1, 3, 121, 2, b'a', b'b', 255],
            &[121, 1, b'c', 52, 1, 3, 255],
            &[121, 1, b'd', 255],
        );
        assert_eq!(all.get(121), Some(&b"abcd"[..]));
        assert_eq!(all.iter().count(), 1, "nested overload is ignored");
    }

    #[test]
    fn overloaded_field_without_end_stops_at_its_border() {
        let file = [42; 128]; // code 42, length 42, thrice: the last one reaches over the border
        let all = decode(&[52, 1, 1], &file, &[7, 1, 1]);
        assert_eq!(all.get(42).map(<[u8]>::len), Some(84));
        assert_eq!(all.get(7), None);
    }

    #[test]
    fn duplicate_message_type_is_two_bytes_and_so_no_type() {
        let all = decode(&[53, 1, 5, 53, 1, 6, 255], &[], &[]);
        assert_eq!(all.fixed::<1>(53), None);
    }

    #[test]
    fn long_data_is_split_when_written() {
        let mut options = Options::new();
        options.set(119, vec![7; 300]);
        let mut bytes = Vec::new();
        options.encode(&mut bytes);
        assert_eq!(bytes.len(), 2 + 255 + 2 + 45 + 1);
        assert_eq!(decode(&bytes, &[], &[]), options);
    }

    #[test]
    fn rfc3397_search_list_with_pointer() {
        let data = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04";
        assert_eq!(domain_list(data).unwrap(), ["eng.apple.com", "marketing.apple.com"]);
        assert_eq!(domain_list(b"\xc0\x00"), None, "a pointer to itself");
        assert_eq!(domain_list(b"\x01a\xc0\x00"), None, "a name that contains itself");
        assert_eq!(domain_list(b"\x05ab"), None);
        assert_eq!(domain_list(b"\x00"), None);
    }
}
