//! mkosi, for the root directory that the script makes the image of.
//!
//! bookworm's (14) does part of its work in systemd-nspawn, which asks the running systemd for it; later
//! ones do not. So one of a later Debian is unpacked, and runs with the host's Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::bootstrap::{self, run};
use crate::later::{self, SUITE};

use super::Image;

/// mkosi, and what it is to make.
#[derive(Debug)]
pub struct Mkosi {
    modules: PathBuf,
    directory: PathBuf,
}

impl Mkosi {
    /// The one to measure; says on stdout why there is none.
    #[must_use]
    pub fn find(image: &Image) -> Option<Self> {
        let found = Self::prepare(image);
        found.inspect_err(|error| println!("skipped: mkosi: {error}")).ok()
    }

    /// Defines the root directory, and makes it once, so that the packages are there.
    fn prepare(image: &Image) -> Result<Self> {
        let modules = later::unpacked("mkosi", false)?.join("usr/lib/python3/dist-packages");
        // No directory of its own may be below that of the sources.
        let directory = image.directory().join("mkosi");
        let sources = directory.join("sandbox/etc/apt/sources.list.d");
        for directory in [&sources, &directory.join("cache"), &directory.join("work")] {
            fs::create_dir_all(directory)?;
        }
        // Else it wants an archive of debugging symbols too.
        let own = Path::new("/etc/apt/sources.list.d/debian.sources");
        if !bootstrap::sources().contains(&own) {
            return Err(format!("{} is not there", own.display()).into());
        }
        fs::copy(own, sources.join("mkosi.sources"))?;
        let packages: Vec<&str> = image.packages().iter().map(String::as_str).collect();
        let text = format!(
            "[Distribution]\nDistribution=debian\nRelease=bookworm\n\n\
             [Output]\nFormat=directory\nOutput=root\nOutputDirectory={out}\nManifestFormat=\n\n\
             [Content]\nBootable=no\nMakeInitrd=yes\nPackages={packages}\n\n\
             [Build]\nBuildSources=\nSandboxTrees=sandbox\nPackageCacheDirectory=cache\n\
             CacheOnly=metadata\nWorkspaceDirectory=work\nIncremental=no\n",
            out = directory.join("out").display(),
            packages = packages.join(","),
        );
        let mkosi = Self { modules, directory };
        fs::create_dir_all(mkosi.directory.join("out"))?;
        fs::write(
            mkosi.directory.join("mkosi.conf"),
            text.replace("CacheOnly=metadata", "CacheOnly=never"),
        )?;
        mkosi.root(image)?;
        image.pack()?;
        image.check()?;
        // From now on it asks the archive for nothing.
        fs::write(mkosi.directory.join("mkosi.conf"), text)?;
        Ok(mkosi)
    }

    /// Its name in a table.
    #[must_use]
    pub fn name() -> String {
        format!("mkosi of {SUITE}, cpio, genimage, qemu-img")
    }

    /// Makes the root directory of the image.
    ///
    /// # Errors
    /// It fails, with what it said last.
    pub fn root(&self, image: &Image) -> Result<()> {
        let root = image.directory().join("root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        let mut command = Command::new("python3");
        command.args(["-m", "mkosi", "--force", "build"]);
        run(command.env("PYTHONPATH", &self.modules).current_dir(&self.directory))?;
        Ok(fs::rename(self.directory.join("out/root"), root)?)
    }
}
