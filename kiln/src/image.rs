//! From a file tree to an initramfs.

use std::collections::BTreeMap;

use kiln_initramfs::manifest::FileRecord;
use kiln_initramfs::{Compression, write_image};
use kiln_tree::{Kind, Tree, TreePath};

use crate::{Cache, Error, Progress, Result, digest};

/// Files of this length and more are compressed apart from the rest, so that a change to a small
/// file does not compress them again.
const BULKY: u64 = 4 << 20;
/// Part of the name of a cached segment; to be raised when the way of making one changes.
const SEGMENT_FORMAT: &[u8] = b"1";
/// What the kernel's unpacker needs archives to begin at a multiple of; ours are kept at more.
const PADDING: usize = 512;

/// Makes an initramfs of a tree: one archive of the bulky files, which the cache keeps, and one of
/// the rest. `records` are those of the tree.
///
/// The bytes depend on the tree and the compression alone, not on what the cache had.
///
/// # Errors
/// Those of `kiln_initramfs`, and of the cache.
pub fn initramfs(
    cache: &Cache,
    tree: &Tree,
    records: &[FileRecord],
    compression: Compression,
    progress: &Progress,
) -> Result<Vec<u8>> {
    let (bulk, rest) = split(tree)?;
    let mut image = Vec::new();
    if !bulk.is_empty() {
        let key = key(&bulk, records, compression);
        let path = cache.get_or_make(format!("segment/{key}"), |made| {
            let step = progress.step("compressing the programs");
            let file = std::fs::File::create(made).map_err(Error::io("create", made))?;
            write_image(&bulk, &compression, file)?;
            step.done();
            Ok(())
        })?;
        image = std::fs::read(&path).map_err(Error::io("read", &path))?;
        image.resize(image.len().next_multiple_of(PADDING), 0);
    }
    Ok(write_image(&rest, &compression, image)?)
}

/// The bulky files with the directories they are in, and everything else. A hard link goes where
/// its file goes, because links do not reach from one archive to another.
fn split(tree: &Tree) -> Result<(Tree, Tree)> {
    let is_bulky = |path: &TreePath| match tree.get(path).map(|node| &node.kind) {
        Some(Kind::File(source)) => source.len() >= BULKY,
        _ => false,
    };
    let (mut bulk, mut rest) = (Tree::new(), Tree::new());
    rest.set_root(tree.root().clone());
    for (path, node) in tree {
        let bulky = match &node.kind {
            Kind::Hardlink(target) => is_bulky(target),
            _ => is_bulky(path),
        };
        if !bulky {
            rest.insert(path.as_bytes(), node.clone())?;
            continue;
        }
        let mut parent = path.parent();
        while let Some(directory) = parent {
            if let Some(node) = tree.get(&directory) {
                bulk.insert(directory.as_bytes(), node.clone())?;
            }
            parent = directory.parent();
        }
        bulk.insert(path.as_bytes(), node.clone())?;
    }
    Ok((bulk, rest))
}

/// A name for the archive of a tree: two trees with the same name give the same archive.
pub(crate) fn key(tree: &Tree, records: &[FileRecord], compression: Compression) -> String {
    let digests: BTreeMap<&str, &str> = records
        .iter()
        .filter_map(|record| Some((record.path.as_str(), record.sha256.as_deref()?)))
        .collect();
    let mut parts = vec![SEGMENT_FORMAT.to_vec(), compression.to_string().into_bytes()];
    for (path, node) in tree {
        parts.push(path.as_bytes().to_vec());
        parts.push(format!("{} {:?}", node.kind.name(), node.meta).into_bytes());
        parts.push(match &node.kind {
            Kind::Hardlink(target) => target.as_bytes().to_vec(),
            _ => digests
                .get(path.to_string().as_str())
                .map(|d| d.as_bytes().to_vec())
                .unwrap_or_default(),
        });
    }
    digest::of_parts(parts.iter().map(Vec::as_slice))
}

#[cfg(test)]
mod tests {
    use kiln_tree::Node;

    use super::*;
    use kiln_initramfs::cpio::{Limits, unpack};

    fn tree(small: &str) -> Tree {
        let mut tree = Tree::new();
        tree.insert("usr/bin/big", Node::executable(vec![7; 5 << 20])).unwrap();
        tree.insert("usr/bin/also", Node::hardlink(TreePath::new("usr/bin/big").unwrap())).unwrap();
        tree.insert("usr/bin/small", Node::file(small)).unwrap();
        tree.insert("bin", Node::symlink("usr/bin")).unwrap();
        tree
    }

    fn build(cache: &Cache, tree: &Tree) -> Vec<u8> {
        let records = kiln_initramfs::manifest::files(tree).unwrap();
        initramfs(cache, tree, &records, Compression::ZSTD, &Progress::quiet()).unwrap()
    }

    #[test]
    fn two_archives_make_the_tree_whole_and_the_cache_does_not_show() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let image = build(&cache, &tree("a"));
        let unpacked = unpack(image.as_slice(), Limits::default()).unwrap();
        assert!(unpacked.lost.is_empty());
        assert_eq!(unpacked.tree.len(), tree("a").len());
        assert_eq!(unpacked.tree.content_len(), (5 << 20) + 1);

        // A changed small file leaves the bulk as it is; a fresh cache gives the same bytes.
        let changed = build(&cache, &tree("b"));
        assert_eq!(std::fs::read_dir(dir.path().join("segment")).unwrap().count(), 1);
        let fresh = tempfile::tempdir().unwrap();
        assert_eq!(changed, build(&Cache::at(fresh.path()), &tree("b")));
        assert_ne!(changed, image);
    }

    #[test]
    fn what_counts_of_a_bulky_file_changes_its_segment() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        build(&cache, &tree("a"));
        let mut other = tree("a");
        other.replace("usr/bin/big", Node::executable(vec![8; 5 << 20])).unwrap();
        build(&cache, &other);
        let mut mode = tree("a");
        mode.replace("usr/bin/big", Node::file(vec![7; 5 << 20])).unwrap();
        build(&cache, &mode);
        assert_eq!(std::fs::read_dir(dir.path().join("segment")).unwrap().count(), 3);
    }
}
