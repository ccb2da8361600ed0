//! The index: all modules of one kernel and what is known about each.

use crate::alias::AliasTable;
use crate::error::Problem;
use crate::name;

/// What a kernel's modules are called, where they are, and what they need.
///
/// An index is immutable. It comes from the text files that depmod writes ([`Index::parse`],
/// [`Index::read_dir`]), from the modules themselves (feature `modinfo`: `Index::from_modules`,
/// `Index::scan`), or from another index ([`Index::subset`]).
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Loadable modules in the order of `modules.order`, then built-in ones.
    pub(crate) entries: Vec<Entry>,
    /// How many of the entries are loadable.
    pub(crate) loadable: usize,
    /// Positions of entries, by name.
    pub(crate) by_name: Vec<u32>,
    /// What each loadable module needs, deps first, one list after the other.
    pub(crate) closures: Closures,
    pub(crate) aliases: AliasTable,
    /// `modules.builtin.modinfo` as it was read.
    pub(crate) builtin_modinfo: Vec<u8>,
    pub(crate) problems: Vec<Problem>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub(crate) name: Box<str>,
    /// Relative to `/lib/modules/RELEASE`; empty for a built-in that `modules.builtin` omits.
    pub(crate) path: Box<str>,
    /// As in `modules.softdep`, without the leading `softdep NAME`.
    pub(crate) softdeps: Box<[Box<str>]>,
    /// As in `modules.weakdep`, without the leading `weakdep NAME`.
    pub(crate) weakdeps: Box<[Box<str>]>,
    pub(crate) firmware: Box<[Box<str>]>,
}

/// Lists of module positions, packed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closures {
    pub(crate) ends: Vec<u32>,
    pub(crate) members: Vec<u32>,
}

impl Closures {
    /// What module `id` needs, in load order, itself left out; empty for built-ins.
    pub(crate) fn of(&self, id: u32) -> &[u32] {
        let at = id as usize;
        let Some(&end) = self.ends.get(at) else { return &[] };
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |&s| s);
        self.members.get(start as usize..end as usize).unwrap_or_default()
    }
}

impl Index {
    /// The modules, loadable ones first, in the order of `modules.order`, then built-in ones.
    pub fn modules(&self) -> impl Iterator<Item = ModuleInfo<'_>> {
        self.entries.iter().zip(0..).map(|(entry, id)| ModuleInfo { index: self, entry, id })
    }

    /// How many modules can be loaded.
    #[must_use]
    pub fn loadable(&self) -> usize {
        self.loadable
    }

    /// How many modules are built into the kernel.
    #[must_use]
    pub fn builtin(&self) -> usize {
        self.entries.len().saturating_sub(self.loadable)
    }

    /// How many alias patterns there are, those of built-in modules included.
    #[must_use]
    pub fn aliases(&self) -> usize {
        self.aliases.len()
    }

    /// The module of that name; `-` and `_` are equal.
    #[must_use]
    pub fn get(&self, module: &str) -> Option<ModuleInfo<'_>> {
        let id = self.id_of(module)?;
        Some(ModuleInfo { index: self, entry: self.entry(id)?, id })
    }

    /// What was wrong with the input, in the order in which it was found.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The firmware files that the selected modules may ask the kernel for, as paths below
    /// `/lib/firmware`, sorted, each once. Some contain wildcards; all are optional in the sense
    /// that a driver asks for one or two of those that it names.
    ///
    /// `selected` are names of modules as [`Resolution`](crate::Resolution) gives them; others are
    /// passed over. Text indexes do not say what firmware a loadable module wants: it is known
    /// for an index made from modules, and for built-in ones where `modules.builtin.modinfo` was
    /// there.
    pub fn firmware<S: AsRef<str>>(&self, selected: impl IntoIterator<Item = S>) -> Vec<&str> {
        let mut files: Vec<&str> = selected
            .into_iter()
            .filter_map(|module| self.get(module.as_ref()))
            .flat_map(|module| module.entry.firmware.iter().map(AsRef::as_ref))
            .collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    pub(crate) fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)
    }

    pub(crate) fn is_builtin(&self, id: u32) -> bool {
        id as usize >= self.loadable
    }

    pub(crate) fn id_of(&self, module: &str) -> Option<u32> {
        let module = name::canonical(module);
        let at = self
            .by_name
            .binary_search_by(|&id| {
                self.entry(id).map_or("", |entry| entry.name.as_ref()).cmp(&*module)
            })
            .ok()?;
        self.by_name.get(at).copied()
    }
}

/// One module of an [`Index`].
#[derive(Debug, Clone, Copy)]
pub struct ModuleInfo<'a> {
    index: &'a Index,
    entry: &'a Entry,
    id: u32,
}

impl<'a> ModuleInfo<'a> {
    /// The name in the kernel's spelling (`snd_hda_intel`, never `snd-hda-intel`).
    #[must_use]
    pub fn name(&self) -> &'a str {
        &self.entry.name
    }

    /// Where the module is, relative to `/lib/modules/RELEASE`. For a built-in one, where it would
    /// be (empty where `modules.builtin` does not list it).
    #[must_use]
    pub fn path(&self) -> &'a str {
        &self.entry.path
    }

    /// Whether it is part of the kernel image.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.index.is_builtin(self.id)
    }

    /// All modules that must be loaded before this one, directly needed or not, in load order.
    pub fn dependencies(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let index = self.index;
        index
            .closures
            .of(self.id)
            .iter()
            .filter_map(move |&id| Some(index.entry(id)?.name.as_ref()))
    }

    /// The alias patterns of this module, in its own order.
    #[must_use]
    pub fn aliases(&self) -> Vec<&'a str> {
        let mut all = self.index.aliases.in_order();
        all.retain(|&(_, target)| target == self.id);
        all.into_iter().map(|(pattern, _)| pattern).collect()
    }

    /// Names or aliases that should be loaded before this module where they exist.
    pub fn soft_pre(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        soft(self.entry, When::Pre)
    }

    /// Names or aliases that should be loaded after this module where they exist.
    pub fn soft_post(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        soft(self.entry, When::Post)
    }

    /// Names or aliases that this module may load by itself: an image should have them.
    pub fn weak(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.entry.weakdeps.iter().flat_map(|line| line.split_ascii_whitespace())
    }

    /// Firmware files that it may ask for (see [`Index::firmware`]).
    pub fn firmware(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.entry.firmware.iter().map(AsRef::as_ref)
    }
}

/// Positions by name; of two entries with one name, the first.
pub(crate) fn by_name(entries: &[Entry]) -> Vec<u32> {
    let name_of = |id: &u32| entries.get(*id as usize).map(|entry| &entry.name);
    let mut ids: Vec<u32> = (0..).zip(entries).map(|(id, _)| id).collect();
    ids.sort_by(|a, b| name_of(a).cmp(&name_of(b)).then(a.cmp(b)));
    ids.dedup_by(|a, b| name_of(a) == name_of(b));
    ids
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Pre,
    Post,
}

/// The names after `pre:` or `post:` in a module's soft dependencies.
pub(crate) fn soft(entry: &Entry, when: When) -> impl Iterator<Item = &str> {
    entry.softdeps.iter().flat_map(move |line| {
        let mut part = None;
        line.split_ascii_whitespace().filter(move |&word| {
            match word {
                "pre:" => part = Some(When::Pre),
                "post:" => part = Some(When::Post),
                _ => return part == Some(when),
            }
            false
        })
    })
}
