//! Package files made by hand, so that they can be as wrong as they like.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::path::{Path, PathBuf};

use kiln_debroot::LockedPackage;
use sha2::{Digest, Sha256};

/// A package to be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Further lines of the control file.
    pub(crate) control: String,
    /// Other files of the control archive.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) entries: Vec<Entry>,
}

/// An entry of data.tar.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: tar::EntryType,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) link: Vec<u8>,
    pub(crate) content: Vec<u8>,
    /// What the header says, when that is a lie.
    pub(crate) size: Option<u64>,
}

pub(crate) fn entry(path: &str, kind: tar::EntryType) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: if kind == tar::EntryType::Directory { 0o755 } else { 0o644 },
        owner: (0, 0),
        mtime: 1_700_000_000,
        link: Vec::new(),
        content: Vec::new(),
        size: None,
    }
}

pub(crate) fn directory(path: &str) -> Entry {
    entry(path, tar::EntryType::Directory)
}

pub(crate) fn file(path: &str, content: &str) -> Entry {
    Entry { content: content.into(), ..entry(path, tar::EntryType::Regular) }
}

pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    Entry { link: target.into(), mode: 0o777, ..entry(path, tar::EntryType::Symlink) }
}

pub(crate) fn hardlink(path: &str, target: &str) -> Entry {
    Entry { link: target.into(), ..entry(path, tar::EntryType::Link) }
}

impl Package {
    pub(crate) fn new(name: &str, version: &str) -> Self {
        Self { name: name.into(), version: version.into(), ..Self::default() }
    }

    pub(crate) fn with(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    pub(crate) fn with_control(mut self, line: &str) -> Self {
        self.control.push_str(line);
        self.control.push('\n');
        self
    }

    pub(crate) fn with_script(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    pub(crate) fn control_text(&self) -> String {
        format!(
            "Package: {}\nVersion: {}\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\n\
             Description: made by a test\n{}",
            self.name, self.version, self.control
        )
    }

    /// The file's bytes, nothing of it compressed.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_with("data.tar", |data| data)
    }

    pub(crate) fn bytes_with(
        &self,
        data_name: &str,
        compress: impl Fn(Vec<u8>) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut control = vec![file("./control", &self.control_text())];
        control.extend(self.files.iter().map(|(name, text)| file(&format!("./{name}"), text)));
        ar(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar", &tar_of(&control)),
            (data_name, &compress(tar_of(&self.entries))),
        ])
    }

    /// Writes the file and says what a lock would say of it.
    pub(crate) fn write(&self, directory: &Path) -> (LockedPackage, PathBuf) {
        write(directory, &self.name, &self.version, &self.bytes())
    }
}

pub(crate) fn write(
    directory: &Path,
    name: &str,
    version: &str,
    bytes: &[u8],
) -> (LockedPackage, PathBuf) {
    let path = directory.join(format!("{name}.deb"));
    std::fs::write(&path, bytes).expect("a package file can be written");
    let mut package = LockedPackage::default();
    package.name = name.into();
    package.version = version.into();
    package.architecture = "amd64".into();
    package.archive = "file:///archive".into();
    package.path = format!("pool/{name}.deb");
    package.size = bytes.len() as u64;
    package.sha256 = sha256(bytes);
    (package, path)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let path = if entry.path.len() > 100 {
            let mut long = tar::Header::new_gnu();
            long.set_entry_type(tar::EntryType::GNULongName);
            put(&mut long.as_old_mut().name, b"././@LongLink");
            long.set_size(entry.path.len() as u64);
            long.set_cksum();
            out.extend_from_slice(long.as_bytes());
            padded(&mut out, &entry.path);
            &entry.path[..100]
        } else {
            &entry.path
        };
        put(&mut header.as_old_mut().name, path);
        put(&mut header.as_old_mut().linkname, &entry.link);
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(entry.mtime);
        header.set_size(entry.size.unwrap_or(entry.content.len() as u64));
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        padded(&mut out, &entry.content);
    }
    out.extend_from_slice(&[0; 1024]);
    out
}

fn put(field: &mut [u8; 100], text: &[u8]) {
    field[..text.len()].copy_from_slice(text);
}

fn padded(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len());
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        if content.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}
