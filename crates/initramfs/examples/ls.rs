//! Lists an initramfs, compressed or not, as a kernel would read it.
//!
//! `cargo run -p kiln-initramfs --features gzip,zstd --example ls -- /boot/initrd.img`

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kiln_initramfs::cpio::{Limits, Reader, S_IFLNK, dump};
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    /// The image.
    image: PathBuf,
    /// One JSON object a line instead of text.
    #[arg(long)]
    json: bool,
}

fn list(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let image = File::open(&arguments.image)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    if !arguments.json {
        dump(image, Limits::default(), &mut out)?;
        return Ok(out.flush()?);
    }
    let mut reader = Reader::new(image, Limits::default());
    while let Some(entry) = reader.next_entry()? {
        let mut target = String::new();
        if entry.header.file_type() == S_IFLNK && entry.ignored.is_none() {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            target = String::from_utf8_lossy(&bytes).into_owned();
        }
        let header = &entry.header;
        let line = json!({
            "name": String::from_utf8_lossy(&entry.name),
            "ino": header.ino,
            "mode": format!("{:o}", header.mode),
            "nlink": header.nlink,
            "uid": header.uid,
            "gid": header.gid,
            "mtime": header.mtime,
            "size": header.file_size,
            "rdev": [header.rdev_major, header.rdev_minor],
            "target": target,
            "archive": entry.archive,
            "at": entry.position.to_string(),
        });
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match list(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ls: {}: {error}", arguments.image.display());
            ExitCode::FAILURE
        }
    }
}
