//! A tree as a tar archive (POSIX.1-1988 ustar with GNU's long names, and extended attributes as
//! `SCHILY.xattr` in PAX headers, as GNU tar, star and container tools have them): what a container,
//! a `chroot` or a Nomad job unpacks.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use kiln_initramfs::{Compression, Encoder};
use kiln_tree::{Kind, Metadata, Node, Tree, TreePath};
use tar::{Builder, EntryType, Header};

use crate::{Error, Result, cache};

/// Writes a tree as an archive, compressed, beside its place first. The bytes depend on the tree and the compression alone.
///
/// # Errors
/// As [`write()`]; what the file system refuses.
pub fn write_file(tree: &Tree, compression: Compression, path: &Path) -> Result<()> {
    let file = cache::beside(path)?;
    let encoder = Encoder::new(io::BufWriter::new(file), compression)?;
    let ended = write(tree, encoder)?.finish()?.into_inner();
    let file = ended.map_err(|error| Error::io("write", path)(error.into_error()))?;
    cache::persist(file, path)
}

/// Writes a tree as an archive.
///
/// # Errors
/// What no archive holds (sockets), by path; a file that cannot be read.
pub fn write<W: Write>(tree: &Tree, writer: W) -> Result<W> {
    let mut archive = Builder::new(writer);
    // A further name of a file comes after the file, or there would be nothing to link to.
    let is_link = |node: &Node| matches!(node.kind, Kind::Hardlink(_));
    let links = tree.iter().filter(|(_, node)| is_link(node));
    for (path, node) in tree.iter().filter(|(_, node)| !is_link(node)).chain(links) {
        append(&mut archive, path, node)
            .map_err(|error| Error::input(format!("/{path}"), error.to_string()))?;
    }
    archive.into_inner().map_err(|error| Error::input("the archive", error.to_string()))
}

fn append<W: Write>(archive: &mut Builder<W>, path: &TreePath, node: &Node) -> io::Result<()> {
    let name = Path::new(OsStr::from_bytes(path.as_bytes()));
    append_attributes(archive, &node.meta)?;
    let mut header = Header::new_gnu();
    header.set_mode(u32::from(node.meta.mode));
    header.set_uid(node.meta.uid.into());
    header.set_gid(node.meta.gid.into());
    header.set_mtime(node.meta.mtime.into());
    header.set_size(0);
    let (kind, device) = match &node.kind {
        Kind::File(source) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(source.len());
            return archive.append_data(&mut header, name, source.open()?);
        }
        Kind::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            return archive.append_link(&mut header, name, OsStr::from_bytes(target));
        }
        Kind::Hardlink(target) => {
            header.set_entry_type(EntryType::Link);
            return archive.append_link(&mut header, name, OsStr::from_bytes(target.as_bytes()));
        }
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            return archive.append_data(&mut header, name.join(""), io::empty());
        }
        Kind::CharDevice { major, minor } => (EntryType::Char, Some((*major, *minor))),
        Kind::BlockDevice { major, minor } => (EntryType::Block, Some((*major, *minor))),
        Kind::Fifo => (EntryType::Fifo, None),
        other => {
            let text = format!("it is a {}, which no archive holds", other.name());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    header.set_entry_type(kind);
    if let Some((major, minor)) = device {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    archive.append_data(&mut header, name, io::empty())
}

/// The extended attributes of the entry that follows.
fn append_attributes<W: Write>(archive: &mut Builder<W>, meta: &Metadata) -> io::Result<()> {
    if meta.xattrs.is_empty() {
        return Ok(());
    }
    let mut records = Vec::new();
    for (name, value) in &meta.xattrs {
        let mut record = b" SCHILY.xattr.".to_vec();
        record.extend_from_slice(name);
        record.push(b'=');
        record.extend_from_slice(value);
        record.push(b'\n');
        // POSIX pax: a record begins with its own length in decimal digits, these counted too.
        let mut digits = 1;
        while (record.len() + digits).to_string().len() > digits {
            digits += 1;
        }
        records.extend_from_slice((record.len() + digits).to_string().as_bytes());
        records.append(&mut record);
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(records.len() as u64);
    archive.append_data(&mut header, "PaxHeader", records.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GNU tar sees what was put in.
    #[test]
    fn tar_unpacks_what_was_packed() {
        let long = format!("{}/{}", "d".repeat(90), "n".repeat(120));
        let mut tree = Tree::new();
        let mut meta = Metadata::new(0o4755).modified_at(86_400);
        meta.xattrs.insert(b"user.some".to_vec(), vec![0, 10, 255]);
        tree.insert("usr/bin/script", Node::executable("#!/bin/sh\n").with(meta)).unwrap();
        tree.insert("usr/bin/same", Node::hardlink(TreePath::new("usr/bin/script").unwrap()))
            .unwrap();
        tree.insert("bin", Node::symlink("usr/bin")).unwrap();
        tree.insert(b"no-\xff-text".as_slice(), Node::file("odd\n")).unwrap();
        tree.insert(&long, Node::file("long\n")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for (name, compression) in [("t.tar", Compression::None), ("t.tar.gz", Compression::GZIP)] {
            let path = directory.path().join(name);
            write_file(&tree, compression, &path).unwrap();
            let first = std::fs::read(&path).unwrap();
            write_file(&tree, compression, &path).unwrap();
            assert_eq!(first, std::fs::read(&path).unwrap());
            let mut list = std::process::Command::new("tar");
            list.args(["--list", "--verbose", "--numeric-owner", "--utc"]);
            list.args(["--xattrs", "--quoting-style=escape", "--file"]).arg(&path);
            let output = list.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            for expected in [
                "lrwxrwxrwx  0/0 ",
                " bin -> usr/bin\n",
                "-rwsr-xr-x* 0/0 ",
                "1970-01-02 00:00 usr/bin/script\n",
                " usr/bin/same",
                " no-\\377-text",
                &long,
            ] {
                assert!(text.contains(expected), "{expected:?} is not in {text}");
            }
            let into = tempfile::tempdir().unwrap();
            let mut extract = std::process::Command::new("tar");
            extract.arg("--extract").arg("--directory").arg(into.path()).arg("--file").arg(&path);
            let output = extract.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(std::fs::read(into.path().join("bin/same")).unwrap(), b"#!/bin/sh\n");
        }
    }

    #[test]
    fn attributes_are_records_of_their_own_length() {
        let mut meta = Metadata::new(0o644);
        // " SCHILY.xattr.user.edge=" and a line break are 25 bytes: with 72 more and two digits the
        // record has 99, with 73 it needs a third digit.
        for (name, len) in [("user.edge", 72), ("user.next", 73), ("user.none", 0)] {
            meta.xattrs.insert(name.into(), vec![b'e'; len]);
        }
        let mut tree = Tree::new();
        tree.insert("file", Node::file("x").with(meta.clone())).unwrap();
        let bytes = write(&tree, Vec::new()).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let records = entry.pax_extensions().unwrap().unwrap().map(Result::unwrap);
        let found = records.map(|record| {
            let name = record.key_bytes().strip_prefix(b"SCHILY.xattr.").unwrap();
            (name.to_vec(), record.value_bytes().to_vec())
        });
        assert_eq!(found.collect::<std::collections::BTreeMap<_, _>>(), meta.xattrs);
    }

    #[test]
    fn what_no_archive_holds_is_told_by_its_path() {
        let mut tree = Tree::new();
        tree.insert("run/socket", Node::new(Kind::Socket)).unwrap();
        let error = write(&tree, Vec::new()).unwrap_err().to_string();
        assert!(error.contains("/run/socket") && error.contains("socket"), "{error}");
    }
}
