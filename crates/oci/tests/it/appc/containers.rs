//! Apps of pods as containers.

use kiln_oci::Error;
use kiln_oci::appc::{
    App, Container, Executor, ImageManifest, Isolator, Mount, MountPoint, PodApp, PodImage,
    PodManifest, Volume, VolumeKind, empty_volumes, pod_resources,
};
use kiln_tree::{Metadata, Node, Tree};
use serde_json::{Value, json};

use super::manifests::{identifier, name};

fn root() -> Tree {
    let mut tree = Tree::new();
    tree.set_root(Metadata::new(0o755).owned_by(70, 71));
    tree.insert("etc/passwd", Node::file("web:x:33:34::/srv:\n100:x:7:8:::\n")).unwrap();
    tree.insert("etc/group", Node::file("www:x:34:\nadm:x:4:web\n")).unwrap();
    let meta = Metadata::new(0o755).owned_by(500, 600);
    tree.insert("usr/bin/ping", Node::executable("").with(meta)).unwrap();
    tree.insert("bin", Node::symlink("usr/bin")).unwrap();
    tree
}

fn image(app: Option<App>) -> ImageManifest {
    let mut image = ImageManifest::new(identifier("example.com/x"));
    image.app = app;
    image
}

fn pod() -> (PodManifest, PodApp) {
    let app = PodApp::new(name("web"), PodImage::of_name(identifier("example.com/x")));
    (PodManifest::default(), app)
}

fn isolators(text: &str) -> Vec<Isolator> {
    let text = format!(
        r#"{{"acKind": "PodManifest", "acVersion": "0.8.11", "apps": [], "isolators": [{text}]}}"#
    );
    PodManifest::parse("test", text.as_bytes()).unwrap().isolators
}

fn made(pod: &PodManifest, app: &PodApp, image: &ImageManifest) -> Result<Container, Error> {
    let mut executor = Executor::new("/run/pods/1/volumes");
    executor.metadata_url = Some("http://169.254.0.1/token".into());
    Container::new(pod, app, image, &root(), &executor)
}

fn config(container: &Container) -> Value {
    serde_json::from_slice(&container.spec().unwrap().1).unwrap()
}

#[test]
fn an_app_of_a_pod_is_a_bundle() {
    let mut what = App::new(vec!["server".into(), "--quiet".into()]);
    (what.user, what.group) = ("web".into(), "www".into());
    what.supplementary_gids = vec![9, 5, 9];
    what.working_directory = Some("/srv".into());
    what.environment = [("A", "1"), ("AC_APP_NAME", "other")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    what.post_stop = Some(vec!["/bin/leave".into()]);
    let mut logs = MountPoint::new(name("logs"), "/var/log");
    logs.read_only = true;
    what.mount_points = vec![MountPoint::new(name("data"), "/data"), logs];
    what.isolators = isolators(
        r#"{"name": "resource/cpu", "value": {"request": "250m", "limit": "1500m"}},
        {"name": "resource/memory", "value": {"request": "32Mi", "limit": "64Mi"}},
        {"name": "resource/network-bandwidth", "value": {"default": true, "limit": "1M"}},
        {"name": "os/linux/capabilities-remove-set", "value": {"set": ["CAP_MKNOD", "CAP_SYS_ADMIN"]}},
        {"name": "os/linux/seccomp-remove-set", "value": {"set": ["reboot"], "errno": "EPERM"}},
        {"name": "os/linux/no-new-privileges", "value": true},
        {"name": "os/linux/oom-score-adj", "value": 100},
        {"name": "host/api-access", "value": true}"#,
    );
    let (mut pod, mut app) = pod();
    app.read_only_root_fs = true;
    let mut own = Mount::new(name("scratch"), "/tmp");
    own.app_volume = Some(Volume::empty(name("scratch")));
    app.mounts = vec![Mount::new(name("shared"), "/data/"), own];
    let mut shared = Volume::host(name("shared"), "/opt/shared");
    shared.kind = VolumeKind::Host { source: "/opt/shared".into(), recursive: false };
    pod.volumes = vec![shared, Volume::empty(name("logs"))];
    let image = image(Some(what));
    let container = made(&pod, &app, &image).unwrap();
    insta::assert_snapshot!("config", serde_json::to_string_pretty(&config(&container)).unwrap());
    // What no runtime can be told of is left to the caller.
    let left: Vec<&str> = container.left.iter().map(Isolator::name).collect();
    assert_eq!(left, ["resource/network-bandwidth", "host/api-access"]);
    pod.apps = vec![app];
    let volumes = empty_volumes(&pod);
    let volumes: Vec<&str> = volumes.iter().map(|(directory, _)| directory.as_str()).collect();
    assert_eq!(volumes, ["logs", "web.scratch"]);
    // What is run after it is run as it is.
    let mut after = container.clone();
    after.options.entrypoint = container.post_stop.clone();
    assert_eq!(config(&after)["process"]["args"], json!(["/bin/leave"]));
    assert_eq!(config(&after)["process"]["env"], config(&container)["process"]["env"]);
}

/// aci.md, `user` and `group`: names first, then numbers; a path is a file whose owner it is.
#[test]
fn users_are_names_numbers_and_owners_of_files() {
    let (pod, app) = pod();
    let of = |user: &str, group: &str| {
        let mut what = App::new(vec!["/x".into()]);
        (what.user, what.group) = (user.into(), group.into());
        made(&pod, &app, &image(Some(what))).map(|made| (made.identity.uid, made.identity.gid))
    };
    assert_eq!(of("web", "www").unwrap(), (33, 34));
    assert_eq!(of("100", "0").unwrap(), (7, 0));
    assert_eq!(of("101", "102").unwrap(), (101, 102));
    assert_eq!(of("/bin/ping", "/usr/bin/ping").unwrap(), (500, 600));
    assert_eq!(of("/", "www").unwrap(), (70, 34));
    for (user, group, reason) in [
        ("nobody", "0", "web: nobody:0: nobody is not in the image's /etc/passwd"),
        ("0", "nobody", "web: 0:nobody: nobody is not in the image's /etc/group"),
        ("/bin/none", "0", "web: user: /bin/none is not in the root"),
        ("", "0", "web: user is empty"),
    ] {
        assert_eq!(of(user, group).unwrap_err().to_string(), reason);
    }
}

#[test]
fn all_that_is_in_the_way_is_told_at_once() {
    let (mut pod, mut app) = pod();
    let mut what = App::new(Vec::new());
    what.user = "nobody".into();
    what.mount_points =
        ["a", "b", "c"].map(|point| MountPoint::new(name(point), format!("/{point}"))).to_vec();
    what.isolators = isolators(
        r#"{"name": "os/linux/seccomp-retain-set", "value": {"set": ["@docker/usual"]}},
        {"name": "resource/cpu", "value": {"limit": "0"}}"#,
    );
    app.mounts = vec![
        Mount::new(name("none"), "/n"),
        Mount::new(name("v"), "/d/e"),
        Mount::new(name("v"), "/d"),
        Mount::new(name("v"), "/d/"),
        Mount::new(name("v"), "/"),
    ];
    pod.volumes = vec![Volume::empty(name("v")), Volume::empty(name("b"))];
    let error = made(&pod, &app, &image(Some(what))).unwrap_err();
    insta::assert_snapshot!("in_the_way", error);
    let error = made(&pod, &app, &image(None)).unwrap_err().to_string();
    assert_eq!(error, "web: neither the pod nor the image example.com/x says what is run");
}

/// ace.md, "Isolators".
#[test]
fn isolators_are_what_the_runtime_is_told() {
    let (pod, app) = pod();
    let of = |text: &str| {
        let mut what = App::new(vec!["/x".into()]);
        what.isolators = isolators(text);
        config(&made(&pod, &app, &image(Some(what))).unwrap())
    };
    let plain = of("");
    assert_eq!(plain["process"]["noNewPrivileges"], false);
    assert_eq!(plain["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert_eq!(plain["linux"]["resources"].as_object().unwrap().len(), 1);
    assert_eq!(plain["linux"]["seccomp"], Value::Null);
    let one = |name: &str, value: &str| of(&format!(r#"{{"name": "{name}", "value": {value}}}"#));
    let cpu = |value| one("resource/cpu", value)["linux"]["resources"]["cpu"].clone();
    let expected = json!({ "quota": 50_000, "period": 100_000, "shares": 512 });
    assert_eq!(cpu(r#"{"limit": "500m"}"#), expected);
    assert_eq!(cpu(r#"{"limit": "2m"}"#), json!({"quota": 2000, "period": 1_000_000, "shares": 2}));
    assert_eq!(cpu(r#"{"request": "3"}"#), json!({ "shares": 3072 }));
    for order in [[0, 1], [1, 0]] {
        let both = [
            r#"{"name": "resource/cpu", "value": {"limit": "1"}}"#,
            r#"{"name": "os/linux/cpu-shares", "value": 7}"#,
        ];
        let spec = of(&order.map(|at| both[at]).join(","));
        assert_eq!(spec["linux"]["resources"]["cpu"]["shares"], 7);
    }
    let retain = r#"{"set": ["CAP_NET_ADMIN", "CAP_KILL"]}"#;
    let spec = one("os/linux/capabilities-retain-set", retain);
    assert_eq!(spec["process"]["capabilities"]["bounding"], json!(["CAP_KILL", "CAP_NET_ADMIN"]));
    for (set, wildcard) in [("retain", "@appc.io/all"), ("remove", "@appc.io/empty")] {
        let value = format!(r#"{{"set": ["{wildcard}", "read"]}}"#);
        let spec = one(&format!("os/linux/seccomp-{set}-set"), &value);
        assert_eq!(spec["linux"]["seccomp"], Value::Null);
    }
    let spec = one("os/linux/seccomp-retain-set", r#"{"set": ["read"], "errno": ""}"#);
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_KILL_PROCESS");
    let names = &spec["linux"]["seccomp"]["syscalls"][0]["names"];
    assert_eq!(
        names,
        &json!(["execve", "exit", "exit_group", "read", "rt_sigreturn", "sigreturn"])
    );
}

#[test]
fn a_pod_has_what_its_apps_may_use_together() {
    let mut pod = PodManifest::default();
    pod.isolators = isolators(
        r#"{"name": "resource/memory", "value": {"limit": "1Gi"}},
        {"name": "os/unix/sysctl", "value": {"net.core.somaxconn": "9"}},
        {"name": "host/privileged", "value": true}"#,
    );
    let (resources, left) = pod_resources(&pod).unwrap();
    assert_eq!(resources.memory, Some(1 << 30));
    let left: Vec<&str> = left.iter().map(Isolator::name).collect();
    assert_eq!(left, ["os/unix/sysctl", "host/privileged"]);
    pod.isolators = isolators(r#"{"name": "resource/memory", "value": {"limit": 0}}"#);
    let error = pod_resources(&pod).unwrap_err().to_string();
    assert_eq!(error, "pod: resource/memory: the limit is 0");
}
