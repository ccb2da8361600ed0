//! The one request of this shell without a safe wrapper: device-mapper's. All `unsafe` of pid1 is
//! here.
#![expect(unsafe_code, reason = "device-mapper's ioctls have no safe API")]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// Bytes of a request with what follows its header.
pub(super) const LEN: usize = 4096;
/// Bytes of the header, `struct dm_ioctl`.
pub(super) const HEADER: u32 = 312;

/// A header and what follows it, where the kernel also puts its answer.
#[repr(C, align(8))]
pub(super) struct Request(pub(super) [u8; LEN]);

const fn code(number: u8) -> Opcode {
    opcode::read_write::<[u8; HEADER as usize]>(0xfd, number)
}

/// `DM_DEV_CREATE_CMD` and its kin of linux/dm-ioctl.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Create,
    Remove,
    Suspend,
    LoadTable,
}

/// Asks device-mapper.
pub(super) fn ask(control: impl AsFd, command: Command, request: &mut Request) -> io::Result<()> {
    match command {
        Command::Create => run::<{ code(3) }>(control, request),
        Command::Remove => run::<{ code(4) }>(control, request),
        Command::Suspend => run::<{ code(6) }>(control, request),
        Command::LoadTable => run::<{ code(9) }>(control, request),
    }
}

fn run<const CODE: Opcode>(control: impl AsFd, request: &mut Request) -> io::Result<()> {
    // The kernel goes by what the header says, whatever was meant.
    let len = u32::try_from(LEN).unwrap_or(HEADER);
    if let Some(field) = request.0.get_mut(12..16) {
        field.copy_from_slice(&len.to_ne_bytes());
    }
    // SAFETY: all requests with such a code read and write `data_size` bytes, which is the length of
    // the buffer as written above (drivers/md/dm-ioctl.c, ctl_ioctl()).
    let request = unsafe { Updater::<CODE, Request>::new(request) };
    // SAFETY: the kernel touches the buffer during the call only.
    unsafe { ioctl(control, request) }.map_err(io::Error::from)
}
