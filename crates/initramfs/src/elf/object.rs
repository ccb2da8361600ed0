//! What of an ELF file decides what it loads: headers, `PT_INTERP`, `PT_DYNAMIC`, a few strings.
//!
//! Only these parts are read, by position, because an executable of 100 MB has 500 bytes of them.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use goblin::container::Ctx;
use goblin::elf::Elf;
use goblin::elf::header::{ELFMAG, ET_DYN, ET_EXEC};
use goblin::elf::program_header::{PT_DYNAMIC, PT_INTERP, PT_LOAD, ProgramHeader};

/// Bytes read at first: header and, nearly always, the program headers.
const HEAD: usize = 4096;
/// No dynamic section is longer than this many bytes.
const DYNAMIC_MAX: u64 = 1 << 20;
/// No string that matters is longer (an RPATH of hundreds of directories).
const STRING_MAX: usize = 64 * 1024;
/// Strings closer to each other than this are read at once.
const STRINGS_AT_ONCE: u64 = 32 * 1024;

const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_NODEFLIB: u64 = 0x800;

/// What a machine must be to run the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Arch {
    pub(super) is_64: bool,
    pub(super) big_endian: bool,
    pub(super) machine: u16,
}

impl fmt::Display for Arch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.is_64 { 64 } else { 32 };
        match self.machine_name() {
            Some(name) => write!(out, "{bits}-bit {name}"),
            None => write!(out, "{bits}-bit machine {}", self.machine),
        }
    }
}

impl Arch {
    /// The kernel's name of the machine, which is also what `$PLATFORM` stands for.
    pub(super) fn machine_name(self) -> Option<&'static str> {
        Some(match (self.machine, self.is_64, self.big_endian) {
            (3, ..) => "i686",
            (20, ..) => "ppc",
            (21, _, true) => "ppc64",
            (21, _, false) => "ppc64le",
            (22, true, _) => "s390x",
            (40, ..) => "armv7l",
            (62, ..) => "x86_64",
            (183, ..) => "aarch64",
            (243, true, _) => "riscv64",
            (243, false, _) => "riscv32",
            (258, true, _) => "loongarch64",
            _ => return None,
        })
    }
}

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum Probe {
    Elf(Box<Object>),
    /// No ELF file; the first line when it is a script.
    Other {
        script: Option<Vec<u8>>,
    },
    /// An ELF file that cannot be loaded.
    Damaged(String),
}

#[derive(Debug)]
pub(super) struct Object {
    pub(super) arch: Arch,
    pub(super) interp: Option<Vec<u8>>,
    pub(super) needed: Vec<Vec<u8>>,
    pub(super) soname: Option<Vec<u8>>,
    /// `None` when there is a RUNPATH too, as the loader has it.
    pub(super) rpath: Option<Vec<u8>>,
    pub(super) runpath: Option<Vec<u8>>,
    pub(super) no_default_libraries: bool,
}

/// Reads what matters of a file.
pub(super) fn probe(file: &File, head: &mut Vec<u8>) -> io::Result<Probe> {
    head.resize(HEAD, 0);
    let count = read_some(file, head, 0)?;
    head.truncate(count);
    if !head.starts_with(ELFMAG) {
        let script = head.strip_prefix(b"#!").map(|rest| {
            // The kernel looks at 256 bytes (BINPRM_BUF_SIZE).
            let line = rest.split(|byte| matches!(byte, b'\n' | 0)).next().unwrap_or_default();
            line.get(..254).unwrap_or(line).to_vec()
        });
        return Ok(Probe::Other { script });
    }
    Ok(match parse(file, head) {
        Ok(object) => Probe::Elf(Box::new(object)),
        Err(Defect::Io(error)) => return Err(error),
        Err(Defect::Format(reason)) => Probe::Damaged(reason),
    })
}

enum Defect {
    Io(io::Error),
    Format(String),
}

impl From<io::Error> for Defect {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Format("it is cut short".into()),
            _ => Self::Io(error),
        }
    }
}

impl From<goblin::error::Error> for Defect {
    fn from(error: goblin::error::Error) -> Self {
        Self::Format(format!("damaged ELF header: {error}"))
    }
}

impl From<&str> for Defect {
    fn from(reason: &str) -> Self {
        Self::Format(reason.into())
    }
}

fn parse(file: &File, head: &[u8]) -> Result<Object, Defect> {
    // goblin reads the class and byte order before it looks how many bytes there are.
    if head.len() < 64 {
        return Err("it is cut short".into());
    }
    let header = Elf::parse_header(head)?;
    let container = header.container()?;
    let endian = header.endianness()?;
    let context = Ctx::new(container, endian);
    let arch = Arch {
        is_64: container.is_big(),
        big_endian: !endian.is_little(),
        machine: header.e_machine,
    };
    if header.e_type != ET_DYN && header.e_type != ET_EXEC {
        return Err("neither an executable nor a shared object".into());
    }
    let entry_size = if arch.is_64 { 56 } else { 32 };
    if header.e_phnum > 0 && header.e_phentsize != entry_size {
        return Err("the program headers have a wrong size".into());
    }
    let count = usize::from(header.e_phnum);
    let table_len = count * usize::from(entry_size);
    let start = usize::try_from(header.e_phoff).unwrap_or(usize::MAX);
    let table;
    let table = match start.checked_add(table_len).and_then(|end| head.get(start..end)) {
        Some(table) => table,
        None => {
            table = read_exact(file, header.e_phoff, table_len)?;
            &table
        }
    };
    let segments = ProgramHeader::parse(table, 0, count, context)?;
    let mut object = Object {
        arch,
        interp: None,
        needed: Vec::new(),
        soname: None,
        rpath: None,
        runpath: None,
        no_default_libraries: false,
    };
    for segment in &segments {
        match segment.p_type {
            PT_INTERP => {
                let len = segment.p_filesz.min(4096);
                let mut path = piece(file, head, segment.p_offset, len)?;
                path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
                object.interp = Some(path);
            }
            PT_DYNAMIC => dynamic(file, head, &segments, segment, &mut object)?,
            _ => {}
        }
    }
    Ok(object)
}

fn dynamic(
    file: &File,
    head: &[u8],
    segments: &[ProgramHeader],
    segment: &ProgramHeader,
    object: &mut Object,
) -> Result<(), Defect> {
    if segment.p_filesz > DYNAMIC_MAX {
        return Err("the dynamic section is longer than 1 MiB".into());
    }
    let bytes = piece(file, head, segment.p_offset, segment.p_filesz)?;
    let mut strings_at = None;
    let mut strings_len = 0;
    let (mut needed, mut soname, mut rpath, mut runpath) = (Vec::new(), None, None, None);
    for (tag, value) in entries(&bytes, object.arch) {
        match tag {
            0 => break,
            DT_NEEDED => needed.push(value),
            DT_STRTAB => strings_at = Some(value),
            DT_STRSZ => strings_len = value,
            DT_SONAME => soname = Some(value),
            DT_RPATH => rpath = Some(value),
            DT_RUNPATH => runpath = Some(value),
            DT_FLAGS_1 => object.no_default_libraries = value & DF_1_NODEFLIB != 0,
            _ => {}
        }
    }
    if runpath.is_some() {
        rpath = None;
    }
    let wanted = || needed.iter().copied().chain(soname).chain(rpath).chain(runpath);
    let (Some(first), Some(last)) = (wanted().min(), wanted().max()) else { return Ok(()) };
    let address = strings_at.ok_or("it needs libraries and has no string table")?;
    let offset = segments
        .iter()
        .filter(|segment| segment.p_type == PT_LOAD)
        .find(|load| (load.p_vaddr..load.p_vaddr.saturating_add(load.p_filesz)).contains(&address))
        .map(|load| (address - load.p_vaddr).saturating_add(load.p_offset))
        .ok_or("the string table is in no loaded segment")?;
    if last >= strings_len {
        return Err("a string is outside of the string table".into());
    }
    let strings = Strings::read(file, offset, strings_len, first, last)?;
    object.needed = needed.iter().map(|at| strings.get(*at)).collect::<Result<_, _>>()?;
    object.soname = soname.map(|at| strings.get(at)).transpose()?;
    object.rpath = rpath.map(|at| strings.get(at)).transpose()?;
    object.runpath = runpath.map(|at| strings.get(at)).transpose()?;
    Ok(())
}

/// The pairs of a dynamic section.
fn entries(bytes: &[u8], arch: Arch) -> impl Iterator<Item = (u64, u64)> {
    let word = if arch.is_64 { 8 } else { 4 };
    bytes.chunks_exact(2 * word).map(move |pair| {
        let (tag, value) = pair.split_at(word);
        (number(tag, arch.big_endian), number(value, arch.big_endian))
    })
}

fn number(bytes: &[u8], big_endian: bool) -> u64 {
    let join = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
    if big_endian { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) }
}

/// A part of a string table, and the file for what is beyond it.
struct Strings<'file> {
    file: &'file File,
    table: u64,
    table_len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'file> Strings<'file> {
    fn read(
        file: &'file File,
        table: u64,
        table_len: u64,
        first: u64,
        last: u64,
    ) -> Result<Self, Defect> {
        let mut strings = Self { file, table, table_len, start: first, bytes: Vec::new() };
        if last - first <= STRINGS_AT_ONCE {
            let len = (last - first).saturating_add(512).min(table_len - first);
            strings.bytes = vec![0; usize::try_from(len).unwrap_or_default()];
            let count = read_some(file, &mut strings.bytes, table.saturating_add(first))?;
            strings.bytes.truncate(count);
        }
        Ok(strings)
    }

    fn get(&self, at: u64) -> Result<Vec<u8>, Defect> {
        let known = usize::try_from(at - self.start).ok().and_then(|skip| self.bytes.get(skip..));
        if let Some(string) = known.and_then(terminated) {
            return Ok(string);
        }
        let len = usize::try_from(self.table_len - at).unwrap_or(STRING_MAX).min(STRING_MAX);
        let mut bytes = vec![0; len];
        let count = read_some(self.file, &mut bytes, self.table.saturating_add(at))?;
        bytes.truncate(count);
        terminated(&bytes).ok_or_else(|| "a string has no end".into())
    }
}

fn terminated(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.get(..end).map(<[u8]>::to_vec)
}

/// A piece of the file, from its head when it is in there.
fn piece(file: &File, head: &[u8], offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let known =
        usize::try_from(offset).ok().and_then(|start| head.get(start..start.checked_add(len)?));
    match known {
        Some(bytes) => Ok(bytes.to_vec()),
        None => read_exact(file, offset, len),
    }
}

fn read_exact(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
