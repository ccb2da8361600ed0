//! What a module says about itself: the `.modinfo` section of its ELF file.
//!
//! The section is a run of `KEY=VALUE` records, each ended by a NUL (`include/linux/module.h`,
//! `MODULE_INFO`; `scripts/mod/modpost.c` adds `depends` and `name`). Only the ELF header, the
//! section headers, their names and this section are read.

use std::collections::BTreeMap;

use goblin::container::Ctx;
use goblin::elf::{Elf, SectionHeader};

use crate::draft::{Draft, Loadable, MAX_MODULES};
use crate::error::{Error, Problem, Result};
use crate::index::Index;
use crate::name;
use crate::text::{self, MAX_FILE};

/// What a module says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Modinfo {
    /// `depends=`: names of modules whose symbols it uses; `None` without such a record.
    pub depends: Option<Vec<String>>,
    /// `alias=`: patterns of what it serves.
    pub aliases: Vec<String>,
    /// `softdep=`: `pre: … post: …`.
    pub softdeps: Vec<String>,
    /// `weakdep=`: modules that it may load by itself.
    pub weakdeps: Vec<String>,
    /// `firmware=`: files that it may ask for, below `/lib/firmware`.
    pub firmware: Vec<String>,
    /// `vermagic=`: the kernel that it was made for, its release first.
    pub vermagic: Option<String>,
}

impl Modinfo {
    /// Reads the records of a `.modinfo` section; unknown ones are passed over.
    #[must_use]
    pub fn parse(section: &[u8]) -> Self {
        let mut info = Self::default();
        for record in section.split(|&byte| byte == 0) {
            let record = String::from_utf8_lossy(record);
            let Some((key, value)) = record.split_once('=') else { continue };
            let value = value.trim().to_owned();
            if value.is_empty() && key != "depends" {
                continue;
            }
            match key {
                "depends" => info
                    .depends
                    .get_or_insert_default()
                    .extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
                "alias" => info.aliases.push(value),
                "softdep" => info.softdeps.push(value),
                "weakdep" => info.weakdeps.push(value),
                "firmware" => info.firmware.push(value),
                "vermagic" => info.vermagic = Some(value),
                _ => {}
            }
        }
        info
    }

    /// Reads a module's ELF file, 32 or 64 bits, either byte order, not compressed.
    ///
    /// # Errors
    /// A description where it is not an ELF file or has no `.modinfo` section.
    pub fn of_elf(file: &[u8]) -> Result<Self, String> {
        Ok(Self::parse(&section(&file)?))
    }

    fn release(&self) -> Option<&str> {
        self.vermagic.as_deref()?.split_ascii_whitespace().next()
    }
}

impl Index {
    /// Makes the index out of the modules themselves, as depmod does.
    ///
    /// `modules` are paths relative to `/lib/modules/RELEASE` with the contents of the files, not
    /// compressed (a path may still end in `.ko.xz`). `builtin`, `builtin_modinfo` and `order` are
    /// the contents of `modules.builtin`, `modules.builtin.modinfo` and `modules.order`, which the
    /// kernel's build makes; empty ones count as absent. Modules stand in the order of `order`,
    /// those not in it after these, by path.
    ///
    /// Dependencies are the `depends=` records, which modpost writes from the symbols that a
    /// module uses. depmod looks at the symbols again; the results differ only for a module
    /// that was built apart from those that it needs and without their `Module.symvers`. A module
    /// with no such record at all is a [`Problem::NoDepends`].
    ///
    /// # Errors
    /// [`Error::Limit`] where the number of modules, aliases or dependencies is beyond anything
    /// real. A file that is no module is a [`Problem`].
    pub fn from_modules<'a>(
        modules: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        builtin: &str,
        builtin_modinfo: &[u8],
        order: &str,
    ) -> Result<Self> {
        let modules = modules
            .into_iter()
            .map(|(path, file)| (path.to_owned(), Modinfo::of_elf(file)))
            .collect();
        Self::from_modinfo(modules, builtin, builtin_modinfo, order)
    }

    pub(crate) fn from_modinfo(
        modules: Vec<(String, Result<Modinfo, String>)>,
        builtin: &str,
        builtin_modinfo: &[u8],
        order: &str,
    ) -> Result<Self> {
        if modules.len() > MAX_MODULES {
            return Err(Error::limit("too many modules", MAX_MODULES));
        }
        if [builtin.len(), builtin_modinfo.len(), order.len()].iter().any(|&len| len > MAX_FILE) {
            return Err(Error::limit("a module index file is too long", MAX_FILE));
        }
        let mut problems = Vec::new();
        let mut found: Vec<(String, String, Modinfo)> = Vec::new();
        for (path, info) in modules {
            let named = name::of_path(&path).ok_or_else(|| "its name does not end in .ko".into());
            match named.and_then(|name| Ok((name, info?))) {
                Ok((name, info)) => found.push((path, name, info)),
                Err(why) => problems.push(Problem::NotAModule { path, why }),
            }
        }
        sort(&mut found, order);
        problems.extend(other_kernels(&found));

        let loadable = found.iter().map(|(path, name, info)| {
            if info.depends.is_none() {
                problems.push(Problem::NoDepends { path: path.clone() });
            }
            let needs = info.depends.clone().unwrap_or_default();
            Loadable { name: name.clone(), path: path.clone(), needs }
        });
        let loadable = loadable.collect();
        let (mut draft, positions) =
            Draft::new(loadable, &text::builtin_names(builtin, builtin_modinfo))?;
        for problem in problems {
            draft.problem(problem);
        }
        for ((path, _, info), id) in found.iter().zip(positions) {
            let Some(id) = id else { continue };
            for alias in &info.aliases {
                if !draft.alias(alias, id)? {
                    let why = "an alias is longer than 4096 bytes".to_owned();
                    draft.problem(Problem::NotAModule { path: path.clone(), why });
                }
            }
            info.softdeps.iter().for_each(|softdep| draft.softdep(id, softdep));
            info.weakdeps.iter().for_each(|weakdep| draft.weakdep(id, weakdep));
            info.firmware.iter().for_each(|file| draft.firmware(id, file));
        }
        draft.builtin_modinfo(builtin_modinfo)?;
        draft.finish()
    }
}

/// Sorts by position in `modules.order`, which knows no compression, then by path.
fn sort(found: &mut [(String, String, Modinfo)], order: &str) {
    let ranks: BTreeMap<&str, usize> =
        order.lines().map(|line| name::uncompressed(line.trim())).zip(0..).collect();
    found.sort_by(|(a, ..), (b, ..)| {
        let rank = |path: &str| ranks.get(name::uncompressed(path)).copied().unwrap_or(usize::MAX);
        rank(a).cmp(&rank(b)).then_with(|| a.cmp(b))
    });
}

/// The modules whose kernel release is not that of most.
fn other_kernels(found: &[(String, String, Modinfo)]) -> Vec<Problem> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for release in found.iter().filter_map(|(_, _, info)| info.release()) {
        let count = counts.entry(release).or_default();
        *count = count.saturating_add(1);
    }
    let Some((&most, _)) = counts.iter().max_by_key(|&(_, count)| *count) else {
        return Vec::new();
    };
    let others = found.iter().filter_map(|(path, _, info)| {
        let release = info.release().filter(|&release| release != most)?;
        Some(Problem::OtherKernel {
            path: path.clone(),
            made_for: release.to_owned(),
            others: most.to_owned(),
        })
    });
    others.collect()
}

/// Something of which parts can be read.
pub(crate) trait Parts {
    /// The bytes from `offset`, at most `len`, fewer at the end.
    fn part(&self, offset: u64, len: usize) -> Result<Vec<u8>, String>;
}

impl Parts for &[u8] {
    fn part(&self, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let end = start.saturating_add(len).min(self.len());
        Ok(self.get(start..end).unwrap_or_default().to_vec())
    }
}

/// The section's names usually stand just before the section headers: one read gets both.
const BEFORE_HEADERS: u64 = 1024;
/// Largest table of section names, in bytes.
const MAX_NAMES: u64 = 1 << 20;
/// Largest `.modinfo` section, in bytes (the largest real ones are about 100 kB).
const MAX_MODINFO: u64 = 16 << 20;

/// The contents of the `.modinfo` section.
pub(crate) fn section(file: &impl Parts) -> Result<Vec<u8>, String> {
    let elf = |error: goblin::error::Error| format!("bad ELF file: {error}");
    let head = file.part(0, goblin::elf64::header::SIZEOF_EHDR)?;
    if !head.starts_with(goblin::elf::header::ELFMAG) {
        return Err("expected an ELF file".to_owned());
    }
    let header = Elf::parse_header(&head).map_err(elf)?;
    let container = header.container().map_err(elf)?;
    let context = Ctx::new(container, header.endianness().map_err(elf)?);
    let entry = SectionHeader::size(context);
    if header.e_shoff == 0 || usize::from(header.e_shentsize) != entry {
        return Err(format!(
            "expected section headers of {entry} bytes, found {} at offset {}",
            header.e_shentsize, header.e_shoff
        ));
    }
    let count = usize::from(header.e_shnum);
    let before = header.e_shoff.min(BEFORE_HEADERS);
    let lead = usize::try_from(before).unwrap_or(0);
    let start = header.e_shoff.saturating_sub(before);
    let length = lead.saturating_add(count.saturating_mul(entry));
    let window = file.part(start, length)?;
    if window.len() < length {
        return Err("the section headers are cut off".to_owned());
    }
    let headers = SectionHeader::parse(&window, lead, count, context).map_err(elf)?;
    let names =
        headers.get(usize::from(header.e_shstrndx)).ok_or("expected a table of section names")?;
    let names = match inside(&window, start, names) {
        Some(names) => names.to_vec(),
        None => contents(file, names, MAX_NAMES)?,
    };
    let named = |header: &SectionHeader| {
        let rest = names.get(header.sh_name..)?;
        rest.strip_prefix(b".modinfo\0")
    };
    let modinfo = headers
        .iter()
        .find(|header| named(header).is_some())
        .ok_or("expected a .modinfo section")?;
    contents(file, modinfo, MAX_MODINFO)
}

/// The bytes of a section that lies within those at hand.
fn inside<'a>(window: &'a [u8], start: u64, header: &SectionHeader) -> Option<&'a [u8]> {
    let from = usize::try_from(header.sh_offset.checked_sub(start)?).ok()?;
    let to = from.checked_add(usize::try_from(header.sh_size).ok()?)?;
    window.get(from..to)
}

fn contents(file: &impl Parts, header: &SectionHeader, most: u64) -> Result<Vec<u8>, String> {
    if header.sh_size > most {
        return Err(format!("a section of {} bytes, expected at most {most}", header.sh_size));
    }
    let len = usize::try_from(header.sh_size).unwrap_or(usize::MAX);
    let bytes = file.part(header.sh_offset, len)?;
    if bytes.len() < len {
        return Err("a section is cut off".to_owned());
    }
    Ok(bytes)
}
