//! NomadOS with other settings: the same initramfs, and a second archive after it whose files replace
//! those of the first, as the kernel unpacks one after the other.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use kiln::manifest::Manifest;
use kiln::qemu::{DirectKernel, Machine, Vm};
use kiln_initramfs::{Compression, write_image};
use kiln_tree::{Node, Tree};

/// How long a guest may take to say what is waited for.
pub const LONG: Duration = Duration::from_secs(300);

/// A NomadOS with other settings.
#[derive(Debug)]
pub struct Variant {
    /// The machine, ready to be started or to be changed before.
    pub machine: Machine,
    /// Holds the initramfs.
    _directory: tempfile::TempDir,
}

impl Variant {
    /// NomadOS with these files (paths without the leading slash) in place of its own, and these words
    /// at the end of the command line.
    ///
    /// # Errors
    /// When NomadOS cannot be built.
    pub fn new(files: &[(&str, &str)], words: &str) -> Result<Self> {
        let images = crate::images()?;
        let mut tree = Tree::new();
        for (path, text) in files {
            tree.insert(*path, Node::file(*text))?;
        }
        let mut bytes = std::fs::read(images.join("nomados.initramfs"))?;
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let bytes = write_image(&tree, &Compression::None, bytes)?;
        let directory = tempfile::tempdir()?;
        let initramfs = directory.path().join("initramfs");
        std::fs::write(&initramfs, bytes)?;
        let mut machine = Machine::default();
        let command_line = format!("{} {words}", Manifest::read(images)?.command_line);
        let kernel = images.join("nomados.vmlinuz");
        machine.kernel = Some(DirectKernel { kernel, initramfs, command_line });
        Ok(Self { machine, _directory: directory })
    }

    /// Starts it.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn start(&self) -> Result<Vm> {
        self.machine.clone().start().context("start the guest")
    }
}

/// A service for `/etc/kiln/services.toml` that requires others, runs lines of a shell once, and says
/// `report: end` after them.
#[must_use]
pub fn report(requires: &[&str], script: &str) -> String {
    format!(
        "[[service]]\nname = \"report\"\nkind = \"one-shot\"\nrequires = {requires:?}\nlog = \"inherit\"\n\
         command = [\"/bin/sh\", \"-c\", '''\n{script}\necho report: end\n''']\n\
         env = {{ PATH = \"/usr/bin:/usr/sbin:/bin:/sbin\" }}\n"
    )
}

/// The lines of the console that begin with a word, without it.
#[must_use]
pub fn said(vm: &Vm, start: &str) -> Vec<String> {
    let lines = vm.console().lines();
    lines
        .iter()
        .filter_map(|line| line.text.strip_prefix(start))
        .map(|text| text.trim().to_owned())
        .collect()
}

/// A path that a tool is found at, or `None` with a word about it. A failure where CI installs it.
#[must_use]
#[expect(clippy::panic, reason = "where CI installs the tools, a missing one fails the test")]
pub fn tool(name: &str) -> Option<PathBuf> {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|directory| PathBuf::from(directory).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        if std::env::var_os("CI").is_some() {
            panic!("{name} is missing");
        }
        println!("skipped: {name}");
    }
    found
}
