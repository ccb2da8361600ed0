//! Frames of an interface that has no address yet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::SendFlags;

use super::sys::{self, Instruction, instruction};
use crate::wire::udp::ChecksumState;

// Operations of classic BPF (linux/bpf_common.h).
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_BYTE_INDEXED: u16 = 0x50; // BPF_LD | BPF_B | BPF_IND
const LOAD_HALF_INDEXED: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND
const LOAD_HEADER_LEN: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH: 4 × low nibble
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Lets through what may be a reply: IPv4, UDP, first fragment, to port 68, op BOOTREPLY. The rest
/// of the checks are the core's; this one keeps a busy network from waking the process.
const REPLIES: [Instruction; 13] = [
    instruction(LOAD_HALF, 0, 0, 12),
    instruction(JUMP_EQUAL, 0, 10, 0x0800),
    instruction(LOAD_BYTE, 0, 0, 23),
    instruction(JUMP_EQUAL, 0, 8, 17),
    instruction(LOAD_HALF, 0, 0, 20),
    instruction(JUMP_SET, 6, 0, 0x1fff),
    instruction(LOAD_HEADER_LEN, 0, 0, 14),
    instruction(LOAD_HALF_INDEXED, 0, 0, 14 + 2),
    instruction(JUMP_EQUAL, 0, 3, 68),
    instruction(LOAD_BYTE_INDEXED, 0, 0, 14 + 8),
    instruction(JUMP_EQUAL, 0, 1, 2),
    instruction(RETURN, 0, 0, 0xffff),
    instruction(RETURN, 0, 0, 0),
];

/// An open packet socket.
#[derive(Debug)]
pub(super) struct PacketSocket(OwnedFd);

impl PacketSocket {
    pub(super) fn open(index: u32) -> io::Result<Self> {
        sys::packet_socket(index, &REPLIES).map(Self)
    }

    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.0, frame, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next frame, or `None` when there is none now.
    pub(super) fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
    ) -> io::Result<Option<(&'a [u8], ChecksumState)>> {
        match sys::receive_frame(self.0.as_fd(), buffer) {
            Ok((len, not_ready)) => {
                let state =
                    if not_ready { ChecksumState::NotReady } else { ChecksumState::Complete };
                Ok(Some((buffer.get(..len).unwrap_or_default(), state)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
