//! Roots that machines fetch when they boot, and what leads to them: an initramfs that knows whom to believe, a
//! script for iPXE.
//!
//! | artifact | what |
//! |---|---|
//! | `NAME-vmlinuz`, `NAME-initrd.img` | what firmware or iPXE loads |
//! | `NAME.ipxe` | what iPXE does, where the files lie beside the script |
//! | `NAME-root.tar.xz` and its kin | the root |
//! | `NAME-root.tar.xz.chunks` | what each part of it must be, signed |

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use kiln_diskimg::erofs;
use kiln_initramfs::{Compression, Encoder};
use kiln_netboot::Script;
use kiln_ramroot::{Chunker, Kind, list_beside};
use kiln_tree::{Node, Tree, TreePath};
use lzma_rust2::{XzOptions, XzWriterMt};

use super::{Options, Plan, stage};
use crate::definition::{Definition, Format, Ramroot};
use crate::sign::Key;
use crate::{Error, Progress, Result, archive, cache, disk, image};

/// Bytes of a chunk: verified before the next one is read, and lost when a connection breaks.
const CHUNK: u32 = 1 << 20;
/// Part of the name of a cached root; to be raised when the way of making one changes.
const FORMAT: &str = "2";
/// What xz compresses at once, by as many threads as there are; three times its dictionary.
const XZ_BLOCK: u64 = 24 << 20;
/// Of xz: a dictionary of 8 MiB, which is the most that machines give it.
const XZ_PRESET: u32 = 6;
/// A window of 4 MiB.
const ZSTD_LEVEL: i32 = 12;
/// What a file or directory costs a machine in memory beside its content.
const INODE: u64 = 1 << 10;
const PAGE: u64 = 4 << 10;

/// Where the initramfs says what it leads to, and whom to believe.
const SETTINGS: &str = "etc/kiln/ramroot.toml";
const KEYS: &str = "etc/kiln/ramroot.pub";

/// Modules without which such a root is not read.
pub(super) fn modules() -> Vec<(String, String)> {
    let needed = [
        ("erofs", "the root's file system"),
        ("loop", "makes a device of the root's file"),
        ("overlay", "writes over a root that is only read"),
    ];
    needed.map(|(name, why)| (name.to_owned(), why.to_owned())).into()
}

/// What is wrong before anything is made.
pub(super) fn problems(
    definition: &Definition,
    options: &Options,
    formats: &[Format],
) -> Vec<String> {
    let Some(ramroot) = &definition.ramroot else { return Vec::new() };
    let file = definition.file.display();
    let roots = formats.iter().any(|format| format.root().is_some());
    let boots = formats.iter().any(|format| !format.is_archive());
    match &options.key {
        Some(key) => Key::read(key).err().map(|error| error.to_string()).into_iter().collect(),
        None if roots || (boots && ramroot.trust.is_empty()) => {
            vec![format!(
                "{file}: [ramroot] needs a key that roots are signed with: give --key FILE, with --new-key to make one"
            )]
        }
        None => Vec::new(),
    }
}

/// What leads to a root: modules, what sets up the network, whom to believe.
pub(super) fn stage(
    definition: &Definition,
    ramroot: &Ramroot,
    options: &Options,
    tree: &Tree,
) -> Result<Tree> {
    let mut first = stage::first(tree)?;
    first.insert("bin", Node::symlink("usr/bin").because("merged /usr"))?;
    let mut missing = Vec::new();
    for carried in &ramroot.carry {
        let path = carried.trim_start_matches('/');
        let below = format!("{path}/");
        let mut found = false;
        for (at, node) in tree {
            let text = at.to_string();
            if text == path || text.starts_with(&below) {
                found = true;
                first.replace(at.as_bytes(), node.clone())?;
            }
        }
        if !found {
            let place = carried.at.map(|at| format!(":{at}")).unwrap_or_default();
            let file = definition.file.display();
            missing.push(format!("{file}{place}: {} is not in the image", carried.value));
        }
    }
    if !missing.is_empty() {
        return Err(Error::Plan(missing));
    }
    let mut keys = String::new();
    if let Some(key) = &options.key {
        keys += &Key::read(key)?.public()?;
    }
    for path in &ramroot.trust {
        let path = definition.host_path(path);
        keys += &std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    }
    let mut settings = toml::Table::new();
    let mut set = |name: &str, value: &str| settings.insert(name.to_owned(), value.into());
    set("system", definition.name.as_str());
    set("version", definition.version.as_deref().unwrap_or_default());
    if let Some(server) = &ramroot.server {
        set("server", server);
    }
    first.insert(SETTINGS, Node::file(settings.to_string()).because("which root it leads to"))?;
    first.insert(KEYS, Node::file(keys).because("whom it believes what the root is"))?;
    Ok(first)
}

/// The kernel's name beside the initramfs.
pub(super) fn kernel_name(system: &str) -> String {
    format!("{system}-vmlinuz")
}

/// The script that boots what lies beside it. `base-url` may be set before; it is a directory.
pub(super) fn script(definition: &Definition, formats: &[Format]) -> Result<String> {
    const BASE: &str = "${base-url}";
    let name = definition.name.as_str();
    let wrong =
        |error: kiln_netboot::NoScript| Error::input(format!("{name}.ipxe"), error.to_string());
    let mut script = Script::new(format!("{BASE}{}", kernel_name(name)));
    script.initrds = vec![format!("{BASE}/{}", Format::Netboot.file_name(name))];
    let words = definition.kernel.iter().flat_map(|kernel| kernel.command_line.split_whitespace());
    script.arguments = words.map(str::to_owned).collect();
    // the smallest of what is there
    let root = [Format::RootTarXz, Format::RootTarZst, Format::RootErofs];
    if let (Some(_), Some(root)) =
        (&definition.ramroot, root.iter().find(|it| formats.contains(it)))
    {
        script.arguments.push(format!("ramroot={BASE}{}", root.file_name(name)));
    }
    script.arguments.push("BOOTIF=01-${netX/mac:hexhyp}".into());
    let text = script.text().map_err(wrong)?.replace(&format!("{BASE}/"), BASE);
    let server = definition.ramroot.as_ref().and_then(|ramroot| ramroot.server.as_ref());
    let server = server.map_or("http://${next-server}/", |server| server.value.as_str());
    let server = format!("{}/", server.trim_end_matches('/'));
    let start = format!("#!ipxe\nisset ${{base-url}} || set base-url {server}\n");
    Ok(text.replacen("#!ipxe\n", &start, 1))
}

/// Writes a root and its list.
pub(super) fn write(
    definition: &Definition,
    options: &Options,
    plan: &Plan,
    format: Format,
    path: &Path,
    progress: &Progress,
) -> Result<()> {
    let refused = |what: &str| Error::input(path.display().to_string(), what);
    let kind = format.root().ok_or_else(|| refused("it is no root"))?;
    let key = options.key.as_deref().ok_or_else(|| refused("there is no key to sign it with"))?;
    let key = Key::read(key)?;
    let ramroot = definition.ramroot.as_ref().ok_or_else(|| refused("there is no [ramroot]"))?;
    let tree = without_devices(&plan.tree)?;
    let kept = packed(definition, options, plan, &tree, kind, progress)?;
    let chunk = ramroot.chunk.as_ref().and_then(|chunk| u32::try_from(chunk.value.0).ok());
    let mut chunker = Chunker::new(BufWriter::new(cache::beside(path)?), chunk.unwrap_or(CHUNK));
    let mut from = File::open(&kept).map_err(Error::io("open", &kept))?;
    io::copy(&mut from, &mut chunker).map_err(Error::io("write", path))?;
    let version = definition.version.as_deref().unwrap_or_default();
    let name = format.file_name(&definition.name);
    let listed = chunker.finish((&definition.name, version), (&name, kind), memory(&tree));
    let (writer, list) = listed.map_err(|error| Error::input(name.clone(), error.to_string()))?;
    let file = writer.into_inner();
    let file = file.map_err(|error| Error::io("write", path)(error.into_error()))?;
    cache::persist(file, path)?;
    let beside = PathBuf::from(list_beside(&path.to_string_lossy()));
    cache::write_file(&beside, list.signed(|text| key.sign(text)).as_bytes())
}

/// The root as one file, which the cache keeps.
fn packed(
    definition: &Definition,
    options: &Options,
    plan: &Plan,
    tree: &Tree,
    kind: Kind,
    progress: &Progress,
) -> Result<PathBuf> {
    let compression = match kind {
        Kind::TarZst => Compression::Zstd { level: ZSTD_LEVEL },
        _ => Compression::None,
    };
    let key = image::key(tree, &plan.records, compression);
    options.cache.get_or_make(format!("root/{FORMAT}-{key}.{kind}"), |made| {
        let step = progress.step(format!("compressing the root ({kind})"));
        let file = File::create(made).map_err(Error::io("create", made))?;
        match kind {
            Kind::Erofs => {
                drop(file);
                let mut volume = erofs::Options::default();
                volume.seed = definition.seed();
                volume.uuid = Some(definition.seed().guid("ramroot"));
                volume.build_time = Some(u32::try_from(definition.epoch).unwrap_or(u32::MAX));
                let spool =
                    File::options().read(true).write(true).create(true).truncate(true).open(made);
                let spool = spool.map_err(Error::io("create", made))?;
                erofs::Compressed::plan(tree, &volume, disk::lz4_high(), spool)?.into_image()?;
            }
            Kind::TarXz => {
                let mut xz = XzOptions::with_preset(XZ_PRESET);
                xz.set_block_size(NonZeroU64::new(XZ_BLOCK));
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                let threads = u32::try_from(threads).unwrap_or(1);
                let wrong = |error| Error::io("write", made)(error);
                let writer = XzWriterMt::new(BufWriter::new(file), xz, threads).map_err(wrong)?;
                let writer = archive::write(tree, writer)?;
                let mut writer = writer.finish().map_err(wrong)?;
                writer.flush().map_err(wrong)?;
            }
            _ => {
                let encoder = Encoder::new(BufWriter::new(file), compression)?;
                let mut writer = archive::write(tree, encoder)?.finish()?;
                writer.flush().map_err(Error::io("write", made))?;
            }
        }
        step.done();
        Ok(())
    })
}

/// The kernel makes devices in a directory of its own, which is mounted there.
fn without_devices(tree: &Tree) -> Result<Tree> {
    let mut root = tree.clone();
    let is_device = |node: &Node| {
        use kiln_tree::Kind::{BlockDevice, CharDevice};
        matches!(node.kind, CharDevice { .. } | BlockDevice { .. })
    };
    let devices: Vec<TreePath> =
        tree.iter().filter(|(_, node)| is_device(node)).map(|(path, _)| path.clone()).collect();
    for path in &devices {
        root.remove(path);
    }
    Ok(root)
}

/// What its files take in a tmpfs.
fn memory(tree: &Tree) -> u64 {
    let own = |node: &Node| match &node.kind {
        kiln_tree::Kind::File(source) => source.len().next_multiple_of(PAGE),
        _ => 0,
    };
    tree.iter().map(|(_, node)| own(node) + INODE).sum()
}
