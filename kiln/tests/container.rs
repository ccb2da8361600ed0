//! Definitions as container images: layers on top of those of a base, and several images in one archive.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln::build::{self, Options};
use kiln::definition::Definition;
use kiln::manifest::Manifest;
use kiln::{Cache, Progress};
use kiln_oci::appc::{Aci, Isolator, Rendering};
use kiln_oci::{Image, Layout, Limits, docker, platform};

#[path = "../../crates/oci/tests/it/appc/actool/program.rs"]
mod actool;

const BASE: &str = r#"
name = "base"
version = "v1"
[container]
reference = "example/base:v1"
command = ["/bin/hello"]
[[file]]
path = "/bin/hello"
text = "hello"
mode = "0755"
[[file]]
path = "/etc/motd"
text = "of the base"
"#;

const WEB: &str = r#"
name = "web"
[container]
base = "../base/image.toml"
entrypoint = ["/bin/web"]
env = { PORT = "80" }
labels = { "example.after" = "network" }
ports = "80/tcp"
[[user]]
name = "web"
uid = 1000
[[file]]
path = "/bin/web"
text = "web"
mode = "0755"
[[file]]
path = "/etc/motd"
text = "of the web"
"#;

const ALL: &str = r#"
name = "all"
[input.images]
images = ["base/image.toml", "web/image.toml"]
[[file]]
path = "/usr/share/images.tar"
input = "images"
"#;

fn write(directory: &Path) {
    for (name, text) in [("base", BASE), ("web", WEB), ("all", ALL)] {
        let place = if name == "all" { directory.to_path_buf() } else { directory.join(name) };
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("image.toml"), text).unwrap();
    }
}

/// Builds a definition of the directory.
fn built(file: &Path, cache: &Path, out: &Path, formats: &[&str]) -> Manifest {
    let definition = Definition::read(file).unwrap();
    let options = options(cache, formats);
    build::build(&definition, &options, out, &Progress::quiet()).unwrap().manifest
}

fn options(cache: &Path, formats: &[&str]) -> Options {
    let mut options = Options::default();
    options.formats = formats.iter().map(|name| name.parse().unwrap()).collect();
    options.cache = Cache::at(cache);
    options.offline = true;
    options
}

fn text(image: &Image, path: &str) -> String {
    let tree = image.tree(&kiln_oci::layer::Options::default(), None).unwrap();
    let node = tree.get(&kiln_tree::TreePath::new(path).unwrap()).unwrap();
    let kiln_tree::Kind::File(source) = &node.kind else { panic!("{path}: {:?}", node.kind) };
    std::io::read_to_string(source.open().unwrap()).unwrap()
}

#[test]
fn an_image_has_the_layers_of_its_base_and_one_with_what_is_another() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    write(work);
    let web = work.join("web/image.toml");
    built(&web, &work.join("cache"), &work.join("out"), &["oci", "docker"]);
    built(&work.join("base/image.toml"), &work.join("cache"), &work.join("out"), &["oci"]);
    // with nothing in the cache the bytes are the same
    built(&web, &work.join("cache2"), &work.join("out2"), &["oci", "docker"]);
    for name in ["web.oci.tar", "web.docker.tar"] {
        let read = |out: &str| std::fs::read(work.join(out).join(name)).unwrap();
        assert!(read("out") == read("out2"), "{name}");
    }
    let amd64 = platform("linux/amd64").unwrap();
    let open = |name: &str| Layout::open(work.join("out").join(name), Limits::default()).unwrap();
    let base = open("base.oci.tar").image(Some("example/base:v1"), &amd64).unwrap();
    let web = open("web.oci.tar").image(Some("web:latest"), &amd64).unwrap();
    assert_eq!((base.layers.len(), web.layers.len()), (1, 2));
    assert_eq!(base.layers[0].descriptor.digest(), web.layers[0].descriptor.digest());
    assert_eq!(text(&web, "usr/bin/hello"), "hello");
    assert_eq!(text(&web, "etc/motd"), "of the web");
    assert!(text(&web, "etc/passwd").contains("web:x:1000:1000:"));
    let config = web.config.config().clone().unwrap();
    assert_eq!(config.entrypoint().clone().unwrap(), ["/bin/web"]);
    assert_eq!(config.cmd(), &None);
    assert_eq!(config.env().clone().unwrap(), ["PORT=80"]);
    assert_eq!(config.labels().clone().unwrap()["example.after"], "network");
    let archive = docker::Archive::open(work.join("out/web.docker.tar"), Limits::default());
    let image = archive.unwrap().image(Some("web:latest")).unwrap();
    assert_eq!(text(&image, "usr/bin/web"), "web");
}

/// A checkout: the definition and a directory of the host, written in an order, with times and modes as
/// the machine has them.
fn checkout(directory: &Path, names: [&str; 4], modified: SystemTime, mode: u32) {
    write(directory);
    let site = directory.join("web/site");
    let tree = "[[file]]\npath = \"/srv\"\ntree = \"site\"\n";
    let more = "labels = { \"example.b\" = \"1\", \"example.a\" = \"2\", \"example.after\" = \"network\" }";
    let web = WEB.replace("labels = { \"example.after\" = \"network\" }", more);
    std::fs::write(directory.join("web/image.toml"), web + tree).unwrap();
    for name in names {
        let path = site.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, name.repeat(9000)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        std::fs::File::open(&path).unwrap().set_modified(modified).unwrap();
    }
    symlink("page/1", site.join("index")).unwrap();
}

#[test]
fn the_same_definition_elsewhere_gives_the_same_bytes() {
    let work = tempfile::tempdir().unwrap();
    let one = work.path().join("one");
    let other = work.path().join("of/somebody/else");
    let names = ["page/1", "page/2", "about", "z"];
    let mut reversed = names;
    reversed.reverse();
    checkout(&one, names, UNIX_EPOCH + Duration::from_secs(1_000_000_000), 0o644);
    checkout(&other, reversed, SystemTime::now(), 0o664);
    let formats = ["oci", "docker"];
    let made = [&one, &other].map(|place| {
        let out = place.join("out");
        let manifest = built(&place.join("web/image.toml"), &place.join("cache"), &out, &formats);
        let archive = built(&place.join("image.toml"), &place.join("cache"), &out, &["tar"]);
        let read = |name: &str| std::fs::read(out.join(name)).unwrap();
        let artifacts = ["web.oci.tar", "web.docker.tar", "all.tar"].map(read);
        (artifacts, manifest.files, archive.files, archive.inputs)
    });
    let [(one_artifacts, ..), (other_artifacts, ..)] = &made;
    for (at, (one, other)) in one_artifacts.iter().zip(other_artifacts).enumerate() {
        assert!(one == other, "artifact {at}");
    }
    assert_eq!(made[0].1, made[1].1);
    assert_eq!((&made[0].2, &made[0].3), (&made[1].2, &made[1].3));
    // It can fail: another time of the definition is in the bytes.
    let web = one.join("web/image.toml");
    let text = std::fs::read_to_string(&web).unwrap();
    std::fs::write(&web, text.replace("name = \"web\"\n[c", "name = \"web\"\nepoch = 1\n[c"))
        .unwrap();
    built(&web, &one.join("cache"), &one.join("out"), &formats);
    assert!(std::fs::read(one.join("out/web.oci.tar")).unwrap() != one_artifacts[0]);
}

#[test]
fn several_images_are_one_input_and_the_manifest_names_them() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    write(work);
    let manifest =
        built(&work.join("image.toml"), &work.join("cache"), &work.join("out"), &["tar"]);
    let archive = manifest.files.iter().find(|file| file.path == "usr/share/images.tar").unwrap();
    let names: Vec<(&str, &str)> = manifest
        .inputs
        .iter()
        .map(|input| (input.name.as_str(), input.kind.as_str()))
        .filter(|(_, kind)| kind.starts_with("container"))
        .collect();
    assert_eq!(
        names,
        [
            ("images", "container images"),
            ("example/base:v1", "container image"),
            ("web:latest", "container image")
        ]
    );
    assert_eq!(manifest.inputs[0].sha256, archive.sha256.clone().unwrap());
}

#[test]
fn what_is_no_container_and_what_has_no_end_is_refused() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    write(work);
    let fails = |text: &str| {
        let file = work.join("web/image.toml");
        std::fs::write(&file, text).unwrap();
        let definition = Definition::read(&file).unwrap();
        let mut options = Options::default();
        options.cache = Cache::at(work.join("cache"));
        options.offline = true;
        let out = work.join("out");
        let error = build::build(&definition, &options, &out, &Progress::quiet()).unwrap_err();
        assert!(!out.join("web.oci.tar").exists());
        error.to_string()
    };
    let own = "name = \"web\"\n[container]\nbase = \"image.toml\"\n";
    let error = fails(own);
    assert!(error.contains("more than 8 images on top of each other"), "{error}");
    let boots = "name = \"os\"\n[init]\nfile = \"/bin/sh\"\n";
    std::fs::create_dir(work.join("os")).unwrap();
    std::fs::write(work.join("os/image.toml"), boots).unwrap();
    let error = fails("name = \"web\"\n[container]\nbase = \"../os/image.toml\"\n");
    assert!(error.contains("has a kernel or an init, which no container has"), "{error}");
    assert!(error.contains("web/image.toml:3:8"), "{error}");
}

/// The whole tree and what a container is started with, for the other runtimes; the same each time.
#[test]
fn an_image_of_appc_has_the_tree_of_its_base_or_of_an_archive() {
    const CLOCK: &str = r#"
name = "clock"
version = "v2"
[container]
reference = "example.com/clock:2"
BEGINS
entrypoint = ["/bin/clock"]
command = ["-d"]
env = { TZ = "UTC" }
user = "clock"
volumes = "/data"
ports = "123/udp"
[container.isolators]
"os/linux/capabilities-retain-set" = { set = ["CAP_SYS_TIME"] }
[[user]]
name = "clock"
uid = 123
[[file]]
path = "/bin/clock"
text = "clock"
mode = "0755"
"#;
    let work = tempfile::tempdir().unwrap();
    let cache = work.path().join("cache");
    write(work.path());
    let base = work.path().join("base.toml");
    std::fs::write(&base, BASE).unwrap();
    built(&base, &cache, &work.path().join("base"), &["tar.gz"]);
    std::fs::rename(work.path().join("base/base.tar.gz"), work.path().join("base.tar.gz")).unwrap();
    let archive = Some(work.path().join("base.tar.gz"));
    let file = work.path().join("clock.toml");
    let mut ids = Vec::new();
    for (number, given) in [None, archive.clone(), archive].into_iter().enumerate() {
        let begins = if given.is_none() { "base = \"base.toml\"" } else { "" };
        std::fs::write(&file, CLOCK.replace("BEGINS", begins)).unwrap();
        let out = work.path().join(number.to_string());
        let mut options = options(&cache, &["aci", "oci"]);
        options.base = given;
        let definition = Definition::read(&file).unwrap();
        let built = build::build(&definition, &options, &out, &Progress::quiet());
        let manifest = built.unwrap().manifest;
        let layout = Layout::open(out.join("clock.oci.tar"), Limits::default()).unwrap();
        let oci = layout.image(None, &platform("linux/amd64").unwrap()).unwrap();
        assert_eq!(oci.layers.len(), 2);
        assert_eq!(text(&oci, "usr/bin/hello"), "hello");
        let aci = out.join("clock.aci");
        let image = Aci::open(&aci, &Limits::default()).unwrap();
        let said = &image.manifest;
        assert_eq!(said.name.as_str(), "example.com/clock");
        let label = |name: &str| said.labels[name].as_str();
        assert_eq!((label("version"), label("os"), label("arch")), ("2", "linux", "amd64"));
        let app = said.app.as_ref().unwrap();
        assert_eq!(app.exec, ["/bin/clock", "-d"]);
        assert_eq!((app.user.as_str(), app.group.as_str()), ("clock", "123"));
        assert_eq!(app.environment["TZ"], "UTC");
        assert_eq!(app.mount_points[0].path, "/data");
        assert_eq!(app.ports[0].port, 123);
        let set = BTreeSet::from(["CAP_SYS_TIME".to_owned()]);
        assert_eq!(app.isolators, [Isolator::CapabilitiesRetainSet(set)]);
        ids.push((image.id.clone(), manifest.artifacts[1].sha256.clone()));
        let tree = Rendering::new(image, &Limits::default(), &mut |_| Ok(None)).unwrap();
        let tree = tree.tree(&Default::default(), None).unwrap();
        assert!(tree.contains("usr/bin/hello") && tree.contains("usr/bin/clock"), "{tree:?}");
        if let Some(actool) = actool::actool() {
            let output = Command::new(actool).arg("validate").arg(&aci).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    assert_eq!(ids[1], ids[2]);
    let wrong = CLOCK.replace("BEGINS", "").replace("CAP_SYS_TIME", "sys time");
    for (text, expected) in [
        (wrong.replace("set =", "sets ="), "clock.toml:13:1: isolators"),
        (CLOCK.replace("BEGINS", "base = \"none.toml\""), "none.toml"),
    ] {
        std::fs::write(&file, text).unwrap();
        let options = options(&cache, &["aci"]);
        let built = Definition::read(&file).and_then(|definition| {
            build::build(&definition, &options, &work.path().join("no"), &Progress::quiet())
        });
        let error = built.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
