//! Smaller indexes, and index files as depmod writes them.

use std::fmt::Write as _;

use crate::alias::AliasTable;
use crate::index::{self, Closures, Index};
use crate::name;
use crate::text;

impl Index {
    /// The index of an image that has only what `wanted` stands for.
    ///
    /// Its loadable modules are those that [`Index::resolve`] would load for `wanted`, and what
    /// those may load by themselves (weak dependencies), all with what they need, in this index's
    /// order. All built-in modules stay, with their aliases: they are a fact of the kernel, not of
    /// the image, and programs look there for what needs no loading.
    #[must_use]
    pub fn subset(&self, wanted: &[impl AsRef<str>]) -> Self {
        let mut wanted: Vec<String> = wanted.iter().map(|item| item.as_ref().to_owned()).collect();
        let mut kept = vec![false; self.entries.len()];
        while !wanted.is_empty() {
            let mut weak = Vec::new();
            for module in self.resolve(&wanted).load {
                let Some(id) = self.id_of(&module.name) else { continue };
                let Some(slot) = kept.get_mut(id as usize) else { continue };
                if !std::mem::replace(slot, true) {
                    let lines = self.entry(id).map_or(&[][..], |entry| &entry.weakdeps);
                    weak.extend(lines.iter().flat_map(|line| line.split_ascii_whitespace()));
                }
            }
            wanted = weak.into_iter().map(str::to_owned).collect();
        }
        for slot in kept.iter_mut().skip(self.loadable) {
            *slot = true;
        }
        self.keep(&kept)
    }

    fn keep(&self, kept: &[bool]) -> Self {
        let mut moved: Vec<Option<u32>> = Vec::with_capacity(kept.len());
        let mut next = 0;
        for &keep in kept {
            moved.push(keep.then_some(next));
            next = next.saturating_add(u32::from(keep));
        }
        let new_id = |old: u32| moved.get(old as usize).copied().flatten();
        let old_ids = || (0..).zip(kept).filter(|&(_, &keep)| keep).map(|(id, _)| id);

        let mut closures = Closures::default();
        let mut entries = Vec::new();
        let mut loadable = 0_usize;
        for old in old_ids() {
            entries.extend(self.entry(old).cloned());
            if !self.is_builtin(old) {
                loadable = loadable.saturating_add(1);
                closures.members.extend(self.closures.of(old).iter().filter_map(|&id| new_id(id)));
                closures.ends.push(u32::try_from(closures.members.len()).unwrap_or(u32::MAX));
            }
        }
        let mut aliases = AliasTable::default();
        for (pattern, target) in self.aliases.in_order() {
            if let Some(target) = new_id(target) {
                aliases.push(pattern, target);
            }
        }
        aliases.seal();
        Self {
            by_name: index::by_name(&entries),
            entries,
            loadable,
            closures,
            aliases,
            builtin_modinfo: self.builtin_modinfo.clone(),
            problems: Vec::new(),
        }
    }

    /// The index files with their names, in the form that depmod writes, to be put into
    /// `/lib/modules/RELEASE`.
    ///
    /// These are `modules.dep`, `modules.alias`, `modules.softdep`, `modules.devname`,
    /// `modules.order`, `modules.builtin`, `modules.builtin.modinfo`, and `modules.weakdep` where
    /// there is something to say in it.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let aliases = self.aliases.in_order();
        let mut files = vec![
            (text::DEP, self.dep_file().into_bytes()),
            (text::ALIAS, self.alias_file(&aliases).into_bytes()),
            (text::SOFTDEP, self.softdep_file().into_bytes()),
            (text::DEVNAME, self.devname_file(&aliases).into_bytes()),
            (text::ORDER, self.order_file().into_bytes()),
            (text::BUILTIN, self.builtin_file().into_bytes()),
            (text::BUILTIN_MODINFO, self.builtin_modinfo.clone()),
        ];
        let weakdep = self.weakdep_file();
        if !weakdep.is_empty() {
            files.push((text::WEAKDEP, weakdep.into_bytes()));
        }
        files
    }

    fn loadable_entries(&self) -> impl Iterator<Item = (u32, &crate::index::Entry)> {
        (0..).zip(self.entries.iter().take(self.loadable))
    }

    fn dep_file(&self) -> String {
        let mut out = String::new();
        for (id, entry) in self.loadable_entries() {
            out.push_str(&entry.path);
            out.push(':');
            for needed in self.closures.of(id).iter().rev().filter_map(|&id| self.entry(id)) {
                out.push(' ');
                out.push_str(&needed.path);
            }
            out.push('\n');
        }
        out
    }

    fn alias_file(&self, aliases: &[(&str, u32)]) -> String {
        let mut out = String::from("# Aliases extracted from modules themselves.\n");
        for &(pattern, target) in aliases {
            if let Some(entry) = self.entry(target).filter(|_| !self.is_builtin(target)) {
                line(&mut out, format_args!("alias {pattern} {}", entry.name));
            }
        }
        out
    }

    fn softdep_file(&self) -> String {
        let mut out = String::from("# Soft dependencies extracted from modules themselves.\n");
        for (_, entry) in self.loadable_entries() {
            for softdep in &entry.softdeps {
                line(&mut out, format_args!("softdep {} {softdep}", entry.name));
            }
        }
        out
    }

    fn weakdep_file(&self) -> String {
        let mut out = String::new();
        for (_, entry) in self.loadable_entries() {
            for weakdep in &entry.weakdeps {
                line(&mut out, format_args!("weakdep {} {weakdep}", entry.name));
            }
        }
        out
    }

    /// Nodes that may be made before their module is loaded: `MODULE NODE cMAJOR:MINOR`.
    fn devname_file(&self, aliases: &[(&str, u32)]) -> String {
        let mut out = String::new();
        // Aliases of one module stand together, in the module's order.
        for group in aliases.chunk_by(|a, b| a.1 == b.1) {
            let Some(&(_, target)) = group.first() else { continue };
            let Some(entry) = self.entry(target).filter(|_| !self.is_builtin(target)) else {
                continue;
            };
            let node = group.iter().find_map(|(alias, _)| alias.strip_prefix("devname:"));
            let device = group.iter().find_map(|(alias, _)| device_number(alias));
            if let (Some(node), Some((kind, major, minor))) = (node, device) {
                // depmod leaves the file empty where there is nothing to say.
                if out.is_empty() {
                    out.push_str("# Device nodes to trigger on-demand module loading.\n");
                }
                line(&mut out, format_args!("{} {node} {kind}{major}:{minor}", entry.name));
            }
        }
        out
    }

    fn order_file(&self) -> String {
        let mut out = String::new();
        for (_, entry) in self.loadable_entries() {
            line(&mut out, format_args!("{}", name::uncompressed(&entry.path)));
        }
        out
    }

    fn builtin_file(&self) -> String {
        let mut out = String::new();
        for entry in self.entries.iter().skip(self.loadable) {
            if !entry.path.is_empty() {
                line(&mut out, format_args!("{}", entry.path));
            }
        }
        out
    }
}

/// What an alias such as `char-major-10-235` says about a device node.
fn device_number(alias: &str) -> Option<(char, u32, u32)> {
    let (kind, numbers) = alias
        .strip_prefix("char-major-")
        .map(|rest| ('c', rest))
        .or_else(|| alias.strip_prefix("block-major-").map(|rest| ('b', rest)))?;
    let (major, minor) = numbers.split_once('-')?;
    Some((kind, major.parse().ok()?, minor.parse().ok()?))
}

fn line(out: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{content}");
}
