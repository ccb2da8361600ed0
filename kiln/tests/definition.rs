//! Definition files: what is good, and what is said about what is not.

use std::path::Path;

use kiln::definition::{Content, Definition, Format, PartitionSize};

fn problems(text: &str) -> String {
    match Definition::parse(text, Path::new("image.toml")) {
        Ok(_) => "nothing".into(),
        Err(error) => error.to_string(),
    }
}

const LEAST: &str =
    "name = \"x\"\n[init]\nfile = \"init\"\n[kernel]\npackage = \"linux-image-amd64\"\n";

#[test]
fn the_least_is_enough_and_has_defaults() {
    let definition = Definition::parse(LEAST, Path::new("dir/image.toml")).unwrap();
    assert_eq!(definition.formats.len(), 1);
    assert_eq!(definition.formats[0].value, Format::Raw);
    assert_eq!(definition.debian.suite.value, "bookworm");
    assert_eq!(definition.host_path(Path::new("a")), Path::new("dir/a"));
}

#[test]
fn everything_wrong_is_told_at_once_with_its_place() {
    let text = r#"
name = "Nomad OS"
formats = ["raw", "qcow3"]
pacages = { install = ["a"] }

[debian]
suite = 12

[packages]
install = ["nginx-light", "nginx-light", "NotAName"]

[init]
cargo = "x"
pick = "/sbin/init"

[kernel]
package = "linux-image-amd64"
fragments = "a.config"

[input.app]

[[file]]
path = "etc/motd"
text = "hello"
file = "motd"

[[file]]
path = "/etc/motd"
input = "ap"
mode = "0999"
owner = "www"

[[user]]
name = "web"

[[service]]
name = "a"
command = ["/bin/a"]
requires = ["b"]

[[service]]
name = "b"
command = ["/bin/b"]
requires = ["a", "netwrok"]

[[service]]
name = "b"
command = ["/bin/c"]
restrat = "never"

[disk]
firmware = "uefy"
[[disk.partition]]
name = "data"
size = "rest"
[[disk.partition]]
name = "data"
filesystem = "xfs"

[run]
forward = "http"
"#;
    insta::assert_snapshot!(problems(text));
}

#[test]
fn a_definition_as_a_whole_is_judged() {
    let text = format!(
        r#"{LEAST}
[[file]]
path = ["/a", "/a", "relative", "/b/../c"]
text = ""
[[file]]
path = "/d"
pick = "/usr/bin/d"
[[file]]
path = "/e"
input = "none"
owner = "nobody"
group = "staff"
[[user]]
name = "web"
uid = 0
groups = ["video"]
[[service]]
name = "a"
command = ["/bin/a"]
requires = ["b"]
user = "wev"
[[service]]
name = "b"
command = ["/bin/b"]
requires = ["a"]
[[service]]
name = "b"
command = ["/bin/c"]
after = ["netwrok"]
[disk]
[[disk.partition]]
name = "one"
size = "rest"
[[disk.partition]]
name = "two"
filesystem = "fat"
"#
    );
    insta::assert_snapshot!(problems(&text));
}

#[test]
fn a_syntax_error_has_its_place() {
    insta::assert_snapshot!(problems("name = \"x\"\n[kernel\npackage = 'a'\n"));
    let error = Definition::read(Path::new("/nonexistent/image.toml")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/image.toml"), "{error}");
}

#[test]
fn a_tree_that_nothing_boots_needs_neither_kernel_nor_init_and_can_be_archived_only() {
    let definition = Definition::parse("name = \"x\"\n", Path::new("image.toml")).unwrap();
    assert!(definition.kernel.is_none() && definition.init.is_none());
    assert_eq!(definition.formats[0].value, Format::TarGz);
    let text = r#"
name = "x"
formats = ["tar", "raw"]
[[service]]
name = "a"
command = ["/a"]
[network]
[disk]
size = "1GiB"
"#;
    insta::assert_snapshot!(problems(text), @r"
    the image cannot be built:
      - image.toml:3:19: raw needs a [kernel], and there is none
      - image.toml:4:1: [[service]] without [init]: no process 1 would read it
      - image.toml:7:1: [network] without [init]: no process 1 would read it
      - image.toml:9:8: [disk] without [kernel]: nothing could be started from it
    ");
    // A section that cannot be read is not one that is not there.
    let broken = problems("name = \"x\"\n[kernel]\n");
    assert!(broken.contains("[kernel] needs one of"), "{broken}");
}

#[test]
fn the_definitions_of_the_examples_are_good() {
    let root = kiln::cache::workspace_root();
    let definition = Definition::read(&root.join("examples/nomados/image.toml")).unwrap();
    assert!(definition.services.iter().any(|service| service.spec.name == "nomad"));
    Definition::read(&root.join("examples/nomados/podman/image.toml")).unwrap();
    let busybox = definition.files.iter().find(|file| file.paths[0].value == "/usr/bin/busybox");
    assert_eq!(busybox.unwrap().content.value, Content::Pick("/usr/bin/busybox".into()));
}

#[test]
fn sizes_are_bytes_content_or_the_rest() {
    let text = format!(
        "{LEAST}[disk]\nsize = \"1GiB\"\n[[disk.partition]]\nname = \"b\"\nboot = true\nsize = \
         \"content+16MiB\"\n[[disk.partition]]\nname = \"d\"\nsize = \"rest\"\n"
    );
    let definition = Definition::parse(&text, Path::new("image.toml")).unwrap();
    let sizes: Vec<_> = definition.disk.partitions.iter().map(|it| it.size.value).collect();
    let headroom = "16MiB".parse().unwrap();
    assert_eq!(sizes, [PartitionSize::Content { headroom }, PartitionSize::Rest]);
}
