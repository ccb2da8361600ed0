//! A tree as a tar archive, as a layer of a container image is one: what a container, a `chroot` or a
//! Nomad job unpacks.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use kiln_initramfs::{Compression, Encoder};
use kiln_oci::layer::{self, Layer, Packed};
use kiln_oci::{Descriptor, Digest};
use kiln_tree::{Source, Tree};

use crate::{Cache, Error, Result, cache, digest};

/// Writes a tree as an archive, compressed, beside its place first. The bytes depend on the tree and the
/// compression alone. What it gives speaks of the archive before it was compressed.
///
/// # Errors
/// As [`write()`]; what the file system refuses.
pub fn write_file(tree: &Tree, compression: Compression, path: &Path) -> Result<Packed> {
    let file = cache::beside(path)?;
    let encoder = Encoder::new(io::BufWriter::new(file), compression)?;
    let (encoder, packed) = layer::write(tree, layer::Compression::None, encoder)?;
    let ended = encoder.finish()?.into_inner();
    let file = ended.map_err(|error| Error::io("write", path)(error.into_error()))?;
    cache::persist(file, path)?;
    Ok(packed)
}

/// Writes a tree as an archive.
///
/// # Errors
/// What no archive holds (sockets), by path; a file that cannot be read.
pub fn write<W: Write>(tree: &Tree, writer: W) -> Result<W> {
    Ok(layer::write(tree, layer::Compression::None, writer)?.0)
}

/// A layer that is an archive as it is, and the tree in it, whose contents lie in the cache.
///
/// # Errors
/// [`Error::Io`]; those of `kiln_oci` for what is no archive, or a hostile one.
pub fn read_file(path: &Path, cache: &Cache) -> Result<(Layer, Tree)> {
    let digest = digest::of_file(path)?;
    let plain = cache.get_or_make(format!("unpacked/{digest}.tar"), |made| {
        let unpack = || {
            let mut from = BufReader::new(File::open(path)?);
            let is_gzip = from.fill_buf()?.starts_with(&[0x1f, 0x8b]);
            let mut to = File::create(made)?;
            match is_gzip {
                true => io::copy(&mut MultiGzDecoder::new(from), &mut to),
                false => io::copy(&mut from, &mut to),
            }
        };
        unpack().map(drop).map_err(Error::io("unpack", path))
    })?;
    let diff_id = digest::of_file(&plain)?;
    let id = |digest: &str| {
        let broken = |_| Error::input(path.display().to_string(), "its digest is none");
        format!("sha256:{digest}").parse::<Digest>().map_err(broken)
    };
    let source = |path: &Path| {
        let len = std::fs::metadata(path).map_err(Error::io("stat", path))?.len();
        Ok::<_, Error>((Source::File { path: path.to_owned(), len }, len))
    };
    let layer = |path: &Path, digest: &str, compression| {
        let (source, len) = source(path)?;
        let descriptor = Descriptor::new(Layer::media_type(compression), len, id(digest)?);
        Ok::<_, Error>(Layer::new(descriptor, id(&diff_id)?, source))
    };
    let unpacked = layer(&plain, &diff_id, layer::Compression::None)?;
    let options = layer::Options::default();
    let tree = Layer::apply(Tree::new(), std::slice::from_ref(&unpacked), &options, None)?;
    if digest == diff_id {
        return Ok((unpacked, tree));
    }
    Ok((layer(path, &digest, layer::Compression::Gzip)?, tree))
}

#[cfg(test)]
mod tests {
    use kiln_tree::{Kind, Metadata, Node, TreePath};

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
                "1970-01-02 00:00 usr/bin/same\n",
                " usr/bin/script link to usr/bin/same\n",
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
        assert!(error.contains("run/socket is a socket"), "{error}");
    }
}
