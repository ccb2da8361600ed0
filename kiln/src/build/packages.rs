//! The packages of a definition: locked, downloaded, unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_debroot::fetch::AptHelper;
use kiln_debroot::lock::Diff;
use kiln_debroot::root::{self, Filter, Root};
use kiln_debroot::{Archive, Index, Lock, LockedPackage, Request, archive, download, lock};

use super::Options;
use crate::definition::{Definition, KernelSource, Problem, hint};
use crate::{Error, Progress, Result, boot, cache, command, digest};

/// What packages are built for.
const ARCHITECTURE: &str = "amd64";
/// Where Debian installs the keys of its archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Part of the name of an unpacked root; to be raised when the way of unpacking changes.
const ROOT_FORMAT: &str = "1";

/// The lock file of a definition: `kiln.lock` beside `image.toml`, `NAME.lock` beside others.
#[must_use]
pub fn lock_file(definition: &Path) -> PathBuf {
    match definition.file_name() {
        Some(name) if name != "image.toml" => definition.with_extension("lock"),
        _ => definition.with_file_name("kiln.lock"),
    }
}

/// Which packages a definition asks for, and where. The archives have no keys before they are asked.
struct Wanted {
    archives: Vec<Archive>,
    request: Request,
    /// The name that stands for a kernel, perhaps that of a meta-package.
    kernel: Option<String>,
    /// What the lock is the answer to, the kernel aside, which it has or has not.
    digest: String,
}

impl Wanted {
    fn of(definition: &Definition) -> Self {
        let debian = &definition.debian;
        let mut archives = archive::debian(&debian.suite, ARCHITECTURE, b"");
        let components = debian.components.iter().map(|component| component.value.clone());
        let components: Vec<String> = components.collect();
        let last = archives.len().saturating_sub(1);
        for (number, archive) in archives.iter_mut().enumerate() {
            archive.components.clone_from(&components);
            let mirror = if number == last { &debian.security_mirror } else { &debian.mirror };
            if let Some(mirror) = mirror {
                archive.uri.clone_from(&mirror.value);
            }
        }
        let packages = &definition.packages;
        let names = packages.install.iter().chain(&packages.pick).map(|it| it.value.clone());
        let mut request = Request::new(names).with_recommends(packages.recommends);
        // A tree that nothing boots needs no loader.
        if definition.kernel.is_some() {
            request.alone = boot::PACKAGES.map(str::to_owned).to_vec();
        }
        let kernel = definition.kernel.as_ref().and_then(|it| match &it.source.value {
            KernelSource::Package(name) | KernelSource::Source(name) => Some(name.clone()),
            _ => None,
        });
        let digest = lock::request_digest(&archives, &request);
        Self { archives, request, kernel, digest }
    }

    /// The lock where nothing is asked for, which no archive has to be asked about.
    fn nothing(&self) -> Option<Lock> {
        let Request { wanted, alone, .. } = &self.request;
        let is_nothing = wanted.is_empty() && alone.is_empty() && self.kernel.is_none();
        is_nothing.then(|| Lock::new(&self.archives, &self.request, &[]))
    }

    /// Asks the archives.
    fn resolve(
        mut self,
        definition: &Definition,
        options: &Options,
        old: &Lock,
        progress: &Progress,
    ) -> Result<Lock> {
        let keys = keyring(definition)?;
        self.archives.iter_mut().for_each(|archive| archive.keyring.clone_from(&keys));
        command::require("/usr/lib/apt/apt-helper", "to get Debian packages", "apt")?;
        let step =
            progress.step(format!("reading the package lists of {}", *definition.debian.suite));
        let store = options.cache.directory("debian/lists")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let index = archive::read(&self.archives, now, &store, &AptHelper::default())?;
        step.done();
        match &self.kernel {
            Some(kernel) => self.request.alone.extend(kernel_packages(&index, kernel)),
            // A kernel of the user's own for once does not cost the usual one its place.
            None => {
                let kernels = old.packages.iter().map(|package| &package.name);
                let kernels = kernels.filter(|name| {
                    name.starts_with("linux-image-") || name.starts_with("linux-source-")
                });
                let kernels = kernels.filter(|name| index.newest(name).is_some());
                self.request.alone.extend(kernels.cloned());
            }
        }
        let mut problems: Vec<Problem> = Vec::new();
        let packages = &definition.packages;
        for wanted in packages.install.iter().chain(&packages.pick) {
            let name = wanted.split_once('=').map_or(wanted.as_str(), |(name, _)| name);
            if index.newest(name).is_none() && index.providers(name).next().is_none() {
                let near = index.near(name);
                let hint = hint(name, near.iter().map(String::as_str));
                let suite = definition.debian.suite.as_str();
                let text = format!("there is no package {name:?} in Debian {suite}{hint}");
                problems.push(Problem::new(wanted.at, text));
            }
        }
        if let Some(name) = &self.kernel
            && index.newest(name).is_none()
        {
            let text = format!("there is no package {name:?}{}", near_kernels(&index));
            let at = definition.kernel.as_ref().and_then(|kernel| kernel.source.at);
            problems.push(Problem::new(at, text));
        }
        if !problems.is_empty() {
            let file = &definition.file;
            return Err(Error::Plan(
                problems.iter().map(|problem| problem.in_file(file)).collect(),
            ));
        }
        let chosen = kiln_debroot::resolve(&index, &self.request)?;
        let mut lock = Lock::new(&self.archives, &self.request, &chosen);
        lock.request = self.digest;
        Ok(lock)
    }
}

/// The keys that release files are checked with.
fn keyring(definition: &Definition) -> Result<Vec<u8>> {
    let keyring = definition.debian.keyring.as_ref();
    let keyring = keyring.map_or_else(|| PathBuf::from(KEYRING), |path| definition.host_path(path));
    std::fs::read(&keyring).map_err(|error| {
        Error::input(
            keyring.display().to_string(),
            format!(
                "{error}; it has the keys that packages are checked with: `apt-get install \
                 debian-archive-keyring`, or give [debian] keyring"
            ),
        )
    })
}

/// Whether a package of this name holds a kernel itself.
pub(super) fn holds_kernel(name: &str) -> bool {
    name.strip_prefix("linux-image-")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The package of a lock that holds the kernel which this name stands for.
pub(super) fn kernel_of<'a>(lock: &'a Lock, name: &'a str) -> &'a str {
    let real = lock.packages.iter().map(|package| package.name.as_str());
    let real = real.filter(|name| holds_kernel(name));
    real.min_by_key(|real| *real != name).unwrap_or(name)
}

/// The package of a definition's kernel as a file, checked against the lock.
///
/// # Errors
/// Those of the archives; [`Error::Input`] for a kernel that is from no package.
pub fn kernel_file(
    definition: &Definition,
    options: &Options,
    progress: &Progress,
) -> Result<PathBuf> {
    let wanted = definition.kernel.as_ref().map(|kernel| &kernel.source.value);
    let Some(KernelSource::Package(name)) = wanted else {
        let text = "its kernel is from no package";
        return Err(Error::input(definition.file.display().to_string(), text));
    };
    let (lock, _) = locked(definition, options, progress, &options.lock_file(definition))?;
    let step = progress.step("checking the packages");
    fetch(&lock, options, &step)?;
    step.done();
    let name = kernel_of(&lock, name);
    let package = lock.package(name).ok_or_else(|| Error::input(name, "the lock has it not"))?;
    Ok(download::by_digest(options.cache.directory("debian")?)(package))
}

/// Unpacks a package that is in no lock, unless that was done before.
pub(super) fn unpack_file(options: &Options, path: &Path, progress: &Progress) -> Result<Root> {
    let deb = kiln_debroot::deb::Deb::open(path, kiln_debroot::deb::Limits::default())?;
    let field = |name: &str| deb.field(name).unwrap_or_default().to_owned();
    let mut package = LockedPackage::default();
    (package.name, package.version) = (field("Package"), field("Version"));
    (package.architecture, package.sha256) = (field("Architecture"), digest::of_file(path)?);
    package.size = std::fs::metadata(path).map_err(Error::io("stat", path))?.len();
    let source = deb.field("Source").unwrap_or(&package.name);
    let (source, _) = source.split_once(' ').unwrap_or((source, ""));
    (package.source, package.source_version) = (source.to_owned(), package.version.clone());
    let key = digest::of_parts([ROOT_FORMAT, "file", &package.sha256].map(str::as_bytes));
    let made = options.cache.get_or_make(format!("root/{key}"), |made| {
        let step = progress.step(format!("unpacking {package}"));
        std::fs::create_dir(made).map_err(Error::io("create directory", made))?;
        let how = root::Options::default();
        let packages = [(package.clone(), path.to_path_buf())];
        Root::unpack(&packages, &made.join("files"), &how)?.save(&made.join("index"))?;
        step.done();
        Ok(())
    })?;
    Ok(Root::open(&made.join("index"), &made.join("files"))?)
}

/// Whether a lock has a kernel's package, or that of its source.
fn has_kernel(lock: &Lock, name: &str) -> bool {
    let mut names = lock.packages.iter().map(|package| package.name.as_str());
    lock.package(name).is_some()
        && (holds_kernel(name) || name.starts_with("linux-source-") || names.any(holds_kernel))
}

/// A kernel's package, and the one that it stands for when it is a meta-package.
fn kernel_packages(index: &Index, name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if !holds_kernel(name)
        && let Some(package) = index.newest(name)
    {
        let depends = package.depends();
        let real = depends.iter().flatten().map(|relation| relation.name);
        names.extend(real.filter(|name| holds_kernel(name)).map(str::to_owned).take(1));
    }
    names
}

fn near_kernels(index: &Index) -> String {
    let mut names: Vec<&str> = index
        .packages()
        .map(|package| package.name())
        .filter(|name| name.starts_with("linux-image-") && !name.ends_with("-dbg"))
        .filter(|name| !holds_kernel(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) }
}

/// The locked packages of a definition, and where they are unpacked.
#[derive(Debug)]
pub struct Packages {
    /// The lock.
    pub lock: Lock,
    /// The packages that files are picked from, and those that are installed.
    pub root: Root,
    /// Names of those that are in the image as a whole.
    pub installed: BTreeSet<String>,
    /// What is different from the lock of before, if it was made anew.
    pub changes: Option<Diff>,
}

/// Reads or makes the lock, gets the packages, and unpacks those of the image.
pub(crate) fn get(
    definition: &Definition,
    options: &Options,
    progress: &Progress,
) -> Result<Packages> {
    let file = options.lock_file(definition);
    let (mut lock, mut changes) = locked(definition, options, progress, &file)?;
    let step = progress.step("checking the packages");
    let mut fetched = fetch(&lock, options, &step);
    // An archive drops the files of versions that it has newer ones of.
    let is_gone = matches!(&fetched, Err(Error::Packages(kiln_debroot::Error::Fetch { .. })));
    if is_gone && changes.is_none() && !options.locked {
        let old = lock;
        lock = Wanted::of(definition).resolve(definition, options, &old, progress)?;
        lock.inputs.clone_from(&old.inputs);
        write(&file, &lock)?;
        changes = Some(Lock::diff(&old, &lock));
        fetched = fetch(&lock, options, &step);
    }
    fetched?;
    step.done();
    let asked: Vec<&str> = names(&definition.packages.install);
    let installed = closure(&lock, &asked);
    let mut of_image = asked;
    of_image.extend(names(&definition.packages.pick));
    let of_image = closure(&lock, &of_image);
    let root = unpack(definition, options, &lock, &of_image, progress)?;
    Ok(Packages { lock, root, installed, changes })
}

fn names(list: &[crate::definition::Placed<String>]) -> Vec<&str> {
    list.iter().map(|name| name.split_once('=').map_or(name.as_str(), |(name, _)| name)).collect()
}

/// Makes the lock anew and tells what is different.
///
/// # Errors
/// Those of the archives, and of packages that cannot be had.
pub fn update(
    definition: &Definition,
    options: &Options,
    progress: &Progress,
) -> Result<(Lock, Diff)> {
    let file = lock_file(&definition.file);
    let old = read(&file)?.unwrap_or_default();
    let mut new = Wanted::of(definition).resolve(definition, options, &old, progress)?;
    new.inputs.clone_from(&old.inputs);
    let diff = Lock::diff(&old, &new);
    Ok((new, diff))
}

/// Writes a lock.
///
/// # Errors
/// [`Error::Io`].
pub fn write(file: &Path, lock: &Lock) -> Result<()> {
    cache::write_file(file, lock.to_string().as_bytes())
}

fn read(file: &Path) -> Result<Option<Lock>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(Lock::parse(&text, &file.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", file)(error)),
    }
}

/// The lock that answers what the definition asks for; made anew, and written, if there is none
/// and that is allowed.
fn locked(
    definition: &Definition,
    options: &Options,
    progress: &Progress,
    file: &Path,
) -> Result<(Lock, Option<Diff>)> {
    let wanted = Wanted::of(definition);
    let old = read(file)?;
    if let Some(lock) = &old
        && lock.request == wanted.digest
        && wanted.kernel.as_ref().is_none_or(|kernel| has_kernel(lock, kernel))
    {
        return Ok((lock.clone(), None));
    }
    let shown = file.display().to_string();
    let nothing = wanted.nothing().filter(|_| !options.locked);
    if nothing.is_none() && (options.locked || options.offline) {
        let why = if options.locked { "--locked" } else { "--offline" };
        let reason = match &old {
            None => format!("there is none, and {why} makes none: build once without it"),
            Some(_) => format!(
                "it does not answer what {} asks for now, and {why} does not change it: see \
                 `kiln update --dry-run` for what would change",
                definition.file.display()
            ),
        };
        return Err(Error::input(shown, reason));
    }
    let old = old.unwrap_or_default();
    let mut lock = match nothing {
        Some(lock) => lock,
        None => wanted.resolve(definition, options, &old, progress)?,
    };
    lock.inputs.clone_from(&old.inputs);
    write(file, &lock)?;
    let diff = Lock::diff(&old, &lock);
    Ok((lock, Some(diff)))
}

/// Sees to it that every package file is in the cache and is what the lock says.
fn fetch(lock: &Lock, options: &Options, step: &crate::Step) -> Result<()> {
    let directory = options.cache.directory("debian")?;
    let helper = AptHelper::default();
    let fetch: Option<&dyn kiln_debroot::fetch::Fetch> =
        if options.offline { None } else { Some(&helper) };
    let said = std::sync::Mutex::new(());
    let tell = |package: &LockedPackage, left: usize| {
        if let Ok(_only_one) = said.lock() {
            step.update(format!("{package} ({left} to go)"));
        }
    };
    download::download_with(lock, &download::by_digest(directory), fetch, &tell)?;
    Ok(())
}

/// These packages and all that they depend on, as the lock says it.
pub(super) fn closure(lock: &Lock, names: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo: Vec<&str> = names.to_vec();
    while let Some(name) = todo.pop() {
        let Some(package) = lock.package(name) else { continue };
        if found.insert(package.name.clone()) {
            todo.extend(package.depends.iter().map(String::as_str));
        }
    }
    found
}

/// Unpacks some packages of a lock, unless that was done before.
pub(super) fn unpack(
    definition: &Definition,
    options: &Options,
    lock: &Lock,
    names: &BTreeSet<String>,
    progress: &Progress,
) -> Result<Root> {
    let directory = options.cache.directory("debian")?;
    let place = download::by_digest(directory);
    let packages: Vec<(LockedPackage, PathBuf)> = lock
        .packages
        .iter()
        .filter(|package| names.contains(&package.name))
        .map(|package| (package.clone(), place(package)))
        .collect();
    let mut how = root::Options::default();
    let exclude = &definition.packages.exclude;
    how.filter = match exclude {
        None => Filter::without_documentation(),
        Some(globs) => globs.iter().fold(Filter::new(), |all, glob| all.exclude(&glob.value)),
    };
    let choices = &definition.packages.alternatives;
    how.choices = choices
        .iter()
        .map(|(name, path)| (name.clone(), path.value.clone()))
        .collect::<BTreeMap<_, _>>();
    let mut parts = vec![ROOT_FORMAT.to_owned(), format!("{exclude:?} {choices:?}")];
    parts.extend(packages.iter().map(|(package, _)| package.sha256.clone()));
    let key = digest::of_parts(parts.iter().map(String::as_bytes));
    let made = options.cache.get_or_make(format!("root/{key}"), |made| {
        let step = progress.step(format!("unpacking {} packages", packages.len()));
        std::fs::create_dir(made).map_err(Error::io("create directory", made))?;
        Root::unpack(&packages, &made.join("files"), &how)?.save(&made.join("index"))?;
        step.done();
        Ok(())
    })?;
    Ok(Root::open(&made.join("index"), &made.join("files"))?)
}
