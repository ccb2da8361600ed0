//! What ELF files need to run, found as the dynamic loader would find it, without running it.
//!
//! The rules are those of glibc's `ld.so` (`elf/dl-load.c`) and of musl's (`ldso/dynlink.c`):
//! breadth first through `DT_NEEDED`; a name that something in the scope of the program already
//! answers to (by the name it was loaded as, or its soname) is not searched again; otherwise
//! the RPATHs of whoever needs it and of whoever loaded that, the library path, the RUNPATH of
//! whoever needs it, `/etc/ld.so.cache`, the loader's own directories, in this order; a library of
//! another machine is passed over.
//!
//! All paths are those of a sysroot, whose symbolic links never lead out of it.
//!
//! ```no_run
//! use kiln_initramfs::elf::{Options, Resolver};
//! use kiln_tree::{Tree, host};
//!
//! let mut resolver = Resolver::new(Options::new("/"))?;
//! let closure = resolver.closure(&["/usr/bin/mount", "/usr/sbin/fsck.ext4"])?;
//! for file in &closure.files {
//!     println!("{}: {}", file.path, file.why);
//! }
//! let mut tree = Tree::new();
//! closure.add_to(&mut tree, &host::Policy::default())?;
//! # Ok::<(), kiln_initramfs::Error>(())
//! ```

mod cache;
mod closure;
mod environment;
mod modules;
mod object;
mod problem;
mod resolve;
mod scope;
mod sysroot;

use std::path::PathBuf;

pub use closure::{Closure, ClosureFile, ClosureKind, NeededBy};
pub use problem::Problem;
pub use resolve::{Listed, Resolver, Root};

/// Where and how a [`Resolver`] searches.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The directory on the host that is the root of all paths. Default: `/`.
    pub sysroot: PathBuf,
    /// Whether libraries are found through the sysroot's `/etc/ld.so.cache` (or, where there is
    /// none, in the directories of its `/etc/ld.so.conf`). Default: `true`.
    pub ld_cache: bool,
    /// Which optimised variants of libraries are taken. Default: none of them.
    pub hwcaps: Hwcaps,
    /// Directories of the sysroot that are searched as `LD_LIBRARY_PATH` would be. Default: none.
    pub library_path: Vec<PathBuf>,
    /// The directories that are searched last. Default: `None`, those compiled into the loader.
    pub system_path: Option<Vec<PathBuf>>,
    /// What `$PLATFORM` stands for. Default: `None`, the machine's name, as on most machines.
    pub platform: Option<String>,
    /// Whether the interpreter of a script (`#!`) belongs to its closure, and for
    /// `#!/usr/bin/env NAME` the program of that name too. Without, a script is an error. Default:
    /// `true`.
    pub scripts: bool,
}

impl Options {
    /// The defaults, for a sysroot.
    #[must_use]
    pub fn new(sysroot: impl Into<PathBuf>) -> Self {
        Self {
            sysroot: sysroot.into(),
            ld_cache: true,
            hwcaps: Hwcaps::default(),
            library_path: Vec::new(),
            system_path: None,
            platform: None,
            scripts: true,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new("/")
    }
}

/// The `glibc-hwcaps` subdirectories that count, best first.
///
/// An image that has to run on any machine takes none of them; one that takes a variant runs only
/// where the loader takes it too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hwcaps(Vec<String>);

impl Hwcaps {
    /// None: what every machine of the architecture can run.
    #[must_use]
    pub fn generic() -> Self {
        Self::default()
    }

    /// What a loader takes on an x86-64 machine of this level.
    #[must_use]
    pub fn up_to(level: X86Level) -> Self {
        let names = (2..=level.number()).rev().map(|level| format!("x86-64-v{level}"));
        Self(names.collect())
    }

    /// These subdirectories, best first (`power10`, `z15`).
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// The subdirectories' names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// A level of the x86-64 ABI (psABI, "micro-architecture levels").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum X86Level {
    /// The baseline.
    V1,
    /// With SSE4.2.
    V2,
    /// With AVX2.
    V3,
    /// With AVX-512.
    V4,
}

impl X86Level {
    fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// The level of the machine that this runs on, as its loader would see it; `None` on other
    /// machines than x86-64. For images that stay where they are built.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! has {
                ($($feature:tt),*) => { $(std::arch::is_x86_feature_detected!($feature))&&* };
            }
            if !has!("cmpxchg16b", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3") {
                return Some(Self::V1);
            }
            if !has!("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe") {
                return Some(Self::V2);
            }
            if !has!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl") {
                return Some(Self::V3);
            }
            Some(Self::V4)
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}
