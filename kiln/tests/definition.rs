//! Definition files: what is good, and what is said about what is not.

use std::path::Path;

use kiln::build::Options;
use kiln::definition::{Content, Definition, Filesystem, Firmware, Format, PartitionSize, Root};
use kiln_diskimg::gpt::PartitionType;

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
fn the_network_is_what_the_guest_reads() {
    let image = |network: &str| {
        format!("name = \"x\"\nformats = [\"tar\"]\n[init]\ncargo = \"i\"\n{network}")
    };
    let text = image(
        "[network]\nnameservers = [\"127.0.0.1\"]\n[[network.interface]]\nmatch = \"eth0\"\ndhcp = true\n",
    );
    let definition = Definition::parse(&text, Path::new("image.toml")).unwrap();
    let config = kiln_network::from_toml(&definition.network.unwrap()).unwrap();
    assert_eq!(config.nameservers, [std::net::Ipv4Addr::LOCALHOST]);
    assert!(config.interfaces[0].dhcp);
    insta::assert_snapshot!(problems(&image("[network]\nnameserver = []\n")), @"
    the image cannot be built:
      - image.toml:6:1: [network] unknown field `nameserver`, expected one of `hostname`, `nameservers`, `search`, `ntp`, `interface`, `bond`, `vlan`, `bridge`, `veth`, `wireguard`
    ");
    let twice = "[[network.bond]]\nname = \"b\"\nmembers = []\n[[network.bond]]\nname = \"b\"\nmembers = []\n";
    insta::assert_snapshot!(problems(&image(twice)), @"
    the image cannot be built:
      - image.toml:5:3: [network] bond b: another link has this name
      - image.toml:5:3: [network] bond b: no members
    ");
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

#[test]
fn a_root_on_the_disk() {
    let parts = |text: &str| {
        let boot = "[[disk.partition]]\nname = \"boot\"\nboot = true\n";
        format!("{LEAST}[disk]\n{boot}[[disk.partition]]\nname = \"root\"\n{text}\n")
    };
    let read = |text: &str| Definition::parse(&parts(text), Path::new("image.toml")).unwrap();
    let definition = read("root = true\nfilesystem = \"erofs-lz4\"\nverity = true");
    assert_eq!(definition.root(), Some((Filesystem::ErofsLz4, Root::Verified)));
    assert_eq!(definition.disk.partitions[1].kind.value, PartitionType::LINUX_ROOT_X86_64);
    let definition = read("root = true\nfilesystem = \"ext4\"");
    assert_eq!(definition.root(), Some((Filesystem::Ext4, Root::Plain)));
    let headroom = "64MiB".parse().unwrap();
    assert_eq!(definition.disk.partitions[1].size.value, PartitionSize::Content { headroom });
    assert_eq!(read("filesystem = \"ext4\"\nsize = \"1GiB\"").root(), None);

    let wrong = parts("root = true\nfilesystem = \"fat\"\ntree = \"a\"")
        + "[[disk.partition]]\nname = \"more\"\nverity = true\nsize = \"1MiB\"\n"
        + "[[disk.partition]]\nname = \"other\"\nroot = true\nverity = true\nsize = \"rest\"\n";
    insta::assert_snapshot!(problems(&wrong), @r#"
    the image cannot be built:
      - image.toml:12:8: the root partition has the image's files and no tree of its own
      - image.toml:13:14: fat holds no owners and links: give the root another file system
      - image.toml:17:10: verity is for the partition with root = true
      - image.toml:20:8: only one partition can have root = true
      - image.toml:23:8: the rest of what? Give [disk] size
    "#);
    let linked = parts("root = true").replace("file = \"init\"", "link = \"/sbin/init\"");
    insta::assert_snapshot!(problems(&linked), @r#"
    the image cannot be built:
      - image.toml:3:8: root = true needs an [init] that finds the root, as kiln-guest does: give cargo, file or pick
    "#);
}

#[test]
fn slots_need_a_version_and_nobody_who_verifies() {
    let text = format!("{LEAST}[disk]\nslots = \"64MiB\"\nsecure-boot = \"shim\"\n");
    let error = Definition::parse(&text, Path::new("image.toml")).unwrap_err().to_string();
    for part in ["they go without secure-boot", "slots need a version"] {
        assert!(error.contains(part), "{error}");
    }
    let text = format!("version = \"1\"\n{LEAST}[disk]\nslots = \"64MiB\"\n");
    let definition = Definition::parse(&text, Path::new("image.toml")).unwrap();
    assert_eq!(definition.disk.slots.unwrap().value, kiln_diskimg::ByteLen::mib(64));
}

#[test]
fn firmware_is_all_unless_a_key_is_to_be_trusted() {
    let firmware = |text: &str| {
        let definition = Definition::parse(&format!("{LEAST}{text}"), Path::new("image.toml"));
        Options::default().firmware(&definition.unwrap())
    };
    assert_eq!(firmware(""), Firmware::ALL);
    assert_eq!(firmware("[disk]\nsecure-boot = \"shim\""), Firmware::ALL);
    assert_eq!(firmware("[disk]\nsecure-boot = \"keys\""), [Firmware::Uefi]);
    assert_eq!(firmware("[disk]\nfirmware = \"bios\""), [Firmware::Bios]);
}

#[test]
fn a_root_that_is_fetched_needs_a_version_and_is_the_only_one() {
    let text = r#"
name = "x"
formats = ["netboot", "root.erofs"]
[init]
file = "init"
[kernel]
package = "linux-image-amd64"
[ramroot]
carry = ["bin/sh"]
chunk = "1KiB"
server = "boot.example"
keys = "a"
[[disk.partition]]
name = "root"
root = true
"#;
    insta::assert_snapshot!(problems(text), @r#"
    the image cannot be built:
      - image.toml:2:8: [ramroot] needs a version: no machine takes an older root than its initramfs
      - image.toml:9:10: "bin/sh" must be an absolute path without ".", ".." and empty parts
      - image.toml:10:9: chunks have 4KiB to 16MiB
      - image.toml:11:10: server must be a URL that begins with http:// or https://
      - image.toml:12:1: unknown key "keys" [ramroot]; known here: carry, chunk, server, trust
      - image.toml:14:8: a root on the disk beside [ramroot]: there is one root
      - image.toml:14:8: no partition has boot = true: nothing could be started from the disk
    "#);
    let root = Format::RootTarXz;
    assert_eq!(root.file_name("hashios"), "hashios-root.tar.xz");
    assert_eq!(Format::Netboot.file_name("hashios"), "hashios-initrd.img");
    assert!(root.is_archive() && !root.is_disk() && !root.is_run() && !root.has_loader());
    assert!(!Format::Netboot.is_archive() && !Format::Netboot.is_disk());
}
