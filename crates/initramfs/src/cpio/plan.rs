//! What a kernel would refuse or lose, found before a byte is written.

use std::fmt;

use kiln_tree::{Kind, Node, Tree, TreePath};

use super::header::TRAILER;

/// A node that cannot be in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The node.
    pub path: TreePath,
    /// What it breaks.
    pub rule: Rule,
}

/// The rules of `init/initramfs.c` and of the format that a tree can break.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// A file of this name at the root ends the archive for every reader.
    TrailerName,
    /// A regular file of 4 GiB or more: the size field has 32 bits.
    FileTooLarge {
        /// Its length in bytes.
        len: u64,
    },
    /// A symbolic link without a target.
    SymlinkEmpty,
    /// A target of 4096 bytes or more, which the kernel drops or refuses.
    SymlinkTooLong {
        /// The target's length in bytes.
        len: usize,
    },
    /// A target with a NUL, at which the kernel would cut it.
    SymlinkNul,
    /// A device number that Linux cannot hold (12 bits major, 20 bits minor).
    DeviceNumber {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// Permission bits above `0o7777`, which would change the file's type.
    Mode {
        /// The mode.
        mode: u16,
    },
    /// Extended attributes, for which the format has no place.
    ExtendedAttributes {
        /// How many.
        count: usize,
    },
    /// The tree itself is broken: a missing parent, a hard link to nothing.
    Tree(String),
    /// A file of an early segment that is in none of the directories a kernel looks in.
    EarlyPlace,
    /// A file of an early segment with a longer name than the kernel takes.
    EarlyName {
        /// The most bytes of a name.
        max: usize,
    },
    /// Something in an early segment that is neither a file nor a directory.
    EarlyKind(&'static str),
    /// A kind of node that the format does not know.
    Unknown(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.rule {
            Rule::TrailerName => {
                write!(out, "{path}: a file of this name ends the archive for every reader")
            }
            Rule::FileTooLarge { len } => {
                write!(out, "{path}: {len} bytes long, the format holds at most 4294967295")
            }
            Rule::SymlinkEmpty => write!(out, "{path}: the symbolic link has no target"),
            Rule::SymlinkTooLong { len } => {
                write!(out, "{path}: the target has {len} bytes, the kernel takes at most 4095")
            }
            Rule::SymlinkNul => write!(out, "{path}: the target contains a NUL byte"),
            Rule::DeviceNumber { major, minor } => {
                write!(out, "{path}: device {major}:{minor}, Linux has at most 4095:1048575")
            }
            Rule::Mode { mode } => write!(out, "{path}: mode {mode:o}, expected at most 7777"),
            Rule::ExtendedAttributes { count } => {
                write!(out, "{path}: {count} extended attributes, the format has no place for them")
            }
            Rule::Tree(problem) => out.write_str(problem),
            Rule::EarlyPlace => write!(
                out,
                "{path}: the kernel looks in kernel/x86/microcode and kernel/firmware/acpi only"
            ),
            Rule::EarlyName { max } => {
                write!(out, "{path}: the kernel takes early file names of at most {max} bytes")
            }
            Rule::EarlyKind(kind) => {
                write!(out, "{path}: a {kind} in an early segment, expected files")
            }
            Rule::Unknown(kind) => write!(out, "{path}: a {kind} cannot be in an archive"),
        }
    }
}

/// Every reason why a tree cannot be an archive that a kernel unpacks to the same tree; none when
/// it can. With `drop_xattrs`, extended attributes are no reason.
#[must_use]
pub fn check(tree: &Tree, drop_xattrs: bool) -> Vec<Problem> {
    let mut problems: Vec<Problem> = tree
        .check()
        .into_iter()
        .map(|error| {
            let path = match &error {
                kiln_tree::Error::DanglingHardlink { path, .. }
                | kiln_tree::Error::ParentNotDirectory { path, .. } => path.clone(),
                _ => TreePath::root(),
            };
            Problem { path, rule: Rule::Tree(error.to_string()) }
        })
        .collect();
    for (path, node) in tree {
        let mut found = |rule| problems.push(Problem { path: path.clone(), rule });
        // A directory of that name is as deadly as a file.
        if path.as_bytes() == TRAILER {
            found(Rule::TrailerName);
        }
        if node.meta.mode > 0o7777 {
            found(Rule::Mode { mode: node.meta.mode });
        }
        if !drop_xattrs && !node.meta.xattrs.is_empty() {
            found(Rule::ExtendedAttributes { count: node.meta.xattrs.len() });
        }
        if let Some(rule) = content_rule(node) {
            found(rule);
        }
    }
    if !drop_xattrs && !tree.root().xattrs.is_empty() {
        let rule = Rule::ExtendedAttributes { count: tree.root().xattrs.len() };
        problems.push(Problem { path: TreePath::root(), rule });
    }
    problems
}

fn content_rule(node: &Node) -> Option<Rule> {
    match &node.kind {
        Kind::File(source) => {
            let len = source.len();
            (len > u64::from(u32::MAX)).then_some(Rule::FileTooLarge { len })
        }
        Kind::Symlink(target) => symlink_rule(target),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            device_rule(*major, *minor)
        }
        Kind::Directory | Kind::Hardlink(_) | Kind::Fifo | Kind::Socket => None,
        other => Some(Rule::Unknown(other.name())),
    }
}

pub(super) fn symlink_rule(target: &[u8]) -> Option<Rule> {
    if target.is_empty() {
        Some(Rule::SymlinkEmpty)
    } else if target.len() > 4095 {
        Some(Rule::SymlinkTooLong { len: target.len() })
    } else {
        target.contains(&0).then_some(Rule::SymlinkNul)
    }
}

pub(super) fn device_rule(major: u32, minor: u32) -> Option<Rule> {
    (major > 0xfff || minor > 0xf_ffff).then_some(Rule::DeviceNumber { major, minor })
}

#[cfg(test)]
mod tests {
    use kiln_tree::{Metadata, Source};

    use super::*;

    fn rules(node: Node) -> Vec<Rule> {
        let mut tree = Tree::new();
        tree.insert("x", node).unwrap();
        check(&tree, false).into_iter().map(|problem| problem.rule).collect()
    }

    #[test]
    fn the_kernels_rules() {
        let file = |len| Node::file(Source::File { path: "/none".into(), len });
        let max = u64::from(u32::MAX);
        assert_eq!(rules(file(max)), []);
        assert_eq!(rules(file(max + 1)), [Rule::FileTooLarge { len: 1 << 32 }]);
        assert_eq!(rules(Node::symlink(vec![b'a'; 4095])), []);
        assert_eq!(rules(Node::symlink(vec![b'a'; 4096])), [Rule::SymlinkTooLong { len: 4096 }]);
        assert_eq!(rules(Node::symlink("")), [Rule::SymlinkEmpty]);
        assert_eq!(rules(Node::symlink("a\0b")), [Rule::SymlinkNul]);
        assert_eq!(rules(Node::char_device(0xfff, 0xf_ffff)), []);
        let number = Rule::DeviceNumber { major: 0x1000, minor: 0 };
        assert_eq!(rules(Node::char_device(0x1000, 0)), [number]);
        let mut mode = Metadata::default();
        mode.mode = 0o10_000;
        assert_eq!(rules(Node::file("").with(mode)), [Rule::Mode { mode: 0o10_000 }]);
        let mut attributes = Metadata::new(0o644);
        attributes.xattrs.insert(b"user.x".to_vec(), vec![1]);
        let node = Node::file("").with(attributes);
        assert_eq!(rules(node), [Rule::ExtendedAttributes { count: 1 }]);
    }

    #[test]
    fn the_trailers_name_is_taken_at_the_root_only() {
        let mut tree = Tree::new();
        tree.insert("a/TRAILER!!!", Node::file("x")).unwrap();
        assert_eq!(check(&tree, false), []);
        tree.insert("TRAILER!!!", Node::directory()).unwrap();
        assert_eq!(check(&tree, false)[0].rule, Rule::TrailerName);
    }

    #[test]
    fn all_problems_at_once() {
        let mut tree = Tree::new();
        tree.insert("TRAILER!!!", Node::file("x")).unwrap();
        tree.insert("empty", Node::symlink("")).unwrap();
        tree.insert("hard", Node::hardlink(TreePath::new("nothing").unwrap())).unwrap();
        let error = crate::Error::Unpackable(check(&tree, false));
        insta::assert_snapshot!(error, @r"
        the tree cannot be an initramfs:
          hard is a hard link to nothing, which is not a regular file of the tree
          TRAILER!!!: a file of this name ends the archive for every reader
          empty: the symbolic link has no target
        ");
    }
}
