//! The steps: what each makes, and of what.

use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use kiln::build::{self, packages};
use kiln::definition::{Content, Definition, FileEntry, Format, Placed};
use kiln::pipeline::{Pipeline, Place, Step};
use kiln::sign::Key;
use kiln::{Error, Result, archive, cache, guest};
use kiln_tree::{Node, Tree};

/// The command, by itself.
const CLI: &str = "kurma-cli-linux-amd64.tar.gz";
/// The server, by itself.
const SERVER: &str = "kurma-server-linux-amd64.tar.gz";
/// Kernel and initramfs.
const INIT: &str = "kurma-init.tar";
const KERNEL: &str = "kernel.deb";
const DISK: &str = "kurma.raw";
const BASE: &str = "base.tar.gz";
/// What is in `INIT`.
const PARTS: [(&str, &str); 4] = [
    ("vmlinuz", "kurma.vmlinuz"),
    ("initramfs", "kurma.initramfs"),
    ("release", "kurma.release"),
    ("manifest.json", "manifest.json"),
];
/// The signature of `release`, among them.
const SIGNATURE: &str = "release.sig";
/// Where the system looks for whom to believe.
const TRUSTED: &str = "/usr/share/kurma/release.pub";
/// Images of pods that the system has from the start.
const IMAGES: [(&str, &str); 4] = [
    ("console", "terminals and ssh, with the command inside"),
    ("kurma-api", "the door to the network"),
    ("ntp", "the clock"),
    ("udev", "names of devices"),
];
/// Where the system looks for them.
const IMAGES_IN: &str = "/usr/share/kurma/images";
/// What hypervisors and clouds take; the directory of what their OEM partition says; what is made.
const PLATFORMS: [(&str, &str, &str, Format, &str); 5] = [
    (
        "virtualbox",
        "virtualbox",
        "kurma-virtualbox.zip",
        Format::VboxZip,
        "a zip with an OVF for VirtualBox",
    ),
    ("vmware", "vmware", "kurma-vmware.ova", Format::Ova, "an appliance for VMware"),
    ("vmx", "vmware", "kurma-vmware.zip", Format::VmxZip, "a zip with a VMX for VMware's desktops"),
    ("openstack", "openstack", "kurma-openstack.qcow2", Format::Qcow2, "a disk for OpenStack"),
    ("aws", "aws", "kurma-aws.raw", Format::Raw, "a disk for AWS, to import as a snapshot"),
];
/// Drivers that none of the usual machines needs: of VMware, Xen, and EC2's own machines.
const MODULES: [&str; 4] = ["vmw_pvscsi", "xen_blkfront", "xen_netfront", "ena"];
/// The partition that says what is different on a platform.
const OEM: &str = "OEM";

/// Where the definitions are.
fn home() -> PathBuf {
    cache::workspace_root().join("examples/kurma")
}

fn definition(image: &str) -> Result<Definition> {
    Definition::read(&home().join("images").join(image).join("image.toml"))
}

fn system() -> Result<Definition> {
    Definition::read(&home().join("image.toml"))
}

/// What is said once of all steps.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Choices {
    /// Whether nothing is fetched.
    pub offline: bool,
    /// The key of those who make the system: it takes no other's versions, and `dist` is signed with it.
    pub key: Option<PathBuf>,
    /// The system's version, in place of its definition's.
    pub version: Option<String>,
}

impl Choices {
    /// What the steps of the system are told by these, besides its definition.
    fn of_system(&self, step: Step) -> Result<Step> {
        let mut step = step;
        if let Some(version) = &self.version {
            step = step.depends_on("version", version.clone());
        }
        // which key it is, and not where; one that is not there is for the step to tell
        if let Some(key) = self.key.as_ref().filter(|key| key.exists()) {
            step = step.depends_on("key", Key::read(key)?.public()?);
        }
        Ok(step)
    }

    /// The system, as it is to be.
    fn system(&self) -> Result<Definition> {
        let mut definition = system()?;
        if let Some(version) = &self.version {
            definition.version = Some(version.clone());
        }
        Ok(definition)
    }
}

/// All of them but what is given to others.
pub(super) fn pipeline(choices: &Choices) -> Result<Pipeline> {
    let mut pipeline = Pipeline::new();
    let offline = choices.offline;
    let options = move || {
        let mut options = build::Options::default();
        options.offline = offline;
        options
    };
    let about = "a root with busybox, from Debian packages";
    let base = Step::new("base", [BASE], move |place| {
        let definition = definition("base")?;
        image(&definition, options(), Format::TarGz, place, BASE)
    });
    pipeline.add(of(base.about(about), definition("base"), &[]));
    for (package, name, output, about) in [
        ("kurma", "cli", CLI, "the command, static"),
        ("kurma-server", "server", SERVER, "the server for any Linux machine, static"),
    ] {
        let step = Step::new(name, [output], move |place| program(package, output, place));
        pipeline.add(step.about(about).compiles(package, &[])?.reads(builder()));
    }
    for (name, about) in IMAGES {
        let output = format!("{name}.aci");
        let file = output.clone();
        let is_console = name == "console";
        let mut step = Step::new(name, [output], move |place| {
            let mut options = options();
            if is_console {
                options.base = Some(place.input("base", BASE)?);
                options.inputs.insert("kurma".into(), command(place)?);
            }
            image(&definition(name)?, options, Format::Aci, place, &file)
        });
        let mut own = definition(name);
        if is_console {
            step = step.needs("base").needs("cli");
            // It begins with what the other step has made.
            own = own.map(without_base);
        }
        pipeline.add(of(step.about(about), own, &["kurma"]));
    }
    let kernel = Step::new("kernel", [KERNEL], move |place| {
        let file = packages::kernel_file(&system()?, &options(), place.progress())?;
        cache::copy_file(&file, &place.output(KERNEL)?)
    });
    let mut kernel = kernel.about("the kernel, as Debian packages it").reads(builder());
    if let Ok(definition) = system() {
        let lock = packages::lock_file(&definition.file);
        kernel = kernel.reads(definition.file).keeps(lock);
    }
    pipeline.add(kernel);
    let about = "kernel and initramfs, with process 1 and the images";
    let own = choices.clone();
    let mut init = Step::new("init", [INIT], move |place| {
        let mut options = options();
        options.kernel = Some(place.input("kernel", KERNEL)?);
        system_of(options, &own, place)
    });
    init = init.about(about).needs("kernel").needs("cli");
    for (name, _) in IMAGES {
        init = init.needs(name);
    }
    pipeline.add(choices.of_system(of(init, system(), &["kurma"]))?);
    let own = choices.clone();
    let disk = Step::new("disk", [DISK], move |place| {
        let parts = unpack(&place.input("init", INIT)?, &place.scratch()?.join("parts"))?;
        let (kernel, initramfs) = (parts.join("vmlinuz"), parts.join("initramfs"));
        let mut options = options();
        options.formats = vec![Format::Raw];
        let out = place.scratch()?.join("disk");
        let files = (kernel.as_path(), initramfs.as_path());
        let report = build::boot(&own.system()?, files, &options, &out, place.progress())?;
        let made = report.bootable().ok_or_else(|| Error::input(DISK, "there is no disk"))?;
        moved(&made, &place.output(DISK)?)
    });
    let disk = disk.about("a disk for both firmwares").needs("init");
    pipeline.add(choices.of_system(of(disk, system().map(booted), &[]))?);
    for (name, oem, output, format, about) in PLATFORMS {
        let files = home().join("oem").join(oem);
        let own = files.clone();
        let step = Step::new(name, [output], move |place| {
            let from = place.input("disk", DISK)?;
            let path = place.output(output)?;
            let files = own.is_dir().then_some((OEM, own.as_path()));
            build::convert(&system()?, &from, files, format, &options(), &path)
        });
        let step = step.about(about).needs("disk").reads(files).reads(builder());
        pipeline.add(step.reads(home().join("image.toml")));
    }
    Ok(pipeline)
}

/// The program that runs: what another one has made may be something else.
fn builder() -> PathBuf {
    std::env::current_exe().unwrap_or_default()
}

/// A step that builds a definition. One that cannot be read is for the step to tell, when it runs.
fn of(step: Step, definition: Result<Definition>, given: &[&str]) -> Step {
    let step = step.reads(builder());
    let Ok(definition) = definition else { return step };
    let plain = step.clone();
    step.builds(&definition, given).unwrap_or(plain)
}

fn without_base(mut definition: Definition) -> Definition {
    definition.container.base = None;
    definition
}

/// What counts of a definition for a kernel and an initramfs that are there.
fn booted(mut definition: Definition) -> Definition {
    definition.inputs.clear();
    definition.files.clear();
    definition.init = None;
    if let Some(kernel) = &mut definition.kernel {
        kernel.requirements.clear();
    }
    definition
}

/// Builds one artifact of a definition.
fn image(
    definition: &Definition,
    mut options: build::Options,
    format: Format,
    place: &Place<'_>,
    output: &str,
) -> Result<()> {
    options.formats = vec![format];
    let out = place.scratch()?.join("image");
    build::build(definition, &options, &out, place.progress())?;
    let made = out.join(format!("{}.{}", *definition.name, format.ending()));
    moved(&made, &place.output(output)?)
}

/// Builds kernel and initramfs, with the images that the system has from the start, and whom it believes.
fn system_of(mut options: build::Options, choices: &Choices, place: &Place<'_>) -> Result<()> {
    let mut definition = choices.system()?;
    let key = choices.key.as_deref().map(Key::read).transpose()?;
    if let Some(key) = &key {
        let public = Content::Text(key.public()?);
        let why = "whose other versions of the system it takes";
        definition.files.push(FileEntry::new(TRUSTED.to_owned(), public, why));
    }
    for (name, about) in IMAGES {
        let file = place.input(name, &format!("{name}.aci"))?;
        if definition.inputs.contains_key(name) {
            options.inputs.insert(name.into(), file);
            continue;
        }
        let path = format!("{IMAGES_IN}/{name}.aci");
        definition.files.push(FileEntry::new(path, Content::File(absolute(&file)?), about));
    }
    if definition.inputs.contains_key("kurma") {
        options.inputs.insert("kurma".into(), command(place)?);
    }
    if let Some(kernel) = &mut definition.kernel {
        let has = |name: &str| kernel.modules.iter().any(|known| known.value == name);
        let new: Vec<_> = MODULES.into_iter().filter(|name| !has(name)).collect();
        kernel.modules.extend(new.into_iter().map(|name| Placed::nowhere(name.to_owned())));
    }
    options.formats = vec![Format::Initramfs];
    let out = place.scratch()?.join("image");
    build::build(&definition, &options, &out, place.progress())?;
    let mut tree = Tree::new();
    for (name, file) in PARTS {
        let path = out.join(file);
        if path.is_file() {
            tree.insert(name, kiln_tree::host::file(&path, 0o644)?)?;
        }
    }
    if let Some(key) = &key {
        let path = out.join("kurma.release");
        let said = std::fs::read(&path).map_err(Error::io("read", &path))?;
        tree.insert(SIGNATURE, Node::file(key.sign(&said).to_vec()))?;
    }
    pack(&tree, kiln_initramfs::Compression::None, &place.output(INIT)?)
}

/// Builds a program of the workspace, in an archive of its own.
fn program(package: &str, output: &str, place: &Place<'_>) -> Result<()> {
    let binary = guest::build(package, package, place.progress())?;
    let mut tree = Tree::new();
    tree.insert(package, kiln_tree::host::file(&binary, 0o755)?)?;
    pack(&tree, kiln_initramfs::Compression::GZIP, &place.output(output)?)
}

fn pack(tree: &Tree, compression: kiln_initramfs::Compression, path: &Path) -> Result<()> {
    archive::write_file(tree, compression, path).map(drop)
}

/// The command, out of its archive.
fn command(place: &Place<'_>) -> Result<PathBuf> {
    let from = place.input("cli", CLI)?;
    let file = std::fs::File::open(&from).map_err(Error::io("open", &from))?;
    let to = place.scratch()?.join("cli");
    extract(GzDecoder::new(file), &from, &to)?;
    let path = to.join("kurma");
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::input(from.display().to_string(), "it has no kurma"))
    }
}

fn unpack(from: &Path, to: &Path) -> Result<PathBuf> {
    let file = std::fs::File::open(from).map_err(Error::io("open", from))?;
    extract(file, from, to)?;
    Ok(to.to_path_buf())
}

/// Unpacks plain files of an archive, as whoever we are.
fn extract(reader: impl std::io::Read, from: &Path, to: &Path) -> Result<()> {
    let done = || {
        std::fs::create_dir_all(to)?;
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries()? {
            let mut entry = entry?;
            // Nothing but files of the top is wanted.
            if entry.header().entry_type().is_file() {
                entry.set_preserve_mtime(false);
                entry.unpack_in(to)?;
            }
        }
        Ok(())
    };
    done().map_err(Error::io("unpack", from))
}

fn moved(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(Error::io("rename into", to))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io("find", path))
}
