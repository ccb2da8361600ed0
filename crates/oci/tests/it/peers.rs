//! Our images in the hands of skopeo, umoci, GNU tar and a runtime, and theirs in ours.

use std::path::Path;
use std::process::Command;

use kiln_oci::host::{self, Unpack};
use kiln_oci::layer::Options;
use kiln_oci::{Compression, Image, Layer, Layout, Limits, archive, docker, platform};
use kiln_tree::Tree;

use crate::debian::tool;
use crate::images::{image, second};
use crate::trees::in_memory;

fn amd64() -> kiln_oci::Platform {
    platform("linux/amd64").unwrap()
}

fn tree(image: &Image) -> Tree {
    in_memory(&image.tree(&Options::default(), None).unwrap())
}

/// What the host has, owners and times included.
fn imported(directory: &Path) -> Tree {
    let mut policy = kiln_tree::host::Policy::default();
    (policy.owner, policy.mtime, policy.hardlinks) = (None, None, true);
    policy.modes = kiln_tree::host::Modes::Keep;
    let mut tree = Tree::new();
    kiln_tree::host::import(&mut tree, directory, "", &policy).unwrap();
    in_memory(&tree)
}

#[test]
fn skopeo_reads_what_we_write_and_we_read_what_it_writes() {
    let Some(skopeo) = tool("skopeo") else { return };
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).display().to_string();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let image = image(compression);
        let expected = tree(&image);
        let name = |what: &str| at(&format!("{what}-{compression:?}"));
        Layout::create(name("layout"), Limits::default())
            .unwrap()
            .add(&image, Some("app:1"))
            .unwrap();
        let tar = archive::write(Vec::new(), &[(Some("app:1"), &image)]).unwrap();
        std::fs::write(name("tar"), tar).unwrap();
        let sources =
            [format!("oci:{}:app:1", name("layout")), format!("oci-archive:{}:app:1", name("tar"))];
        for source in &sources {
            let said = skopeo.expect(&["inspect", "--raw", source]);
            assert_eq!(said.as_bytes(), image.manifest_bytes, "{source}");
            let said = skopeo.expect(&["inspect", source]);
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            assert_eq!(said["Digest"], image.digest().as_ref(), "{source}");
            assert_eq!(said["Labels"]["label-7"], "7");
            assert_eq!(said["Created"], "2023-11-14T22:13:20Z");
        }
        // It reads every byte on the way, and checks it.
        let copied = name("copied");
        skopeo.expect(&["--insecure-policy", "copy", &sources[0], &format!("oci:{copied}:x")]);
        let found =
            Layout::open(&copied, Limits::default()).unwrap().image(Some("x"), &amd64()).unwrap();
        // It compresses layers that are not.
        if compression != Compression::None {
            assert_eq!(found.manifest_bytes, image.manifest_bytes);
        }
        assert_eq!(found.config_bytes, image.config_bytes);
        assert_eq!(tree(&found), expected);

        // Debian 12's knows no layers of zstd in images of Docker.
        if compression == Compression::Zstd {
            continue;
        }
        let theirs = name("theirs.tar");
        skopeo.expect(&[
            "--insecure-policy",
            "copy",
            &sources[1],
            &format!("docker-archive:{theirs}:app:2"),
        ]);
        let found = docker::Archive::open(&theirs, Limits::default()).unwrap();
        assert_eq!(found.tags().concat().len(), 1);
        let found = found.image(None).unwrap();
        assert_eq!(found.config_bytes, image.config_bytes);
        assert_eq!(tree(&found), expected);

        for form in [docker::Form::Legacy, docker::Form::Layout] {
            let other = second_image();
            let images = [(vec!["app:1".to_owned()], &image), (vec!["other:1".to_owned()], &other)];
            let bytes = docker::write(Vec::new(), &images, form).unwrap();
            let path = name("images.tar");
            std::fs::write(&path, bytes).unwrap();
            for (tag, image) in [("app:1", &image), ("other:1", &other)] {
                let back = at(&format!("back-{compression:?}-{form:?}-{}", tag.len()));
                let source = format!("docker-archive:{path}:{tag}");
                skopeo.expect(&["--insecure-policy", "copy", &source, &format!("oci:{back}:x")]);
                let layout = Layout::open(&back, Limits::default()).unwrap();
                let found = layout.image(Some("x"), &amd64()).unwrap();
                // It writes the configuration anew, in an order of its own.
                let parts = |bytes: &[u8]| {
                    let config: serde_json::Value = serde_json::from_slice(bytes).unwrap();
                    ["config", "rootfs", "created", "architecture", "os"]
                        .map(|key| config[key].clone())
                };
                assert_eq!(parts(&found.config_bytes), parts(&image.config_bytes));
                assert_eq!(tree(&found), tree(image));
            }
        }
    }
}

fn second_image() -> Image {
    let mut tree = second();
    tree.insert("more", kiln_tree::Node::file("more")).unwrap();
    let layer = Layer::pack(&tree, Compression::Gzip).unwrap();
    Image::build(vec![layer], &kiln_oci::Settings::default()).unwrap()
}

#[test]
fn umoci_unpacks_the_same_tree() {
    let Some(umoci) = tool("umoci") else { return };
    let root = rustix::process::geteuid().is_root();
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let image = image(Compression::Gzip);
    Layout::create(at("layout"), Limits::default()).unwrap().add(&image, Some("app")).unwrap();
    let reference = format!("{}:app", at("layout").display());
    let ours = |name: &str, owners: bool| {
        let mut options = Unpack::default();
        options.owners = owners;
        host::unpack(&image, &at(name), &options).unwrap();
        imported(&at(name))
    };
    let mut arguments = vec!["unpack", "--image", &reference];
    if !root {
        arguments.push("--rootless");
    }
    let theirs = at("theirs").display().to_string();
    arguments.push(&theirs);
    umoci.expect(&arguments);
    let mut theirs = imported(&at("theirs/rootfs"));
    let mut found = ours("ours", root);
    // It leaves the root as it was made, of which no layer says anything.
    theirs.set_root(found.root().clone());
    // Directories that no layer mentions have the time at which they were made.
    for tree in [&mut theirs, &mut found] {
        for (path, node) in tree.iter_mut() {
            if node.is_directory() && path.as_bytes() != b"app" || !root {
                node.meta.mtime = 0;
            }
        }
    }
    assert_eq!(found, theirs);

    // What it makes of a changed root is a layer of ours.
    std::fs::write(at("theirs/rootfs/etc/new"), "new").unwrap();
    std::fs::remove_file(at("theirs/rootfs/etc/passwd")).unwrap();
    let bundle = at("theirs").display().to_string();
    umoci.expect(&["repack", "--image", &format!("{}:more", at("layout").display()), &bundle]);
    let layout = Layout::open(at("layout"), Limits::default()).unwrap();
    let more = layout.image(Some("more"), &amd64()).unwrap();
    assert_eq!(more.layers.len(), 3);
    let more = tree(&more);
    assert!(more.contains("etc/new") && !more.contains("etc/passwd") && more.contains("app/data"));
    // The image that is still there is as it was.
    assert_eq!(layout.image(Some("app"), &amd64()).unwrap().digest(), image.digest());
}

#[test]
fn gnu_tar_lists_what_is_in_a_layer() {
    let work = tempfile::tempdir().unwrap();
    let mut tree = second();
    let long = format!("{}/{}", "d".repeat(90), "n".repeat(120));
    let mut meta = kiln_tree::Metadata::new(0o4755).owned_by(3_000_000, 5).modified_at(86_400);
    meta.xattrs.insert(b"user.some".to_vec(), vec![0, 10, 255]);
    tree.insert(&long, kiln_tree::Node::file("long\n").with(meta)).unwrap();
    let path = work.path().join("layer.tar");
    Layer::pack_file(&tree, Compression::None, &path).unwrap();
    let output = Command::new("tar")
        .args([
            "--list",
            "--verbose",
            "--numeric-owner",
            "--utc",
            "--xattrs",
            "--quoting-style=escape",
            "--file",
        ])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().count(), tree.len());
    for line in [
        "-rwsr-xr-x* 3000000/5 ",
        " usr/bin -> ../bin",
        " bin/sh link to bin/ash",
        "1970-01-02 00:00",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// Has crun run the bundle of a directory.
#[cfg(feature = "bundle")]
pub(crate) fn run_bundle(crun: &crate::debian::Tool, bundle: &Path) -> std::process::Output {
    // Another run of a test may be under way.
    let name = bundle.file_name().unwrap().to_string_lossy().replace('.', "");
    let id = format!("kiln-oci-{}-{name}", std::process::id());
    // A host may have its control groups in the way of before, which crun refuses.
    let script = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
    let libraries = crun.libraries();
    Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", script, "sh", "env"])
        .arg(format!("LD_LIBRARY_PATH={}", libraries.to_string_lossy()))
        .arg(&crun.program)
        .args(["--root"])
        .arg(bundle.join("state"))
        .args(["--cgroup-manager=disabled", "run", "--bundle"])
        .arg(bundle)
        .arg(id)
        .output()
        .unwrap()
}

#[cfg(feature = "bundle")]
#[test]
fn crun_runs_a_bundle_of_an_image() {
    use kiln_oci::bundle::{self, Mount, Users};

    let (Some(crun), Some(busybox)) = (tool("crun"), tool("busybox")) else { return };
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "a container is made by root");
        eprintln!("skipped: crun (not root)");
        return;
    }
    let mut tree = Tree::new();
    let program = std::fs::read(&busybox.program).unwrap();
    tree.insert("bin/busybox", kiln_tree::Node::executable(program)).unwrap();
    tree.insert("bin/sh", kiln_tree::Node::symlink("busybox")).unwrap();
    tree.insert("etc/passwd", kiln_tree::Node::file("web:x:33:34::/srv:\n")).unwrap();
    tree.insert("etc/group", kiln_tree::Node::file("adm:x:4:web\n")).unwrap();
    for directory in ["proc", "dev", "sys", "srv", "data"] {
        tree.insert(directory, kiln_tree::Node::directory()).unwrap();
    }
    let layer = Layer::pack(&tree, Compression::Gzip).unwrap();
    let mut settings = kiln_oci::Settings::default();
    settings.entrypoint = vec!["/bin/sh".into(), "-c".into()];
    let script = "/bin/busybox id; /bin/busybox pwd; /bin/busybox cat /data/file; \
                  echo $GREETING $HOME; /bin/busybox hostname; \
                  /bin/busybox touch /data/x 2>/dev/null || echo read-only; exit 7";
    settings.cmd = vec![script.into()];
    settings.env = vec!["GREETING=hello".into()];
    settings.user = Some("web".into());
    settings.working_dir = Some("/srv".into());
    let image = Image::build(vec![layer], &settings).unwrap();

    let work = tempfile::tempdir().unwrap();
    let data = work.path().join("shared");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "from the host\n").unwrap();
    let mut unpack = Unpack::default();
    unpack.owners = true;
    let tree = host::unpack(&image, &work.path().join("rootfs"), &unpack).unwrap();
    let mut options = bundle::Options::default();
    options.mounts = vec![Mount::bind(data.display().to_string(), "/data", true)];
    options.hostname = Some("box".into());
    let users = Users::of_tree(&tree).unwrap();
    let (_, config) = bundle::spec(&image.config, &users, &options).unwrap();
    std::fs::write(work.path().join("config.json"), config).unwrap();
    let output = run_bundle(&crun, work.path());
    let (said, wrong) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    let expected =
        "uid=33(web) gid=34 groups=4(adm)\n/srv\nfrom the host\nhello /srv\nbox\nread-only\n";
    assert_eq!((said.as_str(), output.status.code()), (expected, Some(7)), "{wrong}");
}
