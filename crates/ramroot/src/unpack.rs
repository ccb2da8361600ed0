//! Archives unpacked into a directory, with owners, modes, times, links and extended attributes.

use std::fs::{File, FileTimes};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::{Error, Kind, Result};

/// Bytes that a decompressor may look back, of xz and zstd alike: what a small machine has to spare.
pub const LARGEST_WINDOW: u64 = 8 << 20;
/// What lzma-rust2 takes for itself beside its dictionary, in KiB, and more.
const XZ_BESIDE: u32 = 1 << 10;
/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpacked {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Unpacks into a directory that is there and empty, reading to the end of the archive's file. `owners` says whether
/// files get the owners that they have in the archive, which only root may give; else they are the caller's.
///
/// # Errors
/// [`Error::Unpack`]: it is no such archive, or wants more than [`LARGEST_WINDOW`]; what the disk says.
pub fn unpack(reader: impl Read, kind: Kind, directory: &Path, owners: bool) -> Result<Unpacked> {
    let wrong = |error: io::Error| Error::Unpack { kind, problem: explained(&error, kind) };
    let mut rest = BufReader::with_capacity(BUFFER, reader);
    let done = match kind {
        Kind::Tar => entries(&mut rest, directory, owners),
        Kind::TarGz => through(flate2::bufread::MultiGzDecoder::new(&mut rest), directory, owners),
        Kind::TarXz => {
            let limit = u32::try_from(LARGEST_WINDOW >> 10).unwrap_or(u32::MAX) + XZ_BESIDE;
            let xz = lzma_rust2::XzReader::new_mem_limit(&mut rest, true, limit);
            through(BufReader::with_capacity(BUFFER, xz), directory, owners)
        }
        Kind::TarZst => zstd::Decoder::with_buffer(&mut rest).and_then(|mut zstd| {
            zstd.window_log_max(LARGEST_WINDOW.ilog2())?;
            through(zstd, directory, owners)
        }),
        Kind::Erofs => Err(io::Error::other("it is a file system, which is mounted")),
    };
    let done = done.map_err(wrong)?;
    // what follows the archive is verified too
    io::copy(&mut rest, &mut io::sink()).map_err(wrong)?;
    Ok(done)
}

/// Unpacks, and reads what the decompressor has to say after the archive: its checksums.
fn through(mut plain: impl Read, directory: &Path, owners: bool) -> io::Result<Unpacked> {
    let done = entries(&mut plain, directory, owners)?;
    io::copy(&mut plain, &mut io::sink())?;
    Ok(done)
}

fn entries(plain: impl Read, directory: &Path, owners: bool) -> io::Result<Unpacked> {
    let mut archive = tar::Archive::new(plain);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(owners);
    archive.set_unpack_xattrs(true);
    archive.set_overwrite(false);
    let mut done = Unpacked::default();
    // times of directories change when something is put into them
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        done.entries += 1;
        done.bytes += entry.size();
        if entry.header().entry_type().is_dir() {
            directories.push(entry);
            continue;
        }
        if !entry.unpack_in(directory)? {
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(io::Error::other(format!("{path:?} leads out of the root")));
        }
    }
    directories.sort_by(|one, other| other.path_bytes().cmp(&one.path_bytes()));
    for mut entry in directories {
        entry.unpack_in(directory)?;
        // tar leaves it at now
        let seconds = Duration::from_secs(entry.header().mtime()?);
        let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + seconds);
        File::open(directory.join(entry.path()?))?.set_times(times)?;
    }
    Ok(done)
}

/// What a decompressor that is held to a bound says, for people.
fn explained(error: &io::Error, kind: Kind) -> String {
    let text = chain(error);
    let too_large = match kind {
        Kind::TarXz => error.kind() == io::ErrorKind::OutOfMemory,
        Kind::TarZst => text.contains("too much memory"),
        _ => false,
    };
    let mib = LARGEST_WINDOW >> 20;
    match (too_large, kind) {
        (true, Kind::TarXz) => format!(
            "its dictionary is larger than {mib} MiB, the most that is given to it: compress it with `xz -6` or less, \
             or `--lzma2=dict={mib}MiB`"
        ),
        (true, _) => format!(
            "its window is larger than {mib} MiB, the most that is given to it: compress it without `--long` and \
             `--ultra`"
        ),
        _ => text,
    }
}

/// An error with what it comes from: tar says only which entry it was.
fn chain(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn archive() -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        let mut add = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8], link: &str| {
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            header.set_mtime(1_000_000_000);
            match link {
                "" => archive.append_data(&mut header, path, content).unwrap(),
                link => archive.append_link(&mut header, path, link).unwrap(),
            }
        };
        add("./", tar::EntryType::Directory, 0o755, b"", "");
        add("etc", tar::EntryType::Directory, 0o555, b"", "");
        add("etc/passwd", tar::EntryType::Regular, 0o640, b"root", "");
        add("bin", tar::EntryType::Symlink, 0o777, b"", "/usr/bin");
        add("etc/group", tar::EntryType::Link, 0o640, b"", "etc/passwd");
        add("usr/bin/sudo", tar::EntryType::Regular, 0o4755, &[b'x'; 100_000], "");
        archive.into_inner().unwrap()
    }

    fn xz(bytes: &[u8], dictionary: u32) -> Vec<u8> {
        let mut options = lzma_rust2::XzOptions::with_preset(0);
        options.lzma_options.dict_size = dictionary;
        let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn zst(bytes: &[u8], window: u32) -> Vec<u8> {
        let mut writer = zstd::Encoder::new(Vec::new(), 1).unwrap();
        writer.window_log(window).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn every_kind_of_archive() {
        let plain = archive();
        let all = [
            (Kind::Tar, plain.clone()),
            (Kind::TarGz, gz(&plain)),
            (Kind::TarXz, xz(&plain, 8 << 20)),
            (Kind::TarZst, zst(&plain, 23)),
        ];
        for (kind, bytes) in all {
            let root = tempfile::tempdir().unwrap();
            let done = unpack(bytes.as_slice(), kind, root.path(), false).unwrap();
            assert_eq!((done.entries, done.bytes), (6, 100_004), "{kind}");
            let look = |path: &str| std::fs::symlink_metadata(root.path().join(path)).unwrap();
            assert_eq!(look("etc/passwd").permissions().mode(), 0o100_640);
            assert_eq!(look("usr/bin/sudo").permissions().mode(), 0o104_755);
            assert_eq!(
                (look("etc").permissions().mode(), look("etc").mtime()),
                (0o40_555, 1_000_000_000)
            );
            assert_eq!(look("etc/group").ino(), look("etc/passwd").ino());
            assert_eq!(std::fs::read_link(root.path().join("bin")).unwrap(), Path::new("/usr/bin"));
            // cut anywhere but within what only says that it ends
            for cut in [1, bytes.len() / 2, bytes.len() - 1200.min(bytes.len() / 3)] {
                let root = tempfile::tempdir().unwrap();
                unpack(&bytes[..cut], kind, root.path(), false).unwrap_err();
            }
        }
    }

    #[test]
    fn windows_that_are_too_large_are_refused_with_the_reason() {
        let root = tempfile::tempdir().unwrap();
        // long enough for a frame to have a window of its own
        let long = vec![0; 20 << 20];
        let said = |kind, bytes: Vec<u8>| {
            unpack(bytes.as_slice(), kind, root.path(), false).unwrap_err().to_string()
        };
        let text = said(Kind::TarXz, xz(&long, 16 << 20));
        assert!(text.contains("dictionary is larger than 8 MiB"), "{text}");
        let text = said(Kind::TarZst, zst(&long, 24));
        assert!(text.contains("window is larger than 8 MiB"), "{text}");
    }

    #[test]
    fn what_is_no_archive_and_what_leads_out_is_refused() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        header.as_mut_bytes()[..10].copy_from_slice(b"../outside");
        header.set_cksum();
        archive.append(&header, &b"x"[..]).unwrap();
        let outside = archive.into_inner().unwrap();
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let error = unpack(outside.as_slice(), Kind::Tar, &root, false).unwrap_err().to_string();
        assert!(error.contains("leads out of the root"), "{error}");
        assert!(!above.path().join("outside").exists());
        for kind in Kind::ALL {
            unpack(&b"x".repeat(4096)[..], kind, &root, false).unwrap_err();
        }
    }
}
