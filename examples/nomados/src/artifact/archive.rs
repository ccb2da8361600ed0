//! A tree as a tar archive (POSIX.1-1988 ustar with GNU's long names), compressed by gzip: what
//! Nomad's clients, busybox and container tools unpack.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use kiln_initramfs::{Compression, Encoder};
use kiln_tree::{Kind, Tree};
use tar::{Builder, EntryType, Header};

/// Writes a tree as `.tar.gz`, beside its place first. The bytes depend on the tree alone.
///
/// # Errors
/// What the archive cannot hold (sockets, names that are no UTF-8); what the file system refuses.
pub(super) fn write_file(tree: &Tree, path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    let file = tempfile::Builder::new()
        .prefix(".writing-")
        .tempfile_in(parent)
        .with_context(|| format!("create a file in {}", parent.display()))?;
    let encoder = Encoder::new(file, Compression::GZIP)?;
    let file = write(tree, encoder)?.finish()?;
    kiln::cache::persist(file, path)?;
    Ok(())
}

/// Writes a tree as an archive.
///
/// # Errors
/// As `write_file`.
pub fn write<W: Write>(tree: &Tree, writer: W) -> Result<W> {
    let mut archive = Builder::new(writer);
    for (path, node) in tree {
        let context = || format!("archive {path}");
        let name = std::str::from_utf8(path.as_bytes()).with_context(context)?;
        let mut header = Header::new_gnu();
        header.set_mode(u32::from(node.meta.mode));
        header.set_uid(node.meta.uid.into());
        header.set_gid(node.meta.gid.into());
        header.set_mtime(node.meta.mtime.into());
        header.set_size(0);
        let device = |header: &mut Header, major: u32, minor: u32| {
            header.set_device_major(major).and_then(|()| header.set_device_minor(minor))
        };
        let done = match &node.kind {
            Kind::File(source) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(source.len());
                archive.append_data(&mut header, name, source.open().with_context(context)?)
            }
            Kind::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                let target = std::str::from_utf8(target).with_context(context)?;
                archive.append_link(&mut header, name, target)
            }
            Kind::Hardlink(target) => {
                header.set_entry_type(EntryType::Link);
                let target = std::str::from_utf8(target.as_bytes()).with_context(context)?;
                archive.append_link(&mut header, name, target)
            }
            Kind::Directory => {
                header.set_entry_type(EntryType::Directory);
                archive.append_data(&mut header, format!("{name}/"), std::io::empty())
            }
            Kind::CharDevice { major, minor } => {
                header.set_entry_type(EntryType::Char);
                device(&mut header, *major, *minor)
                    .and_then(|()| archive.append_data(&mut header, name, std::io::empty()))
            }
            Kind::BlockDevice { major, minor } => {
                header.set_entry_type(EntryType::Block);
                device(&mut header, *major, *minor)
                    .and_then(|()| archive.append_data(&mut header, name, std::io::empty()))
            }
            Kind::Fifo => {
                header.set_entry_type(EntryType::Fifo);
                archive.append_data(&mut header, name, std::io::empty())
            }
            other => bail!("{path} is a {}, which no archive holds", other.name()),
        };
        done.with_context(context)?;
    }
    archive.into_inner().context("finish the archive")
}

#[cfg(test)]
mod tests {
    use kiln_tree::{Metadata, Node, TreePath};

    use super::*;

    /// GNU tar sees what was put in.
    #[test]
    fn tar_unpacks_what_was_packed() {
        let long = format!("{}/{}", "d".repeat(90), "n".repeat(120));
        let mut tree = Tree::new();
        let script =
            Node::executable("#!/bin/sh\n").with(Metadata::new(0o4755).modified_at(86_400));
        tree.insert("usr/bin/script", script).unwrap();
        tree.insert("usr/bin/same", Node::hardlink(TreePath::new("usr/bin/script").unwrap()))
            .unwrap();
        tree.insert("bin", Node::symlink("usr/bin")).unwrap();
        tree.insert(&long, Node::file("long\n")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.tar.gz");
        write_file(&tree, &path).unwrap();
        let first = std::fs::read(&path).unwrap();
        write_file(&tree, &path).unwrap();
        assert_eq!(first, std::fs::read(&path).unwrap());
        let mut list = std::process::Command::new("tar");
        list.args(["--list", "--verbose", "--numeric-owner", "--utc", "--file"]).arg(&path);
        let output = list.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for expected in [
            "lrwxrwxrwx 0/0 ",
            " bin -> usr/bin\n",
            "-rwsr-xr-x 0/0 ",
            "1970-01-02 00:00 usr/bin/script\n",
            " usr/bin/same",
            &long,
        ] {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
    }
}
