//! What NomadOS is made of, and the build of its images: everything that could be wrong with the
//! inputs is found first and told at once; then the images are written.

use std::fmt;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use kiln::debian::{self, Kernel};
use kiln::image::{self, BiosDisk};
use kiln::manifest::{Artifact, Manifest};
use kiln::{Cache, Error, Progress, cache, command, go, guest, kernel, linux};
use kiln_diskimg::boot::syslinux::Loader;
use kiln_diskimg::{Layout, container};
use kiln_initramfs::elf::{self, Resolver, Root};
use kiln_initramfs::{Compression, manifest};
use kiln_kconfig::Requirements;
use kiln_tree::{Metadata, Node, Source, Tree, host};

use crate::{COMMAND_LINE, DEV_COMMAND_LINE, config};

/// The kernel that runs on the machines that people have: Debian's generic one.
pub const KERNEL_PACKAGE: &str = "linux-image-amd64";
/// The packages whose files go into the image.
const SYSROOT_PACKAGES: &[&str] = &["libc6", "busybox-static", "ca-certificates"];
/// The packages that have the boot loader.
const LOADER_PACKAGES: &[&str] = &["syslinux", "syslinux-common"];
/// Where Nomad is: in no directory of `chroot_env`, or every `exec` task would get a copy.
const NOMAD_PATH: &str = "usr/local/bin/nomad";
/// What busybox is called by. Nomad itself calls `df`; the rest is for tasks and for people.
const APPLETS: &[&str] = &[
    "ash",
    "awk",
    "basename",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "dmesg",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "free",
    "grep",
    "gunzip",
    "gzip",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "killall",
    "less",
    "ln",
    "ls",
    "lsmod",
    "mkdir",
    "mktemp",
    "mount",
    "mv",
    "nc",
    "nslookup",
    "ping",
    "ps",
    "pwd",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "sync",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "top",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "uniq",
    "uptime",
    "vi",
    "wc",
    "wget",
    "which",
    "xargs",
];

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The initramfs and its kernel, to be started by a loader of your own
    Initramfs,
    /// A disk
    Raw,
    /// A disk for QEMU
    Qcow2,
    /// A disk for VMware and VirtualBox
    Vmdk,
}

impl Format {
    fn container(self) -> Option<container::Format> {
        match self {
            Self::Initramfs => None,
            Self::Raw => Some(container::Format::Raw),
            Self::Qcow2 => Some(container::Format::Qcow2),
            Self::Vmdk => Some(container::Format::Vmdk),
        }
    }
}

/// Where the kernel comes from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum KernelChoice {
    /// A Debian package.
    Package(String),
    /// Files of the user's own.
    Files {
        /// The kernel.
        image: PathBuf,
        /// `lib/modules/RELEASE`; unless it has everything built in.
        modules: Option<PathBuf>,
        /// Its configuration; looked for beside it without.
        config: Option<PathBuf>,
    },
    /// Built from source, see [`crate::linux`].
    Source(linux::Source),
}

/// What to build, and of what.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where the images go.
    pub out: PathBuf,
    /// What is made.
    pub formats: Vec<Format>,
    /// Nomad; found or built without.
    pub nomad: Option<PathBuf>,
    /// The kernel.
    pub kernel: KernelChoice,
    /// What the kernel must have; all that NomadOS promises without.
    pub requirements: Option<Requirements>,
    /// How many compilers build the kernel at once; as many as there are processors without.
    pub jobs: Option<NonZero<usize>>,
    /// Nomad's configuration; ours without.
    pub config: Option<PathBuf>,
    /// Files of the host and their paths in the image.
    pub add: Vec<(PathBuf, String)>,
    /// Whether the configuration may hold secrets.
    pub allow_secrets: bool,
    /// Whether there is a shell on the console.
    pub dev: bool,
    /// The program that becomes `/init`; built without.
    pub init: Option<PathBuf>,
    /// Where libraries and busybox come from; Debian packages without.
    pub sysroot: Option<PathBuf>,
    /// Where the boot loader's packages are unpacked; Debian packages without.
    pub loader: Option<PathBuf>,
    /// How the initramfs is compressed (the kernel must be able to read it).
    pub compression: Compression,
    /// Where what can be made again is kept.
    pub cache: Cache,
}

impl Options {
    /// A raw disk with everything got or built.
    #[must_use]
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self {
            out: out.into(),
            formats: vec![Format::Raw],
            nomad: None,
            kernel: KernelChoice::Package(KERNEL_PACKAGE.into()),
            requirements: None,
            jobs: None,
            config: None,
            add: Vec::new(),
            allow_secrets: false,
            dev: false,
            init: None,
            sysroot: None,
            loader: None,
            compression: Compression::ZSTD,
            cache: Cache::of_workspace(),
        }
    }
}

/// What was built.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The manifest, as it was written.
    pub manifest: Manifest,
    /// Where.
    pub out: PathBuf,
    /// What would be better with another kernel.
    pub advice: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// The first artifact that can be run.
    #[must_use]
    pub fn bootable(&self) -> Option<PathBuf> {
        let artifact = self.manifest.artifacts.iter().find(|artifact| artifact.kind != "kernel")?;
        Some(self.out.join(&artifact.path))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for artifact in &self.manifest.artifacts {
            let path = self.out.join(&artifact.path);
            writeln!(out, "{:>9.1} MB  {}", megabytes(artifact.size), path.display())?;
        }
        writeln!(
            out,
            "built in {:.1} s: Linux {}, {} files (manifest.json says why each is there)",
            self.took.as_secs_f64(),
            self.manifest.kernel,
            self.manifest.files.len()
        )?;
        self.advice.iter().try_for_each(|advice| writeln!(out, "advice: {advice}"))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Builds.
///
/// # Errors
/// Everything that is wrong with the inputs at once, before anything is written to the output
/// directory; then what the host refuses.
pub fn build(options: &Options, progress: &Progress) -> Result<Report> {
    let started = Instant::now();
    let inputs = Inputs::gather(options, progress)?;
    let (tree, advice) = plan(options, &inputs)?;

    let step = progress.step("packing the files");
    let records = manifest::files(&tree).map_err(Error::from)?;
    let initramfs: Arc<[u8]> =
        image::initramfs(&options.cache, &tree, &records, options.compression, progress)?.into();
    let command_line = if options.dev { DEV_COMMAND_LINE } else { COMMAND_LINE };
    let mut result = Manifest::new("nomados", &inputs.kernel.release, command_line, records);
    step.done();

    let disk = match &inputs.loader {
        Some(loader) => Some(disk(&inputs.kernel, &initramfs, command_line, loader)?),
        None => None,
    };

    let out = &options.out;
    std::fs::create_dir_all(out).with_context(|| format!("create directory {}", out.display()))?;
    for format in &options.formats {
        match format.container() {
            None => {
                write(out, "nomados.initramfs", &initramfs)?;
                let kernel = std::fs::read(&inputs.kernel.image)
                    .with_context(|| format!("read {}", inputs.kernel.image.display()))?;
                write(out, "nomados.vmlinuz", &kernel)?;
                result.artifacts.push(Artifact::of(out, "nomados.initramfs", "initramfs")?);
                result.artifacts.push(Artifact::of(out, "nomados.vmlinuz", "kernel")?);
            }
            Some(container) => {
                let step = progress.step(format!("writing the {container} disk"));
                let layout = disk.as_ref().context("the boot loader was not read")?;
                let name = format!("nomados.{container}");
                container::write_file(container, layout, out.join(&name)).map_err(Error::from)?;
                result.artifacts.push(Artifact::of(out, &name, container.name())?);
                step.done();
            }
        }
    }
    result.write(out)?;
    Ok(Report { manifest: result, out: out.clone(), advice, took: started.elapsed() })
}

/// The disk, with a place for everything.
fn disk(
    kernel: &Kernel,
    initramfs: &Arc<[u8]>,
    command_line: &str,
    loader: &Loader,
) -> Result<Layout> {
    let len = std::fs::metadata(&kernel.image)
        .with_context(|| format!("stat {}", kernel.image.display()))?
        .len();
    let kernel = Source::File { path: kernel.image.clone(), len };
    let disk = BiosDisk::new("nomados", kernel, Arc::clone(initramfs), command_line, loader);
    Ok(disk.layout()?)
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    Ok(cache::write_file(&directory.join(name), bytes)?)
}

/// Everything that a build reads, found, fetched or built.
struct Inputs {
    kernel: Kernel,
    nomad: PathBuf,
    init: PathBuf,
    sysroot: PathBuf,
    loader: Option<Loader>,
    config: (String, Vec<u8>),
}

impl Inputs {
    fn gather(options: &Options, progress: &Progress) -> Result<Self> {
        let cache = &options.cache;
        // What can be judged without a download is judged first.
        let config = match &options.config {
            None => ("etc/init.json".to_owned(), include_bytes!("../etc/init.json").to_vec()),
            Some(path) => {
                let bytes = std::fs::read(path);
                let bytes = bytes.with_context(|| format!("read {}", path.display()))?;
                (path.display().to_string(), bytes)
            }
        };
        for (file, _) in &options.add {
            std::fs::metadata(file).with_context(|| format!("--add: read {}", file.display()))?;
        }
        let nomad = match chosen_nomad(options)? {
            Some(path) => path,
            None => go::build(cache, &go::NOMAD, progress)?,
        };
        let kernel = match &options.kernel {
            KernelChoice::Package(name) => {
                let step = progress.step(format!("getting the kernel ({name})"));
                let kernel = debian::kernel(cache, name)?;
                step.done();
                kernel
            }
            KernelChoice::Files { image, modules, config } => {
                kernel::from_files(image, modules.as_deref(), config.as_deref())?
            }
            KernelChoice::Source(source) => {
                let mut recipe = crate::linux::recipe(source.clone())?;
                recipe.jobs = options.jobs;
                linux::build(cache, &recipe, progress)?
            }
        };
        let packages = |names: &[&str]| {
            let step = progress.step(format!("getting {}", names.join(", ")));
            let root = debian::sysroot(cache, names)?;
            step.done();
            Ok::<_, Error>(root)
        };
        let sysroot = match &options.sysroot {
            Some(path) => path.clone(),
            None => packages(SYSROOT_PACKAGES)?,
        };
        let loader = if options.formats.iter().any(|format| format.container().is_some()) {
            let root = match &options.loader {
                Some(path) => path.clone(),
                None => packages(LOADER_PACKAGES)?,
            };
            Some(Loader::from_package(&root).map_err(Error::from)?)
        } else {
            None
        };
        let init = match &options.init {
            Some(path) => path.clone(),
            None => guest::build("nomados-init", "nomados-init", progress)?,
        };
        Ok(Self { kernel, nomad, init, sysroot, loader, config })
    }
}

/// `--nomad`, `$NOMAD`, the one on PATH, in this order.
fn chosen_nomad(options: &Options) -> Result<Option<PathBuf>> {
    let named = options.nomad.clone().map(|path| ("--nomad", path));
    let named = named.or_else(|| Some(("$NOMAD", std::env::var_os("NOMAD")?.into())));
    if let Some((by, path)) = named {
        std::fs::metadata(&path).with_context(|| format!("{by}: read {}", path.display()))?;
        return Ok(Some(path));
    }
    Ok(command::find("nomad"))
}

/// The tree of the image, or everything that is wrong with the inputs.
fn plan(options: &Options, inputs: &Inputs) -> Result<(Tree, Vec<String>)> {
    let (name, text) = &inputs.config;
    let mut problems = config::problems(name, text, options.allow_secrets);
    let mut tree = Tree::new();

    let requirements = match &options.requirements {
        Some(requirements) => requirements.clone(),
        None => requirements()?,
    };
    let mut advice = Vec::new();
    match kernel::check(&inputs.kernel, &requirements) {
        Ok(checked) => {
            problems.extend(checked.problems);
            advice = checked.advice;
            match kernel::add_modules(&mut tree, &inputs.kernel, &checked.modules, &options.cache) {
                Ok(missing) => problems.extend(missing),
                Err(error) => problems.push(error.to_string()),
            }
        }
        Err(error) => problems.push(error.to_string()),
    }
    for done in [programs(&mut tree, inputs), files(&mut tree, inputs)] {
        if let Err(error) = done {
            problems.push(format!("{error:#}"));
        }
    }
    for (file, path) in &options.add {
        let mut policy = host::Policy::default();
        policy.why = Some("asked for with --add".into());
        // A path in the image that leads through one of the merged directories is the same file.
        let path = in_merged_usr(path);
        if let Err(error) = host::import(&mut tree, file, &path, &policy) {
            problems.push(format!("--add {}: {error}", file.display()));
        }
    }
    problems.extend(tree.check().iter().map(ToString::to_string));
    if problems.is_empty() { Ok((tree, advice)) } else { Err(Error::Plan(problems).into()) }
}

/// What a kernel must have for NomadOS.
///
/// # Errors
/// None: the set is a part of this program, and a test reads it.
pub fn requirements() -> Result<Requirements> {
    let text = include_str!("../etc/kernel-requirements.toml");
    Ok(Requirements::parse(text, "etc/kernel-requirements.toml").map_err(Error::from)?)
}

/// `/bin/x` is `/usr/bin/x` in a tree whose `/bin` is a link.
fn in_merged_usr(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let merged = ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|start| path.starts_with(start));
    if merged { format!("usr/{path}") } else { path.to_owned() }
}

/// Programs with all that they need to run.
fn programs(tree: &mut Tree, inputs: &Inputs) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let directory = Node::directory().because("Nomad's sandbox and merged-/usr paths need it");
        tree.insert(format!("usr/{name}"), directory)?;
        tree.insert(name, Node::symlink(format!("usr/{name}")).because("merged /usr"))?;
    }
    let mut options = elf::Options::new(&inputs.sysroot);
    options.ld_cache = false;
    let mut resolver = Resolver::new(options).map_err(Error::from)?;
    let closure = resolver
        .closure_of(&[
            Root::placed(&inputs.nomad, format!("/{NOMAD_PATH}")).because("Nomad"),
            Root::placed(&inputs.init, "/init").because("process 1"),
            Root::in_sysroot("/usr/bin/busybox").because("df for Nomad, a shell for tasks"),
        ])
        .map_err(Error::from)
        .with_context(|| format!("programs (Nomad is {})", inputs.nomad.display()))?;
    closure.add_to(tree, &host::Policy::default()).map_err(Error::from)?;
    let modprobe = Node::symlink("/init").because("the kernel calls it for drivers on demand");
    tree.insert("usr/sbin/modprobe", modprobe)?;
    for applet in APPLETS {
        let link = Node::symlink("busybox").because("an applet of busybox");
        tree.insert(format!("usr/bin/{applet}"), link)?;
    }
    Ok(())
}

/// Everything that is no program.
fn files(tree: &mut Tree, inputs: &Inputs) -> Result<()> {
    let mut file = |path: &str, content: Source, why: &str| {
        tree.insert(path, Node::file(content).because(why))
    };
    let users =
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
    file("etc/passwd", users.into(), "Nomad refuses allocations without the user nobody")?;
    let groups = "root:x:0:\nnogroup:x:65534:\n";
    file("etc/group", groups.into(), "the group of the user nobody")?;
    file("etc/hostname", "nomados\n".into(), "the machine's name")?;
    let hosts = "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 nomados\n";
    file("etc/hosts", hosts.into(), "names without a name server")?;
    let release = "NAME=NomadOS\nID=nomados\nPRETTY_NAME=NomadOS\n";
    file("etc/os-release", release.into(), "Nomad reports the system's name")?;
    let nsswitch = "passwd: files\ngroup: files\nhosts: files dns\n";
    file("etc/nsswitch.conf", nsswitch.into(), "how glibc looks names up")?;
    let (_, config) = &inputs.config;
    file("etc/nomad/init.json", config.as_slice().into(), "Nomad's configuration")?;
    let certificates = certificates(&inputs.sysroot)?;
    let why = "whom TLS connections of Nomad and of tasks trust";
    file("etc/ssl/certs/ca-certificates.crt", certificates.into(), why)?;

    let mut directory = |path: &str, mode: u16, why: &str| {
        tree.insert(path, Node::directory().with(Metadata::new(mode)).because(why))
    };
    directory("usr/libexec", 0o755, "Nomad's sandbox for downloads refuses to start without it")?;
    directory("usr/local/bin", 0o755, "Nomad's sandbox for downloads refuses to start without it")?;
    directory("var/lib/nomad", 0o700, "Nomad's data: a data disk or a tmpfs")?;
    directory("var/log", 0o755, "the services' logs")?;
    directory("root", 0o700, "root's home")?;
    directory("tmp", 0o1777, "a tmpfs is mounted there")?;
    for path in ["dev", "proc", "sys", "run", "mnt"] {
        directory(path, 0o755, "mounted by process 1")?;
    }
    let console = Node::char_device(5, 1).because("the kernel opens it for process 1");
    tree.insert("dev/console", console)?;
    Ok(())
}

/// The certificate authorities of the package, one after the other (which is what
/// `update-ca-certificates` makes of them when the package is installed).
fn certificates(sysroot: &Path) -> Result<Vec<u8>> {
    let directory = sysroot.join("usr/share/ca-certificates/mozilla");
    let entries = std::fs::read_dir(&directory)
        .with_context(|| format!("read directory {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "crt"))
        .collect();
    paths.sort();
    let mut bundle = Vec::new();
    for path in paths {
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        bundle.extend_from_slice(text.trim_ascii_end());
        bundle.push(b'\n');
    }
    Ok(bundle)
}
