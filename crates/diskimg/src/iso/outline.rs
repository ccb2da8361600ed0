//! The tree as directories and files: what planning works on.

use std::collections::BTreeMap;

use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};

/// The longest name that Linux takes whole from Rock Ridge's entries (`get_rock_ridge_filename`);
/// of a longer one it drops the end.
const MOST_OF_NAME: usize = 253;

/// The tree, its nodes numbered.
pub(super) struct Outline<'tree> {
    /// The root first, then in the order of their paths.
    pub(super) directories: Vec<Directory<'tree>>,
    /// In the order of their paths.
    pub(super) files: Vec<File<'tree>>,
}

pub(super) struct Directory<'tree> {
    /// A number that no other directory, file or other node has, from 1.
    pub(super) serial: u32,
    pub(super) path: TreePath,
    pub(super) meta: &'tree Metadata,
    /// Its number.
    pub(super) parent: usize,
    /// In the order of their names.
    pub(super) items: Vec<Item<'tree>>,
}

impl Directory<'_> {
    /// How many names it has: its own, `.`, and `..` in each directory in it.
    pub(super) fn links(&self) -> u32 {
        let below = self.items.iter().filter(|item| matches!(item.what, What::Directory(_)));
        u32::try_from(below.count()).unwrap_or(u32::MAX).saturating_add(2)
    }
}

/// A file's content, whatever its names.
pub(super) struct File<'tree> {
    pub(super) path: &'tree TreePath,
    pub(super) source: &'tree Source,
    /// How many names it has.
    pub(super) links: u32,
    pub(super) serial: u32,
}

/// A name in a directory.
pub(super) struct Item<'tree> {
    pub(super) name: &'tree [u8],
    /// For a hard link that of the file.
    pub(super) meta: &'tree Metadata,
    pub(super) serial: u32,
    pub(super) what: What<'tree>,
}

#[derive(Clone, Copy)]
pub(super) enum What<'tree> {
    /// With its number.
    Directory(usize),
    /// With its number.
    File(usize),
    /// With its target.
    Symlink(&'tree [u8]),
    /// With its number.
    Special(Special),
}

/// What Rock Ridge alone can hold.
#[derive(Clone, Copy)]
pub(super) enum Special {
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
    Socket,
}

impl<'tree> Outline<'tree> {
    pub(super) fn new(tree: &'tree Tree, rock_ridge: bool, problems: &mut Vec<String>) -> Self {
        problems.extend(tree.check().iter().map(ToString::to_string));
        let root = Directory {
            serial: 1,
            path: TreePath::root(),
            meta: tree.root(),
            parent: 0,
            items: Vec::new(),
        };
        let mut directories = vec![root];
        let mut serial = 1_u32;
        let mut by_path: BTreeMap<&[u8], usize> = BTreeMap::from([(&b""[..], 0)]);
        let mut files: Vec<File<'tree>> = Vec::new();
        let mut file_by_path: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (path, node) in tree {
            if let Kind::File(source) = &node.kind {
                file_by_path.insert(path.as_bytes(), files.len());
                files.push(File { path, source, links: 1, serial: 0 });
            }
        }
        for (path, node) in tree {
            let bytes = path.as_bytes();
            let slash = bytes.iter().rposition(|byte| *byte == b'/');
            let (parent, name) = match slash {
                Some(at) => (bytes.get(..at), bytes.get(at + 1..)),
                None => (Some(&b""[..]), Some(bytes)),
            };
            let (Some(parent), Some(name)) = (parent, name) else { continue };
            // A node without a directory was complained of already.
            let Some(&parent) = by_path.get(parent) else { continue };
            let mut meta = &node.meta;
            serial = serial.saturating_add(1);
            let what = match &node.kind {
                Kind::Directory => {
                    let number = directories.len();
                    by_path.insert(bytes, number);
                    let items = Vec::new();
                    let path = path.clone();
                    directories.push(Directory { serial, path, meta, parent, items });
                    What::Directory(number)
                }
                Kind::File(_) => {
                    let Some(&number) = file_by_path.get(bytes) else { continue };
                    if let Some(file) = files.get_mut(number) {
                        file.serial = serial;
                    }
                    What::File(number)
                }
                Kind::Hardlink(target) => {
                    let Some(&number) = file_by_path.get(target.as_bytes()) else { continue };
                    if let Some(file) = files.get_mut(number) {
                        file.links = file.links.saturating_add(1);
                    }
                    meta = tree.get(target).map_or(meta, |node| &node.meta);
                    What::File(number)
                }
                Kind::Symlink(target) => {
                    if target.is_empty() {
                        problems.push(format!("{path}: a symbolic link to nothing"));
                    }
                    What::Symlink(target)
                }
                Kind::CharDevice { major, minor } => {
                    What::Special(Special::CharDevice(*major, *minor))
                }
                Kind::BlockDevice { major, minor } => {
                    What::Special(Special::BlockDevice(*major, *minor))
                }
                Kind::Fifo => What::Special(Special::Fifo),
                Kind::Socket => What::Special(Special::Socket),
                other => {
                    problems.push(format!("{path}: ISO 9660 holds no {}", other.name()));
                    continue;
                }
            };
            if !rock_ridge {
                complain(path, node, what, problems);
            } else if name.len() > MOST_OF_NAME {
                let len = name.len();
                problems.push(format!(
                    "{path}: the name has {len} bytes, Linux reads at most {MOST_OF_NAME} from an ISO"
                ));
            }
            if let Some(directory) = directories.get_mut(parent) {
                directory.items.push(Item { name, meta, serial, what });
            }
        }
        Self { directories, files }
    }

    /// The number of the file at a path.
    pub(super) fn file(&self, path: &TreePath) -> Option<usize> {
        self.files.binary_search_by(|file| file.path.cmp(path)).ok()
    }
}

/// What cannot be without Rock Ridge.
fn complain(path: &TreePath, node: &Node, what: What<'_>, problems: &mut Vec<String>) {
    match what {
        What::Symlink(_) | What::Special(_) => {
            let kind = node.kind.name();
            problems.push(format!("{path}: ISO 9660 without Rock Ridge holds no {kind}"));
        }
        What::Directory(_) => {
            // The root is the first level.
            let levels = path.components().count() + 1;
            if levels > 8 {
                problems.push(format!(
                    "{path}: {levels} levels of directories, ISO 9660 without Rock Ridge has at \
                     most 8"
                ));
            }
        }
        What::File(_) => {}
    }
}
