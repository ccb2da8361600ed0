//! The unpacking itself. Every path is looked up in the tree before anything is written, so that
//! no link, of this package or another, ever decides where a file lands.

mod clash;
mod entry;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};
use tar::EntryType;

use clash::Clash;
use entry::{Refused, inside, link_target, metadata};

use super::{ALIASES, ALWAYS, Note, Options, Root, alias_of, alternatives, without_alias};
use crate::deb::Deb;
use crate::lock::LockedPackage;
use crate::{Error, Result, download};

pub(super) fn unpack(
    packages: &[(LockedPackage, PathBuf)],
    directory: &Path,
    options: &Options,
) -> Result<Root> {
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
    let beside = tempfile::Builder::new()
        .prefix(".part-")
        .tempdir_in(parent)
        .map_err(Error::io("create a directory in", parent))?;
    let mut work = Work {
        made: beside.path().to_owned(),
        directory: directory.to_owned(),
        options,
        tree: Tree::new(),
        owners: BTreeMap::new(),
        replaces: Vec::new(),
        conffiles: Vec::new(),
        pending: BTreeMap::new(),
        problems: Vec::new(),
        buffer: vec![0; 1 << 17],
    };
    for alias in ALWAYS {
        work.merge(alias)?;
    }
    // What the first package says of a directory counts, and base-files knows best.
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|number| {
        packages.get(*number).is_none_or(|(package, _)| package.name != "base-files")
    });
    let mut scripts = Vec::new();
    work.replaces = vec![String::new(); packages.len()];
    for number in order {
        let Some((package, path)) = packages.get(number) else { continue };
        download::check(package, path)?;
        let deb = Deb::open(path, options.limits)?;
        if deb.field("Package") != Some(&package.name)
            || deb.field("Version") != Some(&package.version)
        {
            let reason = format!("its control file is not that of {package}");
            return Err(Error::Deb { path: path.clone(), reason });
        }
        if let Some(slot) = work.replaces.get_mut(number) {
            *slot = deb.field("Replaces").unwrap_or_default().to_owned();
        }
        work.package(packages, number, &deb, path)?;
        for name in ["preinst", "postinst"] {
            if let Some(script) = deb.control_file(name) {
                let script = String::from_utf8_lossy(script).into_owned();
                scripts.push((package.name.clone(), name, script));
            }
        }
    }
    scripts.sort();
    if !work.problems.is_empty() {
        return Err(Error::Root(work.problems));
    }
    let (set, mut notes) = alternatives::apply(&mut work, &scripts)?;
    notes.extend(users(&scripts));
    let dangling = work.tree.check();
    if !dangling.is_empty() {
        return Err(Error::Root(dangling.iter().map(ToString::to_string).collect()));
    }
    let Work { tree, owners, mut conffiles, .. } = work;
    conffiles.sort();
    // Private only while it was made.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(beside.path(), mode)
        .map_err(Error::io("set the mode of", beside.path()))?;
    fs::rename(beside.path(), directory).map_err(Error::io("rename to", directory))?;
    // It is gone from there, and must not be looked for.
    let _ = beside.keep();
    Ok(Root {
        directory: directory.to_owned(),
        tree,
        packages: packages.iter().map(|(package, _)| package.clone()).collect(),
        conffiles,
        alternatives: set,
        notes,
        owners,
    })
}

pub(super) struct Work<'options> {
    /// Where the files are written.
    made: PathBuf,
    /// Where they will be.
    directory: PathBuf,
    pub(super) options: &'options Options,
    pub(super) tree: Tree,
    pub(super) owners: BTreeMap<TreePath, usize>,
    /// The field `Replaces` of each package that has been looked at.
    replaces: Vec<String>,
    conffiles: Vec<TreePath>,
    /// Directories that the filter leaves out, unless something in them is taken.
    pending: BTreeMap<TreePath, (Node, usize)>,
    problems: Vec<String>,
    buffer: Vec<u8>,
}

impl Work<'_> {
    fn at(&self, path: &TreePath) -> PathBuf {
        self.made.join(OsStr::from_bytes(path.as_bytes()))
    }

    /// Makes the link from a directory of old to the one below `/usr`.
    fn merge(&mut self, alias: &str) -> Result<()> {
        if self.tree.contains(alias) {
            return Ok(());
        }
        let target = format!("usr/{alias}");
        let path = TreePath::new(&target)?;
        self.tree.insert(&target, Node::directory())?;
        self.make_directory(&path)?;
        self.tree.insert(alias, Node::symlink(&target))?;
        let link = self.made.join(alias);
        symlink(&target, &link).map_err(Error::io("create link", link))
    }

    fn make_directory(&self, path: &TreePath) -> Result<()> {
        let path = self.at(path);
        fs::create_dir_all(&path).map_err(Error::io("create directory", path))
    }

    fn package(
        &mut self,
        packages: &[(LockedPackage, PathBuf)],
        number: usize,
        deb: &Deb,
        deb_path: &Path,
    ) -> Result<()> {
        let wrong = |reason: String| Error::Deb { path: deb_path.into(), reason };
        let broken = |error: std::io::Error| wrong(format!("data.tar: {error}"));
        let mut data = deb.data()?;
        let mut count = 0;
        for entry in data.entries().map_err(broken)? {
            let entry = entry.map_err(broken)?;
            count += 1;
            if count > deb.limits().entries {
                return Err(wrong(format!("it has more than {count} entries", count = count - 1)));
            }
            self.entry(packages, number, entry).map_err(|error| match error {
                Refused::Because(reason) => wrong(reason),
                Refused::Error(error) => error,
            })?;
        }
        // What follows the last entry is part of what the compression's checks protect.
        let mut rest = data.into_inner();
        loop {
            match rest.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(broken(error)),
            }
        }
        for path in deb.conffiles() {
            let path = without_alias(&TreePath::new(&path)?);
            if self.tree.get(&path).is_some() {
                self.conffiles.push(path);
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        packages: &[(LockedPackage, PathBuf)],
        number: usize,
        mut entry: tar::Entry<'_, Box<dyn Read>>,
    ) -> Result<(), Refused> {
        let raw = entry.path_bytes().into_owned();
        let path = inside(&raw)?;
        let named = || String::from_utf8_lossy(&raw).into_owned();
        let kind = entry.header().entry_type();
        let meta = metadata(&entry)?;
        if path.is_root() {
            if kind != EntryType::Directory {
                return Err(Refused::Because("its root is no directory".into()));
            }
            if let Entry::Vacant(place) = self.owners.entry(path) {
                place.insert(number);
                self.tree.set_root(meta);
            }
            return Ok(());
        }
        if let Some(alias) = alias_of(&path) {
            self.merge(alias)?;
        }
        if kind == EntryType::Symlink
            && ALIASES.iter().any(|name| name.as_bytes() == path.as_bytes())
        {
            // Since Debian 13 base-files has these links itself.
            let target = entry.link_name_bytes().unwrap_or_default();
            let expected = [b"usr/", path.as_bytes()].concat();
            if target.as_ref() != expected {
                let reason = format!("{}: only a link to usr/{path} can be here", named());
                return Err(Refused::Because(reason));
            }
            self.owners.entry(path).or_insert(number);
            return Ok(());
        }
        let path = without_alias(&path);
        let (package, _) = packages.get(number).ok_or_else(|| Refused::Because(named()))?;
        let because = package.to_string();
        if !self.options.filter.takes(path.as_bytes()) {
            if kind == EntryType::Directory && !self.tree.contains(path.as_bytes()) {
                let node = Node::directory().with(meta).because(because);
                self.pending.entry(path).or_insert((node, number));
            }
            return Ok(());
        }
        self.check_parents(packages, &path)?;
        self.make_pending(&path)?;
        match kind {
            EntryType::Directory => {
                match self.tree.get(&path) {
                    Some(node) if node.is_directory() => {
                        // Made as the parent of something before.
                        if !self.owners.contains_key(&path) {
                            self.tree.insert(
                                path.as_bytes(),
                                Node::directory().with(meta).because(because),
                            )?;
                            self.owners.insert(path, number);
                        }
                        return Ok(());
                    }
                    Some(_) => {
                        if let Clash::Replace = self.clash(packages, number, &path, "directory") {
                            self.remove(&path)?;
                        } else {
                            return Ok(());
                        }
                    }
                    None => {}
                }
                let node = Node::directory().with(meta).because(because);
                self.tree.insert(path.as_bytes(), node)?;
                self.make_directory(&path)?;
                self.owners.insert(path, number);
            }
            EntryType::Regular | EntryType::Continuous => {
                self.file(packages, number, &path, meta, because, &mut entry)?;
            }
            EntryType::Symlink => {
                let target = link_target(&entry, &named)?;
                if target.contains(&0) {
                    return Err(Refused::Because(format!("{}: its target has a NUL", named())));
                }
                let node = Node::symlink(&target).with(meta).because(because);
                if self.tree.get(&path).is_some_and(|there| there.kind == node.kind) {
                    return Ok(());
                }
                if !self.makes_room(packages, number, &path, "symbolic link")? {
                    return Ok(());
                }
                self.tree.insert(path.as_bytes(), node)?;
                let at = self.prepared(&path)?;
                symlink(OsStr::from_bytes(&target), &at)
                    .map_err(|error| Error::io("create link", &at)(error))?;
                self.owners.insert(path, number);
            }
            EntryType::Link => {
                self.hard_link(packages, number, path, &entry, &named)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let reason = format!("{}: no package has devices or pipes", named());
                return Err(Refused::Because(reason));
            }
            other => {
                let reason = format!("{}: entries of the type {other:?} are not known", named());
                return Err(Refused::Because(reason));
            }
        }
        Ok(())
    }

    fn hard_link(
        &mut self,
        packages: &[(LockedPackage, PathBuf)],
        number: usize,
        path: TreePath,
        entry: &tar::Entry<'_, Box<dyn Read>>,
        named: &dyn Fn() -> String,
    ) -> Result<(), Refused> {
        let target = link_target(entry, named)?;
        let refused = |why: &str| {
            let target = String::from_utf8_lossy(&target);
            Refused::Because(format!("{}: a hard link to {target}, {why}", named()))
        };
        let mut to = without_alias(&inside(&target)?);
        let node = self.tree.get(&to).ok_or_else(|| refused("which was not unpacked before"))?;
        if self.owners.get(&to) != Some(&number) {
            return Err(refused("which is not the package's own"));
        }
        let meta = node.meta.clone();
        match &node.kind {
            Kind::File(_) => {}
            Kind::Hardlink(first) => to = first.clone(),
            _ => return Err(refused("which is no regular file")),
        }
        if !self.makes_room(packages, number, &path, "hard link")? {
            return Ok(());
        }
        let why = self.tree.get(&to).and_then(|node| node.why.clone());
        let mut node = Node::hardlink(to.clone()).with(meta);
        node.why = why;
        self.tree.insert(path.as_bytes(), node)?;
        let (from, at) = (self.at(&to), self.prepared(&path)?);
        fs::hard_link(from, &at).map_err(|error| Error::io("create link", &at)(error))?;
        self.owners.insert(path, number);
        Ok(())
    }

    fn file(
        &mut self,
        packages: &[(LockedPackage, PathBuf)],
        number: usize,
        path: &TreePath,
        meta: Metadata,
        because: String,
        entry: &mut tar::Entry<'_, Box<dyn Read>>,
    ) -> Result<(), Refused> {
        let clash = self.clash(packages, number, path, "regular file");
        match clash {
            Clash::Free => {}
            Clash::Keep => return Ok(()),
            Clash::Replace => self.remove(path)?,
            Clash::Compare(other) => {
                if !self.same(path, &meta, entry)? {
                    self.fight(packages, path, other, number);
                }
                return Ok(());
            }
        }
        let len = entry.size();
        let source =
            Source::File { path: self.directory.join(OsStr::from_bytes(path.as_bytes())), len };
        let at = self.prepared(path)?;
        // Whoever unpacks must be able to read and remove it, whatever the image says.
        let mode = u32::from(meta.mode & 0o777) | 0o600;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&at)
            .map_err(|error| Error::io("create", &at)(error))?;
        self.tree.insert(path.as_bytes(), Node::file(source).with(meta).because(because))?;
        let mut written = 0;
        loop {
            let count = match entry.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Refused::Because(format!("{path}: {error}"))),
            };
            written += count as u64;
            file.write_all(self.buffer.get(..count).unwrap_or_default())
                .map_err(|error| Error::io("write", &at)(error))?;
        }
        if written != len {
            let reason = format!("{path}: it ends after {written} of its {len} bytes");
            return Err(Refused::Because(reason));
        }
        self.owners.insert(path.clone(), number);
        Ok(())
    }

    /// Where a path is on the host, its directory made.
    fn prepared(&self, path: &TreePath) -> Result<PathBuf> {
        let at = self.at(path);
        if let Some(parent) = at.parent().filter(|parent| !parent.is_dir()) {
            fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
        }
        Ok(at)
    }

    /// Nothing lands below anything that is not a directory of the tree.
    fn check_parents(
        &self,
        packages: &[(LockedPackage, PathBuf)],
        path: &TreePath,
    ) -> Result<(), Refused> {
        let mut parent = path.parent();
        while let Some(directory) = parent.filter(|parent| !parent.is_root()) {
            match self.tree.get(&directory) {
                Some(node) if node.is_directory() => return Ok(()),
                Some(node) => {
                    let of = self.owners.get(&directory).and_then(|owner| packages.get(*owner));
                    let of = of.map_or_else(String::new, |(package, _)| format!(" of {package}"));
                    let kind = node.kind.name();
                    return Err(Refused::Because(format!(
                        "{path}: its directory {directory} is a {kind}{of}, and nothing is \
                         unpacked through it"
                    )));
                }
                None => parent = directory.parent(),
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &TreePath) -> Result<()> {
        self.tree.remove(path);
        self.owners.remove(path);
        let at = self.at(path);
        fs::remove_file(&at).map_err(Error::io("remove", at))
    }

    /// Makes the directories above a path that were left out until something is in them.
    fn make_pending(&mut self, path: &TreePath) -> Result<()> {
        let mut needed = Vec::new();
        let mut parent = path.parent();
        while let Some(directory) = parent.filter(|parent| !self.tree.contains(parent.as_bytes())) {
            parent = directory.parent();
            needed.extend(self.pending.remove(&directory).map(|found| (directory, found)));
        }
        for (directory, (node, number)) in needed.into_iter().rev() {
            self.tree.insert(directory.as_bytes(), node)?;
            self.make_directory(&directory)?;
            self.owners.insert(directory, number);
        }
        Ok(())
    }

    /// Makes a symbolic link that no package has.
    pub(super) fn add_link(&mut self, path: &TreePath, target: &str, why: String) -> Result<()> {
        self.tree.insert(path.as_bytes(), Node::symlink(target).because(why))?;
        let at = self.prepared(path)?;
        symlink(target, &at).map_err(Error::io("create link", at))
    }

    /// Takes a symbolic link away, whoever has it.
    pub(super) fn remove_link(&mut self, path: &TreePath) -> Result<()> {
        self.remove(path)
    }
}

/// The users and groups that the scripts would make, for whoever builds the image.
fn users(scripts: &[(String, &'static str, String)]) -> Vec<Note> {
    const PROGRAMS: &[&str] =
        &["adduser", "addgroup", "useradd", "groupadd", "systemd-sysusers", "setcap", "ldconfig"];
    let mut notes = Vec::new();
    for (package, script, text) in scripts {
        for command in super::shell::commands(text) {
            let Some(Some(program)) = command.words.first() else { continue };
            let program = program.rsplit('/').next().unwrap_or(program);
            if PROGRAMS.contains(&program) {
                let words: Vec<&str> =
                    command.words.iter().map(|word| word.as_deref().unwrap_or("…")).collect();
                notes.push(Note {
                    package: package.clone(),
                    place: format!("{script}:{}", command.line),
                    text: format!("not run: {}", words.join(" ")),
                });
            }
        }
    }
    notes
}
