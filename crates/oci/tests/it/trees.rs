//! Trees, and layers made by somebody else's writer.

use std::collections::BTreeMap;

use kiln_oci::{Compression, Descriptor, Layer};
use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};
use proptest::prelude::*;

pub(crate) fn path(text: impl AsRef<[u8]>) -> TreePath {
    TreePath::new(text).unwrap()
}

/// The tree in which the first name of each file is the file, as layers have it.
pub(crate) fn canonical(tree: &Tree) -> Tree {
    let mut first: BTreeMap<TreePath, TreePath> = BTreeMap::new();
    for (path, node) in tree {
        if let Kind::Hardlink(target) = &node.kind {
            let known = first.entry(target.clone()).or_insert_with(|| target.clone());
            *known = known.clone().min(path.clone());
        }
    }
    let mut out = tree.clone();
    for (path, node) in out.iter_mut() {
        let target = match &node.kind {
            Kind::Hardlink(target) => target.clone(),
            _ => path.clone(),
        };
        let Some(leader) = first.get(&target) else { continue };
        *node = if leader == path {
            tree.get(&target).unwrap().clone()
        } else {
            Node::hardlink(leader.clone())
        };
    }
    out
}

/// Every content in memory, so that trees can be compared.
pub(crate) fn in_memory(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for (_, node) in tree.iter_mut() {
        if let Kind::File(source) = &mut node.kind {
            *source = Source::Bytes(source.read().unwrap());
        }
    }
    tree
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "[a-e]{1,2}".prop_map(String::into_bytes),
        1 => Just(b"odd \xff\n".to_vec()),
        1 => Just("Grüße".as_bytes().to_vec()),
        1 => Just(vec![b'n'; 130]),
        1 => Just(vec![b'n'; 99]),
    ]
}

fn meta() -> impl Strategy<Value = Metadata> {
    let id = prop_oneof![Just(0), 0..70_000_u32, Just(3_000_000), Just(u32::MAX - 1)];
    let attribute = ("user\\.[a-z]{1,3}", proptest::collection::vec(any::<u8>(), 0..9));
    let attributes = proptest::collection::btree_map(attribute.0, attribute.1, 0..2);
    (0..0o10000_u16, id.clone(), id, any::<u32>(), attributes).prop_map(
        |(mode, uid, gid, time, all)| {
            let mut meta = Metadata::new(mode).owned_by(uid, gid).modified_at(time);
            meta.xattrs = all.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            meta
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    let content = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => Just(vec![7; 512]),
        1 => Just(vec![9; 5000]),
    ];
    let target = prop_oneof![name(), Just(b"../..".to_vec()), Just(vec![b'/'; 150])];
    prop_oneof![
        5 => (content, meta()).prop_map(|(content, meta)| Node::file(content).with(meta)),
        2 => meta().prop_map(|meta| Node::directory().with(meta)),
        2 => (target, meta()).prop_map(|(target, meta)| {
            Node::symlink(target).with(Metadata::new(0o777).owned_by(meta.uid, meta.gid).modified_at(meta.mtime))
        }),
        1 => meta().prop_map(|meta| {
            Node::new(Kind::Fifo).with(Metadata::new(meta.mode).owned_by(meta.uid, 1))
        }),
    ]
}

/// Trees with everything that layers can hold, devices aside.
pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    let path = proptest::collection::vec(name(), 1..4).prop_map(|parts| parts.join(&b'/'));
    let nodes = proptest::collection::vec((path, node()), 0..25);
    let links = proptest::collection::vec((any::<prop::sample::Index>(), "[a-f]{1,2}"), 0..5);
    (nodes, links, meta()).prop_map(|(nodes, links, root)| {
        let mut tree = Tree::new();
        tree.set_root(root);
        for (path, node) in nodes {
            let _ = tree.insert(path, node);
        }
        let files: Vec<TreePath> = tree
            .iter()
            .filter(|(_, node)| matches!(node.kind, Kind::File(_)))
            .map(|(path, _)| path.clone())
            .collect();
        for (index, name) in links {
            if !files.is_empty() && !tree.contains(&name) {
                let target = index.get(&files).clone();
                tree.insert(&name, Node::hardlink(target)).unwrap();
            }
        }
        tree
    })
}

/// An archive made by the `tar` crate of raw names, which may be as wrong as they like.
#[derive(Default)]
pub(crate) struct Archive(Vec<u8>);

impl Archive {
    pub(crate) fn raw(
        mut self,
        kind: tar::EntryType,
        name: impl AsRef<[u8]>,
        link: impl AsRef<[u8]>,
        content: &[u8],
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        let bytes = header.as_mut_bytes();
        let (name, link) = (name.as_ref(), link.as_ref());
        bytes[..name.len()].copy_from_slice(name);
        bytes[157..157 + link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.raw(tar::EntryType::Directory, name, "", b"")
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.raw(tar::EntryType::Regular, name, "", content.as_bytes())
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(tar::EntryType::Symlink, name, target, b"")
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.raw(tar::EntryType::Link, name, target, b"")
    }

    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    pub(crate) fn layer(self) -> Layer {
        layer_of(self.bytes())
    }
}

/// A layer of bytes as they are.
pub(crate) fn layer_of(bytes: Vec<u8>) -> Layer {
    use sha2::Digest as _;
    let hex: String =
        sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let digest: kiln_oci::Digest = format!("sha256:{hex}").parse().unwrap();
    let media_type = Layer::media_type(Compression::None);
    let descriptor = Descriptor::new(media_type, bytes.len() as u64, digest.clone());
    Layer::new(descriptor, digest, bytes.into())
}

/// The tree as lines: kind, path, and what there is to say.
pub(crate) fn listed(tree: &Tree) -> Vec<String> {
    tree.iter()
        .map(|(path, node)| match &node.kind {
            Kind::Directory => format!("{path}/"),
            Kind::File(source) => {
                format!("{path} = {}", String::from_utf8_lossy(&source.read().unwrap()))
            }
            Kind::Symlink(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Kind::Hardlink(target) => format!("{path} == {target}"),
            other => format!("{path}: {}", other.name()),
        })
        .collect()
}
