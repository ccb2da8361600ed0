//! The requests of this shell without a safe wrapper: device-mapper's, those by which disks and file
//! systems grow, the watchdog's, the random generator's, kexec. All `unsafe` of pid1 is here.
#![expect(unsafe_code, reason = "these ioctls and system calls have no safe API")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use rustix::ioctl::{Getter, NoArg, Opcode, Setter, Updater, ioctl, opcode};

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

/// `struct rand_pool_info` of linux/random.h with its buffer.
#[repr(C)]
struct PoolInfo {
    /// In bits.
    entropy_count: i32,
    /// In bytes.
    buf_size: i32,
    buf: [u8; 32],
}

/// `RNDADDENTROPY` of linux/random.h, `_IOW('R', 0x03, int [2])`.
const ADD_ENTROPY: Opcode = opcode::write::<[i32; 2]>(b'R', 3);

/// Mixes a secret into the kernel's random generator, and credits all of its bits.
pub(super) fn add_entropy(random: impl AsFd, seed: &[u8; 32]) -> io::Result<()> {
    let info = PoolInfo { entropy_count: 256, buf_size: 32, buf: *seed };
    // SAFETY: the request reads a `rand_pool_info` whose buffer is `buf_size` bytes long, which
    // `PoolInfo` is (drivers/char/random.c, random_ioctl()).
    let request = unsafe { Setter::<ADD_ENTROPY, PoolInfo>::new(info) };
    // SAFETY: the kernel only reads what the request points to, during the call.
    unsafe { ioctl(random, request) }.map_err(io::Error::from)
}

/// `WDIOC_SETTIMEOUT` of linux/watchdog.h, `_IOWR('W', 6, int)`.
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);
/// `WDIOC_GETTIMEOUT`, `_IOR('W', 7, int)`.
const GET_TIMEOUT: Opcode = opcode::read::<i32>(b'W', 7);

/// Asks a watchdog for a timeout in seconds, and gives the one that it took.
pub(super) fn set_watchdog_timeout(device: impl AsFd, mut seconds: i32) -> io::Result<i32> {
    // SAFETY: the request reads and writes an `int` (drivers/watchdog/watchdog_dev.c).
    let request = unsafe { Updater::<SET_TIMEOUT, i32>::new(&mut seconds) };
    // SAFETY: the kernel touches the number during the call only.
    unsafe { ioctl(device, request) }?;
    Ok(seconds)
}

/// The timeout of a watchdog in seconds.
pub(super) fn watchdog_timeout(device: impl AsFd) -> io::Result<i32> {
    // SAFETY: the request writes an `int` (drivers/watchdog/watchdog_dev.c).
    let request = unsafe { Getter::<GET_TIMEOUT, i32>::new() };
    // SAFETY: the kernel writes the number during the call only.
    unsafe { ioctl(device, request) }.map_err(io::Error::from)
}

/// `LOOP_CTL_GET_FREE` of linux/loop.h.
const LOOP_FREE: libc::c_ulong = 0x4c82;

/// The number of a loop device that has no file.
pub(super) fn free_loop(control: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: the request takes no argument and gives a number (drivers/block/loop.c, loop_control_ioctl()).
    match unsafe { libc::ioctl(control.as_raw_fd(), LOOP_FREE) } {
        number if number >= 0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `LOOP_CONFIGURE` of linux/loop.h, since Linux 5.8.
const LOOP_CONFIGURE: Opcode = 0x4c0a;
/// `LO_FLAGS_READ_ONLY`.
const LOOP_READ_ONLY: u32 = 1;

/// `struct loop_config` of linux/loop.h with its `struct loop_info64`, of which only the flags are of interest here.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: [u64; 5],
    numbers: [u32; 3],
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// Makes a file what a loop device reads.
pub(super) fn attach_loop(device: impl AsFd, file: BorrowedFd<'_>) -> io::Result<()> {
    let fd = u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
    let config = LoopConfig {
        fd,
        block_size: 0,
        info: [0; 5],
        numbers: [0; 3],
        flags: LOOP_READ_ONLY,
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the request reads a `loop_config`, which is laid out as in C (drivers/block/loop.c, lo_ioctl()).
    let request = unsafe { Setter::<LOOP_CONFIGURE, LoopConfig>::new(config) };
    // SAFETY: the kernel only reads it, during the call; what is no loop device refuses the code.
    unsafe { ioctl(device, request) }.map_err(io::Error::from)
}

/// `LOOP_CLR_FD` of linux/loop.h.
const LOOP_CLEAR: Opcode = 0x4c01;

/// Takes the file away from a loop device.
pub(super) fn detach_loop(device: impl AsFd) -> io::Result<()> {
    // SAFETY: the request takes no argument (drivers/block/loop.c, lo_ioctl()).
    let request = unsafe { NoArg::<LOOP_CLEAR>::new() };
    // SAFETY: as above; what is no loop device refuses the code.
    unsafe { ioctl(device, request) }.map_err(io::Error::from)
}

/// Begins to swap to a file or device (swapon(2)).
pub(super) fn start_swapping(path: &CStr, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the path ends in NUL and outlives the call.
    match unsafe { libc::swapon(path.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Stops swapping to a file or device (swapoff(2)).
pub(super) fn stop_swapping(path: &CStr) -> io::Result<()> {
    // SAFETY: the path ends in NUL and outlives the call.
    match unsafe { libc::swapoff(path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `KEXEC_FILE_NO_INITRAMFS` of linux/kexec.h.
const NO_INITRAMFS: libc::c_ulong = 4;

/// Loads a kernel to be started in place of this one (kexec_file_load(2)).
pub(super) fn load_kernel(
    kernel: BorrowedFd<'_>,
    initramfs: Option<BorrowedFd<'_>>,
    command_line: &CStr,
) -> io::Result<()> {
    let line = command_line.to_bytes_with_nul();
    let (second, flags) = match &initramfs {
        Some(fd) => (fd.as_raw_fd(), 0),
        None => (-1, NO_INITRAMFS),
    };
    // SAFETY: both descriptors are open for the length of the call, the command line is as long as is
    // said and ends in NUL, and the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            second,
            line.len(),
            line.as_ptr(),
            flags,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
