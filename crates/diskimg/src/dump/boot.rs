//! What loaders and firmware would start, as the files of a volume say.

use std::fmt;

use super::FileReport;
use crate::boot::{bls, uki};
use crate::{Limits, Result};

/// The longest text that is looked into.
const TEXT: u64 = 1 << 20;

/// Something that is started, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BootEntry {
    /// The file that says so, or that is started.
    pub path: String,
    /// Whose it is: `bls`, `uki`, `efi`, `grub` or `syslinux`.
    pub kind: String,
    /// What a menu shows.
    pub title: Option<String>,
    /// What is started, when it is not the file itself.
    pub linux: Option<String>,
    /// Initial file systems.
    pub initrds: Vec<String>,
    /// The command line.
    pub options: Option<String>,
    /// The kernel's release.
    pub release: Option<String>,
    /// The sections of an executable with their lengths.
    pub sections: Vec<(String, u64)>,
    /// Whether an executable has a signature (whose is another question).
    pub signed: bool,
    /// Why it could not be read.
    pub problem: Option<String>,
}

/// Which reader a file is for; `None` for most files.
fn kind(path: &str) -> Option<&'static str> {
    let lower = path.to_ascii_lowercase();
    let name = lower.rsplit('/').next().unwrap_or_default();
    match name {
        "grub.cfg" => Some("grub"),
        "syslinux.cfg" | "isolinux.cfg" | "extlinux.conf" => Some("syslinux"),
        _ if name.ends_with(".conf") && lower.contains("loader/entries/") => Some("bls"),
        _ if name.ends_with(".efi") => Some("efi"),
        _ => None,
    }
}

/// The entries of a volume, in the order of its files; `read` gives a file by its place in the list.
pub(super) fn entries(
    files: &[FileReport],
    limits: &Limits,
    mut read: impl FnMut(usize) -> Result<Vec<u8>>,
) -> Vec<BootEntry> {
    let mut entries = Vec::new();
    for (at, file) in files.iter().enumerate().filter(|(_, file)| !file.directory) {
        let Some(kind) = kind(&file.path) else { continue };
        let limit = if kind == "efi" { limits.file_len } else { TEXT };
        if file.len == 0 || file.len > limit {
            continue;
        }
        let empty =
            BootEntry { path: file.path.clone(), kind: kind.to_owned(), ..BootEntry::default() };
        let found = read(at).and_then(|mut bytes| match kind {
            "efi" => executable(empty.clone(), &mut bytes, limits).map(|entry| vec![entry]),
            "bls" => of_bls(empty.clone(), &bytes, limits).map(|entry| vec![entry]),
            _ => Ok(menu(&empty, &String::from_utf8_lossy(&bytes))),
        });
        match found {
            Ok(found) => entries.extend(found),
            Err(error) => entries.push(BootEntry { problem: Some(error.to_string()), ..empty }),
        }
    }
    entries
}

fn executable(empty: BootEntry, bytes: &mut Vec<u8>, limits: &Limits) -> Result<BootEntry> {
    let report = uki::read(bytes, limits)?;
    let sections = report.sections.iter().map(|it| {
        let content = it.section.content();
        (it.section.name.clone(), content.end.saturating_sub(content.start))
    });
    let is_uki = report.sections.iter().any(|it| it.section.name == ".linux");
    let title = report.os_release.as_deref().and_then(|text| {
        let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(value.trim_matches(['"', '\'']).to_owned())
    });
    Ok(BootEntry {
        kind: if is_uki { "uki".to_owned() } else { empty.kind.clone() },
        title,
        options: report.command_line.clone(),
        release: report.uname.clone(),
        sections: sections.collect(),
        signed: report.certificates > 0,
        ..empty
    })
}

fn of_bls(empty: BootEntry, bytes: &[u8], limits: &Limits) -> Result<BootEntry> {
    let entry = bls::Entry::parse(bytes, limits)?;
    Ok(BootEntry {
        title: entry.title,
        linux: entry.linux.or(entry.uki).or(entry.efi),
        initrds: entry.initrds,
        options: Some(entry.options).filter(|options| !options.is_empty()),
        release: entry.version,
        ..empty
    })
}

/// The entries of a menu of GRUB or SYSLINUX, as far as they are written down: neither language is
/// executed.
fn menu(empty: &BootEntry, text: &str) -> Vec<BootEntry> {
    let mut entries: Vec<BootEntry> = Vec::new();
    for line in text.lines() {
        let mut words = words(line).into_iter();
        let Some(first) = words.next() else { continue };
        let rest: Vec<String> = words.collect();
        let key = first.to_ascii_lowercase();
        if matches!(key.as_str(), "menuentry" | "label") {
            entries.push(BootEntry { title: rest.into_iter().next(), ..empty.clone() });
            continue;
        }
        let Some(entry) = entries.last_mut() else { continue };
        let joined = || Some(rest.join(" ")).filter(|text| !text.is_empty());
        match key.as_str() {
            "linux" | "linuxefi" | "linux16" | "kernel" | "chainloader" => {
                entry.linux = rest.first().cloned();
                if rest.len() > 1 {
                    entry.options = rest.get(1..).map(|rest| rest.join(" "));
                }
            }
            "initrd" | "initrdefi" | "initrd16" => {
                entry.initrds =
                    rest.iter().flat_map(|it| it.split(',')).map(str::to_owned).collect();
            }
            "append" => entry.options = joined(),
            "menu" if rest.first().is_some_and(|it| it.eq_ignore_ascii_case("label")) => {
                entry.title = rest.get(1..).map(|rest| rest.join(" "));
            }
            _ => {}
        }
    }
    entries
}

/// The words of a line; what is between quotes is one of them, and what is after a backslash (not
/// between single quotes) has no meaning of its own.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut line = line.trim().chars();
    while let Some(c) = line.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(line.next()),
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

impl fmt::Display for BootEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "starts {} ({})", self.path.escape_debug(), self.kind)?;
        if let Some(title) = &self.title {
            write!(out, " {title:?}")?;
        }
        if let Some(release) = &self.release {
            write!(out, ", kernel {}", release.escape_debug())?;
        }
        if let Some(linux) = &self.linux {
            write!(out, ": {}", linux.escape_debug())?;
        }
        for initrd in &self.initrds {
            write!(out, " + {}", initrd.escape_debug())?;
        }
        if matches!(self.kind.as_str(), "uki" | "efi") && self.problem.is_none() {
            write!(out, ", {}", if self.signed { "signed" } else { "not signed" })?;
        }
        if self.kind == "uki" {
            for (name, len) in &self.sections {
                write!(out, ", {} {len}", name.escape_debug())?;
            }
        }
        if let Some(options) = &self.options {
            write!(out, ", with {options:?}")?;
        }
        if let Some(problem) = &self.problem {
            write!(out, ": ! {}", problem.escape_debug())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: &str, text: &str) -> String {
        let empty =
            BootEntry { path: "file".into(), kind: kind.to_owned(), ..BootEntry::default() };
        menu(&empty, text).iter().map(|entry| format!("{entry}\n")).collect()
    }

    #[test]
    fn menus_of_grub_and_syslinux() {
        insta::assert_snapshot!(
            shown(
                "grub",
                "set timeout=0\n# menuentry no\nmenuentry 'Kiln it'\\''s' --id a {\n  linux /vmlinuz \
                 quiet 'a b'\n  initrd /one /two\n}\nmenuentry \"other\" {\n chainloader /x.efi\n}\n"
            ),
            @r#"
            starts file (grub) "Kiln it's": /vmlinuz + /one + /two, with "quiet a b"
            starts file (grub) "other": /x.efi
            "#
        );
        insta::assert_snapshot!(
            shown(
                "syslinux",
                "DEFAULT kiln\nAPPEND outside\nLABEL kiln\n  MENU LABEL Kiln OS\n  LINUX /vmlinuz\n  \
                 INITRD /a,/b\n  APPEND console=ttyS0 quiet\nlabel two\n kernel x\n"
            ),
            @r#"
        starts file (syslinux) "Kiln OS": /vmlinuz + /a + /b, with "console=ttyS0 quiet"
        starts file (syslinux) "two": x
        "#
        );
        assert_eq!(shown("grub", "linux /x\n}\ninitrd y\nmenuentry"), "starts file (grub)\n");
    }

    #[test]
    fn which_files_are_looked_into() {
        for (path, wanted) in [
            ("loader/entries/kiln.conf", Some("bls")),
            ("boot/loader/entries/a+3.conf", Some("bls")),
            ("loader/loader.conf", None),
            ("EFI/BOOT/BOOTX64.EFI", Some("efi")),
            ("EFI/debian/grub.cfg", Some("grub")),
            ("isolinux/ISOLINUX.CFG", Some("syslinux")),
            ("etc/grub.cfg.bak", None),
        ] {
            assert_eq!(kind(path), wanted, "{path}");
        }
    }
}
