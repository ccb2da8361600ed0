//! Where each field of the BOOTP header lies (RFC 2131 section 2, figure 1). Integers are big-endian.
//!
//! ```text
//!   0 op  1 htype  2 hlen  3 hops | 4 xid | 8 secs | 10 flags
//!  12 ciaddr | 16 yiaddr | 20 siaddr | 24 giaddr
//!  28 chaddr (16) | 44 sname (64) | 108 file (128) | 236 cookie (4) | 240 options
//! ```

use core::ops::Range;

/// 1 from client to server, 2 from server to client.
pub const OP: usize = 0;
/// Hardware type; 1 is Ethernet.
pub const HTYPE: usize = 1;
/// Length of the hardware address in `CHADDR`.
pub const HLEN: usize = 2;
/// Relay hops.
pub const HOPS: usize = 3;
/// Transaction identifier.
pub const XID: Range<usize> = 4..8;
/// Seconds since the client began to acquire or renew.
pub const SECS: Range<usize> = 8..10;
/// Bit 15 asks for broadcast replies.
pub const FLAGS: Range<usize> = 10..12;
/// The client's own address, when it has one that it can answer ARP for.
pub const CIADDR: Range<usize> = 12..16;
/// "Your" address: what the server gives.
pub const YIADDR: Range<usize> = 16..20;
/// Next server of the boot process.
pub const SIADDR: Range<usize> = 20..24;
/// Relay agent.
pub const GIADDR: Range<usize> = 24..28;
/// The client's hardware address, padded to 16 bytes.
pub const CHADDR: Range<usize> = 28..44;
/// Server host name, or more options when overloaded.
pub const SNAME: Range<usize> = 44..108;
/// Boot file name, or more options when overloaded.
pub const FILE: Range<usize> = 108..236;
/// The magic cookie that says that options follow (RFC 2131 section 3).
pub const COOKIE: Range<usize> = 236..240;
/// Where options begin; also the length of the fixed part.
pub const OPTIONS: usize = 240;

/// Value of `COOKIE`.
pub const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// The smallest message that every BOOTP relay passes (RFC 1542 section 2.1).
pub const MINIMUM_LEN: usize = 300;
/// `OP` of a request.
pub const BOOTREQUEST: u8 = 1;
/// `OP` of a reply.
pub const BOOTREPLY: u8 = 2;
/// `HTYPE` of Ethernet.
pub const ETHERNET: u8 = 1;
/// The broadcast bit of `FLAGS`.
pub const BROADCAST: u16 = 0x8000;
