//! What is on an EFI system partition, as a tree for a [FAT volume](crate::fat).
//!
//! Firmware without a boot entry of its own starts `EFI/BOOT/BOOTX64.EFI` (UEFI 2.10, section
//! 3.5.1.1), so that is where the first program goes.
//!
//! # Example
//! This example shows how to make a partition on which systemd-boot starts a unified kernel image
//! with three tries.
//!
//! ```no_run
//! use kiln_diskimg::boot::bls::FileName;
//! use kiln_diskimg::boot::esp::{Architecture, Esp};
//! use kiln_diskimg::boot::uki::Uki;
//! use kiln_diskimg::fat::{Options, Volume};
//!
//! let uki = Uki::new(std::fs::read("linuxx64.efi.stub")?, std::fs::read("vmlinuz")?).plan()?;
//! let loader = std::fs::read("systemd-bootx64.efi")?;
//! let mut esp = Esp::new(Architecture::X64);
//! esp.systemd_boot(loader, &Default::default());
//! esp.uki(&FileName::efi("kiln-1").with_tries(3), uki.source());
//! let volume = Volume::plan(&esp.tree()?, &Options::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use kiln_tree::{Node, Source, Tree};

use super::bls::{Entry, FileName, LoaderConf};
use super::grub::Config;
use crate::Result;
use crate::error::Problems;

/// For which processor the firmware is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// x86-64.
    X64,
    /// 32-bit x86.
    Ia32,
    /// 64-bit ARM.
    Aa64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Architecture {
    /// Its name in the names of programs, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Ia32 => "ia32",
            Self::Aa64 => "aa64",
            Self::Riscv64 => "riscv64",
        }
    }
}

/// What is on an EFI system partition. What is wrong is told by [`Esp::tree`], all at once.
#[derive(Debug, Clone)]
pub struct Esp {
    architecture: Architecture,
    tree: Tree,
    problems: Problems,
    /// Paths that entries name, with who names them.
    named: Vec<(String, String)>,
}

impl Esp {
    /// An empty partition.
    #[must_use]
    pub fn new(architecture: Architecture) -> Self {
        let problems = Problems(Vec::new());
        Self { architecture, tree: Tree::new(), problems, named: Vec::new() }
    }

    /// Puts a file at a path.
    pub fn file(&mut self, path: &str, content: impl Into<Source>) {
        if let Err(error) = self.tree.insert(path, Node::file(content)) {
            self.problems.0.push(error.to_string());
        }
    }

    /// Makes the firmware start a program: a unified kernel image, or any boot loader.
    pub fn start(&mut self, program: impl Into<Source>) {
        let name = self.architecture.name().to_uppercase();
        self.file(&format!("EFI/BOOT/BOOT{name}.EFI"), program);
    }

    /// Makes the firmware start systemd-boot (`systemd-bootx64.efi`, signed or not).
    pub fn systemd_boot(&mut self, program: impl Into<Source>, conf: &LoaderConf) {
        let program = program.into();
        self.start(program.clone());
        self.file(&format!("EFI/systemd/systemd-boot{}.efi", self.architecture.name()), program);
        conf.check(&mut self.problems);
        self.file("loader/loader.conf", conf.to_text().unwrap_or_default());
        // What tools look at to see which kind of entries the partition has.
        self.file("loader/entries.srel", "type1\n");
    }

    /// Adds a unified kernel image to systemd-boot's menu.
    pub fn uki(&mut self, name: &FileName, image: impl Into<Source>) {
        name.check(&mut self.problems);
        self.counted(name, "efi");
        self.file(&format!("EFI/Linux/{name}"), image);
    }

    /// Adds an entry of type 1 to systemd-boot's menu.
    pub fn entry(&mut self, name: &FileName, entry: &Entry) {
        name.check(&mut self.problems);
        self.counted(name, "conf");
        entry.check(&mut self.problems);
        for path in entry.paths() {
            self.named.push((path.to_owned(), format!("the entry {:?}", name.id)));
        }
        self.file(&format!("loader/entries/{name}"), entry.to_text().unwrap_or_default());
    }

    fn counted(&mut self, name: &FileName, extension: &str) {
        if name.extension != extension {
            let other = &name.extension;
            self.problems.0.push(format!("the entry {:?} is no .{other} file here", name.id));
        }
    }

    /// Makes the firmware start a distribution's GRUB by way of shim: `shim` (`shimx64.efi.signed`),
    /// `grub` (`grubx64.efi.signed`), and its configuration in `EFI/VENDOR`, where the signed GRUB
    /// looks for it (`debian`). Shim's `mmx64.efi`, with which people enrol keys, goes beside it by
    /// [`Esp::file`].
    pub fn shim_and_grub(
        &mut self,
        shim: impl Into<Source>,
        grub: impl Into<Source>,
        vendor: &str,
        config: &Config,
    ) {
        self.start(shim);
        self.file(&format!("EFI/BOOT/grub{}.efi", self.architecture.name()), grub);
        config.check(&mut self.problems);
        if config.search_file.is_none() {
            for entry in &config.entries {
                for path in std::iter::once(&entry.linux).chain(&entry.initrds) {
                    let who = format!("the menu entry {:?}", entry.title);
                    self.named.push((path.clone(), who));
                }
            }
        }
        let text = config.to_text().unwrap_or_default();
        self.file(&format!("EFI/{vendor}/grub.cfg"), text);
    }

    /// The partition's files.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) with everything that is wrong: entries that nobody would
    /// read, and files that they name and that are not there.
    pub fn tree(self) -> Result<Tree> {
        let Self { tree, mut problems, named, .. } = self;
        for (path, who) in named {
            let wanted = path.trim_start_matches('/');
            // FAT does not tell upper from lower case.
            let there = tree.iter().any(|(at, node)| {
                !node.is_directory() && at.as_bytes().eq_ignore_ascii_case(wanted.as_bytes())
            });
            if !there {
                problems.0.push(format!("{who} names {path}, which is not on the partition"));
            }
        }
        problems.check("efi system partition")?;
        Ok(tree)
    }
}
