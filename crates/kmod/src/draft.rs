//! An index in the making: modules first, then what refers to them, then the order.

use std::collections::BTreeMap;

use crate::alias::AliasTable;
use crate::error::{Error, Problem, Result};
use crate::index::{self, Closures, Entry, Index};
use crate::name;

/// Most modules, loadable and built in together.
///
/// Debian's generic kernel has 4,023 loadable ones.
pub(crate) const MAX_MODULES: usize = 1 << 16;
/// Most members of all dependency lists together (Debian's generic kernel: about 10,000).
const MAX_MEMBERS: usize = 1 << 21;
/// Most steps spent on following dependencies.
const MAX_STEPS: usize = 1 << 26;
/// Most alias patterns (Debian's generic kernel: about 26,000).
const MAX_ALIASES: usize = 1 << 20;
/// Most problems that are kept; a file of nonsense shall not cost more memory than it has.
const MAX_PROBLEMS: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Draft {
    entries: Vec<Entry>,
    loadable: usize,
    /// Names of what each loadable module needs, in load order.
    needs: Vec<Vec<Box<str>>>,
    by_name: Vec<u32>,
    aliases: AliasTable,
    softdeps: BTreeMap<u32, Vec<Box<str>>>,
    weakdeps: BTreeMap<u32, Vec<Box<str>>>,
    firmware: BTreeMap<u32, Vec<Box<str>>>,
    builtin_modinfo: Vec<u8>,
    problems: Vec<Problem>,
}

/// A loadable module as a draft takes it.
#[derive(Debug)]
pub(crate) struct Loadable {
    pub(crate) name: String,
    pub(crate) path: String,
    /// Names in any spelling, in load order.
    pub(crate) needs: Vec<String>,
}

impl Draft {
    /// Starts with the modules; of two with one name, that below `updates/` or else the first
    /// counts.
    ///
    /// Gives the position of each module that was passed in, `None` for those left out.
    pub(crate) fn new(
        modules: Vec<Loadable>,
        builtin: &[(String, String)],
    ) -> Result<(Self, Vec<Option<u32>>)> {
        if modules.len().saturating_add(builtin.len()) > MAX_MODULES {
            return Err(Error::limit("too many modules", MAX_MODULES));
        }
        let mut draft = Self::default();
        let mut best: BTreeMap<String, usize> = BTreeMap::new();
        for (at, module) in modules.iter().enumerate() {
            let rank = |at: usize| {
                modules.get(at).is_some_and(|module: &Loadable| module.path.starts_with("updates/"))
            };
            best.entry(module.name.clone())
                .and_modify(|old| {
                    if rank(at) && !rank(*old) {
                        *old = at;
                    }
                })
                .or_insert(at);
        }
        let paths: BTreeMap<usize, String> =
            best.values().filter_map(|&at| Some((at, modules.get(at)?.path.clone()))).collect();
        let mut positions = Vec::with_capacity(modules.len());
        for (at, module) in modules.into_iter().enumerate() {
            let winner = best.get(&module.name).copied().unwrap_or(at);
            if winner != at {
                let by = paths.get(&winner).cloned().unwrap_or_default();
                draft.problem(Problem::Shadowed { path: module.path, by });
                positions.push(None);
                continue;
            }
            positions.push(u32::try_from(draft.entries.len()).ok());
            draft.needs.push(
                module.needs.iter().map(|need| name::canonical(need).as_ref().into()).collect(),
            );
            draft.entries.push(Entry {
                name: module.name.into(),
                path: module.path.into(),
                ..Entry::default()
            });
        }
        draft.loadable = draft.entries.len();
        for (name, path) in builtin {
            draft.entries.push(Entry {
                name: name.as_str().into(),
                path: path.as_str().into(),
                ..Entry::default()
            });
        }
        // A loadable module comes before a built-in one of its name, as modprobe sees it.
        draft.by_name = index::by_name(&draft.entries);
        Ok((draft, positions))
    }

    pub(crate) fn id_of(&self, module: &str) -> Option<u32> {
        let module = name::canonical(module);
        let name_of = |id: u32| self.entries.get(id as usize).map_or("", |entry| &entry.name);
        let at = self.by_name.binary_search_by(|&id| name_of(id).cmp(&*module)).ok()?;
        self.by_name.get(at).copied()
    }

    pub(crate) fn problem(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Adds an alias pattern; `false` where it is too long to be one.
    pub(crate) fn alias(&mut self, pattern: &str, target: u32) -> Result<bool> {
        if self.aliases.len() >= MAX_ALIASES {
            return Err(Error::limit("too many module aliases", MAX_ALIASES));
        }
        Ok(self.aliases.push(pattern, target))
    }

    pub(crate) fn softdep(&mut self, target: u32, value: &str) {
        self.softdeps.entry(target).or_default().push(value.into());
    }

    pub(crate) fn weakdep(&mut self, target: u32, value: &str) {
        self.weakdeps.entry(target).or_default().push(value.into());
    }

    pub(crate) fn firmware(&mut self, target: u32, file: &str) {
        self.firmware.entry(target).or_default().push(file.into());
    }

    /// Takes `modules.builtin.modinfo`: records `NAME.KEY=VALUE`, each ended by a NUL.
    pub(crate) fn builtin_modinfo(&mut self, bytes: &[u8]) -> Result<()> {
        // Most records are parameters and licences, and those of a module stand together.
        let told = |key: &[u8]| matches!(key, b"alias" | b"softdep" | b"weakdep" | b"firmware");
        let mut last: (&[u8], Option<u32>) = (b"", None);
        for (module, key, value) in builtin_records(bytes).filter(|(_, key, _)| told(key)) {
            if last.0 != module {
                let id = self.id_of(&String::from_utf8_lossy(module));
                last = (module, id.filter(|&id| id as usize >= self.loadable));
            }
            let Some(id) = last.1 else { continue };
            let value = String::from_utf8_lossy(value);
            match key {
                b"alias" => drop(self.alias(&value, id)?),
                b"softdep" => self.softdep(id, &value),
                b"weakdep" => self.weakdep(id, &value),
                _ => self.firmware(id, &value),
            }
        }
        self.builtin_modinfo = bytes.to_vec();
        Ok(())
    }

    /// Follows all dependencies and makes the index.
    pub(crate) fn finish(mut self) -> Result<Index> {
        let edges = self.edges();
        let (closures, rings) = close(&edges)?;
        for ring in rings {
            let modules = ring
                .iter()
                .filter_map(|&id| Some(self.entries.get(id as usize)?.name.to_string()))
                .collect();
            self.problem(Problem::Cycle { modules });
        }
        self.aliases.seal();
        for (lists, field) in [
            (
                self.softdeps,
                (|entry| &mut entry.softdeps) as fn(&mut Entry) -> &mut Box<[Box<str>]>,
            ),
            (self.weakdeps, |entry| &mut entry.weakdeps),
            (self.firmware, |entry| &mut entry.firmware),
        ] {
            for (id, list) in lists {
                if let Some(entry) = self.entries.get_mut(id as usize) {
                    *field(entry) = list.into();
                }
            }
        }
        Ok(Index {
            entries: self.entries,
            loadable: self.loadable,
            by_name: self.by_name,
            closures,
            aliases: self.aliases,
            builtin_modinfo: self.builtin_modinfo,
            problems: self.problems,
        })
    }

    /// Positions instead of names; what is built in needs no edge.
    fn edges(&mut self) -> Vec<Vec<u32>> {
        let needs = std::mem::take(&mut self.needs);
        let mut edges = Vec::with_capacity(needs.len());
        for (at, names) in needs.into_iter().enumerate() {
            let mut list = Vec::with_capacity(names.len());
            for needed in names {
                match self.id_of(&needed) {
                    Some(id) if (id as usize) < self.loadable => list.push(id),
                    Some(_) => {}
                    None => {
                        let module = self.entries.get(at).map(|entry| entry.name.to_string());
                        self.problem(Problem::MissingDependency {
                            module: module.unwrap_or_default(),
                            needs: needed.into(),
                        });
                    }
                }
            }
            edges.push(list);
        }
        edges
    }
}

/// The records of `modules.builtin.modinfo` as (module, key, value); others are passed over.
pub(crate) fn builtin_records(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
    bytes.split(|&byte| byte == 0).filter_map(|record| {
        let (key, value) = split_once(record, b'=')?;
        let (module, key) = split_once(key, b'.')?;
        Some((module, key, value))
    })
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == at)?;
    Some((bytes.get(..at)?, bytes.get(at.saturating_add(1)..)?))
}

/// For each module all that it needs in load order, and the rings found on the way.
///
/// An edge that closes a ring is not followed. The work is bounded, so that lists made to be
/// slow are an error.
fn close(edges: &[Vec<u32>]) -> Result<(Closures, Vec<Vec<u32>>)> {
    let mut closures = Closures::default();
    let mut rings = Vec::new();
    // The number of the root under which a module was last met, and whether it is on the path.
    let mut met = vec![0_usize; edges.len()];
    let mut on_path = vec![false; edges.len()];
    let mut path: Vec<(u32, usize)> = Vec::new();
    let mut steps = 0_usize;
    for (at, root) in (0..edges.len()).zip(0_u32..) {
        let round = at.saturating_add(1);
        let mut ring: Option<Vec<u32>> = None;
        enter(root, round, &mut met, &mut on_path, &mut path);
        while let Some((id, next)) = path.last_mut() {
            steps = steps.saturating_add(1);
            if steps > MAX_STEPS {
                return Err(Error::limit("too many steps along module dependencies", MAX_STEPS));
            }
            let id = *id;
            let needed = edges.get(id as usize).and_then(|list| list.get(*next)).copied();
            *next = next.saturating_add(1);
            let Some(needed) = needed else {
                path.pop();
                if let Some(flag) = on_path.get_mut(id as usize) {
                    *flag = false;
                }
                if id != root {
                    closures.members.push(id);
                }
                continue;
            };
            if met.get(needed as usize) != Some(&round) {
                enter(needed, round, &mut met, &mut on_path, &mut path);
            } else if ring.is_none()
                && needed == root
                && on_path.get(at) == Some(&true)
                && path.iter().all(|&(id, _)| id >= root)
            {
                // Each ring is met from all of its members; the first of them tells.
                ring = Some(path.iter().map(|&(id, _)| id).collect());
            }
        }
        rings.extend(ring);
        if closures.members.len() > MAX_MEMBERS {
            return Err(Error::limit("too many module dependencies", MAX_MEMBERS));
        }
        closures.ends.push(u32::try_from(closures.members.len()).unwrap_or(u32::MAX));
    }
    Ok((closures, rings))
}

fn enter(
    id: u32,
    round: usize,
    met: &mut [usize],
    on_path: &mut [bool],
    path: &mut Vec<(u32, usize)>,
) {
    let at = id as usize;
    if let (Some(met), Some(on_path)) = (met.get_mut(at), on_path.get_mut(at)) {
        *met = round;
        *on_path = true;
        path.push((id, 0));
    }
}
