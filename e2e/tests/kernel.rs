//! A kernel as the judge of our archives: what it unpacks is what was put in.

use std::time::Duration;

use kiln::qemu::{DirectKernel, Machine};
use kiln::{Cache, debian};
use kiln_e2e::alone;
use kiln_initramfs::{Compression, write_image};
use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};

/// Lists everything of interest, and powers the machine off.
const SCRIPT: &str = "#!/bin/busybox sh
/bin/busybox find /tree | /bin/busybox sort | while read -r path; do
  /bin/busybox stat -c 'entry %n %f %u %g %h %t:%T %s' \"$path\"
done
for file in /tree/*/data /tree/linked; do /bin/busybox sha256sum \"$file\"; done
echo the end
/bin/busybox poweroff -f
";

fn tree(busybox: Source) -> anyhow::Result<Tree> {
    let mut tree = Tree::new();
    tree.insert("bin/busybox", Node::executable(busybox))?;
    tree.insert("init", Node::executable(SCRIPT))?;
    tree.insert("dev/console", Node::char_device(5, 1))?;
    let data: Vec<u8> =
        (0..300_001_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    tree.insert("tree/a/data", Node::file(data).with(Metadata::new(0o4711).owned_by(7, 8)))?;
    tree.insert("tree/linked", Node::hardlink(TreePath::new("tree/a/data")?))?;
    tree.insert("tree/b/third", Node::hardlink(TreePath::new("tree/a/data")?))?;
    tree.insert("tree/b/empty", Node::file(Vec::new()))?;
    tree.insert("tree/sticky", Node::directory().with(Metadata::new(0o1777)))?;
    tree.insert("tree/symlink", Node::symlink("a/data"))?;
    tree.insert("tree/fifo", Node::new(Kind::Fifo))?;
    tree.insert("tree/block", Node::new(Kind::BlockDevice { major: 259, minor: 300 }))?;
    Ok(tree)
}

/// What the guest's script says of a node: type and mode in hexadecimal, owner, links, device
/// numbers in hexadecimal, size.
fn expected(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, node) in tree {
        if !path.as_bytes().starts_with(b"tree/") {
            continue;
        }
        let target = match &node.kind {
            Kind::Hardlink(target) => tree.get(target).unwrap_or(node),
            _ => node,
        };
        let (kind, device, size) = match &target.kind {
            Kind::File(source) => (0o100_000, "0:0".to_owned(), Some(source.len())),
            Kind::Symlink(to) => (0o120_000, "0:0".to_owned(), Some(to.len() as u64)),
            Kind::Fifo => (0o010_000, "0:0".to_owned(), Some(0)),
            Kind::BlockDevice { major, minor } => {
                (0o060_000, format!("{major:x}:{minor:x}"), Some(0))
            }
            _ => (0o040_000, "0:0".to_owned(), None),
        };
        let links = match &target.kind {
            Kind::File(source) if !source.is_empty() => "3",
            Kind::Directory => "",
            _ => "1",
        };
        let meta = &target.meta;
        let mode = kind | u32::from(meta.mode);
        // Sizes and links of directories are the file system's affair.
        let start = format!("entry /{path} {mode:x} {} {} {links}", meta.uid, meta.gid);
        lines.push(match size {
            Some(size) => format!("{start} {device} {size}"),
            None => start,
        });
    }
    lines
}

fn unpacks(compression: Compression) -> anyhow::Result<()> {
    let cache = Cache::of_workspace();
    let kernel = debian::kernel(&cache, "linux-image-amd64")?;
    let busybox = debian::sysroot(&cache, &["busybox-static"])?.join("bin/busybox");
    let busybox = Source::Bytes(std::fs::read(busybox)?.into());
    let tree = tree(busybox)?;
    let directory = tempfile::tempdir()?;
    let initramfs = directory.path().join("initramfs");
    std::fs::write(&initramfs, write_image(&tree, &compression, Vec::new())?)?;

    let mut machine = Machine::default();
    machine.nic = None;
    machine.memory = 512;
    let command_line = "console=ttyS0 quiet panic=-1".to_owned();
    machine.kernel = Some(DirectKernel { kernel: kernel.image, initramfs, command_line });
    let mut vm = machine.start()?;
    vm.wait_for("the end", Duration::from_secs(240))?;
    let said: Vec<String> = vm.console().lines().into_iter().map(|line| line.text).collect();
    for line in expected(&tree) {
        assert!(said.iter().any(|said| said.starts_with(&line)), "{line:?} is not in {said:#?}");
    }
    let Some(Kind::File(data)) = tree.get(&TreePath::new("tree/a/data")?).map(|node| &node.kind)
    else {
        anyhow::bail!("the tree has no data")
    };
    let digest = kiln::digest::of_bytes(&data.read()?);
    let sums = said.iter().filter(|line| line.starts_with(&digest)).count();
    assert_eq!(sums, 2, "{said:#?}");
    vm.wait_exit(Duration::from_secs(60))?;
    Ok(())
}

#[test]
fn uncompressed() -> anyhow::Result<()> {
    unpacks(Compression::None)
}

#[test]
fn gzip() -> anyhow::Result<()> {
    unpacks(Compression::GZIP)
}

#[test]
fn zstd() -> anyhow::Result<()> {
    unpacks(Compression::Zstd { level: 19 })
}

#[test]
fn a_guest_that_dies_is_told_with_its_last_words() -> anyhow::Result<()> {
    let mut tree = Tree::new();
    tree.insert("init", Node::executable("#!/nothing\n"))?;
    let directory = tempfile::tempdir()?;
    let kernel = debian::kernel(&Cache::of_workspace(), "linux-image-amd64")?.image;
    let machine = alone::machine(kernel, &tree, directory.path())?;
    let mut vm = machine.start()?;
    let died = vm.wait_for("something that no guest says", Duration::from_secs(240));
    let Err(kiln::Error::GuestDied { console, .. }) = died else {
        anyhow::bail!("it did not die: {died:?}")
    };
    assert!(console.contains("Kernel panic"), "{console}");
    Ok(())
}
