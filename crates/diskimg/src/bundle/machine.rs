//! The virtual machine that a bundle describes.

use std::fmt;
use std::str::FromStr;

use crate::container::Adapter;
use crate::error::Problems;
use crate::{Error, Result};

/// The hardware of a virtual machine with one disk.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Machine {
    /// Its name, of which the names of the files are made: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What it is, for people. Default: empty.
    pub product: String,
    /// Memory in MiB. Default: 1024.
    pub memory_mib: u32,
    /// Virtual processors. Default: 1.
    pub cpus: u32,
    /// The network card. Default: VMXNET3.
    pub nic: Option<Nic>,
    /// The disk's controller. Default: LSI Logic.
    pub controller: Adapter,
    /// What starts the system. Default: BIOS.
    pub firmware: Firmware,
    /// VMware's hardware version; 13 is vSphere 6.5, and the first with a firmware that can be
    /// relied on. Default: 13.
    pub hardware_version: u32,
}

/// A network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Nic {
    /// VMware's own; not in VirtualBox.
    Vmxnet3,
    /// Intel's gigabit card, which every hypervisor has.
    E1000,
    /// Intel's newer gigabit card.
    E1000e,
}

/// What starts the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Firmware {
    /// A PC's.
    #[default]
    Bios,
    /// UEFI without Secure Boot.
    Uefi,
}

impl Nic {
    /// As OVF's `ResourceSubType` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vmxnet3 => "VmxNet3",
            Self::E1000 => "E1000",
            Self::E1000e => "E1000e",
        }
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for Nic {
    type Err = Error;

    /// Reads `vmxnet3`, `e1000`, `e1000e`, in any case.
    fn from_str(text: &str) -> Result<Self> {
        [Self::Vmxnet3, Self::E1000, Self::E1000e]
            .into_iter()
            .find(|nic| nic.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::unsupported("ovf", format!("the network card {text:?}")))
    }
}

impl Machine {
    /// A machine of that name with the defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            product: String::new(),
            memory_mib: 1024,
            cpus: 1,
            nic: Some(Nic::Vmxnet3),
            controller: Adapter::LsiLogic,
            firmware: Firmware::Bios,
            hardware_version: 13,
        }
    }

    /// Fails with everything that cannot be.
    pub(super) fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins = self.name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !begins || !self.name.bytes().all(is_plain) || self.name.len() > 80 {
            problems.push(format!(
                "the name {:?} is not 1 to 80 letters, digits, '.', '_' and '-'",
                self.name.chars().take(90).collect::<String>()
            ));
        }
        if self.memory_mib == 0 || !self.memory_mib.is_multiple_of(4) {
            problems.push(format!("memory of {} MiB is no multiple of 4", self.memory_mib));
        }
        if !(1..=768).contains(&self.cpus) {
            problems.push(format!("{} processors, expected 1 to 768", self.cpus));
        }
        if !(7..=22).contains(&self.hardware_version) {
            problems.push(format!("hardware version {}, expected 7 to 22", self.hardware_version));
        }
        if self.product.chars().any(char::is_control) {
            problems.push("the product's name has control characters".to_owned());
        }
        Problems(problems).check("machine")
    }
}
