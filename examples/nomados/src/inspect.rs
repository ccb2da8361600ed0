//! What is in an image: a disk of any format, or an initramfs.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail};
use kiln_diskimg::{Limits, dump};
use kiln_initramfs::{cpio, manifest};

/// As text.
///
/// # Errors
/// When the image is none or is damaged, with where.
pub fn text(image: &Path) -> Result<String> {
    match read(image)? {
        Found::Disk(report) => Ok(report.to_string()),
        Found::Archive(tree) => {
            let mut text = String::new();
            for record in manifest::files(&tree)? {
                let size = record.size.map(|size| size.to_string()).unwrap_or_default();
                let target = record.target.map(|to| format!(" -> {to}")).unwrap_or_default();
                text += &format!("{} {size:>10} {}{target}\n", record.mode, record.path);
            }
            Ok(text)
        }
    }
}

/// As JSON.
///
/// # Errors
/// As [`text`].
pub fn json(image: &Path) -> Result<String> {
    let value = match read(image)? {
        Found::Disk(report) => serde_json::to_value(&*report)?,
        Found::Archive(tree) => serde_json::json!({ "files": manifest::files(&tree)? }),
    };
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

enum Found {
    Disk(Box<dump::Report>),
    Archive(kiln_tree::Tree),
}

fn read(image: &Path) -> Result<Found> {
    let name = || image.display().to_string();
    let mut file = File::open(image).with_context(|| format!("open {}", name()))?;
    let mut start = [0; 6];
    let count = file.read(&mut start).with_context(|| format!("read {}", name()))?;
    file.seek(SeekFrom::Start(0)).with_context(|| format!("read {}", name()))?;
    let start = start.get(..count).unwrap_or_default();
    let archive = start.starts_with(b"07070")
        || start.starts_with(&[0x1f, 0x8b])
        || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    if archive {
        let unpacked = cpio::unpack(BufReader::new(file), cpio::Limits::default())
            .with_context(|| format!("{}: damaged", name()))?;
        if let Some(lost) = unpacked.lost.first() {
            bail!(
                "{}: a kernel would drop {} of its entries without a word, first {lost}",
                name(),
                unpacked.lost.len()
            );
        }
        return Ok(Found::Archive(unpacked.tree));
    }
    let report = dump::inspect(file, &Limits::default())
        .with_context(|| format!("{}: not an image that can be read", name()))?;
    if report.table.is_none() && report.file_system.is_none() {
        bail!("{}: neither an archive nor a disk with a partition table or file system", name());
    }
    Ok(Found::Disk(Box::new(report)))
}
