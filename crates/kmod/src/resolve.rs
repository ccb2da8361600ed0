//! From names and modaliases to an order in which to load modules.

use std::collections::VecDeque;
use std::fmt;

use crate::index::{Index, When, soft};

/// What to load for a list of names and modaliases, from [`Index::resolve`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolution {
    /// The modules to load, in this order.
    pub load: Vec<Module>,
    /// Names of built-in modules that were asked for: nothing to do for them.
    pub builtin: Vec<String>,
    /// What was asked for and is neither a module nor matches an alias.
    pub unknown: Vec<String>,
    /// Soft dependencies that this kernel does not have, as (module, what it would like).
    pub ignored_softdeps: Vec<(String, String)>,
}

/// A module to load.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Module {
    /// The name in the kernel's spelling.
    pub name: String,
    /// Relative to `/lib/modules/RELEASE`.
    pub path: String,
    /// Why it is on the list; where there are several reasons, the first that came up.
    pub reason: Reason,
}

/// Why a module is on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Its name was asked for.
    Name(String),
    /// An alias was asked for which one of its patterns matches.
    Alias {
        /// What was asked for.
        query: String,
        /// The pattern that matches.
        pattern: String,
    },
    /// It must be loaded before the module of that name.
    Dependency(String),
    /// The module of that name wants it loaded before or after.
    SoftDependency(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "asked for as {name}"),
            Self::Alias { query, pattern } if query == pattern => {
                write!(f, "asked for as {query}")
            }
            Self::Alias { query, pattern } => write!(f, "asked for as {query}, which is {pattern}"),
            Self::Dependency(of) => write!(f, "needed by {of}"),
            Self::SoftDependency(of) => write!(f, "wanted by {of}"),
        }
    }
}

impl Index {
    /// Finds what `wanted` stands for, and in which order to load it.
    ///
    /// Each item is the name of a module (`-` and `_` are equal) or a modalias as the kernel
    /// writes it to `/sys/…/modalias`. The name of a loadable module is tried first; else a
    /// built-in of that name and all modules of which an alias pattern matches are meant. Every module comes after all that it needs. What a
    /// module's `pre:` soft dependencies stand for comes before it too, unless that needs the
    /// module itself; `post:` ones come after the item of `wanted` that brought them in.
    ///
    /// An unknown item is reported and does not stand in the way of the others.
    ///
    /// ```
    /// # use kiln_kmod::{Index, IndexFiles};
    /// let index = Index::parse(IndexFiles::new("net/veth.ko:\nnet/tun.ko: lib/tap.ko\nlib/tap.ko:\n"))?;
    /// let found = index.resolve(&["tun"]);
    /// let order: Vec<&str> = found.load.iter().map(|module| module.name.as_str()).collect();
    /// assert_eq!(order, ["tap", "tun"]);
    /// # Ok::<(), kiln_kmod::Error>(())
    /// ```
    #[must_use]
    pub fn resolve(&self, wanted: &[impl AsRef<str>]) -> Resolution {
        let mut walk = Walk::new(self);
        for item in wanted {
            let item = item.as_ref();
            let found = self.look_up(item);
            if found.is_empty() {
                push_new(&mut walk.out.unknown, item);
            }
            for Found { id, pattern } in found {
                let reason = match pattern {
                    None => Reason::Name(item.to_owned()),
                    Some(pattern) => {
                        Reason::Alias { query: item.to_owned(), pattern: pattern.to_owned() }
                    }
                };
                match self.entry(id) {
                    Some(entry) if self.is_builtin(id) => {
                        push_new(&mut walk.out.builtin, &entry.name);
                    }
                    _ => walk.want(id, reason),
                }
            }
        }
        walk.out
    }

    /// The modules that a name or alias stands for, each once.
    pub(crate) fn look_up(&self, item: &str) -> Vec<Found<'_>> {
        let named = self.id_of(item).map(|id| Found { id, pattern: None });
        let mut found: Vec<Found<'_>> = named.into_iter().collect();
        // A built-in name may be an alias as well: `crc32` is a library in the kernel image, and
        // what f2fs wants by that name is the modules that offer the algorithm.
        if found.iter().any(|found| !self.is_builtin(found.id)) {
            return found;
        }
        for hit in self.aliases.find(item) {
            if !found.iter().any(|found| found.id == hit.target) {
                found.push(Found { id: hit.target, pattern: Some(hit.pattern) });
            }
        }
        found
    }
}

/// A module that a name or, where there is a pattern, an alias stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) id: u32,
    pattern: Option<&'a str>,
}

fn push_new(list: &mut Vec<String>, item: &str) {
    if !list.iter().any(|old| old == item) {
        list.push(item.to_owned());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// Its turn has come; what should be loaded before it is being seen to.
    Current,
    Loaded,
}

/// One module with all that it needs, on the way to being loaded.
#[derive(Debug)]
struct Frame {
    root: u32,
    reason: Reason,
    /// How far along the root's dependencies; one more is the root itself.
    next: usize,
    /// A `pre:` soft dependency, not looked at yet.
    soft: bool,
}

#[derive(Debug)]
struct Walk<'a> {
    index: &'a Index,
    state: Vec<State>,
    stack: Vec<Frame>,
    /// `post:` soft dependencies and those that could not come before.
    later: VecDeque<(u32, Reason)>,
    out: Resolution,
}

impl<'a> Walk<'a> {
    fn new(index: &'a Index) -> Self {
        Self {
            index,
            state: vec![State::New; index.loadable],
            stack: Vec::new(),
            later: VecDeque::new(),
            out: Resolution::default(),
        }
    }

    fn want(&mut self, id: u32, reason: Reason) {
        self.later.push_back((id, reason));
        while let Some((root, reason)) = self.later.pop_front() {
            self.stack.push(Frame { root, reason, next: 0, soft: false });
            while self.step() {}
        }
    }

    /// One step of the topmost frame; `false` where there is none.
    fn step(&mut self) -> bool {
        let Some(frame) = self.stack.last_mut() else { return false };
        // Looked at once, before the first of its modules becomes current itself.
        if std::mem::take(&mut frame.soft) {
            let root = frame.root;
            if self.needs_current(root)
                && let Some(frame) = self.stack.pop()
            {
                self.later.push_back((frame.root, frame.reason));
            }
            return true;
        }
        let (root, next) = (frame.root, frame.next);
        let needs = self.index.closures.of(root);
        if next > needs.len() || self.state(root) == State::Loaded {
            self.stack.pop();
            return true;
        }
        let id = needs.get(next).copied().unwrap_or(root);
        match self.state(id) {
            State::New => {
                self.set(id, State::Current);
                self.soft_dependencies(id, When::Pre);
            }
            State::Current => {
                self.load(id);
                self.advance();
            }
            State::Loaded => self.advance(),
        }
        true
    }

    fn state(&self, id: u32) -> State {
        self.state.get(id as usize).copied().unwrap_or(State::Loaded)
    }

    fn set(&mut self, id: u32, state: State) {
        if let Some(slot) = self.state.get_mut(id as usize) {
            *slot = state;
        }
    }

    fn advance(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            frame.next = frame.next.saturating_add(1);
        }
    }

    /// Whether `root` is, or needs, a module whose turn has come and that is not loaded yet.
    fn needs_current(&self, root: u32) -> bool {
        let needs = self.index.closures.of(root);
        needs.iter().chain([&root]).any(|&id| self.state(id) == State::Current)
    }

    fn load(&mut self, id: u32) {
        let (Some(entry), Some(frame)) = (self.index.entry(id), self.stack.last()) else { return };
        let reason = if id == frame.root {
            frame.reason.clone()
        } else {
            let root = self.index.entry(frame.root).map(|root| root.name.to_string());
            Reason::Dependency(root.unwrap_or_default())
        };
        let (name, path) = (entry.name.to_string(), entry.path.to_string());
        self.out.load.push(Module { name, path, reason });
        self.set(id, State::Loaded);
        self.soft_dependencies(id, When::Post);
    }

    /// Lines up what should come before or after module `id`.
    fn soft_dependencies(&mut self, id: u32, when: When) {
        let index = self.index;
        let Some(entry) = index.entry(id) else { return };
        let mut frames = Vec::new();
        for item in soft(entry, when) {
            let found = index.look_up(item);
            if found.is_empty() {
                let ignored = (entry.name.to_string(), item.to_owned());
                if !self.out.ignored_softdeps.contains(&ignored) {
                    self.out.ignored_softdeps.push(ignored);
                }
            }
            for Found { id: root, .. } in found {
                if self.state(root) == State::Loaded {
                    continue;
                }
                let reason = Reason::SoftDependency(entry.name.to_string());
                match when {
                    When::Pre => frames.push(Frame { root, reason, next: 0, soft: true }),
                    When::Post => self.later.push_back((root, reason)),
                }
            }
        }
        self.stack.extend(frames.into_iter().rev());
    }
}
