//! An initramfs of several archives in a row, each compressed or not.
//!
//! A kernel looks for microcode and ACPI tables before it can decompress anything: they must be in
//! the first archive, uncompressed (`Documentation/arch/x86/microcode.rst`, `lib/earlycpio.c`).

use std::io::Write;

use kiln_tree::{Kind, Tree};

use crate::compress::{Compression, Encoder};
use crate::cpio::{Options, Problem, Writer, check};
use crate::{Error, Result};

/// The directories in which a kernel looks before it unpacks.
const EARLY: [&str; 2] = ["kernel/x86/microcode/", "kernel/firmware/acpi/"];
/// The longest file name, in bytes, that it takes there (`MAX_CPIO_FILE_NAME`, with the NUL).
const EARLY_NAME_MAX: usize = 16;

/// One archive of an initramfs.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Segment<'tree> {
    /// What is in it.
    pub tree: &'tree Tree,
    /// How it is compressed.
    pub compression: Compression,
    /// Whether a kernel is to find it before it unpacks anything (microcode, ACPI tables).
    pub early: bool,
}

impl<'tree> Segment<'tree> {
    /// An archive that is unpacked into the root file system.
    #[must_use]
    pub fn new(tree: &'tree Tree, compression: Compression) -> Self {
        Self { tree, compression, early: false }
    }

    /// The archive with microcode or ACPI tables, which is never compressed.
    #[must_use]
    pub fn early(tree: &'tree Tree) -> Self {
        Self { tree, compression: Compression::None, early: true }
    }
}

/// Writes archives in a row, NULs between them up to a multiple of 512 bytes.
///
/// # Errors
/// [`Error::Unpackable`], [`Error::Segment`] (an early segment that is not the first or is
/// compressed), [`Error::FeatureMissing`] and [`Error::Compression`] before a byte is written;
/// [`Error::Content`] and [`Error::Io`] then.
pub fn write_segments<W: Write>(segments: &[Segment<'_>], options: &Options, out: W) -> Result<W> {
    let mut problems = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        segment.compression.check()?;
        if segment.early && segment.compression != Compression::None {
            return Err(Error::Segment { index, reason: "an early segment cannot be compressed" });
        }
        if segment.early && index > 0 {
            return Err(Error::Segment { index, reason: "an early segment must be the first" });
        }
        problems.extend(check(segment.tree, options.drop_xattrs));
        if segment.early {
            problems.extend(early_problems(segment.tree));
        }
    }
    if !problems.is_empty() {
        return Err(Error::Unpackable(problems));
    }
    let mut out = Tally { out, written: 0 };
    for (index, segment) in segments.iter().enumerate() {
        let padding = usize::try_from(out.written.wrapping_neg() & 511).unwrap_or_default();
        if index > 0 {
            let zeros = [0; 512];
            out.write_all(zeros.get(..padding).unwrap_or_default())
                .map_err(Error::io("write the archive"))?;
        }
        out = write_one(segment, options, out)?;
    }
    Ok(out.out)
}

/// Writes one archive of a tree, which is all that most initramfs are.
///
/// # Errors
/// As [`write_segments`].
pub fn write_image<W: Write>(tree: &Tree, compression: &Compression, out: W) -> Result<W> {
    compression.check()?;
    write_one(&Segment::new(tree, *compression), &Options::default(), out)
}

fn write_one<W: Write>(segment: &Segment<'_>, options: &Options, out: W) -> Result<W> {
    // Without a codec in between, contents can go from file to file.
    if segment.compression == Compression::None {
        let mut writer = Writer::with_options(out, options.clone());
        writer.append_tree(segment.tree)?;
        return writer.finish();
    }
    let problems = check(segment.tree, options.drop_xattrs);
    if !problems.is_empty() {
        return Err(Error::Unpackable(problems));
    }
    let encoder = Encoder::new(out, segment.compression)?;
    let mut writer = Writer::with_options(encoder, options.clone());
    writer.append_tree(segment.tree)?;
    writer.finish()?.finish()
}

/// What a kernel would overlook in an early segment.
fn early_problems(tree: &Tree) -> Vec<Problem> {
    use crate::cpio::Rule;
    let mut problems = Vec::new();
    for (path, node) in tree {
        let name = EARLY.iter().find_map(|place| path.as_bytes().strip_prefix(place.as_bytes()));
        let rule = match (&node.kind, name) {
            (Kind::Directory, _) => continue,
            (Kind::File(_), Some(name)) if name.len() <= EARLY_NAME_MAX => continue,
            (Kind::File(_), Some(_)) => Rule::EarlyName { max: EARLY_NAME_MAX },
            (Kind::File(_), None) => Rule::EarlyPlace,
            (other, _) => Rule::EarlyKind(other.name()),
        };
        problems.push(Problem { path: path.clone(), rule });
    }
    problems
}

/// A destination that knows how much it took.
struct Tally<W> {
    out: W,
    written: u64,
}

impl<W: Write> Write for Tally<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
