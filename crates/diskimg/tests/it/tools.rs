//! External tools and what several tests build.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_diskimg::container::{self, Format};
use kiln_diskimg::{Content, fat};
use kiln_tree::{Metadata, Node, Tree};

/// Runs a tool; gives whether it succeeded and what it said. `None` when it is not installed, which
/// is a failure where CI installs it.
pub(crate) fn run<A: AsRef<OsStr>>(tool: &str, arguments: &[A]) -> Option<(bool, String)> {
    // sgdisk and the like are not on everybody's path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(tool)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C.UTF-8")
        .env("MTOOLS_SKIP_CHECK", "1")
        .output();
    match output {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "{tool} is not installed");
            eprintln!("skipped: {tool}");
            None
        }
        Err(error) => panic!("{tool}: {error}"),
    }
}

/// Runs a tool that has to succeed; gives what it said.
pub(crate) fn expect<A: AsRef<OsStr>>(tool: &str, arguments: &[A]) -> Option<String> {
    let (ok, text) = run(tool, arguments)?;
    assert!(ok, "{tool}: {text}");
    Some(text)
}

/// Writes an image into a directory.
pub(crate) fn file(dir: &Path, name: &str, format: Format, content: &dyn Content) -> PathBuf {
    let path = dir.join(name);
    container::write_file(format, content, &path).unwrap();
    path
}

/// A content's bytes.
pub(crate) fn bytes(content: &dyn Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    content.write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, content.len());
    bytes
}

/// A tree with everything that a FAT volume can hold.
pub(crate) fn tree() -> Tree {
    let mut tree = Tree::new();
    let old = Metadata::new(0o644).modified_at(1_700_000_000);
    let pattern: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    tree.insert("EFI/BOOT/BOOTX64.EFI", Node::file(pattern).with(old)).unwrap();
    tree.insert("vmlinuz-6.1.0-56-amd64", Node::file(vec![7; 5000])).unwrap();
    tree.insert("initrd.img-6.1.0-56-amd64", Node::file(vec![8; 512])).unwrap();
    tree.insert("empty", Node::file(Vec::new())).unwrap();
    tree.insert("empty directory", Node::directory()).unwrap();
    tree.insert("Grüße aus Zürich 你好.text", Node::file("hello\n")).unwrap();
    tree.insert("README.TXT", Node::file("upper case\n")).unwrap();
    let target = kiln_tree::TreePath::new("README.TXT").unwrap();
    tree.insert("again.txt", Node::hardlink(target)).unwrap();
    for at in 0..200 {
        let path = format!("many/a rather long name of a module {at}.ko.xz");
        tree.insert(path, Node::file(format!("{at}\n"))).unwrap();
    }
    tree
}

/// Options with a label and a serial number.
pub(crate) fn options() -> fat::Options {
    let mut options = fat::Options::default();
    options.label = Some("KILN TEST".to_owned());
    options.volume_id = 0x1234_abcd;
    options
}
