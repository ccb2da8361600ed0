//! Everything that goes into an image and is no package of it: the kernel, process 1, the boot
//! loader, and what `[input.NAME]` names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kiln_debroot::Root;
use kiln_debroot::lock::Input as LockedInput;
use kiln_kconfig::Requirements;

use super::packages::{self, Packages};
use super::{Options, container};
use crate::boot::{self, Programs, SecureBoot};
use crate::definition::{self, Definition, Format, InitSource, Input, KernelSource, Placed, hint};
use crate::kernel::Kernel;
use crate::manifest::InputRecord;
use crate::{Error, Progress, Result, command, digest, go, guest, kernel, linux};

/// What was found, fetched or built.
#[derive(Debug)]
pub struct Inputs {
    /// The kernel, if there is one.
    pub kernel: Option<Kernel>,
    /// Process 1, when it is no path of the image.
    pub init: Option<PathBuf>,
    /// The programs that start it, when something is made that has them.
    pub programs: Option<Programs>,
    /// What UEFI verifies.
    pub secure: SecureBoot,
    /// The definition's own, by name.
    pub files: BTreeMap<String, PathBuf>,
    /// What is said about them.
    pub records: Vec<InputRecord>,
    /// What the kernel must have.
    pub requirements: Requirements,
    /// The packages of kernel and loader, whose files are not in the image's root.
    pub roots: Vec<Root>,
}

pub(crate) fn get(
    definition: &Definition,
    options: &Options,
    packages: &mut Packages,
    progress: &Progress,
) -> Result<Inputs> {
    let mut records = Vec::new();
    let mut files = BTreeMap::new();
    let mut locked = Vec::new();
    for name in options.inputs.keys() {
        if !definition.inputs.contains_key(name) {
            let hint = hint(name, definition.inputs.keys().map(String::as_str));
            return Err(Error::input(
                format!("--input {name}"),
                format!("there is no such input{hint}"),
            ));
        }
    }
    for (name, input) in &definition.inputs {
        let found = find(definition, options, name, input, progress)?;
        records.push(found.record);
        records.extend(found.parts);
        locked.extend(found.lock);
        files.insert(name.clone(), found.path);
    }
    hold_to_lock(definition, options, packages, locked)?;

    let mut requirements = Requirements::new(Vec::new(), "[kernel] requirements");
    let mut roots = Vec::new();
    let mut kernel = None;
    if let Some(wanted) = &definition.kernel {
        for path in &wanted.requirements {
            requirements.extend(Requirements::read(definition.host_path(path))?);
        }
        let steps = Steps { definition, options, packages, progress };
        let found = steps.find_kernel(wanted, &requirements, &mut roots)?;
        records.push(InputRecord {
            name: "linux".into(),
            version: Some(found.release.clone()),
            kind: "kernel".into(),
            sha256: digest::of_file(&found.image)?,
        });
        kernel = Some(found);
    }
    let formats = options.formats(definition);
    let starts = |format: &Format| format.has_loader();
    let programs = if kernel.is_some() && formats.iter().any(starts) {
        let names: BTreeSet<String> = boot::PACKAGES.map(str::to_owned).into();
        let root = packages::unpack(definition, options, &packages.lock, &names, progress)?;
        let programs = Programs::from_root(&root.directory)?;
        for package in &root.packages {
            records.push(InputRecord {
                name: package.name.clone(),
                version: Some(package.version.clone()),
                kind: "boot loader".into(),
                sha256: package.sha256.clone(),
            });
        }
        roots.push(root);
        Some(programs)
    } else {
        None
    };
    let init = match definition.init.as_ref().map(|init| &init.source.value) {
        Some(InitSource::Cargo(package)) => Some(guest::build(package, package, progress)?),
        Some(InitSource::File(path)) => Some(definition.host_path(path)),
        Some(InitSource::Pick(_) | InitSource::Link(_)) | None => None,
    };
    let secure = options.secure_boot(definition);
    let secure = secure.map_or(Ok(SecureBoot::Off), |wanted| SecureBoot::read(&wanted))?;
    Ok(Inputs { kernel, init, programs, secure, files, records, requirements, roots })
}

struct Found {
    path: PathBuf,
    record: InputRecord,
    /// What it was made of.
    parts: Vec<InputRecord>,
    /// What the lock says of it, unless it is this build's own choice.
    lock: Option<LockedInput>,
}

/// An input: what the command line says, what the variable says, the definition's file, the program
/// on PATH, the program that is built. With `--locked`, only what the definition alone says.
fn find(
    definition: &Definition,
    options: &Options,
    name: &str,
    input: &Placed<Input>,
    progress: &Progress,
) -> Result<Found> {
    let named = options.inputs.get(name).map(|path| (format!("--input {name}"), path.clone()));
    let variable = || {
        let variable = input.variable.as_ref()?;
        Some((format!("${variable}"), PathBuf::from(std::env::var_os(variable)?)))
    };
    let program = || {
        let program = input.program.as_ref().filter(|_| input.file.is_none())?;
        Some((format!("{program} on PATH"), command::find(program)?))
    };
    let own = if options.locked { named } else { named.or_else(variable).or_else(program) };
    let file = input.file.as_ref().map(|path| {
        let place = path.at.map(|at| format!(":{at}")).unwrap_or_default();
        (format!("{}{place}: file", definition.file.display()), definition.host_path(path))
    });
    let is_own = own.is_some();
    if let Some((by, path)) = own.or(file) {
        let sha256 = digest::of_file(&path).map_err(|error| Error::input(by, error.to_string()))?;
        let record = InputRecord {
            name: name.into(),
            version: None,
            kind: "file".into(),
            sha256: sha256.clone(),
        };
        let lock = (!is_own).then(|| LockedInput::new(name, "", sha256, "a file"));
        return Ok(Found { path, record, parts: Vec::new(), lock });
    }
    if let Some(program) = &input.cargo {
        let package = program.package.as_str();
        let features: Vec<&str> = program.features.iter().map(String::as_str).collect();
        let name_of_binary = program.binary.as_deref().unwrap_or(package);
        let path = guest::build_with_features(package, name_of_binary, &features, progress)?;
        let record = InputRecord {
            name: name.into(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            kind: "Rust program".into(),
            sha256: digest::of_file(&path)?,
        };
        // as process 1: of the same sources as this builder, which no lock speaks of
        return Ok(Found { path, record, parts: Vec::new(), lock: None });
    }
    if !input.images.is_empty() {
        let archive = container::archive(definition, options, &input.images, progress)?;
        let record = InputRecord {
            name: name.into(),
            version: None,
            kind: "container images".into(),
            sha256: digest::of_file(&archive.path)?,
        };
        // each of them has a lock of its own
        return Ok(Found { path: archive.path, record, parts: archive.images, lock: None });
    }
    let Some(recipe) = &input.go else {
        let wanted = input.program.as_deref().unwrap_or(name);
        return Err(Error::input(
            format!("input {name}"),
            format!("{wanted} is not on PATH; give it with --input {name}=PATH"),
        ));
    };
    let program = go::PROGRAMS.iter().find(|program| program.name == recipe.value);
    let Some(program) = program else {
        let hint = hint(recipe, go::PROGRAMS.iter().map(|program| program.name));
        let place = recipe.at.map(|at| format!(":{at}")).unwrap_or_default();
        return Err(Error::input(
            format!("{}{place}", definition.file.display()),
            format!("there is no recipe for the Go program {:?}{hint}", recipe.value),
        ));
    };
    if options.offline && !go::is_built(&options.cache, program) {
        return Err(Error::input(
            format!("input {name}"),
            format!(
                "{} is not built yet, and --offline fetches nothing to build it of",
                program.name
            ),
        ));
    }
    let path = go::build(&options.cache, program, progress)?;
    let record = InputRecord {
        name: name.into(),
        version: Some(program.version.into()),
        kind: "Go program".into(),
        sha256: program.digest(),
    };
    let what = "a Go program, by the checksums of its modules";
    let lock = LockedInput::new(name, program.version, program.digest(), what);
    Ok(Found { path, record, parts: Vec::new(), lock: Some(lock) })
}

/// Compares the inputs with the lock; writes them into it where that is allowed.
fn hold_to_lock(
    definition: &Definition,
    options: &Options,
    packages: &mut Packages,
    found: Vec<LockedInput>,
) -> Result<()> {
    // What is booted was made before, of inputs that are not asked for again.
    if options.initramfs.is_some() {
        return Ok(());
    }
    let mut problems = Vec::new();
    let old = &packages.lock.inputs;
    if options.locked {
        for input in &found {
            match old.iter().find(|known| known.name == input.name) {
                Some(known) if known.sha256 == input.sha256 => {}
                Some(known) => problems.push(format!(
                    "input {}: its SHA-256 is {}, and kiln.lock says {} (--locked)",
                    input.name, input.sha256, known.sha256
                )),
                None => problems.push(format!("input {}: it is not in kiln.lock", input.name)),
            }
        }
        return if problems.is_empty() { Ok(()) } else { Err(Error::Plan(problems)) };
    }
    // An input of this build's own choice does not touch what the lock says of the usual one.
    let mut new: Vec<LockedInput> = old
        .iter()
        .filter(|known| {
            definition.inputs.contains_key(&known.name)
                && !found.iter().any(|input| input.name == known.name)
        })
        .cloned()
        .collect();
    new.extend(found);
    new.sort_by(|a, b| a.name.cmp(&b.name));
    if new != *old {
        packages.lock.inputs = new;
        packages::write(&options.lock_file(definition), &packages.lock)?;
    }
    Ok(())
}

/// The source of a kernel, out of a locked package.
pub(crate) fn kernel_source(
    definition: &Definition,
    options: &Options,
    packages: &Packages,
    name: &str,
    progress: &Progress,
) -> Result<linux::Source> {
    let names = BTreeSet::from([name.to_owned()]);
    let root = packages::unpack(definition, options, &packages.lock, &names, progress)?;
    Ok(source_of(name, root))
}

fn source_of(name: &str, root: Root) -> linux::Source {
    let sha256 = root.package(name).map_or_else(String::new, |it| it.sha256.clone());
    linux::Source::Package { name: name.into(), root: root.directory, sha256 }
}

/// What finding a kernel needs to know.
struct Steps<'a> {
    definition: &'a Definition,
    options: &'a Options,
    packages: &'a Packages,
    progress: &'a Progress,
}

impl Steps<'_> {
    fn find_kernel(
        &self,
        wanted: &definition::Kernel,
        requirements: &Requirements,
        roots: &mut Vec<Root>,
    ) -> Result<Kernel> {
        let Self { definition, options, packages, progress } = *self;
        if let Some(path) = &options.kernel {
            let root = packages::unpack_file(options, path, progress)?;
            let name = root.packages.first().map_or("linux", |package| package.name.as_str());
            let kernel = kernel::in_root(&root.directory, name)?;
            roots.push(root);
            return Ok(kernel);
        }
        let mut unpacked = |names: BTreeSet<String>| {
            let root = packages::unpack(definition, options, &packages.lock, &names, progress)?;
            roots.push(root.clone());
            Ok::<_, Error>(root)
        };
        match &wanted.source.value {
            KernelSource::Package(name) => {
                let name = packages::kernel_of(&packages.lock, name);
                let root = unpacked(BTreeSet::from([name.to_owned()]))?;
                kernel::in_root(&root.directory, name)
            }
            KernelSource::Source(name) => {
                let source = source_of(name, unpacked(BTreeSet::from([name.clone()]))?);
                self.built(wanted, source, requirements)
            }
            KernelSource::Tree(path) => {
                let source = linux::Source::tree(definition.host_path(path));
                self.built(wanted, source, requirements)
            }
            KernelSource::Files { image, modules, config } => {
                let image = definition.host_path(image);
                let modules = modules.as_ref().map(|path| definition.host_path(path));
                let config = config.as_ref().map(|path| definition.host_path(path));
                kernel::from_files(&image, modules.as_deref(), config.as_deref())
            }
        }
    }

    fn built(
        &self,
        wanted: &definition::Kernel,
        source: linux::Source,
        requirements: &Requirements,
    ) -> Result<Kernel> {
        let mut recipe = linux::Recipe::new(source);
        for fragment in &wanted.fragments {
            let path = self.definition.host_path(fragment);
            let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            recipe.fragments.push((fragment.display().to_string(), text));
        }
        // Minutes are not spent on a kernel that could not do what is asked of it.
        recipe.requirements = Some(requirements.clone());
        linux::build(&self.options.cache, &recipe, self.progress)
    }
}
