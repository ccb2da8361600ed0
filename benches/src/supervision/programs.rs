//! The programs: the peers from Debian's packages, ours and the probe built static.
//!
//! dinit is in no release of Debian: it is measured where it is installed, or given.

use std::path::PathBuf;

use kiln::{Cache, Progress, debian, guest};

use crate::{Result, machine};

/// The release of Debian that has all of the peers.
const SUITE: &str = "trixie";
/// What is unpacked; libstdc++ is what a dinit needs.
const PEERS: [&str; 6] = ["s6", "runit", "tini", "dumb-init", "catatonit", "libstdc++6"];

/// Everything that is run.
#[derive(Debug)]
pub struct Programs {
    /// A system with the peers, and nothing else that matters.
    pub sysroot: PathBuf,
    /// dinit, if there is one.
    pub dinit: Option<PathBuf>,
    /// What is supervised.
    pub probe: PathBuf,
    /// Ours.
    pub supervisor: PathBuf,
    /// Ours as a container's init alone.
    pub init: PathBuf,
    /// A program that does nothing, static as ours.
    pub empty: PathBuf,
    /// Whether all of it runs before anything else on the machine (`SCHED_RR`).
    pub real_time: bool,
}

impl Programs {
    /// Fetches the peers into the cache, and builds what is ours. dinit is the one given, or that of
    /// the host.
    ///
    /// # Errors
    /// A package cannot be had, or a program cannot be built.
    pub fn get(dinit: Option<PathBuf>) -> Result<Self> {
        let progress = Progress::quiet();
        let sysroot = debian::sysroot_of(&Cache::at(machine::cache()), SUITE, &PEERS)?;
        let probe = guest::build("kiln-probe", "kiln-probe", &progress)?;
        let empty = guest::build("kiln-probe", "empty", &progress)?;
        let of_features = |features: &[&str], name: &str| -> Result<PathBuf> {
            let built = guest::build_with_features(
                "kiln-supervisor",
                "kiln-supervisor",
                features,
                &progress,
            )?;
            // The next build with other features takes its place.
            let kept = built.with_file_name(name);
            std::fs::copy(&built, &kept)?;
            Ok(kept)
        };
        let dinit = dinit.or_else(|| machine::find_program("dinit"));
        if dinit.is_none() {
            println!("skipped: dinit, which Debian does not have; give one with --dinit");
        }
        Ok(Self {
            sysroot,
            dinit,
            probe,
            supervisor: of_features(&["cli"], "kiln-supervisor-cli")?,
            init: of_features(&["init"], "kiln-supervisor-init")?,
            empty,
            real_time: false,
        })
    }
}
