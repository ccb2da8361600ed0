//! File systems of ours mounted by the kernel they are for: everything that a tree says is what a
//! program in the guest sees, what it writes leaves a clean volume, and one grows while it is mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Cursor, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use kiln::qemu::{Disk, Format, Machine};
use kiln::{Cache, Progress, debian, guest, kernel};
use kiln_diskimg::container::{self, Window};
use kiln_diskimg::ext4::{FileKind, Reader};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{
    ByteLen, Content, DiskPlan, Layout, Limits, Partition, SECTOR, Seed, Size, Table, erofs, ext4,
    fat, gpt, iso, squashfs,
};
use kiln_e2e::{LONG, alone, tool};
use kiln_e2e_init::{END, Entry, LINES, digest};
use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};

/// What a file system holds of a tree.
#[derive(Debug, Clone, Copy)]
struct Holds {
    attributes: bool,
    /// Whether two names of a file have one inode.
    inodes: bool,
}

/// Names in one directory.
const MANY: u32 = 5000;
/// The same where Linux looks each name up by reading the directory from its start (ISO 9660, FAT):
/// without acceleration five thousand take it many minutes.
const SOME: u32 = 800;

const ALL: Holds = Holds { attributes: true, inodes: true };

fn attributes(mut meta: Metadata, all: &[(&str, &[u8])]) -> Metadata {
    for (name, value) in all {
        meta.xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
    }
    meta
}

/// A POSIX access list as getxattr(2) gives it.
fn access_list() -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 6, 1000),
        (4, 5, u32::MAX),
        (16, 7, u32::MAX),
        (32, 4, u32::MAX),
    ] {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    list
}

/// A file of the host that is mostly holes.
fn sparse(directory: &Path, name: &str, len: u64, at: &[u64]) -> Result<Source> {
    let path = directory.join(name);
    let file = File::create(&path)?;
    file.set_len(len)?;
    for at in at {
        file.write_all_at(format!("data at {at}\n").as_bytes(), *at)?;
    }
    Ok(Source::File { path, len })
}

/// Files and directories, as every file system holds them.
fn plain(directory: &Path, names: u32) -> Result<Tree> {
    let mut tree = Tree::new();
    tree.set_root(Metadata::new(0o750).owned_by(7, 8).modified_at(1_600_000_000));
    let mut state = 1_u32;
    let noise: Vec<u8> = (0..6_u32 << 20)
        .map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at & 0x4_0000 == 0 { state.to_be_bytes()[0] } else { (at >> 2).to_be_bytes()[2] }
        })
        .collect();
    let meta = Metadata::new(0o644).modified_at(1_234_567_890);
    tree.insert("large", Node::file(noise).with(meta))?;
    let meta = Metadata::new(0o600).owned_by(1000, 100).modified_at(1_700_000_000);
    let holes = sparse(directory, "sparse", (64 << 20) + 77, &[0, 16 << 20, 64 << 20])?;
    tree.insert("sparse", Node::file(holes).with(meta))?;
    tree.insert("empty", Node::file(Vec::new()).with(Metadata::new(0o444)))?;
    for len in [1, 511, 4095, 4096, 4097, 131_072, 131_073] {
        let bytes: Vec<u8> = (0..251).cycle().take(len).collect();
        tree.insert(format!("lengths/{len}"), Node::file(bytes))?;
    }
    let late = Metadata::new(0o640).modified_at(4_000_000_000);
    tree.insert("after 2038", Node::file("later\n").with(late))?;
    tree.insert("etc/hostname", Node::file("kiln\n").with(Metadata::new(0o644).modified_at(2)))?;
    tree.insert("Grüße aus Zürich 你好.text", Node::file("hello\n"))?;
    tree.insert("Ελλάδα/файл 🦀", Node::file("names in UTF-8\n"))?;
    tree.insert("empty directory", Node::directory().with(Metadata::new(0o700).modified_at(60)))?;
    for at in 0..names {
        let meta = Metadata::new(0o644).modified_at(1_500_000_000 + at);
        tree.insert(
            format!("many/name {at} of very many"),
            Node::file(format!("{at}\n")).with(meta),
        )?;
    }
    let mut deep = String::from("deep");
    for at in 0..24 {
        deep = format!("{deep}/d{at:02}");
    }
    tree.insert(format!("{deep}/at the bottom"), Node::file("deep\n"))?;
    Ok(tree)
}

/// The same with what only file systems for Unix hold.
fn rich(directory: &Path, names: u32) -> Result<Tree> {
    let mut tree = plain(directory, names)?;
    let program = vec![0x7f; 70_000];
    let meta = Metadata::new(0o4755).owned_by(0, 100_000).modified_at(1_650_000_001);
    tree.insert("usr/bin/sudo", Node::file(program).with(meta))?;
    tree.insert("usr/bin/wall", Node::file("wall").with(Metadata::new(0o2755).owned_by(0, 5)))?;
    let far = Metadata::new(0o600).owned_by(4_000_000_000, 3_000_000_000).modified_at(u32::MAX);
    tree.insert("far away", Node::file("2106\n").with(far))?;
    tree.insert("tmp", Node::directory().with(Metadata::new(0o1777)))?;
    // The longest that Linux reads from an ISO.
    tree.insert("n".repeat(253), Node::file("a long name\n"))?;
    for len in [1_usize, 59, 60, 255, 1000, 4000] {
        let meta = Metadata::new(0o777).owned_by(3, 4).modified_at(1_111_111_111);
        let target = &"x/".repeat(len.div_ceil(2))[..len];
        tree.insert(format!("links/{len}"), Node::symlink(target).with(meta))?;
    }
    tree.insert("dev/console", Node::char_device(5, 1).with(Metadata::new(0o620).owned_by(0, 5)))?;
    tree.insert("dev/nvme", Node::new(Kind::BlockDevice { major: 259, minor: 300 }))?;
    tree.insert("dev/initctl", Node::new(Kind::Fifo))?;
    tree.insert("dev/log", Node::new(Kind::Socket).with(Metadata::new(0o666)))?;
    for name in ["usr/bin/sudoedit", "a name of sudo", "zz"] {
        tree.insert(name, Node::hardlink(TreePath::new("usr/bin/sudo")?))?;
    }
    let huge = sparse(
        directory,
        "huge",
        (4 << 30) + 4097,
        &[0, 2 << 30, (4 << 30) - 5, (4 << 30) + 4000],
    )?;
    tree.insert("huge", Node::file(huge))?;
    Ok(tree)
}

/// The same with extended attributes.
fn richest(directory: &Path) -> Result<Tree> {
    let mut tree = rich(directory, MANY)?;
    tree.insert("N".repeat(255), Node::file("a longer name\n"))?;
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let meta = attributes(
        Metadata::new(0o755),
        &[("security.capability", &capability), ("user.note", b"a note"), ("user.empty", b"")],
    );
    tree.insert("usr/bin/ping", Node::file("ping").with(meta))?;
    let long = vec![b'v'; 3000];
    let list = access_list();
    let meta = attributes(
        Metadata::new(0o770),
        &[
            ("user.long", &long),
            ("trusted.overlay.opaque", b"y"),
            ("system.posix_acl_access", &list),
            ("security.selinux", b"system_u:object_r:etc_t:s0\0"),
        ],
    );
    tree.insert("shared/file", Node::file("f").with(meta.clone()))?;
    let meta = attributes(meta, &[("system.posix_acl_default", &list)]);
    tree.insert("shared/directory", Node::directory().with(meta))?;
    Ok(tree)
}

/// The same without access lists, which SquashFS has not.
fn without_access_lists(tree: &Tree) -> Result<Tree> {
    let mut without = Tree::new();
    without.set_root(tree.root().clone());
    for (path, node) in tree {
        let mut node = node.clone();
        node.meta.xattrs.retain(|name, _| !name.starts_with(b"system."));
        without.insert(path.as_bytes(), node)?;
    }
    Ok(without)
}

fn name_of(path: &TreePath) -> Vec<u8> {
    if path.is_root() { b".".to_vec() } else { path.as_bytes().to_vec() }
}

/// What the guest is to see of a tree.
fn expected(tree: &Tree, holds: Holds) -> Result<BTreeMap<Vec<u8>, Entry>> {
    let mut names: BTreeMap<&TreePath, BTreeSet<&TreePath>> = BTreeMap::new();
    let mut subdirectories: BTreeMap<TreePath, u64> = BTreeMap::new();
    for (path, node) in tree {
        let file = match &node.kind {
            Kind::Hardlink(target) => target,
            _ => path,
        };
        names.entry(file).or_default().insert(path);
        if node.is_directory() {
            *subdirectories.entry(path.parent().unwrap_or_else(TreePath::root)).or_default() += 1;
        }
    }
    let root = Node::directory().with(tree.root().clone());
    let all =
        tree.iter().map(|(path, node)| (path.clone(), node)).chain([(TreePath::root(), &root)]);
    let mut entries = BTreeMap::new();
    for (path, node) in all {
        let (file, node) = match &node.kind {
            Kind::Hardlink(target) => (target, tree.get(target).context("a link to nothing")?),
            _ => (&path, node),
        };
        let (kind, what) = match &node.kind {
            Kind::File(Source::File { path, len }) => ('f', digest(File::open(path)?, *len)?),
            Kind::File(source) => ('f', digest(Cursor::new(source.read()?), source.len())?),
            Kind::Symlink(target) => ('l', target.escape_ascii().to_string()),
            Kind::CharDevice { major, minor } => ('c', format!("{major}:{minor}")),
            Kind::BlockDevice { major, minor } => ('b', format!("{major}:{minor}")),
            Kind::Fifo => ('p', String::new()),
            Kind::Socket => ('s', String::new()),
            _ => ('d', String::new()),
        };
        let names = names.get(file);
        let first = names.and_then(|names| names.first()).filter(|_| holds.inodes);
        let links = match kind {
            'd' => 2 + subdirectories.get(&path).copied().unwrap_or(0),
            _ => names.map_or(1, |names| names.len() as u64),
        };
        let entry = Entry {
            path: name_of(&path),
            kind,
            mode: u32::from(node.meta.mode),
            uid: node.meta.uid,
            gid: node.meta.gid,
            mtime: i64::from(node.meta.mtime),
            links,
            first_name: first.map_or_else(|| name_of(&path), |first| name_of(first)),
            what,
            xattrs: if holds.attributes { node.meta.xattrs.clone() } else { BTreeMap::new() },
        };
        entries.insert(entry.path.clone(), entry);
    }
    Ok(entries)
}

/// The same on FAT: no owners, modes as mounted, even seconds.
fn on_fat(tree: &Tree) -> Result<BTreeMap<Vec<u8>, Entry>> {
    /// The first second of 1980.
    const FIRST: i64 = 315_532_800;
    let mut entries = expected(tree, ALL)?;
    for entry in entries.values_mut() {
        entry.mode = 0o755;
        (entry.uid, entry.gid) = (0, 0);
        entry.mtime = entry.mtime.max(FIRST) & !1;
        if entry.path == b"." {
            // The root of a volume has no entry.
            entry.mtime = 0;
        }
    }
    Ok(entries)
}

/// The same on ISO 9660 with Rock Ridge: no attributes, an inode for each name. Linux before 6.13 has
/// times of 32 bits there, and a link's text is its components, after which there is no slash.
fn on_iso(tree: &Tree) -> Result<BTreeMap<Vec<u8>, Entry>> {
    let mut entries = expected(tree, Holds { attributes: false, inodes: false })?;
    for entry in entries.values_mut() {
        entry.mtime = i64::from(i32::from_ne_bytes(u32::try_from(entry.mtime)?.to_ne_bytes()));
        if entry.kind == 'l' {
            entry.what = entry.what.trim_end_matches('/').to_owned();
        }
    }
    Ok(entries)
}

/// The sections of the guest's report, by name and path.
fn sections(text: &str) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut name = None;
    for line in text.lines() {
        if line == END {
            return Ok(all);
        }
        if let Some(next) = line.strip_prefix("# ") {
            name = Some(next.to_owned());
            all.insert(next.to_owned(), BTreeMap::new());
        } else {
            let section = name.as_ref().and_then(|name| all.get_mut(name)).context("no section")?;
            let path = line.split('\t').next().unwrap_or_default();
            section.insert(path.to_owned(), line.to_owned());
        }
    }
    bail!("the report has no end")
}

fn compare(
    name: &str,
    seen: &BTreeMap<String, String>,
    tree: &BTreeMap<Vec<u8>, Entry>,
) -> Vec<String> {
    let expected: BTreeMap<String, String> =
        tree.iter().map(|(path, entry)| (path.escape_ascii().to_string(), entry.line())).collect();
    let paths: BTreeSet<&String> = seen.keys().chain(expected.keys()).collect();
    let shown = |line: Option<&String>| {
        line.map_or_else(|| "nothing".to_owned(), |line| line.chars().take(600).collect())
    };
    paths
        .into_iter()
        .filter(|path| seen.get(*path) != expected.get(*path))
        .map(|path| {
            format!(
                "{name}: saw      {}\n  expected {}",
                shown(seen.get(path)),
                shown(expected.get(path))
            )
        })
        .collect()
}

struct Disks {
    look: PathBuf,
    work: PathBuf,
    layout: Layout,
    /// What is expected of each volume.
    expected: Vec<(&'static str, BTreeMap<Vec<u8>, Entry>)>,
}

fn spool() -> Result<File> {
    Ok(tempfile::tempfile()?)
}

fn build(directory: &Path) -> Result<Disks> {
    let (plain, rich) = (plain(directory, SOME)?, rich(directory, SOME)?);
    let richest = richest(directory)?;
    let listless = without_access_lists(&richest)?;
    let data =
        |name: &str, content: Arc<dyn Content>| Partition::new(name, PartitionType::LINUX, content);
    let mut volume = ext4::Options::default();
    volume.label = Some("proof".into());
    volume.seed = Seed::new("proof");
    let mut sized = volume.clone();
    // Linux keeps 16 MiB of it to itself (`s_resv_clusters`).
    sized.size = ext4::VolumeSize::FromContent { headroom: ByteLen::mib(64) };
    let mut roomy = sized.clone();
    roomy.inodes = Some(20_000);
    let zip = erofs::Compression::new(erofs::Algorithm::Lz4);
    let mut big = zip;
    big.cluster = 64 << 10;
    let eo = erofs::Options::default();
    let fo = fat::Options::default();
    let look = DiskPlan::new(Table::Gpt, Seed::new("look"))
        // Boot code on FAT needs to know where it is: at the disk's first mebibyte.
        .with(data("fat", Arc::new(fat::Volume::plan(&plain, &fo)?)))
        .with(data("ext4", Arc::new(ext4::Volume::plan(&richest, &volume)?)))
        .with(data("erofs", Arc::new(erofs::Volume::plan(&richest, &eo)?)))
        .with(data("erofs-lz4", Arc::new(erofs::Compressed::plan(&richest, &eo, zip, spool()?)?)))
        .with(data("erofs-big", Arc::new(erofs::Compressed::plan(&richest, &eo, big, spool()?)?)))
        .with(data(
            "squashfs",
            Arc::new(squashfs::Image::plan(&listless, &squashfs::Options::default(), spool()?)?),
        ))
        .with(data("iso", Arc::new(iso::Volume::plan(&rich, &iso::Options::default())?)));
    let path = directory.join("look.raw");
    container::write_file(Format::Raw, &look.layout()?, &path)?;

    let with_attributes = expected(&richest, ALL)?;
    let mut on_ext4 = with_attributes.clone();
    let mut found = Entry::default();
    (found.path, found.first_name) = (b"lost+found".to_vec(), b"lost+found".to_vec());
    (found.kind, found.mode, found.links) = ('d', 0o700, 2);
    on_ext4.insert(found.path.clone(), found);
    on_ext4.get_mut(&b"."[..]).context("no root")?.links += 1;
    let mut small = Tree::new();
    small.insert("etc/hostname", Node::file("grown\n"))?;
    let work = DiskPlan::new(Table::Gpt, Seed::new("work"))
        .with(data("work", Arc::new(ext4::Volume::plan(&richest, &roomy)?)))
        .with(Partition::empty(LINES, PartitionType::LINUX, Size::Fixed(ByteLen::mib(32))))
        .with(data("grow", Arc::new(ext4::Volume::plan(&small, &sized)?)));
    let layout = work.layout()?;
    let work = directory.join("work.raw");
    container::write_file(Format::Raw, &layout, &work)?;
    OpenOptions::new().write(true).open(&work)?.set_len(layout.len.0 + (3 << 30))?;
    Ok(Disks {
        look: path,
        work,
        layout,
        expected: vec![
            ("ext4", on_ext4),
            ("erofs", with_attributes.clone()),
            ("erofs-lz4", with_attributes.clone()),
            ("erofs-big", with_attributes),
            ("squashfs", expected(&listless, ALL)?),
            ("iso", on_iso(&rich)?),
            ("fat", on_fat(&plain)?),
        ],
    })
}

fn machine(directory: &Path, disks: &Disks) -> Result<Machine> {
    let cache = Cache::of_workspace();
    let kernel = debian::kernel(&cache, "linux-image-amd64")?;
    let mut tree = Tree::new();
    let init = guest::build("kiln-e2e-init", "look", &Progress::on_stderr())?;
    tree.insert("init", Node::executable(std::fs::read(init)?))?;
    tree.insert("sbin/modprobe", Node::symlink("/init"))?;
    tree.insert("lib", Node::symlink("usr/lib"))?;
    let wanted: Vec<(String, String)> = [
        "virtio_pci",
        "virtio_blk",
        "ext4",
        "crc32c_generic",
        "erofs",
        "squashfs",
        "isofs",
        "vfat",
        "nls_cp437",
        "nls_utf8",
        "nls_ascii",
    ]
    .map(|name| (name.to_owned(), "the test mounts it".to_owned()))
    .into();
    let problems = kernel::add_modules(&mut tree, &kernel, &wanted, &cache)?;
    ensure!(problems.is_empty(), "{problems:?}");
    let mut machine = alone::machine(kernel.image, &tree, directory)?;
    let mut work = Disk::new(&disks.work, Format::Raw);
    work.snapshot = false;
    machine.disks = vec![Disk::new(&disks.look, Format::Raw), work];
    Ok(machine)
}

/// What the guest wrote down.
fn report(disks: &Disks) -> Result<String> {
    let place = disks.layout.partitions.iter().find(|placed| placed.partition.name == LINES);
    let place = place.context("no partition for lines")?;
    let mut file = File::open(&disks.work)?;
    file.seek(SeekFrom::Start(place.first.0 * SECTOR))?;
    let mut bytes = Vec::new();
    file.take(place.sectors * SECTOR).read_to_end(&mut bytes)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    String::from_utf8(bytes).context("the report")
}

/// What e2fsprogs say of a volume at an offset.
fn checked(program: &str, arguments: &[&str], disk: &Path, offset: u64) -> Result<Option<String>> {
    let Some(tool) = tool(program) else { return Ok(None) };
    let place = format!("{}?offset={offset}", disk.display());
    let done = Command::new(tool).args(arguments).arg(place).env("LC_ALL", "C.UTF-8").output()?;
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    ensure!(done.status.success(), "{program}: {text}");
    Ok(Some(text))
}

/// The volume that the kernel wrote to: clean, and our reader sees what the guest saw.
fn check_work(disks: &Disks, seen: &BTreeMap<String, String>) -> Result<()> {
    let place = &disks.layout.partitions[0];
    let offset = place.first.0 * SECTOR;
    if let Some(text) = checked("e2fsck", &["-fn"], &disks.work, offset)? {
        ensure!(text.contains("Pass 5") && !text.contains("Fix"), "{text}");
    }
    let mut image = container::open(File::open(&disks.work)?, &Limits::default())?;
    let mut window = Window::new(&mut image, offset, place.sectors * SECTOR);
    let mut reader = Reader::open(&mut window, &Limits::default())?;
    let found = reader.list()?;
    ensure!(found.len() + 1 == seen.len(), "{} and {} entries", found.len(), seen.len());
    let mut read = 0;
    for found in &found {
        let name = found.path.as_bytes().escape_ascii().to_string();
        let line = seen.get(&name).with_context(|| format!("the guest saw no {name}"))?;
        let mut fields = line.split('\t').skip(2);
        let rest = format!("{:o}\t{}:{}\t{}", found.mode, found.uid, found.gid, found.mtime);
        for part in rest.split('\t') {
            ensure!(fields.next() == Some(part), "{line}: we read {part}");
        }
        if found.kind == FileKind::File && found.len < 1 << 28 {
            let bytes = reader.read(found)?;
            let what = digest(Cursor::new(&bytes), found.len)?;
            ensure!(line.contains(&what), "{line}: we read {what}");
            read += 1;
        }
    }
    println!("work: {} entries, {read} files read back by our reader", found.len());
    Ok(())
}

/// The volume that grew, and the partition that it is in.
fn check_grown(disks: &Disks) -> Result<()> {
    let table = gpt::read_device(&mut File::open(&disks.work)?, &Limits::default())?;
    ensure!(table.complaints.is_empty(), "{:?}", table.complaints);
    let (_, entry) = table.entries.last().context("no partition")?;
    let len = (entry.last - entry.first + 1) * SECTOR;
    ensure!(len > 3 << 30, "the partition has {len} bytes");
    if let Some(sgdisk) = tool("sgdisk") {
        let done = Command::new(sgdisk).arg("-v").arg(&disks.work).output()?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        ensure!(text.contains("No problems found"), "{text}");
    }
    let offset = entry.first * SECTOR;
    if let Some(text) = checked("e2fsck", &["-fn"], &disks.work, offset)? {
        ensure!(text.contains("Pass 5") && !text.contains("Fix"), "{text}");
    }
    let mut image = container::open(File::open(&disks.work)?, &Limits::default())?;
    let mut window = Window::new(&mut image, offset, len);
    let mut reader = Reader::open(&mut window, &Limits::default())?;
    let info = reader.info().clone();
    ensure!(info.blocks == len / info.block.0, "{} blocks in {len} bytes", info.blocks);
    let found = reader.list()?;
    let won = found.iter().find(|found| found.path.as_bytes() == b"won").context("no won")?;
    ensure!(won.len == 600 << 20, "{won:?}");
    println!("grow: {} blocks, e2fsck finds nothing", info.blocks);
    Ok(())
}

#[test]
fn a_kernel_sees_the_tree_writes_and_grows() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let disks = build(directory.path())?;
    let mut vm = machine(directory.path(), &disks)?.start()?;
    let ended = vm.wait_exit(LONG * 2);
    let console = vm.console().tail(60);
    ended.context(console.clone())?;
    ensure!(console.contains("look: all done"), "{console}");
    for line in console.lines().filter(|line| line.contains("look: ")) {
        println!("{line}");
    }
    let seen = sections(&report(&disks)?)?;
    let mut differences = Vec::new();
    for (name, tree) in &disks.expected {
        let section = seen.get(*name).with_context(|| format!("no section {name}"))?;
        ensure!(section.len() > 800, "{name}: {} entries", section.len());
        differences.extend(compare(name, section, tree));
    }
    let count = differences.len();
    differences.truncate(30);
    ensure!(differences.is_empty(), "{count} differences\n{}", differences.join("\n"));
    check_work(&disks, seen.get("work").context("no section work")?)?;
    check_grown(&disks)
}
