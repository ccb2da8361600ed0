//! Layers applied one above the other (image specification, layer.md, "Applying Changesets").
//!
//! Where an entry goes is decided by the tree that was made so far, never by a file system, so no
//! link can lead out of it. What is done besides (files spooled, or made on a disk) is the sink's.
//! Roots of App Containers are applied by the same code, by the rules that those have.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::PathBuf;

use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};

use super::place::{below, directory, inside};
use super::{Compression, Layer, OPAQUE, Spool, WHITEOUT};
use crate::error::shown;
use crate::limits::Limits;
use crate::tar::{self, Broken, Entry, Type};
use crate::{Error, Result};

/// Blobs shorter than this are not worth two more threads.
pub(crate) const ALONE: u64 = 256 << 10;

/// How layers are applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Options {
    /// How much all layers together may ask for.
    pub limits: Limits,
    /// What becomes of device nodes.
    pub devices: Devices,
}

/// What becomes of device nodes in layers: a runtime makes the devices of a container, and a node for
/// the host's disk is the host's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Devices {
    /// A layer with one is refused. The default.
    #[default]
    Refuse,
    /// They are left out.
    Skip,
    /// They are part of the tree.
    Keep,
}

/// By whose rules the entries of an archive are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Those of layers: some names take away what is below, links on the way are followed.
    Layers,
    /// Those of roots, which are put one upon the other (appc, ace.md, "Filesystem Setup"): all names
    /// are names, and links on the way give way, unless they are of the same archive.
    #[cfg(feature = "appc")]
    Roots,
}

/// Sees each entry before it is applied, and may read its content, change it or leave it out.
pub(crate) type Prepare<'prepare> =
    &'prepare mut dyn FnMut(Entry, &mut dyn Read) -> Result<Option<Entry>, Refused>;

/// What happens besides while layers are applied: nothing, but that contents go somewhere. Paths have no
/// symbolic links on their way.
pub(crate) trait Sink {
    /// A node is gone; what was below it went before.
    fn removed(&mut self, _path: &TreePath, _node: &Node) -> Result<()> {
        Ok(())
    }
    /// A directory, symbolic link, device or pipe is new.
    fn made(&mut self, _path: &TreePath, _node: &Node) -> Result<()> {
        Ok(())
    }
    /// A further name of a file.
    fn linked(&mut self, _path: &TreePath, _existing: &TreePath) -> Result<()> {
        Ok(())
    }
    /// A file is new. The error of the inner result is the reader's.
    fn file(
        &mut self,
        path: &TreePath,
        meta: &Metadata,
        content: Content<'_>,
    ) -> Result<io::Result<Source>>;
}

/// The content of a file of a layer.
pub(crate) struct Content<'layer> {
    pub(crate) reader: &'layer mut dyn Read,
    pub(crate) len: u64,
    /// Where it is, if it is somewhere as it is.
    pub(crate) original: Option<Source>,
}

impl Layer {
    /// Applies layers, the lowest first, onto a tree. Contents are kept in the spool, in memory where
    /// there is none, or where they are in layers that are not compressed.
    ///
    /// # Errors
    /// [`Error::Entry`] for what is broken, hostile or refused; [`Error::Blob`] for a layer that is
    /// not what its digests say; [`Error::Io`].
    pub fn apply(
        tree: Tree,
        layers: &[Self],
        options: &Options,
        spool: Option<&mut Spool>,
    ) -> Result<Tree> {
        kept(Apply::onto(tree, Rules::Layers, options), spool, |apply, sink| {
            layers.iter().try_for_each(|layer| apply.layer(layer, sink))
        })
    }
}

/// Makes a tree of what is applied, with contents in the spool, in memory or where they are.
pub(crate) fn kept<'options>(
    mut apply: Apply<'options>,
    spool: Option<&mut Spool>,
    each: impl FnOnce(&mut Apply<'options>, &mut dyn Sink) -> Result<()>,
) -> Result<Tree> {
    let mut kept = Kept { spool, memory: apply.options.limits.memory };
    each(&mut apply, &mut kept)?;
    if let Some(spool) = kept.spool {
        spool.flush()?;
    }
    Ok(apply.finish())
}

/// Contents kept for a tree.
struct Kept<'spool> {
    spool: Option<&'spool mut Spool>,
    memory: u64,
}

impl Sink for Kept<'_> {
    fn file(
        &mut self,
        _: &TreePath,
        _: &Metadata,
        content: Content<'_>,
    ) -> Result<io::Result<Source>> {
        if let Some(original) = content.original {
            return Ok(Ok(original));
        }
        if let Some(spool) = &mut self.spool {
            return spool.take(content.reader, content.len);
        }
        let Some(left) = self.memory.checked_sub(content.len) else {
            let text = "there is no room for it in memory, and no spool was given";
            return Ok(Err(io::Error::new(io::ErrorKind::OutOfMemory, text)));
        };
        self.memory = left;
        let mut bytes = Vec::new();
        Ok(content.reader.read_to_end(&mut bytes).map(|_| bytes.into()))
    }
}

/// Names of one file.
struct Group {
    file: Node,
    names: BTreeSet<TreePath>,
}

/// A tree that layers are being applied to.
pub(crate) struct Apply<'options> {
    tree: Tree,
    rules: Rules,
    options: &'options Options,
    /// Files with several names. What the tree has for these names is set right at the end.
    groups: Vec<Group>,
    names: BTreeMap<TreePath, usize>,
    entries: u64,
    bytes: u64,
    name_bytes: u64,
}

/// Why an entry is not applied.
pub(crate) enum Refused {
    Because(String),
    Broken(Broken),
    Error(Error),
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Because(reason)
    }
}

impl From<&str> for Refused {
    fn from(reason: &str) -> Self {
        Self::Because(reason.into())
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<kiln_tree::Error> for Refused {
    fn from(error: kiln_tree::Error) -> Self {
        Self::Because(error.to_string())
    }
}

impl<'options> Apply<'options> {
    pub(crate) fn onto(tree: Tree, rules: Rules, options: &'options Options) -> Self {
        let mut apply = Self {
            tree: Tree::new(),
            rules,
            options,
            groups: Vec::new(),
            names: BTreeMap::new(),
            entries: 0,
            bytes: 0,
            name_bytes: 0,
        };
        for (path, node) in &tree {
            if let Kind::Hardlink(target) = &node.kind
                && let Some(file) = tree.get(target)
            {
                apply.join(path, target, file.clone());
            }
        }
        apply.tree = tree;
        apply
    }

    pub(crate) fn layer(&mut self, layer: &Layer, sink: &mut dyn Sink) -> Result<()> {
        let digest = layer.descriptor.digest().to_string();
        let as_it_is: Prepare<'_> = &mut |entry, _| Ok(Some(entry));
        let archive = layer.open(&self.options.limits)?;
        let original = match (layer.compression()?, &layer.source) {
            (Compression::None, Source::File { path, .. }) => Some((path.clone(), 0)),
            (Compression::None, Source::Range { path, offset, .. }) => {
                Some((path.clone(), *offset))
            }
            _ => None,
        };
        if layer.source.len() < ALONE {
            return self.entries(&digest, &original, &mut { archive }, as_it_is, sink);
        }
        std::thread::scope(|scope| {
            let mut archive = archive.ahead(scope).map_err(Error::stream(&digest))?;
            self.entries(&digest, &original, &mut archive, as_it_is, sink)
        })
    }

    /// Applies the entries of an archive, and reads what follows its end, so that it is checked.
    pub(crate) fn entries(
        &mut self,
        digest: &str,
        original: &Option<(PathBuf, u64)>,
        archive: &mut dyn Read,
        prepare: Prepare<'_>,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let mut reader = tar::Reader::new(archive, self.options.limits.extension);
        let mut made = BTreeSet::new();
        loop {
            let entry = match reader.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(broken) => return Err(at(digest, broken)),
            };
            let applied = match prepare(entry, &mut reader) {
                Ok(Some(entry)) => self.entry(&entry, &mut reader, original, &mut made, sink),
                Ok(None) => Ok(()),
                Err(refused) => Err(refused),
            };
            applied.map_err(|refused| match refused {
                Refused::Because(reason) => at(digest, reader.broken(reason)),
                Refused::Broken(broken) => at(digest, broken),
                Refused::Error(error) => error,
            })?;
        }
        io::copy(reader.get_mut(), &mut io::sink()).map(drop).map_err(Error::stream(digest))
    }

    /// The tree, in which the first name of each file is the file.
    pub(crate) fn finish(self) -> Tree {
        let Self { mut tree, groups, names, .. } = self;
        for (path, node) in tree.iter_mut() {
            let Some(group) = names.get(path).and_then(|number| groups.get(*number)) else {
                continue;
            };
            let why = node.why.take();
            match group.names.first() {
                Some(first) if first != path => *node = Node::hardlink(first.clone()),
                _ => *node = group.file.clone(),
            }
            node.why = why;
        }
        tree
    }

    fn entry(
        &mut self,
        entry: &Entry,
        reader: &mut tar::Reader<&mut dyn Read>,
        original: &Option<(PathBuf, u64)>,
        made: &mut BTreeSet<TreePath>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refused> {
        let attributes: usize =
            entry.xattrs.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
        self.count(entry.path.len().saturating_add(entry.link.len()).saturating_add(attributes))?;
        let path = inside(&entry.path, self.options.limits.depth)?;
        let meta = metadata(entry);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            if entry.kind != Type::Directory {
                return Err("the root can only be a directory".into());
            }
            self.tree.set_root(meta);
            return Ok(());
        };
        let parent = match self.rules {
            Rules::Layers => match self.place(&path, &parent, name, made, sink)? {
                Some(parent) => parent,
                None => return Ok(()),
            },
            #[cfg(feature = "appc")]
            Rules::Roots => {
                self.give_way(&parent, made, sink)?;
                parent
            }
        };
        let path = parent.join(name)?;
        self.parents(&parent, made, sink)?;
        let there = self.tree.get(&path);
        if entry.kind == Type::Directory && there.is_some_and(Node::is_directory) {
            self.tree.insert(path.as_bytes(), Node::directory().with(meta))?;
            made.insert(path);
            return Ok(());
        }
        #[cfg(feature = "appc")]
        if self.rules == Rules::Roots && made.contains(&path) {
            return Err("there is something in its place already".into());
        }
        let device = matches!(entry.kind, Type::CharDevice | Type::BlockDevice);
        if device && self.options.devices == Devices::Refuse {
            return Err("device nodes are refused".into());
        }
        let target = match entry.kind {
            Type::Hardlink => Some(self.link_target(entry, &path)?),
            _ => None,
        };
        for gone in self.clear(&path, true, &|_| false, sink)? {
            made.remove(&gone);
        }
        if device && self.options.devices == Devices::Skip {
            return Ok(());
        }
        let (major, minor) = entry.device;
        let node = match entry.kind {
            Type::File => {
                let source = self.content(entry, &path, &meta, reader, original, sink)?;
                self.tree.insert(path.as_bytes(), Node::file(source).with(meta))?;
                made.insert(path);
                return Ok(());
            }
            Type::Directory => Node::directory().with(meta),
            Type::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() > 4095 {
                    return Err(
                        "its target is empty, has a NUL or is longer than 4095 bytes".into()
                    );
                }
                Node::symlink(&entry.link).with(meta)
            }
            Type::CharDevice => Node::new(Kind::CharDevice { major, minor }).with(meta),
            Type::BlockDevice => Node::new(Kind::BlockDevice { major, minor }).with(meta),
            Type::Fifo => Node::new(Kind::Fifo).with(meta),
            Type::Hardlink => {
                let target = target.unwrap_or_default();
                match self.linked(&path, &target)? {
                    // A further name of a link or device is one more of them.
                    Some(node) => node,
                    None => {
                        sink.linked(&path, &target)?;
                        made.insert(path);
                        return Ok(());
                    }
                }
            }
        };
        sink.made(&path, &node)?;
        self.tree.insert(path.as_bytes(), node)?;
        made.insert(path);
        Ok(())
    }

    /// The directory that an entry of a layer is in. None for what only takes something away.
    fn place(
        &mut self,
        path: &TreePath,
        parent: &TreePath,
        name: &[u8],
        made: &BTreeSet<TreePath>,
        sink: &mut dyn Sink,
    ) -> Result<Option<TreePath>, Refused> {
        // What AUFS kept beside the files, which old layers still have.
        if path.components().any(|part| part.starts_with(b".wh..wh.") && part != OPAQUE) {
            return Ok(None);
        }
        if parent.components().any(|part| part.starts_with(WHITEOUT)) {
            return Err("it is in a directory that has the name of a whiteout".into());
        }
        let parent = directory(&self.tree, parent)?;
        if name == OPAQUE {
            self.clear(&parent, false, &|path| made.contains(path), sink)?;
            return Ok(None);
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            if matches!(gone, b"" | b"." | b"..") {
                return Err("a whiteout of nothing that has a name".into());
            }
            let gone = parent.join(gone)?;
            self.clear(&gone, true, &|path| made.contains(path), sink)?;
            return Ok(None);
        }
        Ok(Some(parent))
    }

    /// Takes out what is no directory on the way to a directory, unless it is of the same archive.
    #[cfg(feature = "appc")]
    fn give_way(
        &mut self,
        parent: &TreePath,
        made: &BTreeSet<TreePath>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refused> {
        let mut next = Some(parent.clone());
        while let Some(path) = next.filter(|path| !path.is_root()) {
            match self.tree.get(&path) {
                // Above a directory there are directories.
                Some(node) if node.is_directory() => return Ok(()),
                Some(node) if made.contains(&path) => {
                    let name = shown(path.as_bytes());
                    let kind = node.kind.name();
                    return Err(format!("{name}, which is on its way, is a {kind}").into());
                }
                Some(_) => drop(self.clear(&path, true, &|_| false, sink)?),
                None => {}
            }
            next = path.parent();
        }
        Ok(())
    }

    fn content(
        &mut self,
        entry: &Entry,
        path: &TreePath,
        meta: &Metadata,
        reader: &mut tar::Reader<&mut dyn Read>,
        original: &Option<(PathBuf, u64)>,
        sink: &mut dyn Sink,
    ) -> Result<Source, Refused> {
        let len = entry.size;
        self.bytes = self.bytes.saturating_add(len);
        if self.bytes > self.options.limits.bytes {
            let limit = self.options.limits.bytes;
            return Err(format!("with it the layers have more than {limit} bytes of files").into());
        }
        let start = reader.offset();
        let original = original.as_ref().map(|(path, base)| Source::Range {
            path: path.clone(),
            offset: base.saturating_add(start),
            len,
        });
        let source = sink.file(path, meta, Content { reader: &mut *reader, len, original })?;
        let source = source.map_err(|error| Refused::Broken(reader.failed(error)))?;
        if source.len() != len {
            return Err(format!("{} of its {len} bytes could be had", source.len()).into());
        }
        Ok(source)
    }

    /// What a hard link is to, which must be there and no directory.
    fn link_target(&self, entry: &Entry, path: &TreePath) -> Result<TreePath, Refused> {
        let raw = below(&entry.link, self.options.limits.depth)
            .map_err(|reason| format!("hard link to {:?}: {reason}", shown(&entry.link)))?;
        let (Some(parent), Some(name)) = (raw.parent(), raw.file_name()) else {
            return Err("a hard link to the root".into());
        };
        let target = match self.rules {
            Rules::Layers => directory(&self.tree, &parent)?.join(name)?,
            #[cfg(feature = "appc")]
            Rules::Roots => raw.clone(),
        };
        if target == *path {
            return Err("a hard link to itself".into());
        }
        if target.starts_with(path) {
            return Err(format!("a hard link to {target}, in whose directory's place it is").into());
        }
        match self.tree.get(&target) {
            None => Err(format!("a hard link to {target}, which is not there").into()),
            Some(node) if node.is_directory() => {
                Err(format!("a hard link to {target}, which is a directory").into())
            }
            Some(_) => Ok(target),
        }
    }

    /// Makes a further name of a file, or gives the node if it is none.
    fn linked(&mut self, path: &TreePath, target: &TreePath) -> Result<Option<Node>, Refused> {
        let node = self.tree.get(target).cloned().ok_or("its target is gone")?;
        match node.kind {
            Kind::File(_) | Kind::Hardlink(_) => {
                self.join(path, target, node);
                self.tree.insert(path.as_bytes(), Node::hardlink(target.clone()))?;
                Ok(None)
            }
            _ => Ok(Some(node)),
        }
    }

    fn join(&mut self, path: &TreePath, target: &TreePath, file: Node) {
        let next = self.groups.len();
        let number = *self.names.entry(target.clone()).or_insert(next);
        if number == next {
            self.groups.push(Group { file, names: [target.clone()].into() });
        }
        if let Some(group) = self.groups.get_mut(number) {
            group.names.insert(path.clone());
        }
        self.names.insert(path.clone(), number);
    }

    /// Takes out what is below a path, and the path itself or not, except what is to be kept and the
    /// directories above it. Gives what is gone.
    fn clear(
        &mut self,
        path: &TreePath,
        itself: bool,
        keep: &dyn Fn(&TreePath) -> bool,
        sink: &mut dyn Sink,
    ) -> Result<Vec<TreePath>> {
        let mut stay = BTreeSet::new();
        let mut gone = Vec::new();
        let own = self.tree.get(path).filter(|_| itself).map(|_| path);
        if own.is_none() && itself {
            return Ok(gone);
        }
        // What is in a directory comes after it, so here before.
        for path in self.tree.below(path).rev().map(|(path, _)| path).chain(own) {
            if keep(path) || stay.contains(path) {
                stay.extend(path.parent());
            } else {
                gone.push(path.clone());
            }
        }
        for path in &gone {
            if let Some(node) = self.tree.get(path) {
                sink.removed(path, node)?;
            }
            self.tree.remove(path);
            if let Some(group) =
                self.names.remove(path).and_then(|number| self.groups.get_mut(number))
            {
                group.names.remove(path);
            }
        }
        Ok(gone)
    }

    /// Makes the directories that nobody has mentioned.
    fn parents(
        &mut self,
        parent: &TreePath,
        made: &mut BTreeSet<TreePath>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refused> {
        let mut missing = Vec::new();
        let mut next = Some(parent.clone());
        while let Some(path) = next.filter(|path| !path.is_root() && self.tree.get(path).is_none())
        {
            next = path.parent();
            missing.push(path);
        }
        for path in missing.into_iter().rev() {
            self.count(path.as_bytes().len())?;
            let node = Node::directory();
            sink.made(&path, &node)?;
            self.tree.insert(path.as_bytes(), node)?;
            made.insert(path);
        }
        Ok(())
    }

    fn count(&mut self, names: usize) -> Result<(), Refused> {
        let limits = &self.options.limits;
        self.entries = self.entries.saturating_add(1);
        self.name_bytes = self.name_bytes.saturating_add(names as u64);
        if self.entries > limits.entries {
            return Err(format!("the layers have more than {} entries", limits.entries).into());
        }
        if self.name_bytes > limits.names {
            let text = format!("names and attributes are longer than {} bytes", limits.names);
            return Err(text.into());
        }
        Ok(())
    }
}

fn metadata(entry: &Entry) -> Metadata {
    let mut meta =
        Metadata::new(entry.mode).owned_by(entry.uid, entry.gid).modified_at(entry.mtime);
    meta.xattrs = entry.xattrs.clone();
    meta
}

/// What is wrong with a layer, as an error.
fn at(layer: &str, broken: Broken) -> Error {
    let Broken { entry, offset, reason, source } = broken;
    let reason = match source.map(io::Error::downcast::<Error>) {
        None => reason,
        // The digests say more than where it was noticed.
        Some(Ok(ours)) => return ours,
        Some(Err(source)) => source.to_string(),
    };
    Error::Entry { layer: layer.into(), entry, offset, reason }
}
