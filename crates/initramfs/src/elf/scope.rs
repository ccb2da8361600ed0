//! One program loaded on paper: its scope, and the search for each name that is not in it.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::Options;
use super::environment::{Choices, Environment, Family};
use super::modules::{Candidate, DirectoryId, ModuleId, Modules, NameId};
use super::object::Arch;
use super::problem::Problem;

/// How a library was found, as far as it matters for the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// Where the image's loader will find it with nothing but the program.
    Itself,
    /// Through `ld.so.cache`.
    Cache,
    /// In a directory of `ld.so.conf`, which no loader reads.
    Configuration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded {
    pub(super) module: ModuleId,
    /// Who loaded it, as an index into the same list.
    pub(super) loader: Option<usize>,
    /// The name it was loaded by.
    pub(super) name: NameId,
    pub(super) via: Via,
}

/// Who needed what by which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Edge {
    pub(super) by: ModuleId,
    pub(super) name: NameId,
    pub(super) module: ModuleId,
}

/// A program with everything that its loader would load, in this order.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) loaded: Vec<Loaded>,
    pub(super) edges: Vec<Edge>,
    pub(super) problems: Vec<Problem>,
}

type EnvironmentId = usize;

#[derive(Debug)]
pub(super) struct Loader {
    pub(super) modules: Modules,
    environments: Vec<Environment>,
    environment_ids: HashMap<(Arch, Option<Vec<u8>>), EnvironmentId>,
    library_path: Vec<DirectoryId>,
    /// The directories of an environment, numbered.
    system: HashMap<(EnvironmentId, bool), Arc<[DirectoryId]>>,
    /// A directory with those of its glibc-hwcaps subdirectories that exist, best first.
    variants: HashMap<(EnvironmentId, DirectoryId), Arc<[DirectoryId]>>,
    /// What cache, configuration and system directories give for a name.
    defaults: HashMap<(EnvironmentId, NameId), Option<(ModuleId, Via)>>,
    /// The scope of the program at work: by name, the program's number and the index.
    scope: Vec<(u32, usize)>,
    generation: u32,
}

impl Loader {
    pub(super) fn new(options: &Options) -> Self {
        let mut modules = Modules::new(options.sysroot.clone());
        let library_path = options
            .library_path
            .iter()
            .map(|path| modules.directory(path.as_os_str().as_bytes()))
            .collect();
        Self {
            modules,
            environments: Vec::new(),
            environment_ids: HashMap::new(),
            library_path,
            system: HashMap::new(),
            variants: HashMap::new(),
            defaults: HashMap::new(),
            scope: Vec::new(),
            generation: 0,
        }
    }

    /// Loads a program with its interpreter.
    pub(super) fn load(&mut self, root: ModuleId, options: &Options) -> Program {
        let mut program = Program::default();
        let Some(module) = self.modules.get(root) else { return program };
        let object = Arc::clone(&module.object);
        let root_name = module.spelled;
        let environment = self.environment(object.arch, object.interp.as_deref(), options);
        self.generation += 1;
        self.enter(
            &mut program,
            environment,
            Loaded { module: root, loader: None, name: root_name, via: Via::Itself },
        );
        if let Some(path) = &object.interp {
            let name = self.modules.names.id(path);
            let found = self.modules.at(path);
            match self.usable(environment, found, &mut program) {
                Some(module) => {
                    let via = Via::Itself;
                    let loaded = Loaded { module, loader: Some(0), name, via };
                    self.enter(&mut program, environment, loaded);
                    program.edges.push(Edge { by: root, name, module });
                }
                None => program.problems.push(Problem::InterpreterMissing {
                    interpreter: String::from_utf8_lossy(path).into_owned(),
                    program: self.modules.display(root),
                }),
            }
        }
        let mut next = 0;
        while let Some(current) = program.loaded.get(next).copied() {
            let Some(module) = self.modules.get(current.module) else { break };
            for name in module.needed.clone().iter().copied() {
                let found = match self.in_scope(environment, &program, name) {
                    Some(index) => program.loaded.get(index).map(|loaded| loaded.module),
                    None => self.add(environment, &mut program, next, name),
                };
                if let Some(module) = found {
                    program.edges.push(Edge { by: current.module, name, module });
                }
            }
            next += 1;
        }
        program
    }

    /// Searches a name that is not in scope and puts what is found there.
    fn add(
        &mut self,
        environment: EnvironmentId,
        program: &mut Program,
        by: usize,
        name: NameId,
    ) -> Option<ModuleId> {
        let Some((module, via)) = self.search(environment, program, by, name) else {
            let problem = self.missing(environment, program, by, name);
            program.problems.push(problem);
            return None;
        };
        let id = self.modules.get(module)?.id;
        // Another name of a file that is loaded already.
        let known = program
            .loaded
            .iter()
            .position(|loaded| self.modules.get(loaded.module).is_some_and(|m| m.id == id));
        if let Some(index) = known {
            self.answer(name, index);
            return program.loaded.get(index).map(|loaded| loaded.module);
        }
        self.enter(program, environment, Loaded { module, loader: Some(by), name, via });
        Some(module)
    }

    /// Makes a file part of the program, with the names it answers to.
    fn enter(&mut self, program: &mut Program, environment: EnvironmentId, loaded: Loaded) {
        let index = program.loaded.len();
        program.loaded.push(loaded);
        let Some(module) = self.modules.get(loaded.module) else { return };
        let (spelled, soname) = (module.spelled, module.soname);
        let family = self.environments.get(environment).map(|known| known.family);
        if family == Some(Family::Musl) {
            // musl knows a library by the file name it was searched by, and by nothing else.
            self.answer(loaded.name, index);
            return;
        }
        if loaded.loader.is_some() {
            self.answer(loaded.name, index);
            self.answer(spelled, index);
        }
        if let Some(soname) = soname {
            self.answer(soname, index);
        }
    }

    /// Lets `index` answer to a name, unless something before it does.
    fn answer(&mut self, name: NameId, index: usize) {
        if self.scope.len() <= name {
            self.scope.resize(self.modules.names.len().max(name + 1), (0, 0));
        }
        if let Some(place) = self.scope.get_mut(name)
            && place.0 != self.generation
        {
            *place = (self.generation, index);
        }
    }

    fn in_scope(
        &self,
        environment: EnvironmentId,
        program: &Program,
        name: NameId,
    ) -> Option<usize> {
        if let Some((generation, index)) = self.scope.get(name)
            && *generation == self.generation
        {
            return Some(*index);
        }
        let known = self.environments.get(environment)?;
        if known.family == Family::Musl && program.loaded.len() > 1 {
            // The parts of the C library are all in the loader.
            let text = self.modules.names.get(name);
            let part = text.strip_prefix(b"lib")?;
            let parts = [&b"c."[..], b"pthread.", b"rt.", b"m.", b"dl.", b"util.", b"xnet."];
            return parts.iter().any(|own| part.starts_with(own)).then_some(1);
        }
        None
    }

    /// The search itself.
    fn search(
        &mut self,
        environment: EnvironmentId,
        program: &mut Program,
        by: usize,
        name: NameId,
    ) -> Option<(ModuleId, Via)> {
        let text = self.modules.names.get(name);
        let requester = program.loaded.get(by)?.module;
        let family = self.environments.get(environment)?.family;
        if text.contains(&b'/') {
            let origin = self.modules.get(requester)?.origin.clone();
            let path = match family {
                Family::Glibc => self.environments.get(environment)?.expand(&text, &origin)?,
                Family::Musl => text.to_vec(),
            };
            // Relative to the working directory of a process that does not exist yet.
            if !path.starts_with(b"/") {
                return None;
            }
            let found = self.modules.at(&path);
            return Some((self.usable(environment, found, program)?, Via::Itself));
        }
        for step in self.steps(environment, program, by) {
            let found = match step {
                Step::Directories(directories) => directories.iter().find_map(|directory| {
                    self.in_directory(environment, *directory, name, program)
                        .map(|module| (module, Via::Itself))
                }),
                Step::Defaults { cached_only: false } => {
                    match self.defaults.get(&(environment, name)) {
                        Some(known) => *known,
                        None => {
                            let found = self.default(environment, name, false, program);
                            self.defaults.insert((environment, name), found);
                            found
                        }
                    }
                }
                Step::Defaults { cached_only } => {
                    self.default(environment, name, cached_only, program)
                }
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Where to search for what `by` needs, in order.
    fn steps(&mut self, environment: EnvironmentId, program: &Program, by: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(requester) = program.loaded.get(by).map(|loaded| loaded.module) else {
            return steps;
        };
        let Some(module) = self.modules.get(requester) else { return steps };
        let no_default = module.object.no_default_libraries;
        let has_runpath = module.object.runpath.is_some();
        let family = self.environments.get(environment).map(|known| known.family);
        let musl = family == Some(Family::Musl);
        let library_path = Step::Directories(self.library_path.clone().into());
        if musl {
            steps.push(library_path.clone());
        }
        if musl || !has_runpath {
            let mut link = Some(by);
            while let Some(loaded) = link.and_then(|index| program.loaded.get(index)) {
                let rpath = self.path_of(environment, loaded.module, musl, false);
                if !rpath.is_empty() {
                    steps.push(Step::Directories(rpath));
                }
                link = loaded.loader;
            }
        }
        if !musl {
            steps.push(library_path);
            let runpath = self.path_of(environment, requester, false, true);
            if !runpath.is_empty() {
                steps.push(Step::Directories(runpath));
            }
        }
        steps.push(Step::Defaults { cached_only: no_default && !musl });
        steps
    }

    /// What `ld.so.cache`, `ld.so.conf` and the system directories give.
    fn default(
        &mut self,
        environment: EnvironmentId,
        name: NameId,
        cached_only: bool,
        program: &mut Program,
    ) -> Option<(ModuleId, Via)> {
        let text = self.modules.names.get(name);
        let known = self.environments.get(environment)?;
        if let Some(path) = known.cache.as_ref().and_then(|cache| cache.get(&*text)).cloned() {
            let directory = path.get(..path.len().saturating_sub(text.len() + 1));
            let is_system = known.system.iter().any(|own| Some(own.as_slice()) == directory);
            if !(cached_only && is_system) {
                let found = self.modules.at(&path);
                if let Some(module) = self.usable(environment, found, program) {
                    return Some((module, if is_system { Via::Itself } else { Via::Cache }));
                }
            }
        }
        if cached_only {
            return None;
        }
        let own = self.numbered(environment, false);
        for directory in self.numbered(environment, true).iter().copied() {
            if let Some(module) = self.in_directory(environment, directory, name, program) {
                let itself = own.contains(&directory);
                return Some((module, if itself { Via::Itself } else { Via::Configuration }));
            }
        }
        let found = own
            .iter()
            .find_map(|directory| self.in_directory(environment, *directory, name, program));
        found.map(|module| (module, Via::Itself))
    }

    fn numbered(&mut self, environment: EnvironmentId, configured: bool) -> Arc<[DirectoryId]> {
        if let Some(known) = self.system.get(&(environment, configured)) {
            return Arc::clone(known);
        }
        let Some(known) = self.environments.get(environment) else { return Arc::default() };
        let paths = if configured { &known.configured } else { &known.system };
        let numbered: Arc<[_]> = paths.iter().map(|path| self.modules.directory(path)).collect();
        self.system.insert((environment, configured), Arc::clone(&numbered));
        numbered
    }

    /// A file of this name in a directory or, better, in one of its glibc-hwcaps subdirectories.
    fn in_directory(
        &mut self,
        environment: EnvironmentId,
        directory: DirectoryId,
        name: NameId,
        program: &mut Program,
    ) -> Option<ModuleId> {
        let generic = self.environments.get(environment)?.hwcaps.is_empty();
        if generic {
            let found = self.modules.find(directory, name);
            return self.usable(environment, found, program);
        }
        let variants = self.variants(environment, directory);
        variants.iter().find_map(|directory| {
            let found = self.modules.find(*directory, name);
            self.usable(environment, found, program)
        })
    }

    fn variants(
        &mut self,
        environment: EnvironmentId,
        directory: DirectoryId,
    ) -> Arc<[DirectoryId]> {
        if let Some(known) = self.variants.get(&(environment, directory)) {
            return Arc::clone(known);
        }
        let path = self.modules.directory_path(directory).to_vec();
        let hwcaps = self.environments.get(environment).map(|known| known.hwcaps.clone());
        let mut variants = Vec::new();
        for hwcap in hwcaps.unwrap_or_default() {
            let subdirectory = [&path, &b"/glibc-hwcaps/"[..], &hwcap].concat();
            let id = self.modules.directory(&subdirectory);
            if self.modules.directory_exists(id) {
                variants.push(id);
            }
        }
        variants.push(directory);
        let variants: Arc<[_]> = variants.into();
        self.variants.insert((environment, directory), Arc::clone(&variants));
        variants
    }

    /// The module of a candidate, if the environment's machine can load it.
    fn usable(
        &self,
        environment: EnvironmentId,
        candidate: Candidate,
        program: &mut Program,
    ) -> Option<ModuleId> {
        let arch = self.environments.get(environment)?.arch;
        match candidate {
            Candidate::Module(id) if self.modules.get(id)?.object.arch == arch => Some(id),
            // A loader gives up at such a file.
            Candidate::Damaged { path, reason } => {
                let problem = Problem::Damaged { path, reason };
                if !program.problems.contains(&problem) {
                    program.problems.push(problem);
                }
                None
            }
            Candidate::Module(_) | Candidate::Absent | Candidate::Script(_) | Candidate::NotElf => {
                None
            }
        }
    }

    /// RPATH or RUNPATH of a module as directories. musl takes either for the same thing.
    fn path_of(
        &mut self,
        environment: EnvironmentId,
        id: ModuleId,
        either: bool,
        runpath: bool,
    ) -> Arc<[DirectoryId]> {
        let Some(module) = self.modules.get(id) else { return Arc::default() };
        let known = if runpath { &module.runpath } else { &module.rpath };
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let text = match (either, runpath) {
            (true, _) => module.object.runpath.as_ref().or(module.object.rpath.as_ref()),
            (false, true) => module.object.runpath.as_ref(),
            (false, false) => module.object.rpath.as_ref(),
        };
        let (text, origin) = (text.cloned().unwrap_or_default(), module.origin.clone());
        let mut directories = Vec::new();
        for part in text.split(|byte| *byte == b':').filter(|part| !part.is_empty()) {
            let expanded =
                self.environments.get(environment).and_then(|known| known.expand(part, &origin));
            // A relative directory depends on where the program will be started.
            let Some(path) = expanded.filter(|path| path.starts_with(b"/")) else { continue };
            let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
            let directory = self.modules.directory(path.get(..end).unwrap_or_default());
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        let directories: Arc<[_]> = directories.into();
        if let Some(module) = self.modules.get_mut(id) {
            let place = if runpath { &mut module.runpath } else { &mut module.rpath };
            *place = Some(Arc::clone(&directories));
        }
        directories
    }

    fn environment(
        &mut self,
        arch: Arch,
        interp: Option<&[u8]>,
        options: &Options,
    ) -> EnvironmentId {
        let key = (arch, interp.map(<[u8]>::to_vec));
        if let Some(id) = self.environment_ids.get(&key) {
            return *id;
        }
        let choices = Choices {
            use_cache: options.ld_cache,
            hwcaps: options.hwcaps.names(),
            system: options.system_path.as_deref(),
            platform: options.platform.as_deref(),
        };
        let environment = Environment::new(&mut self.modules.sysroot, arch, interp, &choices);
        self.environments.push(environment);
        let id = self.environments.len() - 1;
        self.environment_ids.insert(key, id);
        id
    }

    /// The report on a name that was not found.
    fn missing(
        &mut self,
        environment: EnvironmentId,
        program: &Program,
        by: usize,
        name: NameId,
    ) -> Problem {
        let text = self.modules.names.get(name);
        let mut searched = Vec::new();
        let mut passed_over = Vec::new();
        let mut directories: Vec<DirectoryId> = Vec::new();
        let mut from_cache = None;
        if text.contains(&b'/') {
            searched.push("that path alone".to_owned());
        } else {
            for step in self.steps(environment, program, by) {
                match step {
                    Step::Directories(more) => directories.extend(more.iter()),
                    Step::Defaults { cached_only } => {
                        let known = self.environments.get(environment);
                        from_cache = known.and_then(|known| known.cache.as_ref()).map(|cache| {
                            cache.get(&*text).map(|path| String::from_utf8_lossy(path).into_owned())
                        });
                        if !cached_only {
                            directories.extend(self.numbered(environment, true).iter());
                            directories.extend(self.numbered(environment, false).iter());
                        }
                    }
                }
            }
        }
        for directory in directories {
            let path = String::from_utf8_lossy(self.modules.directory_path(directory));
            let mut line = if path.is_empty() { "/".to_owned() } else { path.into_owned() };
            if !self.modules.directory_exists(directory) {
                line.push_str(" (no such directory)");
            }
            searched.push(line);
            if let Candidate::Module(id) = self.modules.find(directory, name)
                && let Some(module) = self.modules.get(id)
            {
                passed_over.push(format!("{} ({})", self.modules.display(id), module.object.arch));
            }
        }
        match from_cache {
            Some(Some(path)) => searched.push(format!("/etc/ld.so.cache (which names {path})")),
            Some(None) => searched.push("/etc/ld.so.cache".into()),
            None => {}
        }
        let display = |index: usize| {
            program.loaded.get(index).map(|loaded| self.modules.display(loaded.module))
        };
        Problem::Missing {
            library: String::from_utf8_lossy(&text).into_owned(),
            needed_by: display(by).unwrap_or_default(),
            program: display(0).unwrap_or_default(),
            searched,
            passed_over,
        }
    }
}

/// A place to search.
#[derive(Debug, Clone)]
enum Step {
    Directories(Arc<[DirectoryId]>),
    /// Cache, configuration and system directories; of these the cache alone for an object linked
    /// with `-z nodefaultlib`.
    Defaults {
        cached_only: bool,
    },
}
