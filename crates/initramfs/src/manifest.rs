//! What is in an image: every path with its digest and the reason why it is there.

use std::io::Read;

use kiln_tree::{Kind, Source, Tree};
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
    /// The length of a regular file in bytes (a hard link has that of its file).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The SHA-256 of a regular file's content, in lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where a symbolic or hard link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
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
            size: None,
            sha256: None,
            target: None,
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
            let digest =
                digest(source).map_err(|source| Error::Content { path: path.clone(), source })?;
            record.sha256 = Some(digest);
            if let Source::File { path, .. } = source {
                record.source = Some(path.display().to_string());
            }
        }
        records.push(record);
    }
    Ok(records)
}

fn digest(source: &Source) -> std::io::Result<String> {
    let mut reader = source.open()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use kiln_tree::{Node, TreePath};

    use super::*;

    /// FIPS 180-4's digest of "abc".
    #[test]
    fn records() {
        let mut tree = Tree::new();
        tree.insert("etc/abc", Node::file("abc").because("a test")).unwrap();
        tree.insert("etc/link", Node::hardlink(TreePath::new("etc/abc").unwrap())).unwrap();
        tree.insert("etc/sym", Node::symlink("abc")).unwrap();
        let records = files(&tree).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&records).unwrap(), @r#"
        [
          {
            "path": "etc/abc",
            "kind": "regular file",
            "mode": "0644",
            "size": 3,
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "why": "a test"
          },
          {
            "path": "etc/link",
            "kind": "hard link",
            "mode": "0644",
            "size": 3,
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "target": "etc/abc"
          },
          {
            "path": "etc/sym",
            "kind": "symbolic link",
            "mode": "0777",
            "target": "abc"
          }
        ]
        "#);
        let back: Vec<FileRecord> =
            serde_json::from_str(&serde_json::to_string(&records).unwrap()).unwrap();
        assert_eq!(back, records);
    }
}
