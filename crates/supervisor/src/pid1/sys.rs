//! The requests of this shell without a safe wrapper: device-mapper's, and those by which disks and
//! file systems grow. All `unsafe` of pid1 is here.
#![expect(unsafe_code, reason = "these ioctls have no safe API")]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

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

/// `EXT4_IOC_RESIZE_FS` of linux/ext4.h, `_IOW('f', 16, __u64)`.
const EXT4_RESIZE: Opcode = opcode::write::<u64>(b'f', 16);

/// Grows the mounted ext4 file system that something is on to so many blocks.
pub(super) fn resize_ext4(place: impl AsFd, blocks: u64) -> io::Result<()> {
    // SAFETY: the request reads a `__u64` and nothing else (fs/ext4/ioctl.c, EXT4_IOC_RESIZE_FS).
    let request = unsafe { Setter::<EXT4_RESIZE, u64>::new(blocks) };
    // SAFETY: the kernel reads the number during the call only; what is no ext4 refuses the code.
    unsafe { ioctl(place, request) }.map_err(io::Error::from)
}

/// `BLKPG` of linux/blkpg.h, `_IO(0x12, 105)`.
const BLKPG: Opcode = opcode::none(0x12, 105);
/// `BLKPG_RESIZE_PARTITION`.
const RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_partition`, in bytes and not in sectors.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    len: i32,
    data: *const BlkpgPartition,
}

/// Tells the kernel that a partition of a disk is so many bytes long.
pub(super) fn resize_partition(
    disk: impl AsFd,
    number: i32,
    start: i64,
    length: i64,
) -> io::Result<()> {
    let partition = BlkpgPartition { start, length, number, names: [0; 128] };
    let argument = BlkpgArgument {
        operation: RESIZE_PARTITION,
        flags: 0,
        len: i32::try_from(size_of::<BlkpgPartition>()).unwrap_or(0),
        data: &raw const partition,
    };
    // SAFETY: the request reads a `blkpg_ioctl_arg` and the `blkpg_partition` that it points to
    // (block/ioctl.c, blkpg_ioctl()), both laid out as in C and alive until the call is over.
    let request = unsafe { Setter::<BLKPG, BlkpgArgument>::new(argument) };
    // SAFETY: the kernel only reads them, during the call; what is no disk refuses the code.
    unsafe { ioctl(disk, request) }.map_err(io::Error::from)
}
