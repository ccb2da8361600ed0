//! The machine's identifier, machine-id(5): where it comes from, and how it comes to `/etc`.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use super::file;

/// Where programs look for it.
pub const FILE: &str = "/etc/machine-id";
/// Where it is when `/etc` cannot be written to; mounted over [`FILE`].
const BESIDE: &str = "/run/machine-id";
/// What firmware says of the machine: dmi/id of sysfs, field UUID of SMBIOS type 1.
const FIRMWARE: &str = "/sys/class/dmi/id/product_uuid";
/// What the kernel makes up, another one at each reading.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";

/// 128 bits that are not all the same digit. `Display` gives the 32 lower-case hexadecimal digits of
/// the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MachineId([u8; 16]);

/// What is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits that are not all the same")]
pub struct NoMachineId;

impl FromStr for MachineId {
    type Err = NoMachineId;

    /// 32 hexadecimal digits; hyphens as in a UUID are passed over.
    fn from_str(text: &str) -> Result<Self, NoMachineId> {
        let mut digits = text.trim().chars().filter(|c| *c != '-').map(|c| c.to_digit(16));
        let mut bytes = [0_u8; 16];
        for byte in &mut bytes {
            let mut digit = || digits.next().flatten().ok_or(NoMachineId);
            let (high, low) = (digit()?, digit()?);
            *byte = u8::try_from(high << 4 | low).map_err(|_| NoMachineId)?;
        }
        if digits.next().is_some() {
            return Err(NoMachineId);
        }
        Self::new(bytes)
    }
}

impl MachineId {
    /// Of bytes.
    ///
    /// # Errors
    /// They are all zero or all ones, which firmware says for "none".
    pub fn new(bytes: [u8; 16]) -> Result<Self, NoMachineId> {
        let none = [0, 0xff].iter().any(|same| bytes.iter().all(|byte| byte == same));
        if none { Err(NoMachineId) } else { Ok(Self(bytes)) }
    }

    /// The same with version 4 and variant 1 of a UUID (RFC 9562 section 5.4), as sd-id128(3) wants
    /// of an identifier that was made up.
    #[must_use]
    fn as_version_4(mut self) -> Self {
        let [.., version, _, variant, _, _, _, _, _, _, _] = &mut self.0;
        *version = *version & 0x0f | 0x40;
        *variant = *variant & 0x3f | 0x80;
        self
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where an identifier came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The word `systemd.machine_id=` of the kernel's command line.
    CommandLine,
    /// The file in `/etc`.
    File,
    /// What an earlier boot kept on a disk.
    Kept,
    /// The firmware of a virtual machine, where each machine has another.
    Firmware,
    /// Nowhere: it was made up.
    Random,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommandLine => "from the command line",
            Self::File => "of the image",
            Self::Kept => "kept",
            Self::Firmware => "from the firmware",
            Self::Random => "new",
        })
    }
}

/// All that an identifier may come from, as text: what is no identifier counts for nothing.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Sources {
    /// The value of `systemd.machine_id=`; `firmware` stands for what the firmware says, of a
    /// physical machine too.
    pub argument: Option<String>,
    /// What `/etc/machine-id` holds.
    pub file: Option<String>,
    /// What an earlier boot kept.
    pub kept: Option<String>,
    /// What firmware says.
    pub firmware: Option<String>,
    /// Whether this is a virtual machine: boards are sold with the same identifier in all of them.
    pub is_virtual: bool,
}

impl Sources {
    /// Those of this machine, with what its command line says and an earlier boot has kept.
    #[must_use]
    pub fn of_this_machine(argument: Option<&str>, kept: Option<&Path>) -> Self {
        let read = |path: &Path| {
            file::read(path).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok())
        };
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = processors.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        Self {
            argument: argument.map(str::to_owned),
            file: read(Path::new(FILE)),
            kept: kept.and_then(read),
            firmware: read(Path::new(FIRMWARE)),
            is_virtual: flags.split_whitespace().any(|flag| flag == "hypervisor"),
        }
    }

    /// Which identifier the machine has; `random` is asked if none of the others is one.
    ///
    /// # Errors
    /// `random` gives none.
    pub fn choose(
        &self,
        random: impl FnOnce() -> Result<MachineId, NoMachineId>,
    ) -> Result<(MachineId, Origin), NoMachineId> {
        let id = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
        let by_firmware = self.argument.as_deref() == Some("firmware");
        let firmware = || id(&self.firmware).filter(|_| self.is_virtual || by_firmware);
        let found = id(&self.argument)
            .map(|found| (found, Origin::CommandLine))
            .or_else(|| firmware().filter(|_| by_firmware).map(|found| (found, Origin::Firmware)))
            .or_else(|| id(&self.file).map(|found| (found, Origin::File)))
            .or_else(|| id(&self.kept).map(|found| (found, Origin::Kept)))
            .or_else(|| firmware().map(|found| (found, Origin::Firmware)));
        match found {
            Some(found) => Ok(found),
            None => Ok((random()?.as_version_4(), Origin::Random)),
        }
    }
}

/// What the kernel makes up.
///
/// # Errors
/// There is no /proc.
pub fn random() -> Result<MachineId, NoMachineId> {
    std::fs::read_to_string(RANDOM).map_err(|_| NoMachineId)?.parse()
}

/// Gives the machine its identifier: keeps it in `kept` if it is not there, and puts it into
/// `/etc/machine-id`, by a mount where that cannot be written.
///
/// # Errors
/// A sentence. An identifier that cannot be kept is none: it would be another one next time.
pub fn set(argument: Option<&str>, kept: Option<&Path>) -> Result<(MachineId, Origin), String> {
    let sources = Sources::of_this_machine(argument, kept);
    let (id, origin) = sources.choose(random).map_err(|error| error.to_string())?;
    let text = format!("{id}\n");
    if let Some(kept) = kept
        && !matches!(origin, Origin::File | Origin::Kept)
    {
        file::replace(kept, text.as_bytes(), 0o444)
            .map_err(|error| format!("{}: {error}", kept.display()))?;
    }
    if origin != Origin::File {
        place(Path::new(FILE), Path::new(BESIDE), &text)
            .map_err(|error| format!("{FILE}: {error}"))?;
    }
    Ok((id, origin))
}

fn place(path: &Path, beside: &Path, text: &str) -> io::Result<()> {
    match file::replace(path, text.as_bytes(), 0o444) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem && path.exists() => {
            std::fs::write(beside, text)?;
            rustix::mount::mount_bind(beside, path)?;
            Ok(())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef";
    const B: &str = "ffffffff-0000-4000-8000-00000000000b";

    #[test]
    fn what_an_identifier_is() {
        assert_eq!(A.parse::<MachineId>().unwrap().to_string(), A);
        assert_eq!(
            "0123ABCD-4567-89ab-cdef-0123456789ab\n".parse::<MachineId>().unwrap().to_string(),
            "0123abcd456789abcdef0123456789ab"
        );
        let (zeroes, ones, long) = ("0".repeat(32), "f".repeat(32), "1".repeat(33));
        for wrong in ["", "uninitialized", "xyz", &zeroes, &ones, &long, &A[1..]] {
            assert_eq!(wrong.parse::<MachineId>(), Err(NoMachineId), "{wrong:?}");
        }
    }

    fn chosen(change: impl FnOnce(&mut Sources)) -> (String, Origin) {
        let mut sources = Sources::default();
        change(&mut sources);
        let random = || "55555555555555555555555555555556".parse();
        let (id, origin) = sources.choose(random).unwrap();
        (id.to_string(), origin)
    }

    #[test]
    fn the_first_source_that_has_one_counts() {
        let b = B.replace('-', "");
        assert_eq!(chosen(|_| ()), ("55555555555545559555555555555556".into(), Origin::Random));
        let firmware = |sources: &mut Sources| sources.firmware = Some(B.into());
        assert_eq!(chosen(firmware).1, Origin::Random);
        let virtual_firmware = |sources: &mut Sources| {
            firmware(sources);
            sources.is_virtual = true;
        };
        assert_eq!(chosen(virtual_firmware), (b.clone(), Origin::Firmware));
        let kept = |sources: &mut Sources| {
            virtual_firmware(sources);
            sources.kept = Some(A.into());
        };
        assert_eq!(chosen(kept), (A.into(), Origin::Kept));
        let file = |sources: &mut Sources| {
            kept(sources);
            sources.file = Some(B.into());
        };
        assert_eq!(chosen(file), (b.clone(), Origin::File));
        assert_eq!(
            chosen(|sources| {
                file(sources);
                sources.argument = Some(A.into());
            }),
            (A.into(), Origin::CommandLine)
        );
        // The word asks for the firmware's, on a physical machine too, whatever is in the file.
        assert_eq!(
            chosen(|sources| {
                file(sources);
                (sources.file, sources.is_virtual) = (Some(A.into()), false);
                sources.argument = Some("firmware".into());
            }),
            (b, Origin::Firmware)
        );
        // Nonsense counts for nothing.
        assert_eq!(
            chosen(|sources| {
                kept(sources);
                sources.file = Some("uninitialized\n".into());
                sources.argument = Some("x".into());
            }),
            (A.into(), Origin::Kept)
        );
    }
}
