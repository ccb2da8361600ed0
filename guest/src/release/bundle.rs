//! A system as one file: an archive (tar) of what a [directory](super::Directory) of one has.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{Error, INITRD, KERNEL, LONGEST, RELEASE, SIGNATURE};

/// Names of the files that are taken, and how long they may be.
const FILES: [(&str, u64); 4] =
    [(RELEASE, LONGEST), (SIGNATURE, LONGEST), (KERNEL, 256 << 20), (INITRD, 4 << 30)];
/// Members of an archive that are looked at.
const MEMBERS: usize = 64;

/// Unpacks an archive into a directory that is there and empty. What it has beside the files of a system is
/// left out; nothing is believed before the directory is [opened](super::Directory::open_signed).
///
/// # Errors
/// [`Error::Archive`]: what comes is no archive, does not come to its end, lacks a file or has one twice, or has a
/// file that is too long; [`Error::Read`]: a file cannot be written.
pub fn unpack(archive: impl Read, directory: &Path) -> Result<(), Error> {
    let wrong = |error: io::Error| Error::Archive(error.to_string());
    let mut archive = tar::Archive::new(archive);
    let mut missing: Vec<&str> = vec![RELEASE, KERNEL, INITRD];
    for (count, entry) in archive.entries().map_err(wrong)?.enumerate() {
        if count == MEMBERS {
            return Err(Error::Archive(format!("it has more than {MEMBERS} files")));
        }
        let mut entry = entry.map_err(wrong)?;
        let path = entry.path().map_err(wrong)?.into_owned();
        let name = path.strip_prefix(".").unwrap_or(&path);
        let Some((name, most)) = FILES.iter().find(|(known, _)| name == Path::new(known)) else {
            continue;
        };
        let size = entry.size();
        if !entry.header().entry_type().is_file() {
            return Err(Error::Archive(format!("{name} is no plain file")));
        }
        if size > *most {
            return Err(Error::Archive(format!("{name} has {size} bytes, of at most {most}")));
        }
        let path = directory.join(name);
        let unwritten = |source| Error::Read { path: path.clone(), source };
        let mut file = match create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Archive(format!("{name} is there twice")));
            }
            file => file.map_err(unwritten)?,
        };
        if io::copy(&mut entry, &mut file).map_err(unwritten)? != size {
            return Err(Error::Archive(format!("it ends within {name}")));
        }
        missing.retain(|other| other != name);
    }
    match missing.as_slice() {
        [] => Ok(()),
        names => Err(Error::Archive(format!("there is no {}", names.join(", no ")))),
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    const WHOLE: [(&str, &[u8]); 5] = [
        ("vmlinuz", b"kernel"),
        ("./initramfs", b"initramfs"),
        ("manifest.json", b"{}"),
        ("release", b"version 2\n"),
        ("release.sig", b"signature"),
    ];

    #[test]
    fn files_of_a_system_are_taken() {
        let work = tempfile::tempdir().unwrap();
        unpack(archive(&WHOLE).as_slice(), work.path()).unwrap();
        assert_eq!(std::fs::read(work.path().join("initramfs")).unwrap(), b"initramfs");
        assert!(!work.path().join("manifest.json").exists());
    }

    #[test]
    fn an_archive_that_ends_anywhere_is_none() {
        let whole = archive(&WHOLE);
        // without what says that it ends it is whole
        let content = whole.len() - 1024;
        for end in (0..content).step_by(37).chain([content - 512]) {
            let work = tempfile::tempdir().unwrap();
            let error = unpack(&whole[..end], work.path());
            // the last file, the signature, may be missing as a whole: then nobody has signed it
            let unsigned = !work.path().join("release.sig").exists();
            assert!(error.is_err() || unsigned, "{end}");
        }
    }

    #[test]
    fn other_archives_are_refused() {
        for (files, expected) in [
            (&WHOLE[..1], "there is no release, no initramfs"),
            (&[WHOLE[0], WHOLE[0]], "vmlinuz is there twice"),
            (&[], "there is no release"),
        ] {
            let work = tempfile::tempdir().unwrap();
            let error = unpack(archive(files).as_slice(), work.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let work = tempfile::tempdir().unwrap();
        let garbage = vec![b'x'; 10_000];
        unpack(garbage.as_slice(), work.path()).unwrap_err();
        let mut header = tar::Header::new_gnu();
        header.set_path("release").unwrap();
        header.set_size(65 << 10);
        header.set_cksum();
        let error = unpack(header.as_bytes().as_slice(), work.path()).unwrap_err().to_string();
        assert!(error.contains("66560 bytes, of at most 65536"), "{error}");
    }
}
