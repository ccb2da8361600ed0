//! Every file and directory that was looked at, each once, by number.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::object::{Object, Probe, probe};
use super::sysroot::{Found, Resolved, Sysroot, Way};

pub(super) type NameId = usize;
pub(super) type ModuleId = usize;
pub(super) type DirectoryId = usize;

/// Names of libraries and paths as small numbers, so that scopes are arrays.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Arc<[u8]>, NameId>,
    names: Vec<Arc<[u8]>>,
}

impl Names {
    pub(super) fn id(&mut self, name: &[u8]) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let shared: Arc<[u8]> = name.into();
        self.names.push(Arc::clone(&shared));
        self.ids.insert(shared, self.names.len() - 1);
        self.names.len() - 1
    }

    pub(super) fn get(&self, id: NameId) -> Arc<[u8]> {
        self.names.get(id).cloned().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// A file that can be loaded, under one of its paths.
#[derive(Debug)]
pub(super) struct Module {
    /// The path as the loader would spell it.
    pub(super) spelled: NameId,
    /// The path in the image, links followed, without leading slash.
    pub(super) real: Vec<u8>,
    pub(super) host: PathBuf,
    pub(super) id: (u64, u64),
    pub(super) way: Way,
    pub(super) object: Arc<Object>,
    pub(super) needed: Arc<[NameId]>,
    pub(super) soname: Option<NameId>,
    /// What `$ORIGIN` stands for.
    pub(super) origin: Vec<u8>,
    /// RPATH and RUNPATH as directories, once they were asked for.
    pub(super) rpath: Option<Arc<[DirectoryId]>>,
    pub(super) runpath: Option<Arc<[DirectoryId]>>,
}

/// What is at a path.
#[derive(Debug, Clone)]
pub(super) enum Candidate {
    Absent,
    Module(ModuleId),
    /// A script; its first line.
    Script(Vec<u8>),
    NotElf,
    Damaged {
        path: String,
        reason: String,
    },
}

#[derive(Debug)]
struct Directory {
    spelled: Vec<u8>,
    /// `None` when there is no such directory.
    resolved: Option<Resolved>,
}

/// A parsed file with the names it needs, interned.
#[derive(Debug, Clone)]
enum Parsed {
    Object { object: Arc<Object>, needed: Arc<[NameId]>, soname: Option<NameId> },
    Other(Candidate),
}

#[derive(Debug)]
pub(super) struct Modules {
    pub(super) sysroot: Sysroot,
    pub(super) names: Names,
    modules: Vec<Module>,
    by_path: HashMap<Vec<u8>, Candidate>,
    by_name: HashMap<(DirectoryId, NameId), Candidate>,
    parsed: HashMap<(u64, u64), Parsed>,
    directories: Vec<Directory>,
    directory_ids: HashMap<Vec<u8>, DirectoryId>,
    head: Vec<u8>,
}

impl Modules {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            sysroot: Sysroot::new(root),
            names: Names::default(),
            modules: Vec::new(),
            by_path: HashMap::new(),
            by_name: HashMap::new(),
            parsed: HashMap::new(),
            directories: Vec::new(),
            directory_ids: HashMap::new(),
            head: Vec::new(),
        }
    }

    pub(super) fn get(&self, id: ModuleId) -> Option<&Module> {
        self.modules.get(id)
    }

    pub(super) fn get_mut(&mut self, id: ModuleId) -> Option<&mut Module> {
        self.modules.get_mut(id)
    }

    /// The module's path in the image, for people.
    pub(super) fn display(&self, id: ModuleId) -> String {
        let real = self.get(id).map(|module| module.real.as_slice()).unwrap_or_default();
        format!("/{}", String::from_utf8_lossy(real))
    }

    pub(super) fn directory(&mut self, spelled: &[u8]) -> DirectoryId {
        if let Some(id) = self.directory_ids.get(spelled) {
            return *id;
        }
        let resolved =
            self.sysroot.resolve(spelled).filter(|resolved| resolved.found == Found::Directory);
        self.directories.push(Directory { spelled: spelled.to_vec(), resolved });
        let id = self.directories.len() - 1;
        self.directory_ids.insert(spelled.to_vec(), id);
        id
    }

    pub(super) fn directory_path(&self, id: DirectoryId) -> &[u8] {
        self.directories.get(id).map(|directory| directory.spelled.as_slice()).unwrap_or_default()
    }

    pub(super) fn directory_exists(&self, id: DirectoryId) -> bool {
        self.directories.get(id).is_some_and(|directory| directory.resolved.is_some())
    }

    /// What is in a directory under a name.
    pub(super) fn find(&mut self, directory: DirectoryId, name: NameId) -> Candidate {
        let Some(known) = self.directories.get(directory) else { return Candidate::Absent };
        let Some(resolved) = &known.resolved else { return Candidate::Absent };
        if let Some(candidate) = self.by_name.get(&(directory, name)) {
            return candidate.clone();
        }
        let file = self.names.get(name);
        let spelled = [&known.spelled, &b"/"[..], &file].concat();
        let resolved = self.sysroot.resolve_from(resolved.clone(), &file);
        let candidate = library(self.candidate(&spelled, resolved, None), &spelled);
        self.by_name.insert((directory, name), candidate.clone());
        candidate
    }

    /// What is at an absolute path of the sysroot.
    pub(super) fn at(&mut self, path: &[u8]) -> Candidate {
        if let Some(candidate) = self.by_path.get(path) {
            return candidate.clone();
        }
        let resolved = self.sysroot.resolve(path);
        let candidate = library(self.candidate(path, resolved, None), path);
        self.by_path.insert(path.to_vec(), candidate.clone());
        candidate
    }

    /// A program of the sysroot: its `$ORIGIN` has no links in it, as the kernel gives it.
    pub(super) fn program(&mut self, path: &[u8]) -> Candidate {
        let resolved = self.sysroot.resolve(path);
        let origin = resolved.as_ref().map(|resolved| parent(&resolved.real));
        self.candidate(path, resolved, origin)
    }

    /// A program from elsewhere on the host that will be at a path of the image.
    pub(super) fn foreign(&mut self, host: &Path, path: &[u8]) -> io::Result<Candidate> {
        use std::os::unix::fs::MetadataExt as _;
        let data = std::fs::metadata(host)?;
        if !data.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let id = (data.dev(), data.ino());
        // The directory may be reached through links that the sysroot has.
        let (above, name) = (parent(path), file_name(path));
        let mut real = above.clone();
        let mut way = Way::default();
        if let Some(resolved) = self.sysroot.resolve(&above)
            && resolved.found == Found::Directory
        {
            (real, way) = (resolved.real, resolved.way);
        }
        while real.first() == Some(&b'/') {
            real.remove(0);
        }
        if !real.is_empty() {
            real.push(b'/');
        }
        real.extend_from_slice(name);
        let parsed = self.parse(host, id)?;
        let origin = parent(&real);
        let resolved = Resolved { real, found: Found::File { id }, way };
        Ok(self.module(path, resolved, host.to_path_buf(), parsed, Some(origin)))
    }

    fn candidate(
        &mut self,
        spelled: &[u8],
        resolved: Option<Resolved>,
        origin: Option<Vec<u8>>,
    ) -> Candidate {
        let Some(resolved) = resolved else { return Candidate::Absent };
        let Found::File { id } = resolved.found else {
            let kind = if resolved.found == Found::Directory { "a directory" } else { "no file" };
            return damaged(spelled, format!("it is {kind}, expected an ELF file"));
        };
        let host = self.sysroot.host(&resolved.real);
        match self.parse(&host, id) {
            Ok(parsed) => self.module(spelled, resolved, host, parsed, origin),
            // The loader too goes on when it cannot open a file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Candidate::Absent,
            Err(error) => damaged(spelled, error.to_string()),
        }
    }

    fn parse(&mut self, host: &Path, id: (u64, u64)) -> io::Result<Parsed> {
        if let Some(parsed) = self.parsed.get(&id) {
            return Ok(parsed.clone());
        }
        let file = File::open(host)?;
        let parsed = match probe(&file, &mut self.head)? {
            Probe::Elf(object) => {
                let needed = object.needed.iter().map(|name| self.names.id(name)).collect();
                let soname = object.soname.as_deref().map(|name| self.names.id(name));
                Parsed::Object { object: Arc::new(*object), needed, soname }
            }
            Probe::Other { script: Some(line) } => Parsed::Other(Candidate::Script(line)),
            Probe::Other { script: None } => Parsed::Other(Candidate::NotElf),
            Probe::Damaged(reason) => {
                let path = host.display().to_string();
                Parsed::Other(Candidate::Damaged { path, reason })
            }
        };
        self.parsed.insert(id, parsed.clone());
        Ok(parsed)
    }

    fn module(
        &mut self,
        spelled: &[u8],
        resolved: Resolved,
        host: PathBuf,
        parsed: Parsed,
        origin: Option<Vec<u8>>,
    ) -> Candidate {
        let (object, needed, soname) = match parsed {
            Parsed::Object { object, needed, soname } => (object, needed, soname),
            Parsed::Other(other) => return other,
        };
        let origin = match origin {
            Some(origin) if origin.starts_with(b"/") => origin,
            Some(origin) => [b"/", origin.as_slice()].concat(),
            None => parent(spelled),
        };
        let Found::File { id } = resolved.found else { return Candidate::Absent };
        self.modules.push(Module {
            spelled: self.names.id(spelled),
            real: resolved.real,
            host,
            id,
            way: resolved.way,
            object,
            needed,
            soname,
            origin,
            rpath: None,
            runpath: None,
        });
        Candidate::Module(self.modules.len() - 1)
    }
}

fn damaged(path: &[u8], reason: String) -> Candidate {
    Candidate::Damaged { path: String::from_utf8_lossy(path).into_owned(), reason }
}

/// A library that is no ELF file ends a loader's search with an error.
fn library(candidate: Candidate, path: &[u8]) -> Candidate {
    match candidate {
        Candidate::Script(_) | Candidate::NotElf => damaged(path, "it is no ELF file".into()),
        other => other,
    }
}

/// The directory of a path: `/` for a path of one component.
fn parent(path: &[u8]) -> Vec<u8> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) | None => b"/".to_vec(),
        Some(end) => path.get(..end).unwrap_or_default().to_vec(),
    }
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
