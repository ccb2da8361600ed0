//! A root file system that comes over a network into memory: a machine without a disk downloads an archive or a
//! file system image, and no byte of it is believed before a signed list of chunks vouches for it.
//!
//! Whoever makes the root makes the list ([`Chunker`]) and signs it. Whoever boots reads the list
//! ([`ChunkList::read`]), and then the root through it ([`Reader`]): each chunk is compared with the list before any
//! of it goes on, to a decompressor above all. What does not come, or comes wrong, is asked for again from the first
//! byte that is not verified; the machine that decides so ([`Download`]) has no I/O.
//!
//! # Example: what comes is what was signed
//!
//! ```
//! use std::io::{Read as _, Write as _};
//! use std::sync::Arc;
//! use kiln_ramroot::{ChunkList, Chunker, Kind, Policy, Reader};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("root.tar");
//! // where it is made; who signs is not this crate's
//! let mut chunker = Chunker::new(std::fs::File::create(&path)?, 64 << 10);
//! chunker.write_all(&[7; 200_000])?;
//! let (_, list) = chunker.finish(("example", "1.0"), ("root.tar", Kind::Tar), 200_000)?;
//! let signed = list.signed(|text| [text.len() as u8; 64]);
//!
//! // where it is needed
//! let list = ChunkList::read(signed.as_bytes(), |text, by| by == &[text.len() as u8; 64])?;
//! let tell = Box::new(|event: &_| eprintln!("{event}"));
//! let mut root = Reader::new(Box::new(path), Arc::new(list), Policy::default(), tell);
//! let mut bytes = Vec::new();
//! root.read_to_end(&mut bytes)?;
//! assert_eq!(bytes, [7; 200_000]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod download;
mod error;
#[cfg(feature = "http")]
pub mod http;
mod kind;
mod list;
mod reader;
#[cfg(feature = "unpack")]
mod unpack;

pub use download::{Answer, Download, Event, Input, Output, Policy};
pub use error::{Error, Result};
pub use kind::Kind;
pub use list::{ChunkList, Chunker, LONGEST_LIST};
pub use reader::{Ahead, Reader, Source, Tell, list, list_beside, local};
#[cfg(feature = "unpack")]
pub use unpack::{LARGEST_WINDOW, Unpacked, unpack};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
