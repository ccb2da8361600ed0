//! Portable Executables, as far as starting a machine needs them: UEFI's programs are such files.
//!
//! Layout after Microsoft's PE Format; all numbers are little-endian.
//!
//! | at | what |
//! |---|---|
//! | 0 | `MZ`; 0x3c: the place of the PE header |
//! | PE header | `PE\0\0`, COFF header (20 bytes), optional header, section table (40 bytes each) |
//! | a section's place | its content, filled up to the file alignment |
//! | the end | the certificate table, if the file is signed |

mod hash;
mod headers;
mod image;

pub use hash::Checksum;
#[cfg(feature = "sign")]
pub(crate) use hash::regions;
pub(crate) use headers::{DEBUG, SECTION};
pub use headers::{Headers, Section, characteristics};
pub(crate) use image::head;
pub use image::{Image, SectionDigest, read_sections};
