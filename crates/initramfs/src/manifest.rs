//! What is in an image: every path with its digest and the reason why it is there.

use std::collections::BTreeMap;
use std::io::Read;

use kiln_tree::{Kind, Source, Tree};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// One path of an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct FileRecord {
    /// The path, without a leading slash; control characters and bytes that are no UTF-8 escaped.
    pub path: String,
    /// What it is, in words: `regular file`, `symbolic link`, …
    pub kind: String,
    /// The permission bits, in octal (`0755`).
    pub mode: String,
    /// The owner's number; left out when it is root's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The group's number; left out when it is root's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// The length of a regular file in bytes (a hard link has that of its file).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The SHA-256 of a regular file's content, in lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its SHA-1, which SPDX identifies files by; it vouches for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<String>,
    /// Where a symbolic or hard link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A device's numbers, `MAJOR:MINOR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Extended attributes: names, escaped as paths are, with values in hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
    /// Where the content comes from on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The records of all nodes of a tree, directories without a reason left out, in its order.
///
/// # Errors
/// [`Error::Content`] when a file cannot be read or changed its length.
pub fn files(tree: &Tree) -> Result<Vec<FileRecord>> {
    let mut records = Vec::new();
    for (path, node) in tree {
        if node.is_directory() && node.why.is_none() {
            continue;
        }
        let mut record = FileRecord {
            path: path.to_string(),
            kind: node.kind.name().into(),
            mode: format!("{:04o}", node.meta.mode),
            uid: node.meta.uid,
            gid: node.meta.gid,
            size: None,
            sha256: None,
            sha1: None,
            target: None,
            device: device(&node.kind),
            xattrs: xattrs(&node.meta.xattrs),
            source: None,
            why: node.why.clone(),
        };
        let file = match &node.kind {
            Kind::Symlink(target) => {
                record.target = Some(String::from_utf8_lossy(target).into_owned());
                None
            }
            Kind::Hardlink(target) => {
                record.target = Some(target.to_string());
                tree.get(target)
            }
            _ => Some(node),
        };
        if let Some(Kind::File(source)) = file.map(|node| &node.kind) {
            record.size = Some(source.len());
            let (sha256, sha1) =
                digests(source).map_err(|source| Error::Content { path: path.clone(), source })?;
            (record.sha256, record.sha1) = (Some(sha256), Some(sha1));
            if let Source::File { path, .. } = source {
                record.source = Some(path.display().to_string());
            }
        }
        records.push(record);
    }
    Ok(records)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn device(kind: &Kind) -> Option<String> {
    match kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            Some(format!("{major}:{minor}"))
        }
        _ => None,
    }
}

fn xattrs(attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<String, String> {
    let text = |(name, value): (&Vec<u8>, &Vec<u8>)| (name.escape_ascii().to_string(), hex(value));
    attributes.iter().map(text).collect()
}

/// SHA-256 and SHA-1, in one pass.
fn digests(source: &Source) -> std::io::Result<(String, String)> {
    let mut reader = source.open()?;
    let (mut sha256, mut sha1) = (Sha256::new(), Sha1::new());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let read = buffer.get(..count).unwrap_or_default();
                sha256.update(read);
                sha1.update(read);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((hex(&sha256.finalize()), hex(&sha1.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use kiln_tree::{Metadata, Node, TreePath};

    use super::*;

    /// FIPS 180-4's digests of "abc".
    #[test]
    fn records() {
        let mut tree = Tree::new();
        tree.insert("etc/abc", Node::file("abc").because("a test")).unwrap();
        tree.insert("etc/link", Node::hardlink(TreePath::new("etc/abc").unwrap())).unwrap();
        tree.insert("etc/sym", Node::symlink("abc")).unwrap();
        let mut meta = Metadata::new(0o600).owned_by(7, 8);
        meta.xattrs.insert(b"security.x".to_vec(), vec![0, 255]);
        tree.insert("srv/null", Node::char_device(1, 3).with(meta)).unwrap();
        let records = files(&tree).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&records).unwrap(), @r#"
        [
          {
            "path": "etc/abc",
            "kind": "regular file",
            "mode": "0644",
            "size": 3,
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
            "why": "a test"
          },
          {
            "path": "etc/link",
            "kind": "hard link",
            "mode": "0644",
            "size": 3,
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
            "target": "etc/abc"
          },
          {
            "path": "etc/sym",
            "kind": "symbolic link",
            "mode": "0777",
            "target": "abc"
          },
          {
            "path": "srv/null",
            "kind": "character device",
            "mode": "0600",
            "uid": 7,
            "gid": 8,
            "device": "1:3",
            "xattrs": {
              "security.x": "00ff"
            }
          }
        ]
        "#);
        let back: Vec<FileRecord> =
            serde_json::from_str(&serde_json::to_string(&records).unwrap()).unwrap();
        assert_eq!(back, records);
    }
}
