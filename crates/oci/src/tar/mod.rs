//! Tar archives, read and written as a stream: what layers are, and what images are carried in.
//!
//! The `tar` crate is not used because it keeps extension headers of any length in memory, does not
//! say where a broken header lies, and leaves PAX records of long names to GNU's format. It is the
//! second reader and writer of the tests.

mod header;
mod reader;
mod writer;

pub(crate) use header::{Entry, Type};
pub(crate) use reader::{Broken, Reader};
pub(crate) use writer::{Writer, check};
