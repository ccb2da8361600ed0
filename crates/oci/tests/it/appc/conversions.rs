//! Images of one format as images of the other, and both as bundles.

use kiln_oci::appc::{self, App, Container, ImageManifest, Isolator, MountPoint, Port, Rendering};
use kiln_oci::bundle::{self, Capabilities, Mount, Packaged, Users};
use kiln_oci::host::Unpack;
use kiln_oci::layer::Options;
use kiln_oci::{Compression, Error, Image, Layer, Settings};
use kiln_tree::{Metadata, Node, Tree};

use super::archives::alone;
use super::manifests::{identifier, image as everything, name};
use crate::trees::in_memory;

pub(super) fn root() -> Tree {
    let mut tree = Tree::new();
    tree.insert("etc/passwd", Node::file("web:x:33:34::/srv:\n")).unwrap();
    tree.insert("etc/group", Node::file("www:x:34:\nadm:x:4:web\n")).unwrap();
    let meta = Metadata::new(0o755).owned_by(500, 600);
    tree.insert("usr/bin/worker", Node::executable("").with(meta)).unwrap();
    tree
}

/// An image of the OCI that says all that one can say.
pub(super) fn whole() -> Image {
    let mut settings = Settings::default();
    settings.architecture = "arm64".into();
    settings.created = Some(1_700_000_000);
    settings.author = Some("Somebody".into());
    settings.entrypoint = vec!["/usr/bin/worker".into(), "--quiet".into()];
    settings.env = ["A=1", "B.c-d=x=y", "9=no variable", "_=z"].map(str::to_owned).into();
    settings.user = Some("web".into());
    settings.working_dir = Some("/srv".into());
    settings.labels = [("Any Key".to_owned(), "value".to_owned())].into();
    settings.exposed_ports =
        ["80", "53/udp", "53/UDP", "8000-8010/tcp", "0/tcp", "x"].map(str::to_owned).into();
    settings.volumes =
        ["/data", "/Data/", "/var/lib/my_app", "/", "relative"].map(str::to_owned).into();
    settings.stop_signal = Some("SIGINT".into());
    settings.annotations = [
        ("org.opencontainers.image.version", "1.2"),
        ("org.opencontainers.image.url", "https://example.com/"),
        ("org.opencontainers.image.documentation", "on paper"),
        ("org.opencontainers.image.licenses", "MIT"),
        ("Upper", "case"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    settings.history = vec!["made".into()];
    Image::build(vec![Layer::pack(&root(), Compression::Gzip).unwrap()], &settings).unwrap()
}

#[test]
fn an_image_of_the_oci_is_one_of_appc_and_what_is_left_is_told() {
    let (manifest, left) =
        appc::from_image(&whole(), &root(), identifier("example.com/x")).unwrap();
    let app = manifest.app.as_ref().unwrap();
    assert_eq!(app.exec, ["/usr/bin/worker", "--quiet"]);
    assert_eq!((app.user.as_str(), app.group.as_str()), ("web", "34"));
    assert_eq!(app.supplementary_gids, [4]);
    assert_eq!(app.working_directory.as_deref(), Some("/srv"));
    assert_eq!(app.user_labels["Any Key"], "value");
    let environment: Vec<_> = app.environment.iter().collect();
    assert_eq!(format!("{environment:?}"), r#"[("A", "1"), ("B.c-d", "x=y"), ("_", "z")]"#);
    let ports: Vec<String> = app
        .ports
        .iter()
        .map(|port| format!("{} {} {}+{}", port.name, port.protocol, port.port, port.count))
        .collect();
    assert_eq!(ports, ["53-udp udp 53+1", "80-tcp tcp 80+1", "8000-tcp tcp 8000+11"]);
    let points: Vec<String> =
        app.mount_points.iter().map(|point| format!("{} {}", point.name, point.path)).collect();
    assert_eq!(
        points,
        ["volume-data /Data/", "volume-data-2 /data", "volume-var-lib-my-app /var/lib/my_app"]
    );
    let labels: Vec<String> =
        manifest.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["arch=aarch64", "os=linux", "version=1.2"]);
    let annotations: Vec<String> =
        manifest.annotations.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        annotations,
        [
            "authors=Somebody",
            "created=2023-11-14T22:13:20Z",
            "homepage=https://example.com/",
            "org.opencontainers.image.documentation=on paper",
            "org.opencontainers.image.licenses=MIT",
        ]
    );
    assert_eq!(
        left,
        [
            "config.Env: 9=no variable",
            "config.ExposedPorts: 0/tcp",
            "config.ExposedPorts: x",
            "config.Volumes: /",
            "config.Volumes: relative",
            "config.StopSignal: SIGINT",
            "annotations: Upper",
            "history",
        ]
    );
    manifest.to_bytes().unwrap();

    // Nobody becomes root because nobody knows who they are.
    let mut settings = Settings::default();
    settings.user = Some("nobody".into());
    let image = Image::build(Vec::new(), &settings).unwrap();
    let error = appc::from_image(&image, &root(), identifier("x")).unwrap_err();
    assert!(matches!(&error, Error::Invalid { what, .. } if what == "nobody"), "{error}");
    // A name is never taken for the path of a file.
    let mut odd = root();
    odd.replace("etc/passwd", Node::file("/usr/bin/worker:x:7:8:::\n")).unwrap();
    settings.user = Some("/usr/bin/worker".into());
    settings.cmd = vec!["a".into()];
    settings.entrypoint = vec!["b".into()];
    settings.architecture = "riscv64".into();
    let image = Image::build(Vec::new(), &settings).unwrap();
    let (manifest, left) = appc::from_image(&image, &odd, identifier("x")).unwrap();
    let app = manifest.app.unwrap();
    assert_eq!((app.user.as_str(), app.group.as_str()), ("7", "8"));
    assert_eq!(app.exec, ["b", "a"]);
    assert!(
        left[0].starts_with("config.Cmd: ") && left[1].starts_with("architecture: riscv64"),
        "{left:?}"
    );
}

#[test]
fn an_image_of_appc_is_one_of_the_oci_and_what_is_left_is_told() {
    let layers = || vec![Layer::pack(&root(), Compression::None).unwrap()];
    let mut manifest = everything();
    let app = manifest.app.as_mut().unwrap();
    app.ports.push(Port::new(name("raw"), "icmp", 1));
    app.mount_points[0].read_only = true;
    let (image, left) = appc::to_image(&manifest, &root(), layers()).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&image.config_bytes).unwrap();
    let mut run = config["config"].clone();
    let ports = run["ExposedPorts"].as_object_mut().unwrap();
    assert_eq!(ports.len(), 1001);
    ports.retain(|port, _| port.starts_with("4000") || port.starts_with("20999"));
    let annotations: std::collections::BTreeMap<_, _> =
        image.manifest.annotations().clone().unwrap().into_iter().collect();
    let said = serde_json::json!({
        "os": config["os"], "architecture": config["architecture"], "author": config["author"],
        "config": run, "annotations": annotations, "left": left,
    });
    insta::assert_snapshot!("to_oci", serde_json::to_string_pretty(&said).unwrap());
    // What there is of it comes back.
    let (again, _) = appc::from_image(&image, &root(), manifest.name.clone()).unwrap();
    let (before, after) = (manifest.app.clone().unwrap(), again.app.unwrap());
    assert_eq!((after.exec, after.environment), (before.exec, before.environment));
    assert_eq!((after.user, after.group), ("100".into(), "600".into()));
    assert_eq!(
        (again.labels, again.annotations),
        (manifest.labels.clone(), manifest.annotations.clone())
    );

    manifest.app.as_mut().unwrap().group = "/no/such/file".into();
    let error = appc::to_image(&manifest, &root(), layers()).unwrap_err();
    assert!(matches!(&error, Error::Manifest { .. }), "{error}");
}

fn options() -> bundle::Options {
    let mut options = bundle::Options::default();
    options.hostname = Some("box".into());
    options.mounts = vec![Mount::bind("/srv", "/data", true)];
    options.env = vec!["A=2".into()];
    options
}

#[test]
fn both_formats_are_the_same_bundle() {
    let work = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.entrypoint = vec!["/usr/bin/worker".into()];
    settings.cmd = vec!["--quiet".into()];
    settings.env = vec!["A=1".into(), "B=2".into()];
    settings.user = Some("web:www".into());
    settings.working_dir = Some("/srv".into());
    settings.volumes = vec!["/data".into()];
    let layer = Layer::pack(&root(), Compression::Gzip).unwrap();
    let image = Image::build(vec![layer], &settings).unwrap();
    let tree = image.tree(&Options::default(), None).unwrap();
    let (manifest, _) = appc::from_image(&image, &tree, identifier("example.com/x")).unwrap();
    let aci = alone(appc::pack(&manifest, &tree, Compression::Gzip).unwrap());
    let mut other = options();
    other.args = Some(vec!["--loud".into()]);
    other.user = Some("0".into());
    for (number, options) in [options(), other].into_iter().enumerate() {
        let made = |format: &str, image: Packaged<'_>| {
            let at = work.path().join(format!("{format}{number}"));
            let bundle = bundle::make(image, &at, &Unpack::default(), &options).unwrap();
            let config = std::fs::read(at.join("config.json")).unwrap();
            assert!(bundle.left.is_empty(), "{:?}", bundle.left);
            let mut names: Vec<_> =
                std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["config.json", "rootfs"]);
            (in_memory(&bundle.root), bundle.spec, String::from_utf8(config).unwrap())
        };
        let ours = made("oci", Packaged::Oci(&image));
        assert_eq!(made("aci", Packaged::Appc(&aci)), ours);
        let users = Users::of_tree(&tree).unwrap();
        let (_, bytes) = bundle::spec(&image.config, &users, &options).unwrap();
        assert_eq!(ours.2.as_bytes(), bytes);
    }
    // Of a bundle that cannot be there is nothing.
    let mut bad = options();
    bad.user = Some("nobody".into());
    let at = work.path().join("bad");
    for image in [Packaged::Oci(&image), Packaged::Appc(&aci)] {
        let error = bundle::make(image, &at, &Unpack::default(), &bad).unwrap_err();
        assert!(error.to_string().contains("nobody is not in the image's"), "{error}");
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0);
    }
}

#[test]
fn what_an_image_asks_for_does_not_go_beyond_the_options() {
    let app = |isolators: &str| {
        let text = format!(
            r#"{{"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "x", "app": {{
                "exec": ["/x"], "user": "0", "group": "0", "isolators": [{isolators}]}}}}"#
        );
        ImageManifest::parse("test", text.as_bytes()).unwrap()
    };
    let greedy = app(r#"{"name": "resource/memory", "value": {"limit": "1G"}},
        {"name": "resource/cpu", "value": {"limit": "2"}},
        {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_SYS_ADMIN", "CAP_KILL"]}},
        {"name": "os/linux/oom-score-adj", "value": -1000},
        {"name": "os/linux/no-new-privileges", "value": false},
        {"name": "os/linux/seccomp-remove-set", "value": {"set": ["reboot"]}},
        {"name": "host/privileged", "value": true}"#);
    let names = |left: &[Isolator]| -> Vec<String> {
        left.iter().map(|isolator| isolator.name().to_owned()).collect()
    };
    let made = Container::alone(&greedy, &root(), &bundle::Options::default()).unwrap();
    assert_eq!(made.options.capabilities, Capabilities::Only(vec!["CAP_KILL".into()]));
    assert_eq!(made.options.resources.memory, Some(1_000_000_000));
    assert_eq!(made.options.resources.cpu_quota, Some(200_000));
    assert!(made.options.seccomp.is_some() && !made.options.new_privileges);
    assert_eq!(made.options.oom_score_adj, None);
    assert_eq!(names(&made.left), ["os/linux/oom-score-adj", "host/privileged"]);
    // Whoever runs it has the last word.
    let mut options = bundle::Options::default();
    options.resources.memory = Some(5_000_000);
    options.capabilities = Capabilities::Only(Vec::new());
    options.new_privileges = true;
    let made = Container::alone(&greedy, &root(), &options).unwrap();
    assert_eq!(made.options.resources.memory, Some(5_000_000));
    assert_eq!(made.options.capabilities, options.capabilities);
    assert!(made.options.new_privileges);
    assert_eq!(
        names(&made.left),
        [
            "resource/memory",
            "os/linux/capabilities-retain-set",
            "os/linux/oom-score-adj",
            "host/privileged"
        ]
    );
    let strict = app(r#"{"name": "os/linux/no-new-privileges", "value": true}"#);
    assert!(!Container::alone(&strict, &root(), &options).unwrap().options.new_privileges);

    let mut manifest = greedy;
    let what = manifest.app.as_mut().unwrap();
    what.mount_points =
        vec![MountPoint::new(name("data"), "/data/"), MountPoint::new(name("log"), "/var/log")];
    what.pre_start = Some(vec!["/bin/fetch".into()]);
    let image: Rendering = alone(appc::pack(&manifest, &root(), Compression::None).unwrap());
    let work = tempfile::tempdir().unwrap();
    let at = work.path().join("bundle");
    let made =
        bundle::make(Packaged::Appc(&image), &at, &Unpack::default(), &self::options()).unwrap();
    assert_eq!(
        made.left,
        [
            "mount point log at /var/log",
            "isolator os/linux/oom-score-adj",
            "isolator host/privileged",
            "pre-start"
        ]
    );
    // Nothing to run.
    let mut nothing = ImageManifest::new(identifier("x"));
    for app in [None, Some(App::new(Vec::new()))] {
        nothing.app = app;
        let made = Container::alone(&nothing, &root(), &bundle::Options::default()).unwrap();
        let error = made.spec().unwrap_err().to_string();
        assert!(error.contains("neither the image nor the options name a program"), "{error}");
    }
}
