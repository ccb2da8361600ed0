//! Manifests: what is understood, what is refused, and how it is told.

use std::collections::BTreeMap;

use kiln_oci::Error;
use kiln_oci::appc::{
    App, Dependency, ExposedPort, Identifier, ImageManifest, Isolator, Mount, MountPoint, Name,
    PodApp, PodImage, PodManifest, Port, Quantity, Resource, Volume, VolumeKind,
};
use proptest::prelude::*;

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(super) fn identifier(text: &str) -> Identifier {
    text.parse().unwrap()
}

/// An ID that no image has.
pub(super) const ID: &str = "sha512-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\
                             00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Everything that aci.md, "Image Manifest Schema", has.
const IMAGE: &str = r#"{
    "acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/worker",
    "labels": [
        {"name": "version", "value": "1.2.0"}, {"name": "os", "value": "linux"},
        {"name": "arch", "value": "amd64"}
    ],
    "app": {
        "exec": ["/usr/bin/worker", "--quiet"], "user": "100", "group": "/usr/bin/worker",
        "supplementaryGids": [400, 500],
        "eventHandlers": [
            {"name": "pre-start", "exec": ["/usr/bin/fetch"]},
            {"name": "post-stop", "exec": ["/usr/bin/leave", "-v"]}
        ],
        "workingDirectory": "/opt/work",
        "environment": [{"name": "WORKER_DEBUG", "value": "true"}, {"name": "a.b-c", "value": ""}],
        "isolators": [
            {"name": "resource/cpu", "value": {"request": "250m", "limit": "500m"}},
            {"name": "resource/memory", "value": {"request": "1G", "limit": "2G"}},
            {"name": "resource/block-bandwidth", "value": {"default": true, "limit": "2M"}},
            {"name": "resource/block-iops", "value": {"default": true, "limit": "1000"}},
            {"name": "resource/network-bandwidth", "value": {"default": true, "limit": "1G"}},
            {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_KILL"]}},
            {"name": "os/linux/no-new-privileges", "value": true},
            {"name": "os/linux/seccomp-remove-set", "value": {"errno": "ENOTSUP", "set": ["reboot"]}},
            {"name": "os/linux/oom-score-adj", "value": -5},
            {"name": "os/linux/cpu-shares", "value": 512},
            {"name": "os/linux/selinux-context",
             "value": {"user": "u", "role": "r", "type": "t", "level": "s0:c1,c2"}},
            {"name": "os/linux/apparmor-profile", "value": {"profile": "usual"}},
            {"name": "os/linux/namespaces", "value": {"net": "host"}},
            {"name": "host/privileged", "value": true}
        ],
        "mountPoints": [{"name": "work", "path": "/var/lib/work", "readOnly": false}],
        "ports": [
            {"name": "health", "port": 4000, "protocol": "tcp", "socketActivated": true},
            {"name": "data", "port": 20000, "count": 1000, "protocol": "udp"}
        ],
        "userAnnotations": {"Any Key": "x"}, "userLabels": {"Y": "z"}
    },
    "dependencies": [{
        "imageName": "example.com/base", "imageID": "ID", "size": 22017258,
        "labels": [{"name": "os", "value": "linux"}]
    }],
    "pathWhitelist": ["/etc/worker.conf", "/usr/bin/worker"],
    "annotations": [{"name": "authors", "value": "Carly <carly@example.com>"}]
}"#;

/// Everything that pods.md, "Pod Manifest Schema", has.
const POD: &str = r#"{
    "acKind": "PodManifest", "acVersion": "0.8.11",
    "apps": [
        {
            "name": "worker",
            "image": {"name": "example.com/worker", "id": "ID", "labels": [{"name": "version", "value": "1"}]},
            "app": {"exec": ["/bin/worker"], "user": "0", "group": "0"},
            "readOnlyRootFS": true,
            "mounts": [
                {"volume": "work", "path": "/var/lib/work"},
                {"volume": "own", "path": "/tmp", "appVolume": {"name": "own", "kind": "empty"}}
            ],
            "annotations": [{"name": "foo", "value": "baz"}]
        },
        {"name": "register", "image": {"name": "example.com/register"}}
    ],
    "volumes": [
        {"name": "work", "kind": "host", "source": "/opt/work", "readOnly": true, "recursive": false},
        {"name": "scratch", "kind": "empty", "mode": "1777", "uid": 5, "gid": 6}
    ],
    "isolators": [
        {"name": "resource/memory", "value": {"limit": "4G"}},
        {"name": "os/unix/sysctl", "value": {"net.ipv4.tcp_mtu_probing": "1"}}
    ],
    "annotations": [{"name": "ip-address", "value": "10.1.2.3"}],
    "ports": [
        {"name": "ftp", "hostPort": 2121, "hostIP": "203.0.113.23"},
        {"name": "own", "hostPort": 80, "podPort": {"name": "own", "protocol": "tcp", "port": 8080}}
    ],
    "userAnnotations": {"k": "v"}, "userLabels": null
}"#;

/// What [`IMAGE`] says.
pub(super) fn image() -> ImageManifest {
    ImageManifest::parse("manifest", IMAGE.replace("ID\",", &format!("{ID}\",")).as_bytes())
        .unwrap()
}

#[test]
fn all_that_the_specification_has_is_read_and_written_as_it_was() {
    let image = image();
    let app = image.app.as_ref().unwrap();
    assert_eq!(image.labels["version"], "1.2.0");
    assert_eq!(app.supplementary_gids, [400, 500]);
    assert_eq!(app.post_stop.as_deref().unwrap(), ["/usr/bin/leave", "-v"]);
    assert_eq!((app.ports[1].port, app.ports[1].count), (20000, 1000));
    let cpu =
        Resource::limited_to(Quantity::thousandths(500)).requesting(Quantity::thousandths(250));
    assert_eq!(app.isolators[0], Isolator::Cpu(cpu));
    let others: Vec<&str> = app
        .isolators
        .iter()
        .filter(|isolator| matches!(isolator, Isolator::Other { .. }))
        .map(Isolator::name)
        .collect();
    assert_eq!(others, ["os/linux/namespaces", "host/privileged"]);
    let bytes = image.to_bytes().unwrap();
    assert_eq!(ImageManifest::parse("again", &bytes).unwrap(), image);

    let text = POD.replace("\"ID\"", &format!("\"{ID}\""));
    let pod = PodManifest::parse("pod.json", text.as_bytes()).unwrap();
    let host = VolumeKind::Host { source: "/opt/work".into(), recursive: false };
    assert_eq!(pod.volumes[0].kind, host);
    assert_eq!(pod.volumes[1].kind, VolumeKind::Empty { mode: 0o1777, uid: 5, gid: 6 });
    let own = pod.apps[0].mounts[1].app_volume.as_ref().unwrap();
    assert_eq!(own.kind, VolumeKind::Empty { mode: 0o755, uid: 0, gid: 0 });
    let bytes = pod.to_bytes().unwrap();
    assert_eq!(PodManifest::parse("again", &bytes).unwrap(), pod);
    // An app of a pod takes the place of the image's, as a whole.
    assert_eq!(pod.apps[0].app(&image).unwrap().exec, ["/bin/worker"]);
    assert_eq!(pod.apps[1].app(&image).unwrap().exec, ["/usr/bin/worker", "--quiet"]);
}

fn refused(result: Result<impl std::fmt::Debug, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn all_that_is_wrong_with_an_image_is_told_with_its_place() {
    let text = r#"{
        "acKind": "PodManifest", "acVersion": "1.0.0", "name": "Example.com/x",
        "labels": [{"name": "os", "value": "linux"}, {"name": "os", "value": "plan9"}],
        "app": {
            "exec": "/bin/x", "user": "", "group": "a:b", "workingDirectory": "work",
            "environment": [{"name": "1A", "value": "x"}, {"name": "B"}],
            "mountPoints": [{"name": "a", "path": "/a/../b"}, {"name": "b_c", "path": "/c"}],
            "ports": [
                {"name": "p", "protocol": "tcp", "port": 0},
                {"name": "p", "protocol": "tcp", "port": 65535, "count": 2},
                {"name": "q", "protocol": "tcp", "port": 1.5}
            ],
            "eventHandlers": [{"name": "pre-stop", "exec": []}],
            "isolators": [
                {"name": "resource/cpu", "value": {"limit": "1 core"}},
                {"name": "resource/memory", "value": {"request": "2G", "limit": "1G"}},
                {"name": "resource/network-bandwidth", "value": {"limit": "1G"}},
                {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_FLY"]}},
                {"name": "os/linux/seccomp-retain-set", "value": {"set": [], "errno": "EFLY"}},
                {"name": "os/linux/oom-score-adj", "value": 1001},
                {"name": "os/linux/no-new-privileges", "value": "true"},
                {"name": "host/privileged"}
            ],
            "supplementaryGIDs": [-1, 4294967295]
        },
        "dependencies": [{"imageName": "a", "imageID": "sha512-abc", "size": -1}],
        "pathWhitelist": ["etc"], "created": "today"
    }"#;
    insta::assert_snapshot!("image", refused(ImageManifest::parse("manifest", text.as_bytes())));
}

#[test]
fn all_that_is_wrong_with_a_pod_is_told_with_its_place() {
    let text = r#"{
        "acKind": "PodManifest", "acVersion": "0.8",
        "apps": [
            {"name": "a.b", "image": {}},
            {"name": "a", "image": {"id": "sha256-00"}, "mounts": [{"volume": "v", "path": "p"}]},
            {"name": "a", "image": {"name": "x"}, "app": {"exec": ["/x"]}}
        ],
        "volumes": [
            {"name": "v", "kind": "host"},
            {"name": "w", "kind": "host", "source": "/../x", "mode": "0755"},
            {"name": "x", "kind": "empty", "mode": "0888"},
            {"name": "y", "kind": "tmpfs"}
        ],
        "isolators": [
            {"name": "resource/memory", "value": {"limit": "1G"}},
            {"name": "resource/memory", "value": {"limit": "2G"}}
        ],
        "ports": [{"name": "x", "hostPort": 70000, "hostIP": "::1"}]
    }"#;
    insta::assert_snapshot!("pod", refused(PodManifest::parse("pod.json", text.as_bytes())));
}

#[test]
fn sets_that_exclude_each_other_are_refused() {
    for pair in ["capabilities", "seccomp"] {
        let set = if pair == "seccomp" { "reboot" } else { "CAP_KILL" };
        let isolators = ["retain", "remove"].map(|kind| {
            format!(r#"{{"name": "os/linux/{pair}-{kind}-set", "value": {{"set": ["{set}"]}}}}"#)
        });
        let text = format!(
            r#"{{"acKind": "PodManifest", "acVersion": "0.8.11", "apps": [], "isolators": [{}]}}"#,
            isolators.join(",")
        );
        let error = refused(PodManifest::parse("pod", text.as_bytes()));
        assert_eq!(
            error,
            format!(
                "pod: isolators: os/linux/{pair}-retain-set and os/linux/{pair}-remove-set exclude \
                 each other"
            )
        );
    }
}

#[test]
fn what_is_no_json_is_told_with_its_line() {
    let error = refused(PodManifest::parse("pod.json", b"{\n\"apps\": [],\n\"apps\": []}"));
    assert_eq!(error, "pod.json: the key \"apps\" is there twice at line 3 column 6");
    let error = refused(ImageManifest::parse("manifest", b"{}\n{}"));
    assert!(error.starts_with("manifest: trailing characters at line 2"), "{error}");
    // However deep it is.
    let deep = "[".repeat(100_000);
    assert!(refused(ImageManifest::parse("manifest", deep.as_bytes())).contains("recursion limit"));
    // However many problems there are.
    let many = format!(r#"{{"apps": [{}]}}"#, vec!["1"; 10_000].join(","));
    assert_eq!(refused(PodManifest::parse("pod", many.as_bytes())).lines().count(), 100);
}

#[test]
fn what_no_manifest_may_have_is_not_written() {
    let mut manifest = ImageManifest::new(identifier("x"));
    let mut app = App::new(vec!["/x".into()]);
    app.user = String::new();
    app.ports = vec![Port::new(name("a"), "tcp", 1), Port::new(name("a"), "udp", 2)];
    manifest.app = Some(app);
    let error = refused(manifest.to_bytes());
    assert_eq!(error, "x: app.user: it is empty\nx: app.ports: a is there more than once");
}

fn names() -> impl Strategy<Value = Name> {
    "[a-z0-9]{1,5}(-[a-z0-9]{1,3})?".prop_map(|text| name(&text))
}

fn pairs() -> impl Strategy<Value = BTreeMap<Identifier, String>> {
    let key = "[a-z]{2}([-._~/][a-z0-9]{1,3}){0,2}".prop_filter("reserved", |key| key != "name");
    proptest::collection::btree_map(key.prop_map(|text| identifier(&text)), "[^\0]{0,6}", 0..4)
}

fn quantity() -> impl Strategy<Value = Quantity> {
    prop_oneof![
        any::<u32>().prop_map(|units| Quantity::units(units.into())),
        any::<u64>().prop_map(Quantity::thousandths),
        (0..9_u64, 0..60_u32).prop_map(|(units, shift)| Quantity::units(units << shift)),
    ]
}

fn isolators() -> impl Strategy<Value = Vec<Isolator>> {
    let one = prop_oneof![
        quantity().prop_map(|limit| Isolator::Cpu(Resource::limited_to(limit))),
        quantity().prop_map(|limit| Isolator::Memory(Resource::limited_to(limit))),
        quantity().prop_map(Isolator::NetworkBandwidth),
        any::<bool>().prop_map(Isolator::NoNewPrivileges),
        (-1000..1001_i16).prop_map(Isolator::OomScoreAdj),
        any::<u16>().prop_map(|value| Isolator::Other {
            name: identifier("example.com/own"),
            value: serde_json::json!({ "a": [value, null, "x"], "B": -1.5 }),
        }),
    ];
    proptest::collection::vec(one, 0..6).prop_map(|mut isolators| {
        let mut seen = std::collections::BTreeSet::new();
        isolators.retain(|one| {
            matches!(one, Isolator::Other { .. }) || seen.insert(one.name().to_owned())
        });
        isolators
    })
}

pub(super) fn app() -> impl Strategy<Value = App> {
    let points = proptest::collection::btree_map(names(), "(/[a-z]{1,3}){1,2}", 0..3);
    let ports = proptest::collection::btree_map(names(), 1..60000_u16, 0..3);
    let environment =
        proptest::collection::btree_map("[A-Za-z_][A-Za-z0-9_.-]{0,3}", "[^\0]{0,5}", 0..4);
    (
        proptest::collection::vec("[^\0]{0,8}", 0..4),
        ("[a-z0-9/]{1,5}", "[a-z0-9/]{1,5}"),
        proptest::collection::vec(0..u32::MAX, 0..3),
        proptest::option::of("(/[a-z]{1,3}){1,2}"),
        environment,
        (points, ports),
        isolators(),
        proptest::option::of(proptest::collection::vec("[^\0]{0,8}", 1..3)),
    )
        .prop_map(
            |(
                exec,
                (user, group),
                gids,
                directory,
                environment,
                (points, ports),
                isolators,
                hook,
            )| {
                let mut app = App::new(exec);
                (app.user, app.group) = (user, group);
                (app.supplementary_gids, app.working_directory) = (gids, directory);
                (app.environment, app.isolators, app.pre_start) = (environment, isolators, hook);
                let mut seen = std::collections::BTreeSet::new();
                app.mount_points = points
                    .into_iter()
                    .filter(|(_, path)| seen.insert(path.clone()))
                    .map(|(name, path)| MountPoint::new(name, path))
                    .collect();
                app.ports =
                    ports.into_iter().map(|(name, port)| Port::new(name, "tcp", port)).collect();
                app
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_image_manifest_is_read_as_it_was_written(
        labels in pairs(), annotations in pairs(), app in proptest::option::of(app()), size in any::<u32>(),
    ) {
        let mut manifest = ImageManifest::new(identifier("example.com/x"));
        (manifest.labels, manifest.annotations, manifest.app) = (labels.clone(), annotations, app);
        let mut dependency = Dependency::new(identifier("example.com/base"));
        (dependency.labels, dependency.size) = (labels, Some(size.into()));
        dependency.image_id = Some(ID.parse().unwrap());
        manifest.dependencies = vec![dependency];
        let bytes = manifest.to_bytes().unwrap();
        let again = ImageManifest::parse("x", &bytes).unwrap();
        prop_assert_eq!(&again, &manifest);
        prop_assert_eq!(again.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn a_pod_manifest_is_read_as_it_was_written(
        app in proptest::option::of(app()), volume in names(), mode in 0..0o10000_u16, gid in 0..u32::MAX,
        port in 1..=u16::MAX, address in any::<[u8; 4]>(), isolators in isolators(), read_only in any::<bool>(),
    ) {
        let mut pod = PodManifest::default();
        let mut own = PodApp::new(name("a"), PodImage::of_name(identifier("x")));
        (own.app, own.read_only_root_fs) = (app, read_only);
        own.mounts = vec![Mount::new(volume.clone(), "/x")];
        pod.apps = vec![own, PodApp::new(name("b"), PodImage::of_id(ID.parse().unwrap()))];
        let mut made = Volume::empty(volume);
        made.kind = VolumeKind::Empty { mode, uid: 1, gid };
        pod.volumes = vec![made];
        let mut exposed = ExposedPort::new(name("p"), port);
        exposed.host_ip = Some(address.into());
        (pod.ports, pod.isolators) = (vec![exposed], isolators);
        let bytes = pod.to_bytes().unwrap();
        let again = PodManifest::parse("x", &bytes).unwrap();
        prop_assert_eq!(&again, &pod);
        prop_assert_eq!(again.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn any_text_is_a_manifest_or_an_error(text in "\\PC{0,60}", at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let _ = ImageManifest::parse("x", text.as_bytes());
        let mut bytes = IMAGE.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = ImageManifest::parse("x", &bytes);
        let mut bytes = POD.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = PodManifest::parse("x", &bytes);
    }
}
