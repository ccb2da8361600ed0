//! The tree of an image: installed packages, the kernel's modules, programs with the libraries that
//! they need, the definition's files, and what every image has.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use kiln_initramfs::elf::{self, Resolver};
use kiln_supervisor::ServiceSpec;
use kiln_tree::{Metadata, Node, Source, Tree, TreePath, host};

use super::base::{self, in_merged_usr};
use super::inputs::Inputs;
use super::packages::Packages;
use super::stage;
use crate::definition::{self, Content, Definition, FileEntry, InitSource, Place, hint};
use crate::kernel::Kernel;
use crate::{Cache, Error, Result, kernel};

/// Where process 1 finds the services that the definition adds.
pub const SERVICES: &str = "etc/kiln/services.toml";
/// Where process 1 finds how the network is set up.
pub const NETWORK: &str = "etc/kiln/network.toml";

/// Everything that is wrong, as it is found.
pub(super) struct Problems<'a> {
    definition: &'a Definition,
    pub(super) list: Vec<String>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(definition: &'a Definition) -> Self {
        Self { definition, list: Vec::new() }
    }

    fn note(&mut self, at: Option<Place>, text: impl std::fmt::Display) {
        let file = self.definition.file.display();
        self.list.push(match at {
            Some(at) => format!("{file}:{at}: {text}"),
            None => text.to_string(),
        });
    }

    /// Takes what went well, notes what did not.
    fn take<T>(&mut self, at: Option<Place>, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::Plan(list)) => {
                self.list.extend(list);
                None
            }
            Err(error) => {
                self.note(at, error);
                None
            }
        }
    }
}

/// Makes the tree; what is wrong goes into `problems`. Gives what would be better.
pub(super) fn make(
    definition: &Definition,
    cache: &Cache,
    packages: &Packages,
    inputs: &Inputs,
    problems: &mut Problems<'_>,
) -> (Tree, Vec<String>) {
    let mut tree = Tree::new();
    let mut advice = Vec::new();
    let done = installed(&mut tree, packages);
    problems.take(None, done);
    let done = base::merge_usr(&mut tree);
    problems.take(None, done);
    if let (Some(wanted), Some(kernel)) = (&definition.kernel, &inputs.kernel) {
        let requirements = &inputs.requirements;
        let done = kernel::check(kernel, requirements).and_then(|checked| {
            advice.extend(checked.advice);
            problems.list.extend(checked.problems);
            let mut needed = stage::modules(definition.root());
            needed.extend(definition.ramroot.iter().flat_map(|_| super::ramroot::modules()));
            needed.extend(checked.modules);
            modules(&mut tree, wanted, kernel, needed, cache, problems)
        });
        problems.take(wanted.source.at, done);
    }
    programs(&mut tree, definition, packages, inputs, problems);
    for entry in &definition.files {
        for path in &entry.paths {
            let done = file(&mut tree, definition, packages, inputs, entry, path);
            problems.take(path.at, done);
        }
    }
    if let Some(init) = &definition.init
        && let InitSource::Link(target) = &init.source.value
    {
        if !base::leads_somewhere(&tree, target) {
            problems.note(init.source.at, format!("{target} is not in the image"));
        }
        let node = Node::symlink(target.as_str()).because("process 1");
        let done = tree.insert("init", node).map_err(Error::from);
        problems.take(init.source.at, done);
    }
    let done = services(&mut tree, definition);
    problems.take(None, done);
    let done = base::add(&mut tree, definition);
    problems.take(None, done);
    for service in &definition.services {
        let Some(program) = service.spec.command.first() else { continue };
        if program.starts_with('/') && !base::leads_somewhere(&tree, program) {
            let name = &service.spec.name;
            problems.note(service.at, format!("service {name}: {program} is not in the image"));
        }
    }
    problems.list.extend(tree.check().iter().map(ToString::to_string));
    (tree, advice)
}

/// The files of the packages that are in the image as a whole.
fn installed(tree: &mut Tree, packages: &Packages) -> Result<()> {
    let root = &packages.root;
    if packages.installed.is_empty() {
        return Ok(());
    }
    let set: BTreeSet<&str> = root
        .alternatives
        .iter()
        .filter(|alternative| packages.installed.contains(&alternative.package))
        .flat_map(|alternative| {
            let slaves = alternative.slaves.iter().map(|(link, ..)| link.as_str());
            std::iter::once(alternative.link.as_str()).chain(slaves)
        })
        .collect();
    for (path, node) in &root.tree {
        let owner = root.owner_of(path.as_bytes());
        let text = format!("/{path}");
        let wanted = match owner {
            Some(owner) => packages.installed.contains(&owner.name),
            None => {
                set.contains(text.as_str())
                    || text.starts_with("/etc/alternatives/")
                    || !text.trim_start_matches('/').contains('/')
            }
        };
        if !wanted {
            continue;
        }
        let mut node = node.clone();
        if !node.is_directory() {
            node.why = owner.map(|owner| match &owner.needed_by {
                Some(by) => format!("package {}, needed by {by}", owner.name),
                None => format!("package {}", owner.name),
            });
        }
        // Nothing in an image says when it was made.
        node.meta = node.meta.modified_at(0);
        tree.insert(path.as_bytes(), node)?;
    }
    Ok(())
}

/// Adds the modules that the requirements ask for, and those of the definition.
fn modules(
    tree: &mut Tree,
    definition: &definition::Kernel,
    kernel: &Kernel,
    mut wanted: Vec<(String, String)>,
    cache: &Cache,
    problems: &mut Problems<'_>,
) -> Result<()> {
    let asked = &definition.modules;
    wanted.extend(asked.iter().map(|name| (name.value.clone(), "asked for".to_owned())));
    if wanted.is_empty() {
        return Ok(());
    }
    let missing = kernel::add_modules(tree, kernel, &wanted, cache)?;
    for text in missing {
        let named = asked.iter().find(|name| text.ends_with(&format!(" {}", name.value)));
        problems.note(named.and_then(|name| name.at), text);
    }
    Ok(())
}

/// A program, where it comes from and where it goes.
struct Program {
    from: PathBuf,
    /// The path among the packages, when it has one.
    picked: Option<String>,
    to: String,
    why: String,
    at: Option<Place>,
}

/// Programs with all that they need to run. A library that an installed package has is there.
fn programs(
    tree: &mut Tree,
    definition: &Definition,
    packages: &Packages,
    inputs: &Inputs,
    problems: &mut Problems<'_>,
) {
    let mut found = Vec::new();
    let init = definition.init.as_ref().map(|init| &init.source);
    let from = init.and_then(|init| match &init.value {
        InitSource::Pick(path) => Some(packages.root.directory.join(path.trim_start_matches('/'))),
        _ => inputs.init.clone(),
    });
    if let Some(from) = from {
        let (to, why) = ("/init".into(), "process 1".into());
        let at = init.and_then(|init| init.at);
        found.push(Program { from, picked: None, to, why, at });
    }
    for entry in &definition.files {
        let (from, picked) = match &entry.content.value {
            Content::Pick(path) => {
                (packages.root.directory.join(path.trim_start_matches('/')), Some(path.clone()))
            }
            Content::Input(name) => match inputs.files.get(name) {
                Some(path) => (path.clone(), None),
                None => continue,
            },
            Content::File(path) => (definition.host_path(path), None),
            _ => continue,
        };
        for path in entry.paths.iter().filter(|_| is_elf(&from).unwrap_or(false)) {
            found.push(Program {
                from: from.clone(),
                picked: picked.clone(),
                to: format!("/{}", in_merged_usr(path)),
                why: entry.why.clone().unwrap_or_else(|| "asked for".into()),
                at: path.at,
            });
        }
    }
    let mut options = elf::Options::new(&packages.root.directory);
    options.ld_cache = false;
    let resolver = Resolver::new(options).map_err(Error::from);
    let Some(mut resolver) = problems.take(None, resolver) else { return };
    let mut roots = Vec::new();
    for program in &found {
        let same = program
            .picked
            .as_deref()
            .is_some_and(|path| format!("/{}", in_merged_usr(path)) == program.to);
        let root = if same {
            elf::Root::in_sysroot(&program.to)
        } else {
            elf::Root::placed(&program.from, &program.to)
        };
        roots.push(root.because(&program.why));
    }
    let closure = match resolver.closure_of(&roots) {
        Ok(closure) => closure,
        Err(together) => {
            // One after the other, so that each problem has its line.
            let mut alone = 0;
            for (root, program) in roots.iter().zip(&found) {
                if let Err(error) = resolver.closure_of(std::slice::from_ref(root)) {
                    let hint = "a package that has it belongs into [packages] pick";
                    problems.note(program.at, format!("{error}; {hint}"));
                    alone += 1;
                }
            }
            if alone == 0 {
                problems.note(None, together.to_string());
            }
            return;
        }
    };
    let mut needed = Tree::new();
    let done = closure.add_to(&mut needed, &host::Policy::default()).map_err(Error::from);
    problems.take(None, done);
    for (path, node) in &needed {
        if !tree.contains(path.as_bytes()) {
            let done = tree.insert(path.as_bytes(), node.clone()).map_err(Error::from);
            problems.take(None, done);
        }
    }
}

/// Whether a file begins as programs and libraries do.
///
/// # Errors
/// When it cannot be read.
pub fn is_elf(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(start == b"\x7fELF")
}

/// One path of one `[[file]]`, which goes before what packages have there.
fn file(
    tree: &mut Tree,
    definition: &Definition,
    packages: &Packages,
    inputs: &Inputs,
    entry: &FileEntry,
    path: &str,
) -> Result<()> {
    let to = in_merged_usr(path);
    let why = entry.why.clone().unwrap_or_else(|| "asked for".into());
    let default = |mode| entry.mode.as_ref().map_or(mode, |mode| mode.value);
    let owner = |name: &Option<crate::definition::Placed<String>>, user: bool| {
        let name = name.as_ref().map(|name| name.as_str());
        let id =
            name.and_then(|it| if user { definition.user_id(it) } else { definition.group_id(it) });
        id.unwrap_or(0)
    };
    let (uid, gid) = (owner(&entry.owner, true), owner(&entry.group, false));
    let from_host = |from: &Path, mode: Option<u16>| {
        let mut node = host::file(from, mode.unwrap_or(0o644)).map_err(Error::from)?;
        if mode.is_none() && is_executable(from) {
            node.meta = Metadata::new(0o755);
        }
        Ok::<_, Error>(node)
    };
    let given = entry.mode.as_ref().map(|mode| mode.value);
    let node = match &entry.content.value {
        Content::Text(text) => Node::file(text.as_str()).with(Metadata::new(default(0o644))),
        Content::Link(target) => Node::symlink(target.as_str()),
        Content::Directory => Node::directory().with(Metadata::new(default(0o755))),
        Content::File(from) => from_host(&definition.host_path(from), given)?,
        Content::Input(name) => {
            let from = inputs.files.get(name);
            let from =
                from.ok_or_else(|| Error::input(format!("input {name}"), "it was not found"))?;
            from_host(from, given)?
        }
        Content::Pick(from) => picked(packages, from, given)?,
        Content::Concatenate(glob) => {
            let bytes = concatenated(packages, glob)?;
            Node::file(bytes).with(Metadata::new(default(0o644)))
        }
        Content::Tree(from) => {
            let mut policy = host::Policy::default();
            policy.owner = Some((uid, gid));
            policy.why = Some(why);
            host::import(tree, &definition.host_path(from), &to, &policy)?;
            return Ok(());
        }
    };
    let meta = node.meta.clone().owned_by(uid, gid);
    let node = node.with(meta).because(why);
    match tree.get(&TreePath::new(&to)?) {
        // A directory keeps what is in it.
        Some(before) if before.is_directory() && !node.is_directory() => {
            Err(Error::input(path.to_owned(), "it is a directory, by packages or other files"))
        }
        Some(_) => Ok(tree.replace(&to, node)?),
        None => Ok(tree.insert(&to, node)?),
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o100 != 0)
}

/// A file of a package, links followed.
fn picked(packages: &Packages, path: &str, mode: Option<u16>) -> Result<Node> {
    let tree = &packages.root.tree;
    let Some((_, node)) = tree.resolve(in_merged_usr(path)) else {
        let name = path.rsplit('/').next().unwrap_or(path);
        let same = tree.iter().map(|(path, _)| path.to_string());
        let same: Vec<String> = same
            .filter(|it| it.rsplit('/').next() == Some(name))
            .map(|it| format!("/{it}"))
            .collect();
        let hint = hint(path, same.iter().map(String::as_str));
        return Err(Error::input(
            path.to_owned(),
            format!("no package in [packages] has it{hint}"),
        ));
    };
    if node.is_directory() {
        return Err(Error::input(
            path.to_owned(),
            "it is a directory: pick single files, or install",
        ));
    }
    let mut node = node.clone();
    node.meta = Metadata::new(mode.unwrap_or(node.meta.mode));
    Ok(node)
}

/// The files that a glob matches, in order, each ending in a line break.
fn concatenated(packages: &Packages, glob: &str) -> Result<Vec<u8>> {
    let mut joined = Vec::new();
    let mut any = false;
    for (path, node) in &packages.root.tree {
        let kiln_tree::Kind::File(source) = &node.kind else { continue };
        if !matches(glob, &format!("/{path}")) {
            continue;
        }
        any = true;
        let bytes =
            Source::read(source).map_err(Error::io("read", &packages.root.host_path(path)))?;
        joined.extend_from_slice(bytes.trim_ascii_end());
        joined.push(b'\n');
    }
    if any {
        Ok(joined)
    } else {
        Err(Error::input(glob.to_owned(), "no file of a package matches it"))
    }
}

/// Whether a path matches a glob whose `*` is any number of characters but slashes.
fn matches(glob: &str, path: &str) -> bool {
    match glob.split_once('*') {
        None => glob == path,
        Some((start, rest)) => {
            let Some(left) = path.strip_prefix(start) else { return false };
            let end = left.find('/').unwrap_or(left.len());
            (0..=end)
                .filter(|cut| left.is_char_boundary(*cut))
                .any(|cut| left.get(cut..).is_some_and(|left| matches(rest, left)))
        }
    }
}

/// What process 1 reads: services with numbers in place of names, and the network.
fn services(tree: &mut Tree, definition: &Definition) -> Result<()> {
    #[derive(serde::Serialize)]
    struct File {
        service: Vec<ServiceSpec>,
    }
    if !definition.services.is_empty() {
        let service = definition.services.iter().map(|service| {
            let mut spec = service.spec.clone();
            let user = service.user.as_ref();
            if let Some(uid) = user.and_then(|name| definition.user_id(name)) {
                spec.user = Some(uid.into());
                let own = definition.users.iter().find(|user| user.uid.value == uid);
                let gid = own.map_or(uid, |user| user.gid);
                spec.group = spec.group.or_else(|| Some(gid.into()));
            }
            if let Some(gid) = service.group.as_ref().and_then(|name| definition.group_id(name)) {
                spec.group = Some(gid.into());
            }
            spec
        });
        let text = toml::to_string(&File { service: service.collect() })
            .map_err(|error| Error::input("services", error.to_string()))?;
        tree.insert(SERVICES, Node::file(text).because("what process 1 starts"))?;
    }
    if let Some(network) = &definition.network {
        let node = Node::file(network.value.as_str()).because("how the network is set up");
        tree.insert(NETWORK, node)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stay_in_their_directory() {
        assert!(
            matches("/a/*.crt", "/a/b.crt") && matches("/a/*", "/a/b") && matches("/*/b", "/a/b")
        );
        assert!(!matches("/a/*.crt", "/a/b/c.crt") && !matches("/a/*.crt", "/a/b.crl"));
        assert!(matches("/ä*/*x", "/äö/üx"));
    }
}
