//! A view of a DHCP message in a byte slice: fields by name, nothing copied.

use core::net::Ipv4Addr;
use core::ops::Range;

use crate::options::RawOptions;
use crate::{HardwareAddr, Malformed, code, field};

/// A message whose fixed part is whole and whose cookie is right.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; field::OPTIONS],
    options: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at `bytes`, a UDP payload.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below 240 bytes, [`Malformed::Cookie`] without the magic cookie.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, options) =
            bytes.split_first_chunk::<{ field::OPTIONS }>().ok_or(Malformed::Truncated)?;
        if header[field::COOKIE] != field::MAGIC {
            return Err(Malformed::Cookie);
        }
        Ok(Self { header, options })
    }

    fn address(&self, at: Range<usize>) -> Ipv4Addr {
        let mut octets = [0; 4];
        octets.copy_from_slice(&self.header[at]);
        Ipv4Addr::from(octets)
    }

    fn short(&self, at: Range<usize>) -> u16 {
        let mut bytes = [0; 2];
        bytes.copy_from_slice(&self.header[at]);
        u16::from_be_bytes(bytes)
    }

    /// 1 request, 2 reply; anything else is meaningless.
    #[must_use]
    pub const fn op(&self) -> u8 {
        self.header[field::OP]
    }

    /// Transaction identifier.
    #[must_use]
    pub fn xid(&self) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.header[field::XID]);
        u32::from_be_bytes(bytes)
    }

    /// Seconds since the client began.
    #[must_use]
    pub fn secs(&self) -> u16 {
        self.short(field::SECS)
    }

    /// Whether the client asked for broadcast replies.
    #[must_use]
    pub fn broadcast(&self) -> bool {
        self.short(field::FLAGS) & field::BROADCAST != 0
    }

    /// The client's address.
    #[must_use]
    pub fn ciaddr(&self) -> Ipv4Addr {
        self.address(field::CIADDR)
    }

    /// The address given.
    #[must_use]
    pub fn yiaddr(&self) -> Ipv4Addr {
        self.address(field::YIADDR)
    }

    /// The next server.
    #[must_use]
    pub fn siaddr(&self) -> Ipv4Addr {
        self.address(field::SIADDR)
    }

    /// The relay.
    #[must_use]
    pub fn giaddr(&self) -> Ipv4Addr {
        self.address(field::GIADDR)
    }

    /// The client's hardware address. Only the first `hlen` bytes count: servers leave garbage
    /// behind them.
    ///
    /// # Errors
    /// [`Malformed::Hardware`] unless htype is 1 and hlen is 6.
    pub fn chaddr(&self) -> Result<HardwareAddr, Malformed> {
        if self.header[field::HTYPE] != field::ETHERNET || self.header[field::HLEN] != 6 {
            return Err(Malformed::Hardware);
        }
        let mut mac = [0; 6];
        mac.copy_from_slice(&self.header[field::CHADDR.start..field::CHADDR.start + 6]);
        Ok(HardwareAddr(mac))
    }

    /// The 64 bytes of sname.
    #[must_use]
    pub fn sname(&self) -> &'a [u8] {
        &self.header[field::SNAME]
    }

    /// The 128 bytes of file.
    #[must_use]
    pub fn file(&self) -> &'a [u8] {
        &self.header[field::FILE]
    }

    /// Which of file (1) and sname (2) hold options: what option 52 says where it may stand.
    #[must_use]
    pub fn overload(&self) -> u8 {
        let mut values = RawOptions::new(self.options).filter(|(code, _)| *code == code::OVERLOAD);
        match (values.next(), values.next()) {
            (Some((_, &[bits @ 1..=3])), None) => bits,
            _ => 0,
        }
    }

    /// What follows the cookie.
    #[must_use]
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }
}
