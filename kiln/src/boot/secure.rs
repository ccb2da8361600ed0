//! What UEFI with Secure Boot is given to verify.

use std::path::Path;

use kiln_diskimg::Limits;
use kiln_diskimg::boot::pe::Image;
use kiln_diskimg::boot::sign::{Certificate, PrivateKey, Signer};
use kiln_tree::Source;

use crate::{Error, Result, definition};

/// What UEFI with Secure Boot is given to verify.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum SecureBoot {
    /// Nothing: it starts only where Secure Boot is off.
    #[default]
    Off,
    /// One program of kernel, initramfs and command line, signed with a key of one's own.
    Signed(Box<Signer>),
    /// The distribution's shim and GRUB, and the kernel that it signed. Firmware with Microsoft's key
    /// starts it, and nobody verifies initramfs and command line.
    Shim,
}

impl SecureBoot {
    /// What a definition or command line asks for; a directory has the key in `db.key` and
    /// `db.crt`, PEM or DER.
    ///
    /// # Errors
    /// When the files are not there, do not parse, or do not belong together.
    pub fn read(wanted: &definition::SecureBoot) -> Result<Self> {
        match wanted {
            definition::SecureBoot::Keys(directory) => {
                signer(directory).map(|signer| Self::Signed(Box::new(signer)))
            }
            definition::SecureBoot::Shim => Ok(Self::Shim),
        }
    }

    /// Who signs, when that is somebody here.
    #[must_use]
    pub fn signer(&self) -> Option<&Signer> {
        match self {
            Self::Signed(signer) => Some(signer),
            Self::Off | Self::Shim => None,
        }
    }

    /// Whether what starts a kernel would refuse this one, and why.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn refusal(&self, kernel: &Source) -> Result<Option<String>> {
        if !matches!(self, Self::Shim) {
            return Ok(None);
        }
        let image = Image::read(kernel, &Limits::default())?;
        Ok(image.certificates().is_empty().then(|| {
            "shim starts kernels that the distribution signed, and nobody signed this one: take the \
             kernel from a package, or sign with a key of your own"
                .to_owned()
        }))
    }
}

/// Reads the key that UEFI programs are signed with: `db.key` and `db.crt` of a directory, PEM or
/// DER.
///
/// # Errors
/// When they are not there, do not parse, or do not belong together.
pub fn signer(directory: &Path) -> Result<Signer> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(Error::io("read", &path))
    };
    let shown = |name: &str| directory.join(name).display().to_string();
    let key = PrivateKey::parse(&read("db.key")?)
        .map_err(|error| Error::input(shown("db.key"), error.to_string()))?;
    let certificate = Certificate::parse(&read("db.crt")?)
        .map_err(|error| Error::input(shown("db.crt"), error.to_string()))?;
    Signer::new(key, certificate)
        .map_err(|error| Error::input(directory.display().to_string(), error.to_string()))
}
