//! Closures of programs.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Options;
use super::closure::{Builder, Closure};
use super::modules::{Candidate, ModuleId};
use super::problem::Problem;
use super::scope::{Edge, Loader, Program, Via};
use crate::{Error, Result};

/// Where the program of `#!/usr/bin/env NAME` is searched.
const ENV_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How many interpreters of interpreters are followed (Linux: `BINPRM_MAX_RECURSION`, 5).
const SCRIPT_MAX: usize = 5;

/// A program whose closure is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Root {
    /// Where it is on the host; `None` for what is in the sysroot at `image_path`.
    pub host_path: Option<PathBuf>,
    /// Where it will be in the image, which decides about `$ORIGIN`.
    pub image_path: PathBuf,
    /// Why it is wanted.
    pub why: Option<String>,
}

impl Root {
    /// A program of the sysroot.
    #[must_use]
    pub fn in_sysroot(path: impl Into<PathBuf>) -> Self {
        Self { host_path: None, image_path: path.into(), why: None }
    }

    /// A file from anywhere on the host, placed at a path of the image.
    #[must_use]
    pub fn placed(host_path: impl Into<PathBuf>, image_path: impl Into<PathBuf>) -> Self {
        Self { host_path: Some(host_path.into()), image_path: image_path.into(), why: None }
    }

    /// The same, with a reason.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }
}

/// A library as `ld.so --list` prints it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Listed {
    /// The name that is needed.
    pub name: String,
    /// Where it is, spelled as the loader does; `None` when it is nowhere.
    pub path: Option<String>,
}

/// Finds closures in a sysroot. What was learned about one program serves the next.
#[derive(Debug)]
pub struct Resolver {
    options: Options,
    loader: Loader,
}

impl Resolver {
    /// A resolver for a sysroot.
    ///
    /// # Errors
    /// [`Error::File`] when the sysroot is no directory.
    pub fn new(mut options: Options) -> Result<Self> {
        let file = |action, source| {
            let path = options.sysroot.clone();
            Error::File { action, path, source }
        };
        // One link at the sysroot itself would otherwise be followed for every file.
        let root = std::fs::canonicalize(&options.sysroot).map_err(|error| file("open", error))?;
        if !root.is_dir() {
            let error = std::io::Error::other("it is not a directory");
            return Err(file("use as the sysroot", error));
        }
        options.sysroot = root;
        let loader = Loader::new(&options);
        Ok(Self { options, loader })
    }

    /// The closure of files in the sysroot, themselves included.
    ///
    /// # Errors
    /// [`Error::Unresolved`] with everything that is missing or damaged.
    pub fn closure<P: AsRef<Path>>(&mut self, paths: &[P]) -> Result<Closure> {
        let roots: Vec<Root> = paths.iter().map(|path| Root::in_sysroot(path.as_ref())).collect();
        self.closure_of(&roots)
    }

    /// The closure of files of the sysroot and of files that will be placed in it.
    ///
    /// # Errors
    /// [`Error::Unresolved`] with everything that is missing or damaged.
    pub fn closure_of(&mut self, roots: &[Root]) -> Result<Closure> {
        let mut builder = Builder::default();
        let mut problems = Vec::new();
        let mut seen_edges: HashSet<Edge> = HashSet::new();
        let mut done: HashSet<ModuleId> = HashSet::new();
        for root in roots {
            let why = root.why.clone().unwrap_or_else(|| "asked for".to_owned());
            self.root(root, &why, 0, &mut builder, &mut problems, &mut |this, id, builder| {
                if !done.insert(id) {
                    return Vec::new();
                }
                let program = this.loader.load(id, &this.options);
                this.note(&program, builder, &mut seen_edges);
                program.problems
            });
        }
        if problems.is_empty() {
            return builder.finish();
        }
        // The same library can be missing for a thousand programs: each is told once, in order.
        let mut told = BTreeSet::new();
        problems.retain(|problem| told.insert(problem.to_string()));
        Err(Error::Unresolved(problems))
    }

    /// What the loader would list for one file, in its order, the interpreter left out.
    ///
    /// # Errors
    /// [`Error::Unresolved`] when the file itself is not there or is no ELF file; what it needs
    /// may well be missing.
    pub fn list(&mut self, root: &Root) -> Result<Vec<Listed>> {
        let id = match self.candidate(root) {
            Ok(Candidate::Module(id)) => id,
            Ok(other) => return Err(Error::Unresolved(vec![unusable(&root.image_path, other)])),
            Err(problem) => return Err(Error::Unresolved(vec![problem])),
        };
        let program = self.loader.load(id, &self.options);
        let modules = &self.loader.modules;
        let text = |name| String::from_utf8_lossy(&modules.names.get(name)).into_owned();
        let interp = modules.get(id).is_some_and(|module| module.object.interp.is_some());
        let found = program.loaded.iter().skip(1 + usize::from(interp)).map(|loaded| Listed {
            name: text(loaded.name),
            path: modules.get(loaded.module).map(|module| text(module.spelled)),
        });
        let missing = program.problems.iter().filter_map(|problem| match problem {
            Problem::Missing { library, .. } => Some(Listed { name: library.clone(), path: None }),
            _ => None,
        });
        Ok(found.chain(missing).collect())
    }

    fn candidate(&mut self, root: &Root) -> Result<Candidate, Problem> {
        let path = root.image_path.as_os_str().as_bytes();
        match &root.host_path {
            None => Ok(self.loader.modules.program(path)),
            Some(host) => self.loader.modules.foreign(host, path).map_err(|error| {
                Problem::NoSuchFile { path: host.display().to_string(), reason: error.to_string() }
            }),
        }
    }

    fn root(
        &mut self,
        root: &Root,
        why: &str,
        depth: usize,
        builder: &mut Builder,
        problems: &mut Vec<Problem>,
        load: &mut dyn FnMut(&mut Self, ModuleId, &mut Builder) -> Vec<Problem>,
    ) {
        match self.candidate(root) {
            Ok(Candidate::Module(id)) => {
                if let Some(module) = self.loader.modules.get(id) {
                    builder.program(module, why);
                }
                problems.append(&mut load(self, id, builder));
            }
            Ok(Candidate::Script(line)) if self.options.scripts && depth < SCRIPT_MAX => {
                self.script(root, why, &line, depth, builder, problems, load);
            }
            Ok(other) => problems.push(unusable(&root.image_path, other)),
            Err(problem) => problems.push(problem),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one recursion")]
    fn script(
        &mut self,
        root: &Root,
        why: &str,
        line: &[u8],
        depth: usize,
        builder: &mut Builder,
        problems: &mut Vec<Problem>,
        load: &mut dyn FnMut(&mut Self, ModuleId, &mut Builder) -> Vec<Problem>,
    ) {
        let program = root.image_path.display().to_string();
        let path = root.image_path.as_os_str().as_bytes();
        match &root.host_path {
            Some(host) => builder.placed(path, host, why),
            None => {
                if let Some(resolved) = self.loader.modules.sysroot.resolve(path) {
                    let host = self.loader.modules.sysroot.host(&resolved.real);
                    builder.file(&resolved.real, &host, &resolved.way, why);
                }
            }
        }
        let mut words =
            line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).filter(|word| !word.is_empty());
        let Some(interpreter) = words.next() else {
            problems.push(Problem::NotElf { path: program });
            return;
        };
        let mut wanted = vec![(interpreter.to_vec(), "interpreter of the script")];
        if interpreter.ends_with(b"/env") {
            // Options and assignments of env come before the name.
            let name = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='));
            if let Some(name) = name {
                let found = ENV_PATH.iter().find_map(|directory| {
                    let path = [directory.as_bytes(), b"/", name].concat();
                    self.loader.modules.sysroot.resolve(&path).map(|_| path)
                });
                match found {
                    Some(path) => wanted.push((path, "program that env starts for the script")),
                    None => problems.push(Problem::InterpreterMissing {
                        interpreter: String::from_utf8_lossy(name).into_owned(),
                        program: program.clone(),
                    }),
                }
            }
        }
        for (path, role) in wanted {
            if self.loader.modules.sysroot.resolve(&path).is_none() {
                problems.push(Problem::InterpreterMissing {
                    interpreter: String::from_utf8_lossy(&path).into_owned(),
                    program: program.clone(),
                });
                continue;
            }
            let why = format!("{role} {program}");
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(&path));
            self.root(&Root::in_sysroot(path), &why, depth + 1, builder, problems, load);
        }
    }

    /// Puts what a program loads into the closure.
    fn note(&self, program: &Program, builder: &mut Builder, seen: &mut HashSet<Edge>) {
        let modules = &self.loader.modules;
        for edge in &program.edges {
            if !seen.insert(*edge) {
                continue;
            }
            let (Some(by), Some(module)) = (modules.get(edge.by), modules.get(edge.module)) else {
                continue;
            };
            let name = modules.names.get(edge.name);
            let is_interp = by.object.interp.as_deref() == Some(&*name);
            builder.needed(module, &by.real, &name, is_interp);
        }
        for loaded in &program.loaded {
            let Some(module) = modules.get(loaded.module) else { continue };
            match loaded.via {
                Via::Itself => {}
                Via::Cache => builder.through_cache(&self.options.sysroot, module),
                Via::Configuration => builder.needs_ldconfig(module),
            }
        }
    }
}

fn unusable(path: &Path, candidate: Candidate) -> Problem {
    let path = path.display().to_string();
    match candidate {
        Candidate::Absent => Problem::NoSuchFile { path, reason: "not in the sysroot".into() },
        Candidate::Damaged { reason, .. } => Problem::Damaged { path, reason },
        Candidate::Module(_) | Candidate::Script(_) | Candidate::NotElf => Problem::NotElf { path },
    }
}
