//! Definitions as container images: layers on top of those of a base, and several images in one archive.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln::build::{self, Options};
use kiln::definition::Definition;
use kiln::manifest::Manifest;
use kiln::{Cache, Progress};
use kiln_oci::{Image, Layout, Limits, docker, platform};

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
    let mut options = Options::default();
    options.formats = formats.iter().map(|name| name.parse().unwrap()).collect();
    options.cache = Cache::at(cache);
    options.offline = true;
    build::build(&definition, &options, out, &Progress::quiet()).unwrap().manifest
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
