//! The text files that depmod writes, as `modules.dep(5)` and kmod's sources describe them.

use crate::draft::{Draft, Loadable, builtin_records};
use crate::error::{Error, Problem, Result};
use crate::index::Index;
use crate::name;

/// Longest index file that is read, in bytes (the largest real ones are about 2 MB).
pub(crate) const MAX_FILE: usize = 64 << 20;

/// The contents of the index files of one kernel; an empty one counts as absent.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct IndexFiles<'a> {
    /// `modules.dep`: `PATH: DEPENDENCY…`, all dependencies, the one to load first at the end.
    pub dep: &'a str,
    /// `modules.alias`: `alias PATTERN NAME`.
    pub alias: &'a str,
    /// `modules.softdep`: `softdep NAME pre: … post: …`.
    pub softdep: &'a str,
    /// `modules.weakdep`: `weakdep NAME OTHER…` (kmod 33 and later).
    pub weakdep: &'a str,
    /// `modules.builtin`: a path a line.
    pub builtin: &'a str,
    /// `modules.builtin.modinfo`: `NAME.KEY=VALUE` records, each ended by a NUL.
    pub builtin_modinfo: &'a [u8],
}

impl<'a> IndexFiles<'a> {
    /// The modules and what they need, nothing else.
    #[must_use]
    pub fn new(dep: &'a str) -> Self {
        Self { dep, ..Self::default() }
    }
}

impl Index {
    /// Reads the index files that depmod writes.
    ///
    /// Every file may be absent. A line that makes no sense is skipped and becomes a [`Problem`].
    ///
    /// # Errors
    /// [`Error::Limit`] where a file, the number of modules or of their dependencies is beyond
    /// anything real.
    pub fn parse(files: IndexFiles<'_>) -> Result<Self> {
        let lengths = [
            files.dep.len(),
            files.alias.len(),
            files.softdep.len(),
            files.weakdep.len(),
            files.builtin.len(),
            files.builtin_modinfo.len(),
        ];
        if lengths.iter().any(|&len| len > MAX_FILE) {
            return Err(Error::limit("a module index file is too long", MAX_FILE));
        }
        let mut problems = Vec::new();
        let modules = dep_lines(files.dep, &mut problems);
        let (mut draft, _) =
            Draft::new(modules, &builtin_names(files.builtin, files.builtin_modinfo))?;
        for problem in problems {
            draft.problem(problem);
        }
        for (file, keyword, text) in [
            (ALIAS, "alias", files.alias),
            (SOFTDEP, "softdep", files.softdep),
            (WEAKDEP, "weakdep", files.weakdep),
        ] {
            let mut last = ("", None);
            for (line, first, rest) in directives(file, keyword, text, &mut draft) {
                // `alias PATTERN NAME`, but `softdep NAME …`.
                let module = if file == ALIAS { rest } else { first };
                // Aliases of a module stand together.
                if last.0 != module {
                    last = (module, draft.id_of(module));
                }
                let Some(id) = last.1 else {
                    draft.problem(Problem::NoSuchModule { file, line, module: module.to_owned() });
                    continue;
                };
                match file {
                    ALIAS => {
                        if !draft.alias(first, id)? {
                            let expected = "a pattern of at most 4096 bytes";
                            draft.problem(Problem::Malformed { file, line, expected });
                        }
                    }
                    SOFTDEP => draft.softdep(id, rest),
                    _ => draft.weakdep(id, rest),
                }
            }
        }
        draft.builtin_modinfo(files.builtin_modinfo)?;
        draft.finish()
    }
}

pub(crate) const DEP: &str = "modules.dep";
pub(crate) const ALIAS: &str = "modules.alias";
pub(crate) const SOFTDEP: &str = "modules.softdep";
pub(crate) const WEAKDEP: &str = "modules.weakdep";
pub(crate) const BUILTIN: &str = "modules.builtin";
pub(crate) const BUILTIN_MODINFO: &str = "modules.builtin.modinfo";
pub(crate) const ORDER: &str = "modules.order";
pub(crate) const DEVNAME: &str = "modules.devname";

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .zip(1..)
        .map(|(line, number)| (number, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn dep_lines(text: &str, problems: &mut Vec<Problem>) -> Vec<Loadable> {
    let mut modules = Vec::new();
    for (line, content) in lines(text) {
        let module = content
            .split_once(':')
            .and_then(|(path, needs)| Some((path, name::of_path(path)?, needs)));
        let Some((path, name, needs)) = module else {
            let expected = "PATH.ko: DEPENDENCY.ko …";
            problems.push(Problem::Malformed { file: DEP, line, expected });
            continue;
        };
        // The last one is to be loaded first.
        let needs = needs
            .split_ascii_whitespace()
            .rev()
            .map(|path| name::of_path(path).unwrap_or_else(|| path.to_owned()))
            .collect();
        modules.push(Loadable { name, path: path.to_owned(), needs });
    }
    modules
}

/// Lines of the form `KEYWORD FIRST REST` as (line, first, rest).
fn directives<'a>(
    file: &'static str,
    keyword: &str,
    text: &'a str,
    draft: &mut Draft,
) -> Vec<(usize, &'a str, &'a str)> {
    let mut found = Vec::new();
    for (line, content) in lines(text) {
        let parts = content
            .strip_prefix(keyword)
            .filter(|rest| rest.starts_with([' ', '\t']))
            .and_then(|rest| rest.trim_start().split_once([' ', '\t']));
        match parts {
            Some((first, rest)) => found.push((line, first, rest.trim())),
            None => {
                let expected = match file {
                    ALIAS => "alias PATTERN NAME",
                    SOFTDEP => "softdep NAME pre: … post: …",
                    _ => "weakdep NAME OTHER …",
                };
                draft.problem(Problem::Malformed { file, line, expected });
            }
        }
    }
    found
}

/// Names and paths of built-in modules: those listed, then those that only have records.
pub(crate) fn builtin_names(list: &str, modinfo: &[u8]) -> Vec<(String, String)> {
    let mut seen = std::collections::BTreeSet::new();
    let listed = lines(list).filter_map(|(_, path)| Some((name::of_path(path)?, path.to_owned())));
    let mut last: &[u8] = b"";
    let recorded = builtin_records(modinfo)
        // Those of a module stand together.
        .filter(|(module, ..)| std::mem::replace(&mut last, module) != *module)
        .map(|(module, ..)| {
            (name::canonical(&String::from_utf8_lossy(module)).into_owned(), String::new())
        });
    listed.chain(recorded).filter(|(name, _)| seen.insert(name.clone())).collect()
}
