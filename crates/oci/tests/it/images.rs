//! Images built, written and read again.

use kiln_oci::{
    Compression, Difference, Image, Layer, Layout, Limits, Settings, archive, docker, platform,
};
use kiln_tree::{Metadata, Node, Tree};

pub(crate) fn base() -> Tree {
    let mut tree = Tree::new();
    let old = Metadata::new(0o755).modified_at(1_600_000_000);
    tree.insert("bin/sh", Node::executable("#!/bin/busybox\n").with(old)).unwrap();
    tree.insert("etc/passwd", Node::file("root:x:0:0:root:/root:/bin/sh\n")).unwrap();
    tree.insert("etc/motd", Node::file("hello\n")).unwrap();
    tree.insert("usr/bin", Node::symlink("../bin")).unwrap();
    tree.insert("bin/ash", Node::hardlink(kiln_tree::TreePath::new("bin/sh").unwrap())).unwrap();
    tree
}

pub(crate) fn second() -> Tree {
    let mut tree = base();
    tree.remove(&kiln_tree::TreePath::new("etc/motd").unwrap());
    tree.insert(
        "app/data",
        Node::file(vec![b'd'; 100_000]).with(Metadata::new(0o600).owned_by(1000, 1000)),
    )
    .unwrap();
    tree
}

pub(crate) fn image(compression: Compression) -> Image {
    let difference = Difference::between(&base(), &second()).unwrap();
    let layers = vec![
        Layer::pack(&base(), compression).unwrap(),
        Layer::pack_difference(&difference, compression).unwrap(),
    ];
    let mut settings = Settings::default();
    settings.entrypoint = vec!["/bin/sh".into()];
    settings.cmd = vec!["-c".into(), "true".into()];
    settings.env = vec!["PATH=/bin".into(), "LANG=C".into()];
    settings.user = Some("1000:1000".into());
    settings.working_dir = Some("/app".into());
    settings.exposed_ports = ["80/tcp", "443/tcp", "53/udp"].map(String::from).into();
    for number in 0..20 {
        settings.labels.insert(format!("label-{number}"), format!("{number}"));
        settings.annotations.insert(format!("org.example.{number}"), "x".into());
    }
    settings.created = Some(1_700_000_000);
    settings.history = vec!["base".into(), "app".into()];
    Image::build(layers, &settings).unwrap()
}

#[test]
fn an_image_is_the_same_bytes_each_time() {
    let image = image(Compression::Gzip);
    for _ in 0..20 {
        assert_eq!(super::images::image(Compression::Gzip), image);
    }
    let config = String::from_utf8(image.config_bytes.clone()).unwrap();
    let expected = r#"{"architecture":"amd64","config":{"Cmd":["-c","true"],"Entrypoint":["/bin/sh"],"Env":["PATH=/bin","LANG=C"],"ExposedPorts":{"443/tcp":{},"53/udp":{},"80/tcp":{}},"Labels":{"label-0":"0","#;
    assert!(config.starts_with(expected), "{config}");
    assert!(config.contains(r#""created":"2023-11-14T22:13:20Z""#), "{config}");
}

#[test]
fn what_is_written_is_read_again() {
    let work = tempfile::tempdir().unwrap();
    let wanted = platform("linux/amd64").unwrap();
    let second_tree = {
        let options = kiln_oci::layer::Options::default();
        image(Compression::None).tree(&options, None).unwrap()
    };
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let image = image(compression);
        let at = work.path().join(format!("{compression:?}"));
        let mut layout = Layout::create(&at, Limits::default()).unwrap();
        layout.add(&image, Some("app:1")).unwrap();
        layout.add(&image, Some("app:1")).unwrap();
        layout.add(&image, None).unwrap();
        let layout = Layout::open(&at, Limits::default()).unwrap();
        assert_eq!(layout.images().unwrap().len(), 2);
        let tar = work.path().join(format!("{compression:?}.tar"));
        let bytes = archive::write(Vec::new(), &[(Some("app:1"), &image), (Some("app:2"), &image)])
            .unwrap();
        assert_eq!(
            bytes,
            archive::write(Vec::new(), &[(Some("app:1"), &image), (Some("app:2"), &image)])
                .unwrap()
        );
        std::fs::write(&tar, bytes).unwrap();
        let packed = Layout::open(&tar, Limits::default()).unwrap();
        for layout in [&layout, &packed] {
            let found = layout.image(Some("app:1"), &wanted).unwrap();
            assert_eq!(found.manifest_bytes, image.manifest_bytes);
            assert_eq!(found.config_bytes, image.config_bytes);
            let options = kiln_oci::layer::Options::default();
            let tree = crate::trees::in_memory(&found.tree(&options, None).unwrap());
            assert_eq!(tree, second_tree);
            assert!(layout.image(Some(image.digest().as_ref()), &wanted).is_ok());
            let error = layout.image(Some("app:9"), &wanted).unwrap_err().to_string();
            assert!(
                error.contains("there is no image app:9 (there is") && error.contains("app:1"),
                "{error}"
            );
            let error = layout.image(None, &wanted).unwrap_err().to_string();
            assert!(error.contains("say which"), "{error}");
            let other = platform("linux/arm64").unwrap();
            let error = layout.image(Some("app:1"), &other).unwrap_err().to_string();
            assert!(
                error.ends_with("there is no image for linux/arm64 (there is linux/amd64)"),
                "{error}"
            );
        }
    }
}

#[test]
fn an_archive_whose_first_name_begins_as_gzip_does_is_an_archive() {
    // Found by fuzzing. (A frame of zstd has a slash in its magic number, a skippable one has none.)
    for magic in [&b"\x1f\x8b\x08a"[..], b"\x50\x2a\x4d\x18"] {
        let mut tree = Tree::new();
        tree.insert(magic, Node::file("content")).unwrap();
        let layer = Layer::pack(&tree, Compression::None).unwrap();
        assert!(layer.source.read().unwrap().starts_with(magic));
        assert_eq!(layer.compression().unwrap(), Compression::None);
        let image = Image::build(vec![layer], &Settings::default()).unwrap();
        assert_eq!(image.tree(&kiln_oci::layer::Options::default(), None).unwrap(), tree);
        let work = tempfile::tempdir().unwrap();
        for form in [docker::Form::Legacy, docker::Form::Layout] {
            let path = work.path().join("images.tar");
            let named = vec!["a:1".to_owned()];
            std::fs::write(&path, docker::write(Vec::new(), &[(named, &image)], form).unwrap())
                .unwrap();
            let opened = docker::Archive::open(&path, Limits::default()).unwrap();
            let found = opened.image(Some("a:1")).unwrap();
            let layers: Vec<_> = found.layers.iter().map(|layer| &layer.descriptor).collect();
            assert_eq!(layers, [&image.layers[0].descriptor], "{form:?}");
            let found = found.tree(&kiln_oci::layer::Options::default(), None).unwrap();
            assert_eq!(crate::trees::in_memory(&found), tree);
        }
    }
}

#[test]
fn docker_archives_of_both_forms_hold_several_images() {
    let work = tempfile::tempdir().unwrap();
    let (one, other) = (image(Compression::Gzip), image(Compression::Zstd));
    let images = [
        (vec!["app:1".to_owned(), "example.org:5000/app:latest".into()], &one),
        (vec!["app:2".into()], &other),
    ];
    for form in [docker::Form::Legacy, docker::Form::Layout] {
        let path = work.path().join("images.tar");
        let bytes = docker::write(Vec::new(), &images, form).unwrap();
        assert_eq!(bytes, docker::write(Vec::new(), &images, form).unwrap());
        std::fs::write(&path, bytes).unwrap();
        let archive = docker::Archive::open(&path, Limits::default()).unwrap();
        assert_eq!(archive.tags(), [images[0].0.as_slice(), &images[1].0]);
        let found = archive.images().unwrap();
        for ((_, found), (_, image)) in found.iter().zip(&images) {
            assert_eq!(found.config_bytes, image.config_bytes);
            let options = kiln_oci::layer::Options::default();
            let (found, expected) =
                (found.tree(&options, None).unwrap(), image.tree(&options, None).unwrap());
            assert_eq!(crate::trees::in_memory(&found), expected);
        }
        assert!(archive.image(Some("app:2")).is_ok());
        let error = archive.image(Some("app:3")).unwrap_err().to_string();
        assert!(error.contains("(there is app:1, example.org:5000/app:latest, app:2)"), "{error}");
        assert!(archive.image(None).unwrap_err().to_string().contains("say which"));
        if form == docker::Form::Layout {
            // It is a layout as well.
            let layout = Layout::open(&path, Limits::default()).unwrap();
            assert_eq!(layout.images().unwrap().len(), 3);
        }
    }
    let error = docker::write(Vec::new(), &[(vec!["none".into()], &one)], docker::Form::Legacy)
        .unwrap_err();
    assert_eq!(error.to_string(), "none: a tag of an archive is name:tag");
}

#[test]
fn a_layout_that_lies_is_found_out() {
    let work = tempfile::tempdir().unwrap();
    let image = image(Compression::Gzip);
    let wanted = platform("linux/amd64").unwrap();
    let made = |change: &dyn Fn(&std::path::Path)| {
        let at = work.path().join("layout");
        let _ = std::fs::remove_dir_all(&at);
        Layout::create(&at, Limits::default()).unwrap().add(&image, Some("x")).unwrap();
        change(&at);
        let layout = Layout::open(&at, Limits::default());
        let found = layout.and_then(|layout| layout.image(Some("x"), &wanted));
        let tree = found.and_then(|found| found.tree(&kiln_oci::layer::Options::default(), None));
        tree.map(|tree| tree.len()).map_err(|error| error.to_string())
    };
    assert!(made(&|_| {}).is_ok());
    let blob = |at: &std::path::Path, digest: &kiln_oci::Digest| {
        at.join("blobs/sha256").join(digest.digest())
    };
    let layer = image.layers[1].descriptor.digest().clone();
    let config = image.manifest.config().digest().clone();
    let flip = |path: &std::path::Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    };
    for digest in [image.digest().clone(), config.clone(), layer.clone()] {
        let error = made(&|at| flip(&blob(at, &digest))).unwrap_err();
        assert!(error.contains(digest.as_ref()), "{error}");
        let error = made(&|at| std::fs::remove_file(blob(at, &digest)).unwrap()).unwrap_err();
        assert!(error.contains(&format!("there is no blob {digest}")), "{error}");
    }
    let error = made(&|at| std::fs::write(blob(at, &layer), "short").unwrap()).unwrap_err();
    assert!(error.starts_with(&format!("{layer}: it has 5 bytes, not ")), "{error}");
    let error = made(&|at| std::fs::write(at.join("index.json"), "{").unwrap()).unwrap_err();
    assert!(error.contains("index.json: EOF while parsing") && error.contains("line 1"), "{error}");
    let error = made(&|at| std::fs::remove_file(at.join("oci-layout")).unwrap()).unwrap_err();
    assert!(error.ends_with("there is no oci-layout"), "{error}");
}
