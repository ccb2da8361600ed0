//! Our images in the hands of `actool`, appc's own tool, and its images in ours.

use std::path::Path;
use std::process::{Command, Output};

use kiln_oci::appc::{self, Aci, ImageManifest, Isolator, Packing};
use kiln_oci::host::Unpack;
use kiln_oci::layer::{Devices, Options};
use kiln_oci::{Compression, Limits};
use kiln_tree::{Kind, Metadata, Node, Tree, TreePath};

use super::actool_program::actool;
use super::archives::{MANIFEST, alone};
use super::conversions;
use super::manifests::{identifier, image};
use crate::trees::{Archive, canonical, in_memory};

/// All that actool knows: an isolator that it does not know is an error for it, though the specification
/// leaves that to executors.
fn manifest() -> ImageManifest {
    let mut manifest = image();
    let app = manifest.app.as_mut().unwrap();
    app.isolators.retain(|isolator| {
        !matches!(isolator, Isolator::Other { .. } | Isolator::ApparmorProfile(_))
    });
    assert!(app.isolators.len() > 9, "{:?}", app.isolators);
    manifest
}

fn run(program: &Path, arguments: &[&str], file: &Path) -> Output {
    Command::new(program).args(arguments).arg(file).output().unwrap()
}

fn root() -> Tree {
    let mut tree = Tree::new();
    let mut meta = Metadata::new(0o4755).owned_by(3_000_000, 5).modified_at(1_700_000_000);
    meta.xattrs.insert(b"user.some".to_vec(), vec![0, 10, 255]);
    tree.insert("usr/bin/worker", Node::file(vec![7; 70_000]).with(meta)).unwrap();
    let worker = TreePath::new("usr/bin/worker").unwrap();
    tree.insert("bin/worker", Node::hardlink(worker)).unwrap();
    let long = format!("{}/{}", "d".repeat(90), "n".repeat(120));
    tree.insert(&long, Node::file("long\n")).unwrap();
    tree.insert("link", Node::symlink("/usr/bin/worker")).unwrap();
    tree.insert("pipe", Node::new(Kind::Fifo)).unwrap();
    tree.insert("null", Node::char_device(1, 3)).unwrap();
    tree
}

#[test]
fn actool_accepts_what_we_write_and_reads_the_same_manifest() {
    let Some(actool) = actool() else { return };
    let work = tempfile::tempdir().unwrap();
    let (converted, _) =
        appc::from_image(&conversions::whole(), &conversions::root(), identifier("x")).unwrap();
    for (manifest, compression) in [
        (manifest(), Compression::None),
        (manifest(), Compression::Gzip),
        (converted, Compression::Gzip),
    ] {
        let path = work.path().join("x.aci");
        let out = std::fs::File::create(&path).unwrap();
        appc::write(&manifest, &root(), compression, out).unwrap();
        let output = run(&actool, &["--debug", "validate", "--type=appimage"], &path);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("valid app container image"), "{said}");
        let output = run(&actool, &["cat-manifest"], &path);
        assert!(output.status.success());
        let theirs = ImageManifest::parse("actool", &output.stdout).unwrap();
        assert_eq!(theirs, manifest);
    }
}

#[test]
fn actool_refuses_what_we_refuse() {
    let Some(actool) = actool() else { return };
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("x.aci");
    let start = || Archive::default().file("manifest", MANIFEST).directory("rootfs");
    for (archive, sound) in [
        (start().file("rootfs/a", ""), true),
        (start().file("other", ""), false),
        (start().file("rootfs/a", "").file("rootfs/a", ""), false),
        (Archive::default().directory("rootfs"), false),
        (Archive::default().file("manifest", MANIFEST), false),
        (Archive::default().file("manifest", "{}").directory("rootfs"), false),
        (Archive::default().file("manifest", MANIFEST).file("rootfs", ""), false),
    ] {
        std::fs::write(&path, archive.bytes()).unwrap();
        let theirs = run(&actool, &["validate", "--type=appimage"], &path).status.success();
        let ours = Aci::open(&path, &Limits::default());
        assert_eq!((ours.is_ok(), theirs), (sound, sound), "{ours:?}");
    }
}

#[test]
fn we_read_what_actool_builds() {
    let Some(actool) = actool() else { return };
    let work = tempfile::tempdir().unwrap();
    let layout = work.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let mut manifest = manifest();
    (manifest.dependencies, manifest.path_whitelist) = (Vec::new(), Vec::new());
    std::fs::write(layout.join("manifest"), manifest.to_bytes().unwrap()).unwrap();
    // What is there is what we unpack ourselves, times and links and all.
    let mut unpack = Unpack::default();
    unpack.owners = rustix::process::geteuid().is_root();
    unpack.layers.devices = Devices::Keep;
    let packed = appc::pack(&manifest, &root(), Compression::None).unwrap();
    alone(packed).unpack(&layout.join("rootfs"), &unpack).unwrap();
    let mut policy = kiln_tree::host::Policy::default();
    (policy.owner, policy.mtime, policy.hardlinks) = (None, None, true);
    policy.modes = kiln_tree::host::Modes::Keep;
    let mut expected = Tree::new();
    kiln_tree::host::import(&mut expected, &layout.join("rootfs"), "", &policy).unwrap();
    let mut expected = in_memory(&canonical(&expected));
    let found = std::fs::symlink_metadata(layout.join("rootfs")).unwrap();
    use std::os::unix::fs::MetadataExt;
    let top = Metadata::new(0o755).owned_by(found.uid(), found.gid());
    expected.set_root(top.modified_at(u32::try_from(found.mtime()).unwrap()));

    let mut ids = Vec::new();
    for (name, option, packing) in [
        ("plain.aci", "--no-compression", Packing::Plain),
        ("gzip.aci", "--overwrite", Packing::Gzip),
    ] {
        let path = work.path().join(name);
        let layout = layout.display().to_string();
        let output = run(&actool, &["build", option, &layout], &path);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let image = Aci::open(&path, &Limits::default()).unwrap();
        assert_eq!(image.packing, packing);
        assert_eq!(*image.manifest, manifest);
        ids.push(image.id.clone());
        let mut options = Options::default();
        options.devices = Devices::Keep;
        let mut found = in_memory(&alone(image).tree(&options, None).unwrap());
        // It does not write attributes.
        for (_, node) in found.iter_mut() {
            assert!(node.meta.xattrs.is_empty());
        }
        assert_eq!(found, expected);
    }
    let sum = Command::new("sha512sum").arg(work.path().join("plain.aci")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(ids[0].as_str(), format!("sha512-{}", &sum[..128]));
    assert_eq!(ids[1], ids[0]);
}
