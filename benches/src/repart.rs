//! systemd-repart: the host's where it makes images offline, else a later one, unpacked.

use std::fs;
use std::path::{Path, PathBuf};

use crate::later::{self, SUITE};
use crate::{Result, machine};

/// A systemd-repart, and how to start it.
#[derive(Debug)]
pub struct Repart {
    /// A system that it was unpacked with, unless it is the host's.
    system: Option<PathBuf>,
}

/// The systemd-repart to measure; says on stdout why there is none.
#[must_use]
pub fn find() -> Option<Repart> {
    if is_offline_capable() {
        return Some(Repart { system: None });
    }
    let unpacked = later::unpacked("systemd-repart", true);
    unpacked
        .inspect_err(|error| println!("skipped: systemd-repart: {error}"))
        .ok()
        .map(|system| Repart { system: Some(system) })
}

fn is_offline_capable() -> bool {
    let output = machine::command("systemd-repart").arg("--help").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--offline"))
}

/// Writes the definitions of an EFI system partition of 100 MiB and an ext4 partition of 600 MiB,
/// made of the directories `esp` and `root`.
///
/// # Errors
/// What the file system refuses.
pub fn define(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    for (name, kind, format, size, from) in [
        ("10-esp.conf", "esp", "vfat", "100M", "esp"),
        ("20-root.conf", "linux-generic", "ext4", "600M", "root"),
    ] {
        let text = format!(
            "[Partition]\nType={kind}\nFormat={format}\nCopyFiles=/{from}:/\n\
             SizeMinBytes={size}\nSizeMaxBytes={size}\n"
        );
        fs::write(dir.join(name), text)?;
    }
    Ok(())
}

impl Repart {
    /// Its name in a table.
    #[must_use]
    pub fn name(&self) -> String {
        match self.system {
            Some(_) => format!("systemd-repart of {SUITE}, offline"),
            None => "systemd-repart, offline".to_owned(),
        }
    }

    /// Makes `repart.raw` in `work`, which has the definitions in `repart`.
    ///
    /// # Errors
    /// It fails, with what it said.
    pub fn run(&self, content: &Path, work: &Path) -> Result<()> {
        let mut program = "systemd-repart".to_owned();
        let mut before: Vec<String> = Vec::new();
        if let Some(system) = &self.system {
            let system = system.display();
            let libraries = format!("{system}/usr/lib/x86_64-linux-gnu");
            program = format!("{libraries}/ld-linux-x86-64.so.2");
            before = vec![
                "--library-path".to_owned(),
                format!("{libraries}:{libraries}/systemd"),
                format!("{system}/usr/bin/systemd-repart"),
            ];
        }
        machine::run(&program, |it| {
            it.env("TMPDIR", work)
                .args(before)
                .arg("--definitions")
                .arg(work.join("repart"))
                .arg("--root")
                .arg(content)
                .args(["--empty=create", "--size=1G", "--dry-run=no", "--offline=yes"])
                .arg("--sector-size=512")
                .arg(work.join("repart.raw"))
        })
    }
}
