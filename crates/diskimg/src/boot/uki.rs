//! Unified kernel images: kernel, initramfs and command line as one program that UEFI starts and
//! that one signature covers.
//!
//! After the UAPI Group's Unified Kernel Image specification (UAPI.5). Such an image is a stub
//! (systemd's `linuxx64.efi.stub`) with further sections, which it finds by name when it runs.
//!
//! # How it is laid out
//! - Sections of the stub stay where they are in memory. In the file they are put together anew, so
//!   that the headers can grow into the room before the first section.
//! - New sections begin at multiples of the stub's alignments, in memory at least of 4096.
//! - `.linux` is as long in memory as the kernel's own headers ask for, because a kernel may be run
//!   where it is.
//! - A section of the stub that is given anew is dropped. The stub's `.sbat` is kept and added to.
//!
//! # Example
//! This example shows how to make an image for an EFI system partition.
//!
//! ```no_run
//! use kiln_diskimg::boot::uki::Uki;
//! use kiln_tree::{Node, Tree};
//!
//! let stub = std::fs::read("linuxx64.efi.stub")?;
//! let mut uki = Uki::new(stub, std::fs::read("vmlinuz")?);
//! uki.initrds.push(std::fs::read("initramfs.cpio.zst")?.into());
//! uki.command_line = Some("console=ttyS0 panic=1".to_owned());
//! let mut esp = Tree::new();
//! esp.insert("EFI/BOOT/BOOTX64.EFI", Node::file(uki.plan()?.source()))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod report;

pub use report::{Report, read};

use std::collections::{BTreeMap, BTreeSet};

use kiln_tree::Source;

use super::pe::{self, Headers, Image, Section, characteristics};
use crate::Result;
use crate::error::Problems;
use crate::field::{array, index, narrow16, narrow32, put, u16_le, u32_le};

/// What sections begin at a multiple of in memory: the page of all machines that UEFI starts.
const PAGE: u64 = 4096;
/// What a stub may align to: the most that the format allows for files.
const MAX_ALIGNMENT: u64 = 64 << 10;
/// What each initramfs is filled up to a multiple of, so that the kernel finds the next one.
const INITRD_ALIGNMENT: u64 = 4;
/// The first line of a `.sbat` section.
const SBAT_HEADER: &str =
    "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n";

/// What a unified kernel image consists of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Uki {
    /// The program that starts the kernel.
    pub stub: Vec<u8>,
    /// The kernel: `.linux`.
    pub kernel: Source,
    /// Initial file systems, unpacked one over the other in this order: `.initrd`.
    pub initrds: Vec<Source>,
    /// The kernel's command line: `.cmdline`.
    pub command_line: Option<String>,
    /// The content of `/etc/os-release`, from which boot menus take a name: `.osrel`.
    pub os_release: Option<String>,
    /// The kernel's release as `uname -r` prints it: `.uname`. See [`kernel_release`].
    pub uname: Option<String>,
    /// A picture shown while the kernel starts, in Windows bitmap format: `.splash`.
    pub splash: Option<Source>,
    /// A device tree: `.dtb`.
    pub device_tree: Option<Source>,
    /// Lines of revocation data, added to those of the stub: `.sbat`.
    pub sbat: Option<String>,
    /// Further sections by name (`.ucode`, `.pcrsig`), in this order.
    pub extra: Vec<(String, Source)>,
}

impl Uki {
    /// An image of a stub and a kernel.
    #[must_use]
    pub fn new(stub: impl Into<Vec<u8>>, kernel: impl Into<Source>) -> Self {
        Self {
            stub: stub.into(),
            kernel: kernel.into(),
            initrds: Vec::new(),
            command_line: None,
            os_release: None,
            uname: None,
            splash: None,
            device_tree: None,
            sbat: None,
            extra: Vec::new(),
        }
    }

    /// Lays the image out. Of the kernel and the picture the first bytes are read, of everything
    /// else nothing.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) with everything that is wrong;
    /// [`Error::Io`](crate::Error::Io).
    pub fn plan(&self) -> Result<Image> {
        let mut problems = Problems(Vec::new());
        let stub = match Headers::parse(&self.stub, self.stub.len() as u64) {
            Ok(stub) => Some(stub),
            Err(error) => {
                problems.0.push(format!("the stub: {error}"));
                None
            }
        };
        let new = self.sections(stub.as_ref(), &mut problems)?;
        let Some(stub) = stub else {
            problems.check("unified kernel image")?;
            return Err(crate::Error::unsupported("uki", "a stub without headers"));
        };
        let layout = Layout::of(&self.stub, &stub, &new, &mut problems);
        problems.check("unified kernel image")?;
        layout.image(&self.stub, &stub, new)
    }

    /// The sections that are added, checked one by one.
    fn sections(&self, stub: Option<&Headers>, problems: &mut Problems) -> Result<Vec<New>> {
        let mut new = Vec::new();
        let mut text = |name: &str, text: Option<&String>, lines: bool| {
            let Some(text) = text else { return };
            let wrong = |c: char| c.is_control() && !(lines && matches!(c, '\n' | '\t'));
            if text.is_empty() {
                problems.0.push(format!("{name} is empty; leave it out"));
            } else if let Some(at) = text.find(wrong) {
                problems.0.push(format!("{name} has a control character at byte {at}"));
            }
            new.push(New::of(name, Source::from(text.as_str())));
        };
        text(".osrel", self.os_release.as_ref(), true);
        text(".cmdline", self.command_line.as_ref(), false);
        text(".uname", self.uname.as_ref(), false);
        if let Some(splash) = &self.splash {
            if !pe::head(splash, "read the picture")?.starts_with(b"BM") {
                problems.0.push(".splash is no Windows bitmap: it does not begin with BM".into());
            }
            new.push(New::of(".splash", splash.clone()));
        }
        if let Some(tree) = &self.device_tree {
            if !pe::head(tree, "read the device tree")?.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]) {
                problems.0.push(".dtb is no device tree: it does not begin with d00dfeed".into());
            }
            new.push(New::of(".dtb", tree.clone()));
        }
        if !self.initrds.is_empty() {
            new.push(New::of(".initrd", joined(&self.initrds)));
        }
        new.extend(self.extra.iter().map(|(name, content)| New::of(name, content.clone())));
        new.push(self.kernel(stub, problems)?);
        if let Some(lines) = &self.sbat {
            new.push(New::of(".sbat", self.merged_sbat(lines, stub, problems).into()));
        }
        let mut names = BTreeSet::new();
        for section in &new {
            let name = section.name.as_str();
            if name.len() > 8 || !name.starts_with('.') || !name.is_ascii() {
                problems.0.push(format!(
                    "the section {name:?} needs a name of at most 8 ASCII characters after a dot \
                     in front"
                ));
            }
            if section.content.is_empty() && name != ".cmdline" {
                problems.0.push(format!("{name} is empty; leave it out"));
            }
            if !names.insert(name) {
                problems.0.push(format!("there are two sections {name}"));
            }
        }
        Ok(new)
    }

    fn kernel(&self, stub: Option<&Headers>, problems: &mut Problems) -> Result<New> {
        let mut new = New::of(".linux", self.kernel.clone());
        new.characteristics =
            characteristics::CODE | characteristics::EXECUTE | characteristics::READ;
        let head = pe::head(&self.kernel, "read the kernel")?;
        match Headers::parse(&head, self.kernel.len()) {
            Ok(kernel) => {
                if let Some(stub) = stub
                    && stub.machine != kernel.machine
                {
                    problems.0.push(format!(
                        "the stub is for {}, the kernel for {}",
                        machine(stub.machine),
                        machine(kernel.machine)
                    ));
                }
                new.memory = new.memory.max(u64::from(kernel.size_of_image));
            }
            Err(_) if self.kernel.is_empty() => {}
            Err(error) => problems.0.push(format!(
                "the kernel cannot be started by UEFI (is it an uncompressed image with \
                 CONFIG_EFI_STUB?): {error}"
            )),
        }
        Ok(new)
    }

    /// The stub's lines of revocation data and ours, under one header.
    fn merged_sbat(&self, lines: &str, stub: Option<&Headers>, problems: &mut Problems) -> String {
        let own = stub.and_then(|stub| stub.section(".sbat")).map(|section| {
            let range = section.content();
            let bytes = self.stub.get(index(range.start)..index(range.end)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        });
        let mut merged = SBAT_HEADER.to_owned();
        for line in own.iter().flat_map(|text| text.lines()).chain(lines.lines()) {
            let line = line.trim_end_matches('\0');
            if line.is_empty() || line.starts_with("sbat,") {
                continue;
            }
            let generation = line.split(',').nth(1).map(str::parse::<u32>);
            if !line.is_ascii() || !matches!(generation, Some(Ok(1..))) {
                problems.0.push(format!(
                    ".sbat: {line:?} does not begin with a component and its generation"
                ));
            }
            merged.push_str(line);
            merged.push('\n');
        }
        merged
    }
}

/// Initramfs archives one after the other.
fn joined(initrds: &[Source]) -> Source {
    if let [only] = initrds {
        return only.clone();
    }
    let mut parts = Vec::new();
    for initrd in initrds {
        parts.push(initrd.clone());
        let len = initrd.len();
        let padding = len.next_multiple_of(INITRD_ALIGNMENT).saturating_sub(len);
        parts.push(Source::from(vec![0; index(padding)]));
    }
    Source::Concat(parts.into())
}

/// A section to be added.
#[derive(Debug)]
struct New {
    name: String,
    content: Source,
    /// Bytes in memory.
    memory: u64,
    characteristics: u32,
}

impl New {
    fn of(name: &str, content: Source) -> Self {
        let characteristics = characteristics::INITIALIZED_DATA | characteristics::READ;
        Self { name: name.to_owned(), memory: content.len(), content, characteristics }
    }
}

/// Where everything is going to be.
#[derive(Debug)]
struct Layout {
    headers_len: u64,
    /// Sections of the stub that stay, with where their content was, then the new ones.
    sections: Vec<Section>,
    kept_from: Vec<u32>,
    size_of_image: u64,
    unit: u64,
}

impl Layout {
    fn of(stub_bytes: &[u8], stub: &Headers, new: &[New], problems: &mut Problems) -> Self {
        let unit = u64::from(stub.file_alignment);
        let page = u64::from(stub.section_alignment).max(PAGE);
        for (what, value) in [("file", unit), ("section", u64::from(stub.section_alignment))] {
            if !value.is_power_of_two() || value > MAX_ALIGNMENT {
                problems.0.push(format!(
                    "the stub: its {what} alignment {value} is no power of 2 up to {MAX_ALIGNMENT}"
                ));
            }
        }
        let (unit, page) = (
            unit.clamp(1, MAX_ALIGNMENT).next_power_of_two(),
            page.min(MAX_ALIGNMENT).next_power_of_two(),
        );
        let kept: Vec<&Section> = stub
            .sections
            .iter()
            .filter(|section| !new.iter().any(|new| new.name == section.name))
            .collect();
        let count = (kept.len() + new.len()) as u64;
        let table_end = stub.table as u64 + count * pe::SECTION as u64;
        let headers_len = table_end.max(u64::from(stub.size_of_headers)).next_multiple_of(unit);
        let first = kept.iter().map(|it| u64::from(it.virtual_address)).min().unwrap_or(PAGE);
        if headers_len > first {
            problems.0.push(format!(
                "the stub has no room for headers of {count} sections: {headers_len} bytes, but its \
                 first section begins at {first}; leave {} sections out or take another stub",
                headers_len.saturating_sub(first).div_ceil(pe::SECTION as u64)
            ));
        }
        let mut position = headers_len;
        let mut sections: Vec<Section> = Vec::new();
        let mut kept_from = Vec::new();
        // By their place in the file, so that the signature's hash is that of the file in order.
        let mut offsets: BTreeMap<(u32, usize), u64> = BTreeMap::new();
        for (at, section) in kept.iter().enumerate().filter(|(_, section)| section.len > 0) {
            offsets.insert((section.offset, at), u64::from(section.len).next_multiple_of(unit));
        }
        let mut placed = BTreeMap::new();
        for ((_, at), len) in offsets {
            placed.insert(at, (position, len));
            position += len;
        }
        let mut memory = 0_u64;
        for (at, section) in kept.into_iter().enumerate() {
            let (offset, len) = placed.get(&at).copied().unwrap_or_default();
            kept_from.push(section.offset);
            let end = u64::from(section.virtual_address)
                + u64::from(section.virtual_size.max(section.len));
            memory = memory.max(end);
            let (offset, len) = (narrow32(offset), narrow32(len));
            sections.push(Section { offset, len, ..section.clone() });
        }
        for new in new {
            let len = new.content.len().checked_next_multiple_of(unit).unwrap_or(u64::MAX);
            let address = memory.checked_next_multiple_of(page).unwrap_or(u64::MAX);
            memory = address.saturating_add(new.memory.max(1));
            sections.push(Section {
                name: new.name.clone(),
                virtual_address: narrow32(address),
                virtual_size: narrow32(new.memory),
                offset: narrow32(position),
                len: narrow32(len),
                characteristics: new.characteristics,
            });
            position = position.saturating_add(len);
        }
        let size_of_image = memory.checked_next_multiple_of(page).unwrap_or(u64::MAX);
        let longest = position.max(size_of_image);
        if longest > u64::from(u32::MAX) {
            problems.0.push(format!(
                "the image would be {} bytes longer than the 4 GiB that its headers can express",
                longest - u64::from(u32::MAX)
            ));
        }
        debug_assert!(stub_bytes.len() >= stub.table, "the headers were parsed");
        Self { headers_len, sections, kept_from, size_of_image, unit }
    }

    /// Writes the headers and puts the parts together.
    fn image(self, stub_bytes: &[u8], stub: &Headers, new: Vec<New>) -> Result<Image> {
        let mut head = stub_bytes.get(..stub.table).unwrap_or_default().to_vec();
        head.resize(index(self.headers_len), 0);
        for (at, section) in self.sections.iter().enumerate() {
            put(&mut head, stub.table + at * pe::SECTION, &section.emit());
        }
        put(&mut head, stub.coff + 2, &narrow16(self.sections.len() as u64).to_le_bytes());
        // Symbols and line numbers would be behind the last section; nothing reads them there.
        put(&mut head, stub.coff + 8, &[0; 8]);
        let sum = |kind: u32| {
            let of_kind = self.sections.iter().filter(|it| it.characteristics & kind != 0);
            narrow32(of_kind.map(|section| u64::from(section.len)).sum())
        };
        for (at, value) in [
            (4, sum(characteristics::CODE)),
            (8, sum(characteristics::INITIALIZED_DATA)),
            (56, narrow32(self.size_of_image)),
            (60, narrow32(self.headers_len)),
            (64, 0),
        ] {
            put(&mut head, stub.optional + at, &value.to_le_bytes());
        }
        // A signature of the stub is not one of this image.
        if let Some(at) = stub.security_at() {
            put(&mut head, at, &[0; 8]);
        }
        let mut kept: Vec<(&Section, u32)> = self.sections.iter().zip(self.kept_from).collect();
        kept.sort_by_key(|(section, _)| section.offset);
        for (section, from) in &kept {
            let from = index(u64::from(*from));
            let old = stub.sections.iter().find(|it| it.virtual_address == section.virtual_address);
            let len = index(u64::from(old.map_or(0, |old| old.len)));
            let end = head.len() + index(u64::from(section.len));
            head.extend_from_slice(stub_bytes.get(from..from + len).unwrap_or_default());
            head.resize(end, 0);
        }
        let moved = kept.iter().map(|(section, from)| (*section, *from)).collect::<Vec<_>>();
        move_debug_data(&mut head, stub, &moved);
        let mut body = Vec::new();
        for part in new {
            let len = part.content.len();
            let padding = len.next_multiple_of(self.unit).saturating_sub(len);
            body.push(part.content);
            if padding > 0 {
                body.push(Source::from(vec![0; index(padding)]));
            }
        }
        Image::from_parts(head, body)
    }
}

/// Entries of the debug directory know where their data is in the file; they are told the new place.
fn move_debug_data(head: &mut [u8], stub: &Headers, moved: &[(&Section, u32)]) {
    /// Bytes of an entry.
    const ENTRY: u64 = 28;
    let Some(directory) = stub.directory_at(pe::DEBUG) else { return };
    let (Some(address), Some(len)) = (u32_le(head, directory), u32_le(head, directory + 4)) else {
        return;
    };
    let holds = |section: &Section| {
        let start = section.virtual_address;
        (start..start.saturating_add(section.len)).contains(&address)
    };
    let Some((section, _)) = moved.iter().find(|(section, _)| holds(section)) else { return };
    let start = u64::from(section.offset) + u64::from(address - section.virtual_address);
    for entry in 0..u64::from(len).min(u64::from(section.len)) / ENTRY {
        let at = index(start + entry * ENTRY + 24);
        let Some(old) = u32_le(head, at) else { return };
        for (section, from) in moved {
            if (*from..from.saturating_add(section.len)).contains(&old) {
                put(head, at, &(old - from).saturating_add(section.offset).to_le_bytes());
                break;
            }
        }
    }
}

/// A machine's name.
fn machine(number: u16) -> String {
    match number {
        0x14c => "i386".to_owned(),
        0x1c2 | 0x1c4 => "arm".to_owned(),
        0x8664 => "x86-64".to_owned(),
        0xaa64 => "arm64".to_owned(),
        0x5064 => "riscv64".to_owned(),
        other => format!("machine {other:#x}"),
    }
}

/// The release that an x86 kernel image says it is (`6.1.0-56-cloud-amd64`): the first word of the
/// version at the place that its setup header names (Linux, "The Linux/x86 Boot Protocol",
/// `kernel_version`). `None` when it has no such header.
#[must_use]
pub fn kernel_release(kernel: &[u8]) -> Option<String> {
    if array(kernel, 0x202) != Some(*b"HdrS") {
        return None;
    }
    let at = usize::from(u16_le(kernel, 0x20e)?) + 0x200;
    let version = kernel.get(at..)?;
    let end = version.iter().take(256).position(|byte| matches!(byte, 0 | b' '))?;
    String::from_utf8(version.get(..end)?.to_vec()).ok().filter(|release| !release.is_empty())
}
