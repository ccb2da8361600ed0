//! The index of a root: a line for each thing it knows, fields separated by tabs. It lets an
//! unpacked directory be used again without a look at its packages.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};

use super::{Alternative, Note, Root, on_host};
use crate::lock::LockedPackage;
use crate::{Error, Result};

const FIRST_LINE: &str = "kiln-debroot root 1";

impl Root {
    /// Writes the index of the root to a file outside of its directory: beside it, then renamed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, index: &Path) -> Result<()> {
        let parent = match index.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let mut beside = tempfile::Builder::new()
            .prefix(".part-")
            .tempfile_in(parent)
            .map_err(Error::io("create a file in", parent))?;
        beside
            .write_all(&self.lines())
            .and_then(|()| beside.flush())
            .map_err(Error::io("write", index))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(beside.path(), mode).map_err(Error::io("set the mode of", index))?;
        beside.persist(index).map(drop).map_err(|error| Error::io("rename to", index)(error.error))
    }

    /// Opens a root that was unpacked and saved before. The directory may have been moved since,
    /// but not changed: a file whose length is another is an error when the tree is read.
    ///
    /// # Errors
    /// [`Error::Io`] when the index cannot be read or the directory is gone; [`Error::Syntax`].
    pub fn open(index: &Path, directory: &Path) -> Result<Self> {
        let bytes = fs::read(index).map_err(Error::io("read", index))?;
        fs::read_dir(directory).map_err(Error::io("read directory", directory))?;
        parse(&bytes, directory)
            .map_err(|(line, reason)| Error::syntax(&index.display().to_string(), line, reason))
    }

    fn lines(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.tree.len() * 96);
        let mut line = |fields: &[&[u8]]| {
            for (number, field) in fields.iter().enumerate() {
                if number > 0 {
                    out.push(b'\t');
                }
                escape(&mut out, field);
            }
            out.push(b'\n');
        };
        line(&[FIRST_LINE.as_bytes()]);
        for package in &self.packages {
            let size = package.size.to_string();
            let needed_by = package.needed_by.as_deref().unwrap_or_default();
            let LockedPackage { name, version, architecture, source, source_version, .. } = package;
            let LockedPackage { archive, path, sha256, .. } = package;
            let texts: [&str; 10] = [
                name,
                version,
                architecture,
                source,
                source_version,
                archive,
                path,
                &size,
                sha256,
                needed_by,
            ];
            line(&[&[&b"package"[..]], texts.map(str::as_bytes).as_slice()].concat());
        }
        for path in &self.conffiles {
            line(&[b"conffile", path.as_bytes()]);
        }
        for alternative in &self.alternatives {
            let priority = alternative.priority.to_string();
            let Alternative { name, link, path, package, .. } = alternative;
            let mut texts = vec!["alternative", name, link, path, &priority, package];
            for (link, name, path) in &alternative.slaves {
                texts.extend([link.as_str(), name, path]);
            }
            let fields: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
            line(&fields);
        }
        for note in &self.notes {
            line(&[b"note", note.package.as_bytes(), note.place.as_bytes(), note.text.as_bytes()]);
        }
        let root = (&TreePath::root(), &Node::directory().with(self.tree.root().clone()));
        for (path, node) in std::iter::once(root).chain(self.tree.iter()) {
            let owner = self.owners.get(path).map_or_else(String::new, usize::to_string);
            let Metadata { mode, uid, gid, mtime, .. } = &node.meta;
            let meta = [format!("{mode:o}"), uid.to_string(), gid.to_string(), mtime.to_string()];
            let [mode, uid, gid, mtime] = meta.each_ref().map(String::as_bytes);
            let length;
            let (kind, more): (&[u8], &[u8]) = match &node.kind {
                Kind::File(source) => {
                    length = source.len().to_string();
                    (b"file", length.as_bytes())
                }
                Kind::Symlink(target) => (b"symlink", target),
                Kind::Hardlink(target) => (b"hardlink", target.as_bytes()),
                // Nothing else is ever unpacked.
                _ => (b"directory", b""),
            };
            let why = node.why.as_deref().unwrap_or_default().as_bytes();
            line(&[kind, path.as_bytes(), mode, uid, gid, mtime, owner.as_bytes(), more, why]);
        }
        out
    }
}

fn escape(out: &mut Vec<u8>, field: &[u8]) {
    for byte in field {
        match byte {
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte => out.push(*byte),
        }
    }
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                _ => b'\\',
            },
            byte => *byte,
        });
    }
    out
}

fn parse(bytes: &[u8], directory: &Path) -> Result<Root, (usize, String)> {
    let mut root = Root {
        directory: directory.to_owned(),
        tree: Tree::new(),
        packages: Vec::new(),
        conffiles: Vec::new(),
        alternatives: Vec::new(),
        notes: Vec::new(),
        owners: BTreeMap::new(),
    };
    let mut lines = bytes.split(|byte| *byte == b'\n').enumerate();
    if lines.next().map(|(_, line)| line) != Some(FIRST_LINE.as_bytes()) {
        return Err((1, format!("it does not start with {FIRST_LINE:?}")));
    }
    let mut complete = false;
    for (number, line) in lines {
        if line.is_empty() {
            complete = true;
            continue;
        }
        complete = false;
        let fields: Vec<Vec<u8>> = line.split(|byte| *byte == b'\t').map(unescape).collect();
        let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        one(&mut root, &fields)
            .ok_or_else(|| (number + 1, "a line that no root has".to_owned()))?;
    }
    if complete { Ok(root) } else { Err((1, "it was cut off".to_owned())) }
}

fn text(field: &[u8]) -> Option<String> {
    String::from_utf8(field.to_vec()).ok()
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn one(root: &mut Root, fields: &[&[u8]]) -> Option<()> {
    match fields {
        [b"package", texts @ ..] => {
            let texts: Vec<String> =
                texts.iter().map(|field| text(field)).collect::<Option<_>>()?;
            let [name, version, architecture, source, source_version, rest @ ..] = texts.as_slice()
            else {
                return None;
            };
            let [archive, path, size, sha256, needed_by] = rest else { return None };
            root.packages.push(LockedPackage {
                name: name.clone(),
                version: version.clone(),
                architecture: architecture.clone(),
                source: source.clone(),
                source_version: source_version.clone(),
                archive: archive.clone(),
                path: path.clone(),
                size: size.parse().ok()?,
                sha256: sha256.clone(),
                needed_by: Some(needed_by.clone()).filter(|name| !name.is_empty()),
                // What packages depend on is the lock's to say; a root does not ask.
                depends: Vec::new(),
            });
        }
        [b"conffile", path] => root.conffiles.push(TreePath::new(path).ok()?),
        [b"alternative", name, link, path, priority, package, slaves @ ..] => {
            let slaves = slaves
                .chunks(3)
                .map(|slave| match slave {
                    [link, name, path] => Some((text(link)?, text(name)?, text(path)?)),
                    _ => None,
                })
                .collect::<Option<_>>()?;
            root.alternatives.push(Alternative {
                name: text(name)?,
                link: text(link)?,
                path: text(path)?,
                priority: number(priority)?,
                slaves,
                package: text(package)?,
            });
        }
        [b"note", package, place, what] => root.notes.push(Note {
            package: text(package)?,
            place: text(place)?,
            text: text(what)?,
        }),
        [kind, path, mode, uid, gid, mtime, owner, more, why] => {
            let path = TreePath::new(path).ok()?;
            let mode = u16::from_str_radix(std::str::from_utf8(mode).ok()?, 8).ok()?;
            let meta = Metadata::new(mode)
                .owned_by(number(uid)?, number(gid)?)
                .modified_at(number(mtime)?);
            let kind = match *kind {
                b"directory" => Kind::Directory,
                b"file" => Kind::File(Source::File {
                    path: on_host(&root.directory, &path),
                    len: number(more)?,
                }),
                b"symlink" => Kind::Symlink(more.to_vec()),
                b"hardlink" => Kind::Hardlink(TreePath::new(more).ok()?),
                _ => return None,
            };
            let mut node = Node::new(kind).with(meta);
            node.why = Some(text(why)?).filter(|why| !why.is_empty());
            root.tree.insert(path.as_bytes(), node).ok()?;
            if !owner.is_empty() {
                let owner = number(owner).filter(|owner| *owner < root.packages.len())?;
                root.owners.insert(path, owner);
            }
        }
        _ => return None,
    }
    Some(())
}
