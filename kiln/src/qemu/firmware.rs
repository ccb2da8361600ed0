//! What starts a machine before anything of a disk does: SeaBIOS, or UEFI by Debian's OVMF.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Cache, Error, Result, debian};

/// A machine's firmware.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Firmware {
    /// SeaBIOS, on the board of an old PC (i440FX).
    #[default]
    Bios,
    /// OVMF, on a newer one (Q35).
    Uefi(Uefi),
}

/// OVMF: its code, and the variables that it starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uefi {
    /// The code, which nobody writes to.
    pub code: PathBuf,
    /// The variable store. The machine gets a copy, so that no boot changes what the next one
    /// starts with.
    pub variables: PathBuf,
    /// Whether variables can be changed from system management mode alone, as Secure Boot needs it.
    pub secure: bool,
}

impl Uefi {
    /// OVMF that starts whatever is there: of the host (Debian's package `ovmf`), else of the package,
    /// unpacked into the cache.
    ///
    /// # Errors
    /// Those of getting the package.
    pub fn find(cache: &Cache) -> Result<Self> {
        let directory = directory(cache)?;
        Ok(Self {
            code: directory.join("OVMF_CODE_4M.fd"),
            variables: directory.join("OVMF_VARS_4M.fd"),
            secure: false,
        })
    }

    /// OVMF with Secure Boot, and with the keys that are enrolled in a variable store; with those of
    /// Microsoft, which sign the distributions' shims, without one.
    ///
    /// # Errors
    /// As [`Uefi::find`].
    pub fn secure(cache: &Cache, variables: Option<PathBuf>) -> Result<Self> {
        let directory = directory(cache)?;
        Ok(Self {
            code: directory.join("OVMF_CODE_4M.secboot.fd"),
            variables: variables.unwrap_or_else(|| directory.join("OVMF_VARS_4M.ms.fd")),
            secure: true,
        })
    }
}

fn directory(cache: &Cache) -> Result<PathBuf> {
    let of_host = Path::new("/usr/share/OVMF");
    if of_host.join("OVMF_CODE_4M.secboot.fd").is_file() {
        return Ok(of_host.into());
    }
    Ok(debian::sysroot(cache, &["ovmf"])?.join("usr/share/OVMF"))
}

impl Firmware {
    /// The files that must be there.
    pub(super) fn files(&self) -> Vec<&PathBuf> {
        match self {
            Self::Bios => Vec::new(),
            Self::Uefi(uefi) => vec![&uefi.code, &uefi.variables],
        }
    }

    /// Copies what the machine writes to into its directory.
    pub(super) fn prepare(&self, directory: &Path) -> Result<()> {
        let Self::Uefi(uefi) = self else { return Ok(()) };
        let copy = variables(directory);
        std::fs::copy(&uefi.variables, &copy).map_err(Error::io("copy to", &copy))?;
        // A package's file may be read-only, and the copy has its permissions.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&copy, mode).map_err(Error::io("set the mode of", &copy))
    }

    pub(super) fn arguments(&self, command: &mut Command, directory: &Path) {
        let Self::Uefi(uefi) = self else { return };
        command.args(["-machine", if uefi.secure { "q35,smm=on" } else { "q35" }]);
        if uefi.secure {
            command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
        }
        for (file, options) in [(&uefi.code, ",readonly=on"), (&variables(directory), "")] {
            let path = super::escaped(file);
            command.arg("-drive").arg(format!("if=pflash,format=raw,file={path}{options}"));
        }
    }
}

fn variables(directory: &Path) -> PathBuf {
    directory.join("variables.fd")
}
