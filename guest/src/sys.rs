//! The one system call without a safe wrapper: giving the kernel a seed. All `unsafe` of this crate
//! is here.
#![expect(unsafe_code, reason = "RNDADDENTROPY has no safe API")]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// Bytes of a seed: what the kernel's generator has as state (drivers/char/random.c).
pub(crate) const SEED_LEN: usize = 32;

/// `struct rand_pool_info` of linux/random.h with its buffer.
#[repr(C)]
struct PoolInfo {
    /// In bits.
    entropy_count: i32,
    /// In bytes.
    buf_size: i32,
    buf: [u8; SEED_LEN],
}

/// `_IOW('R', 0x03, int [2])`.
const RNDADDENTROPY: Opcode = opcode::write::<[i32; 2]>(b'R', 3);

/// Mixes a secret into the kernel's random generator, and credits all of its bits.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`, or when `random` is not `/dev/random` or `/dev/urandom`.
pub(crate) fn credit(random: impl AsFd, seed: &[u8; SEED_LEN]) -> io::Result<()> {
    const { assert!(SEED_LEN == 32) };
    let info = PoolInfo { entropy_count: 256, buf_size: 32, buf: *seed };
    // SAFETY: RNDADDENTROPY reads a `rand_pool_info` whose buffer is `buf_size` bytes long, which
    // `PoolInfo` is.
    let request = unsafe { Setter::<RNDADDENTROPY, PoolInfo>::new(info) };
    // SAFETY: the kernel only reads what the request points to, during the call.
    unsafe { ioctl(random, request) }?;
    Ok(())
}
