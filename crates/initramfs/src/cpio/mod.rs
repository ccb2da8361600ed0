//! The newc archive, which is what a Linux kernel unpacks into its first root file system.
//!
//! An archive is a sequence of entries and ends with one named `TRAILER!!!`:
//!
//! ```text
//! header (110 B) | name, NUL … | 0–3 NULs to a multiple of 4 | content | 0–3 NULs
//! ```
//!
//! A kernel reports little of what it dislikes: an entry whose parent is missing, whose name is
//! too long or which has content but is no file is dropped without a word. So [`check`] knows the
//! kernel's rules (`init/initramfs.c`) and [`Writer`] refuses what a kernel would lose.

mod dump;
mod header;
mod plan;
mod reader;
mod unpack;
mod writer;

pub use dump::dump;
pub use header::{
    Format, HEADER_LEN, Header, HeaderError, NAME_SIZE_MAX, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO,
    S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, TRAILER,
};
pub use plan::{Problem, Rule, check};
pub use reader::{Entry, Ignored, Limits, Member, Position, Reader};
pub use unpack::{Lost, Unpacked, unpack};
pub use writer::{DataAlign, LinkData, NewEntry, Options, Writer};
