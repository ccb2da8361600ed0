//! The Trivial File Transfer Protocol, as far as a machine that boots needs it: files are sent, never taken.
//!
//! [`Packet`] is what stands in a datagram, [`Request`] what is asked for, [`Transfer`] sends one file to one
//! client. All of it is without I/O: datagrams and times go in, datagrams and times come out.
//!
//! Standards: RFC 1350 (the protocol), RFC 2347 (options), RFC 2348 (block size), RFC 2349 (timeout and size of
//! the file), RFC 7440 (windows).

mod packet;
mod transfer;

pub use packet::{ErrorCode, Malformed, Mode, Packet, Request};
pub use transfer::{Ended, Limits, Output, Transfer};

/// The port that requests come to (RFC 1350 section 4).
pub const PORT: u16 = 69;
