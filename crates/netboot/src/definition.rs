//! What a lab is like, as a file.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use kiln_dhcp_wire::HardwareAddr;
use serde::Deserialize;

use crate::{Architecture, Boot, Network, NetworkError, NoScript, Script};

/// How machines get their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// From here.
    Dhcp,
    /// From another server of the network, which is left alone.
    #[default]
    Proxy,
    /// Neither is done here: only files and scripts are given.
    None,
}

/// A lab: one interface, its files, and what its machines start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Definition {
    /// The interface to the machines.
    pub interface: String,
    /// The interface's own address and the length of its prefix.
    pub address: Ipv4Net,
    /// How machines get their addresses. Default: `proxy`.
    #[serde(default)]
    pub mode: Mode,
    /// Directories with files that every machine may have. The first that has a file is taken.
    pub files: Vec<PathBuf>,
    /// The port for HTTP. Default: 80.
    #[serde(default = "http")]
    pub port: u16,
    /// Programs that firmware loads, by kind. Default: iPXE as Debian's package has it.
    #[serde(default)]
    pub programs: Programs,
    /// What is given to machines that have no address, where that is done here.
    pub dhcp: Option<Dhcp>,
    /// What machines start.
    pub boot: Option<Start>,
    /// What is different for some machines, by their hardware addresses.
    #[serde(default)]
    pub machine: BTreeMap<String, Machine>,
}

/// Names of programs, by what loads them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Programs {
    /// For a PC with a BIOS.
    pub bios: Option<String>,
    /// For UEFI on x86-64.
    pub uefi_x64: Option<String>,
    /// For UEFI on x86 with 32 bits.
    pub uefi_x86: Option<String>,
    /// For UEFI on ARM with 64 bits.
    pub uefi_arm64: Option<String>,
}

/// Addresses, and what goes with them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Dhcp {
    /// The first address that is given.
    pub first: Ipv4Addr,
    /// The last one.
    pub last: Ipv4Addr,
    /// Where everything else is.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// The domain.
    pub domain: Option<String>,
    /// Seconds that an address is given for. Default: 3600.
    #[serde(default = "hour")]
    pub lease: u32,
}

/// What iPXE starts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Start {
    /// The kernel: a URL, or a path below this server's.
    pub kernel: String,
    /// What it finds in its initramfs.
    #[serde(default)]
    pub initrds: Vec<String>,
    /// Words for the kernel.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// What is different for one machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Machine {
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Its name.
    pub name: Option<String>,
    /// Words for its kernel, after those that all have.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// What it starts in place of what all start.
    pub boot: Option<Start>,
}

const fn http() -> u16 {
    80
}

const fn hour() -> u32 {
    3600
}

/// What of a lab cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Its text.
    #[error("{0}")]
    Text(#[from] toml::de::Error),
    /// Its addresses.
    #[error("{0}")]
    Network(#[from] NetworkError),
    /// A script.
    #[error("the script of {of}: {source}")]
    Script {
        /// Whose.
        of: String,
        /// Why not.
        source: NoScript,
    },
    /// A name that is no hardware address.
    #[error("machine {0:?} is no hardware address, as 52:54:00:12:34:56")]
    Machine(String),
    /// Addresses are to be given, and none are said.
    #[error("mode is \"dhcp\", and there is no section [dhcp] with first and last")]
    NoAddresses,
    /// Addresses are said, and none are to be given.
    #[error("there is a section [dhcp] or a machine's address, and mode is not \"dhcp\"")]
    NotGiven,
    /// A directory that is none.
    #[error("{}: no such directory", .0.display())]
    Directory(PathBuf),
}

impl Definition {
    /// Reads the text of a definition.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let definition: Self = toml::from_str(text).map_err(|error| vec![error.into()])?;
        let problems = definition.check();
        if problems.is_empty() { Ok(definition) } else { Err(problems) }
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for name in self.machine.keys() {
            if name.parse::<HardwareAddr>().is_err() {
                problems.push(Problem::Machine(name.clone()));
            }
        }
        let has_addresses = self.machine.values().any(|machine| machine.address.is_some());
        match (self.mode, &self.dhcp) {
            (Mode::Dhcp, None) => problems.push(Problem::NoAddresses),
            (Mode::Dhcp, Some(_)) => {}
            (_, dhcp) if dhcp.is_some() || has_addresses => problems.push(Problem::NotGiven),
            _ => {}
        }
        if let Some(network) = self.network() {
            problems.extend(network.check().into_iter().map(Problem::from));
        }
        let all = [(None, "all machines".to_owned())];
        let each = self.machine.keys().map(|mac| (mac.parse().ok(), mac.clone()));
        for (mac, of) in all.into_iter().chain(each) {
            if let Some(Err(source)) = self.script(mac).map(|script| script.text()) {
                problems.push(Problem::Script { of, source });
            }
        }
        problems
    }

    fn of(&self, mac: HardwareAddr) -> Option<&Machine> {
        let is_it = |name: &String| name.parse() == Ok(mac);
        self.machine.iter().find(|(name, _)| is_it(name)).map(|(_, machine)| machine)
    }

    /// The addresses that are given, where that is done here.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        let dhcp = self.dhcp.as_ref().filter(|_| self.mode == Mode::Dhcp)?;
        let mut network = Network::new(self.address, dhcp.first, dhcp.last);
        network.router = dhcp.router;
        network.dns.clone_from(&dhcp.dns);
        network.domain.clone_from(&dhcp.domain);
        network.lease = Duration::from_secs(dhcp.lease.into());
        for (name, machine) in &self.machine {
            let Ok(mac) = name.parse() else { continue };
            network.fixed.extend(machine.address.map(|address| (mac, address)));
            network.names.extend(machine.name.clone().map(|name| (mac, name)));
        }
        Some(network)
    }

    /// Where machines boot from.
    #[must_use]
    pub fn boots(&self) -> Boot {
        let mut boot = Boot::new(self.address.addr(), self.port);
        for (kind, program) in [
            (Architecture::Bios, &self.programs.bios),
            (Architecture::UefiX64, &self.programs.uefi_x64),
            (Architecture::UefiX86, &self.programs.uefi_x86),
            (Architecture::UefiArm64, &self.programs.uefi_arm64),
        ] {
            if let Some(program) = program {
                boot.programs.insert(kind, program.clone());
            }
        }
        boot
    }

    /// What a machine starts, or all that are not named do; `None` where nothing is said of it.
    #[must_use]
    pub fn script(&self, mac: Option<HardwareAddr>) -> Option<Script> {
        let machine = mac.and_then(|mac| self.of(mac));
        let start = machine.and_then(|machine| machine.boot.as_ref()).or(self.boot.as_ref())?;
        let url = self.boots().url;
        let whole = |path: &String| match path.contains("://") {
            true => path.clone(),
            false => format!("{url}/{}", path.trim_start_matches('/')),
        };
        let mut script = Script::new(whole(&start.kernel));
        script.initrds = start.initrds.iter().map(whole).collect();
        script.arguments.clone_from(&start.arguments);
        script.arguments.extend(machine.into_iter().flat_map(|machine| machine.arguments.clone()));
        Some(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = r#"
        interface = "lab0"
        address = "192.0.2.1/24"
        mode = "dhcp"
        files = ["/srv/netboot", "/usr/lib/ipxe"]
        port = 8080

        [dhcp]
        first = "192.0.2.100"
        last = "192.0.2.200"
        router = "192.0.2.1"

        [boot]
        kernel = "hashios-vmlinuz"
        initrds = ["hashios-initrd.img"]
        arguments = ["boot=ramdisk", "BOOTIF=01-${netX/mac:hexhyp}"]

        [machine."52-54-00-00-00-01"]
        address = "192.0.2.11"
        name = "server-1"
        arguments = ["hashios.role=server"]

        [machine."52:54:00:00:00:02"]
        boot = { kernel = "https://example.com/other" }
    "#;

    #[test]
    fn a_lab_is_read() {
        let lab = Definition::parse(LAB).unwrap();
        let network = lab.network().unwrap();
        let first = HardwareAddr([0x52, 0x54, 0, 0, 0, 1]);
        assert_eq!(network.fixed[&first], Ipv4Addr::new(192, 0, 2, 11));
        assert_eq!(network.names[&first], "server-1");
        let text = lab.script(Some(first)).unwrap().text().unwrap();
        assert_eq!(
            text,
            "#!ipxe\nkernel http://192.0.2.1:8080/hashios-vmlinuz initrd=hashios-initrd.img \
             boot=ramdisk BOOTIF=01-${netX/mac:hexhyp} hashios.role=server\n\
             initrd http://192.0.2.1:8080/hashios-initrd.img\nboot\n"
        );
        let second = HardwareAddr([0x52, 0x54, 0, 0, 0, 2]);
        let text = lab.script(Some(second)).unwrap().text().unwrap();
        assert_eq!(text, "#!ipxe\nkernel https://example.com/other\nboot\n");
        assert!(lab.script(None).unwrap().arguments.len() == 2);
    }

    #[test]
    fn everything_that_cannot_be_is_told() {
        let wrong = LAB
            .replace("mode = \"dhcp\"", "mode = \"proxy\"")
            .replace("52-54-00-00-00-01", "nobody")
            .replace("boot=ramdisk", "boot ramdisk");
        let told: Vec<String> =
            Definition::parse(&wrong).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:#?}");
        let unknown = Definition::parse("interface = \"a\"\nadress = \"\"").unwrap_err();
        assert!(unknown[0].to_string().contains("adress"), "{}", unknown[0]);
    }
}
