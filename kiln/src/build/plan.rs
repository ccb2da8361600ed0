//! What a build is going to do, and of what.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use kiln_initramfs::manifest::{self, FileRecord};
use kiln_tree::Tree;

use super::inputs::{self, Inputs};
use super::packages::{self, Packages};
use super::tree::{self, Problems};
use super::{Options, ramroot};
use crate::definition::{Definition, Format};
use crate::manifest::{InputRecord, Manifest, PackageRecord};
use crate::quantity;
use crate::{Error, Progress, Result, digest};

/// Everything that a build has found out before it writes.
#[derive(Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The file tree.
    pub tree: Tree,
    /// What is said about its files, with where on the host they are.
    pub records: Vec<FileRecord>,
    /// The manifest, without artifacts yet.
    pub manifest: Manifest,
    /// What would be better otherwise.
    pub advice: Vec<String>,
    /// Packages.
    pub packages: Packages,
    /// Everything else that goes in.
    pub inputs: Inputs,
    formats: Vec<Format>,
}

/// Finds, fetches and builds what goes in, and makes the tree.
///
/// # Errors
/// Everything that is wrong with definition and inputs at once.
pub fn plan(definition: &Definition, options: &Options, progress: &Progress) -> Result<Plan> {
    let mut packages = packages::get(definition, options, progress)?;
    let inputs = inputs::get(definition, options, &mut packages, progress)?;
    let mut problems = Problems::new(definition);
    problems.list.extend(options.found.iter().cloned());
    let formats = options.formats(definition);
    problems.list.extend(formats.iter().filter_map(|format| definition.refusal(*format)));
    problems.list.extend(ramroot::problems(definition, options, &formats));
    let (tree, advice) = tree::make(definition, &options.cache, &packages, &inputs, &mut problems);
    if !problems.list.is_empty() {
        return Err(Error::Plan(problems.list));
    }
    let step = progress.step("reading the files");
    let records = manifest::files(&tree)?;
    step.done();
    let manifest = describe(definition, options, &packages, &inputs, &records)?;
    Ok(Plan { tree, records, manifest, advice, packages, inputs, formats })
}

fn describe(
    definition: &Definition,
    options: &Options,
    packages: &Packages,
    inputs: &Inputs,
    records: &[FileRecord],
) -> Result<Manifest> {
    let mut manifest = Manifest::new(&definition.name, records.iter().cloned());
    manifest.kernel = inputs.kernel.as_ref().map(|kernel| kernel.release.clone());
    if let Some(kernel) = &definition.kernel {
        manifest.command_line.clone_from(&kernel.command_line);
    }
    manifest.version.clone_from(&definition.version);
    manifest.slots = definition.disk.slots.as_ref().map(|slots| slots.value.0);
    manifest.inputs.clone_from(&inputs.records);
    for (name, path) in
        [("image.toml", definition.file.clone()), ("kiln.lock", options.lock_file(definition))]
    {
        manifest.inputs.push(InputRecord {
            name: name.into(),
            version: None,
            kind: if name == "kiln.lock" { "lock" } else { "definition" }.into(),
            sha256: digest::of_file(&path)?,
        });
    }
    // Where a file is from is known by where on the host it lies.
    let roots: Vec<_> = std::iter::once(&packages.root).chain(&inputs.roots).collect();
    let mut used = BTreeMap::new();
    for (entry, record) in manifest.files.iter_mut().zip(records) {
        let source = record.source.as_deref().map(Path::new);
        let owner = roots.iter().find_map(|root| {
            let path = source?.strip_prefix(&root.directory).ok()?;
            root.owner_of(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
        });
        // A link of a package has no content to be found by.
        let owner = owner.or_else(|| {
            let owner = packages.root.owner_of(&record.path)?;
            (source.is_none() && packages.installed.contains(&owner.name)).then_some(owner)
        });
        if let Some(owner) = owner {
            entry.package = Some(owner.name.clone());
            used.insert(owner.name.clone(), owner);
        } else if let Some(source) = source {
            let named = inputs.files.iter().find(|(_, path)| path.as_path() == source);
            entry.input = named.map(|(name, _)| name.clone());
        }
    }
    let depends = |depends: &[String]| {
        depends.iter().filter(|name| used.contains_key(*name)).cloned().collect()
    };
    manifest.packages = used
        .values()
        .map(|package| PackageRecord {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            source: package.source.clone(),
            source_version: package.source_version.clone(),
            sha256: package.sha256.clone(),
            licence: None,
            depends: depends(&package.depends),
            why: match &package.needed_by {
                Some(by) => format!("needed by {by}"),
                None => "asked for".into(),
            },
        })
        .collect();
    Ok(manifest)
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manifest = &self.manifest;
        write!(out, "{}", manifest.name)?;
        match &manifest.kernel {
            Some(kernel) => writeln!(out, " with Linux {kernel}")?,
            None => writeln!(out, " without a kernel")?,
        }
        if let Some(changes) = &self.packages.changes {
            let text = changes.to_string();
            writeln!(out, "kiln.lock changes:")?;
            text.lines().try_for_each(|line| writeln!(out, "  {line}"))?;
        }
        let lock = &self.packages.lock;
        writeln!(
            out,
            "packages: {} locked, {} in the image as a whole, files of {} in it",
            lock.packages.len(),
            self.packages.installed.len(),
            manifest.packages.len()
        )?;
        writeln!(out, "inputs:")?;
        for input in &manifest.inputs {
            let version = input.version.as_deref().unwrap_or("");
            let start = input.sha256.get(..12).unwrap_or(&input.sha256);
            writeln!(out, "  {:20} {:24} {} {start}…", input.name, version, input.kind)?;
        }
        writeln!(
            out,
            "files: {} with {}",
            manifest.files.len(),
            quantity::size(manifest.content_size())
        )?;
        let mut by: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for file in &manifest.files {
            let of =
                file.package.as_deref().or(file.input.as_deref()).unwrap_or("(the definition)");
            let sum = by.entry(of).or_default();
            *sum = (sum.0 + 1, sum.1 + file.own_size());
        }
        let mut by: Vec<_> = by.into_iter().collect();
        by.sort_by_key(|(name, (_, size))| (std::cmp::Reverse(*size), *name));
        for (name, (count, size)) in by.iter().take(20) {
            writeln!(out, "  {:>10} in {count:5} of {name}", quantity::size(*size))?;
        }
        if by.len() > 20 {
            writeln!(out, "  and of {} more", by.len() - 20)?;
        }
        let formats: Vec<&str> = self.formats.iter().map(|format| format.name()).collect();
        writeln!(out, "makes: {}", formats.join(", "))?;
        self.advice.iter().try_for_each(|advice| writeln!(out, "advice: {advice}"))
    }
}
