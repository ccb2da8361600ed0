//! Partition types by name, GUID and MBR byte.

use std::fmt;

use crate::guid::Guid;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionType {
    /// Its GUID on a GPT disk; `None` when there is none.
    pub guid: Option<Guid>,
    /// Its byte on an MBR disk; `None` when there is none.
    pub byte: Option<u8>,
}

macro_rules! known {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $guid:literal, $byte:expr;)*) => {
        impl PartitionType {
            $($(#[$doc])* pub const $name: Self =
                Self { guid: Some(Guid::from_u128($guid)), byte: $byte };)*
        }
        const KNOWN: &[(&str, PartitionType)] = &[$(($text, PartitionType::$name)),*];
    };
}

// UEFI 2.10 table 5-7, the Discoverable Partitions Specification, and the list that fdisk prints.
known! {
    /// The EFI System Partition.
    EFI_SYSTEM, "efi-system", 0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b, Some(0xef);
    /// FAT or NTFS data, in the MBR as FAT32 with LBA.
    BASIC_DATA, "basic-data", 0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7, Some(0x0c);
    /// Any Linux file system.
    LINUX, "linux", 0x0fc63daf_8483_4772_8e79_3d69d8477de4, Some(0x83);
    /// A Linux root file system for x86-64.
    LINUX_ROOT_X86_64, "linux-root-x86-64", 0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709, None;
    /// The verity hashes of such a root.
    LINUX_ROOT_X86_64_VERITY, "linux-root-x86-64-verity", 0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5, None;
    /// The signature of such hashes.
    LINUX_ROOT_X86_64_VERITY_SIG, "linux-root-x86-64-verity-sig", 0x41092b05_9fc8_4523_994f_2def0408b176, None;
    /// A Linux `/usr` file system for x86-64.
    LINUX_USR_X86_64, "linux-usr-x86-64", 0x8484680c_9521_48c6_9c11_b0720656f69e, None;
    /// The verity hashes of such a `/usr`.
    LINUX_USR_X86_64_VERITY, "linux-usr-x86-64-verity", 0x77ff5f63_e7b6_4633_acf4_1565b864c0e6, None;
    /// The signature of such hashes.
    LINUX_USR_X86_64_VERITY_SIG, "linux-usr-x86-64-verity-sig", 0xe7bb33fb_06cf_4e81_8273_e543b413e2e2, None;
    /// A Linux root file system for 64-bit ARM.
    LINUX_ROOT_ARM64, "linux-root-arm64", 0xb921b045_1df0_41c3_af44_4c6f280d3fae, None;
    /// The verity hashes of such a root.
    LINUX_ROOT_ARM64_VERITY, "linux-root-arm64-verity", 0xdf3300ce_d69f_4c92_978c_9bfb0f38d820, None;
    /// The signature of such hashes.
    LINUX_ROOT_ARM64_VERITY_SIG, "linux-root-arm64-verity-sig", 0x6db69de6_29f4_4758_a7a5_962190f00ce3, None;
    /// A Linux `/usr` file system for 64-bit ARM.
    LINUX_USR_ARM64, "linux-usr-arm64", 0xb0e01050_ee5f_4390_949a_9101b17104e9, None;
    /// The verity hashes of such a `/usr`.
    LINUX_USR_ARM64_VERITY, "linux-usr-arm64-verity", 0x6e11a4e7_fbca_4ded_b9e9_e1a512bb664e, None;
    /// The signature of such hashes.
    LINUX_USR_ARM64_VERITY_SIG, "linux-usr-arm64-verity-sig", 0xc23ce4ff_44bd_4b00_b2d4_b41b3419e02a, None;
    /// A boot partition beside the EFI System Partition (Boot Loader Specification).
    XBOOTLDR, "xbootldr", 0xbc13c2ff_59e6_4262_a352_b275fd6f7172, Some(0xea);
    /// `/home`.
    LINUX_HOME, "linux-home", 0x933ac7e1_2eb4_4f13_b844_0e14e2aef915, None;
    /// `/var`.
    LINUX_VAR, "linux-var", 0x4d21b016_b534_45c2_a9fb_5c16e091fd2d, None;
    /// `/srv`.
    LINUX_SRV, "linux-srv", 0x3b8f8425_20e0_4f3b_907f_1a25a76f98e8, None;
    /// `/var/tmp`.
    LINUX_TMP, "linux-tmp", 0x7ec6f557_3bc5_4aca_b293_16ef5df639d1, None;
    /// One user's home.
    LINUX_USER_HOME, "linux-user-home", 0x773f91ef_66d4_49b5_bd83_d683bf40ad16, None;
    /// A volume that LUKS encrypts.
    LINUX_LUKS, "linux-luks", 0xca7d7ccb_63ed_4c53_861c_1742536059cc, None;
    /// A member of a software RAID.
    RAID, "raid", 0xa19d880f_05fc_4d3b_a006_743f0f84911e, Some(0xfd);
    /// What Windows keeps for itself.
    MICROSOFT_RESERVED, "microsoft-reserved", 0xe3c9e316_0b5c_4db8_817d_f92df00215ae, None;
    /// Swap space.
    SWAP, "swap", 0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f, Some(0x82);
    /// Where GRUB puts its core on a GPT disk that BIOS boots.
    BIOS_BOOT, "bios-boot", 0x21686148_6449_6e6f_744e_656564454649, None;
    /// A physical volume of the logical volume manager.
    LVM, "lvm", 0xe6d6d379_f507_44c2_a23c_238f2a3df928, Some(0x8e);
}

/// Other names of those above: those of the Discoverable Partitions Specification and of
/// systemd-repart.
const ALIASES: &[(&str, PartitionType)] = &[
    ("esp", PartitionType::EFI_SYSTEM),
    ("linux-generic", PartitionType::LINUX),
    ("root-x86-64", PartitionType::LINUX_ROOT_X86_64),
    ("root-x86-64-verity", PartitionType::LINUX_ROOT_X86_64_VERITY),
    ("root-x86-64-verity-sig", PartitionType::LINUX_ROOT_X86_64_VERITY_SIG),
    ("usr-x86-64", PartitionType::LINUX_USR_X86_64),
    ("usr-x86-64-verity", PartitionType::LINUX_USR_X86_64_VERITY),
    ("usr-x86-64-verity-sig", PartitionType::LINUX_USR_X86_64_VERITY_SIG),
    ("root-arm64", PartitionType::LINUX_ROOT_ARM64),
    ("root-arm64-verity", PartitionType::LINUX_ROOT_ARM64_VERITY),
    ("root-arm64-verity-sig", PartitionType::LINUX_ROOT_ARM64_VERITY_SIG),
    ("usr-arm64", PartitionType::LINUX_USR_ARM64),
    ("usr-arm64-verity", PartitionType::LINUX_USR_ARM64_VERITY),
    ("usr-arm64-verity-sig", PartitionType::LINUX_USR_ARM64_VERITY_SIG),
    ("home", PartitionType::LINUX_HOME),
    ("srv", PartitionType::LINUX_SRV),
    ("var", PartitionType::LINUX_VAR),
    ("tmp", PartitionType::LINUX_TMP),
    ("user-home", PartitionType::LINUX_USER_HOME),
];

impl PartitionType {
    /// A type of a GPT disk that has no name here.
    #[must_use]
    pub const fn from_guid(guid: Guid) -> Self {
        Self { guid: Some(guid), byte: None }
    }

    /// A type of an MBR disk that has no name here.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self { guid: None, byte: Some(byte) }
    }

    /// The type of a name (`efi-system`, or `esp` as systemd-repart has it), a GUID or a hexadecimal byte (`0x0c`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut known = KNOWN.iter().chain(ALIASES);
        if let Some((_, known)) = known.find(|(name, _)| *name == text) {
            return Some(*known);
        }
        if let Some(byte) = text.strip_prefix("0x").and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            return (byte != 0).then(|| Self::from_byte(byte));
        }
        text.parse().ok().filter(|guid| *guid != Guid::NIL).map(Self::from_guid)
    }

    /// The names that [`PartitionType::parse`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(name, _)| *name)
    }

    /// The name of a GUID, when it has one here.
    #[must_use]
    pub fn name_of(guid: Guid) -> Option<&'static str> {
        KNOWN.iter().find(|(_, known)| known.guid == Some(guid)).map(|(name, _)| *name)
    }

    /// The name of an MBR byte, when it has one here.
    #[must_use]
    pub fn name_of_byte(byte: u8) -> Option<&'static str> {
        match byte {
            crate::mbr::TYPE_PROTECTIVE => Some("gpt-protective"),
            0x01 => Some("fat12"),
            0x04 | 0x06 | 0x0e => Some("fat16"),
            0x0b => Some("fat32"),
            _ => KNOWN.iter().find(|(_, known)| known.byte == Some(byte)).map(|(name, _)| *name),
        }
    }
}

impl fmt::Display for PartitionType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.guid, self.byte) {
            (Some(guid), _) => match Self::name_of(guid) {
                Some(name) => out.write_str(name),
                None => write!(out, "{guid}"),
            },
            (None, Some(byte)) => write!(out, "0x{byte:02x}"),
            (None, None) => out.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_by_name_guid_and_byte() {
        for name in PartitionType::names() {
            let known = PartitionType::parse(name).unwrap();
            assert_eq!(known.to_string(), name);
            assert_eq!(PartitionType::name_of(known.guid.unwrap()), Some(name));
        }
        assert_eq!(PartitionType::parse("0x83"), Some(PartitionType::from_byte(0x83)));
        let guid = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        assert_eq!(PartitionType::parse(guid).unwrap().to_string(), "efi-system");
        for (alias, known) in ALIASES {
            assert_eq!(PartitionType::parse(alias), Some(*known));
        }
        for bad in ["", "esp?", "0x00", "0x100", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(PartitionType::parse(bad), None, "{bad}");
        }
    }
}
