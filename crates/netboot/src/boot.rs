//! What a machine that boots is told: a program by TFTP or HTTP first, then a script.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use kiln_dhcp_wire::{Message, code};

use crate::{Architecture, Client, Stage};

/// Of option 43, as PXE has it: how boot servers are looked for (PXE 2.1, section 2.2.3).
const DISCOVERY_CONTROL: u8 = 6;
/// They are not: the name of the program is in this message.
const NO_DISCOVERY: u8 = 8;

/// Where machines get their programs and scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Boot {
    /// The server's address, for TFTP and as the server's identifier.
    pub address: Ipv4Addr,
    /// What stands before paths for HTTP, without a slash at its end.
    pub url: String,
    /// The program of each kind of machine, as TFTP and HTTP name it.
    pub programs: BTreeMap<Architecture, String>,
}

impl Boot {
    /// A server with iPXE as Debian's package `ipxe` has it, and HTTP on a port.
    #[must_use]
    pub fn new(address: Ipv4Addr, port: u16) -> Self {
        let url = match port {
            80 => format!("http://{address}"),
            port => format!("http://{address}:{port}"),
        };
        let programs = [(Architecture::Bios, "undionly.kpxe"), (Architecture::UefiX64, "ipxe.efi")];
        let programs = programs.map(|(kind, file)| (kind, file.to_owned()));
        Self { address, url, programs: programs.into() }
    }

    /// The file that a machine is to load next: a name for TFTP, a URL for HTTP and iPXE. `None` when there
    /// is no program for its kind.
    #[must_use]
    pub fn file(&self, client: &Client) -> Option<String> {
        if client.stage == Stage::Ipxe {
            return Some(format!("{}/{}", self.url, script(client)));
        }
        let program = self.programs.get(&client.architecture)?;
        Some(match client.stage {
            Stage::Http => format!("{}/{program}", self.url),
            _ => program.clone(),
        })
    }

    /// Tells a machine in an answer where it boots from. Says whether there is something for it.
    pub fn tell(&self, client: &Client, answer: &mut Message) -> bool {
        let Some(file) = self.file(client) else { return false };
        answer.siaddr = self.address;
        let class: &[u8] = match client.stage {
            Stage::Http => b"HTTPClient",
            _ => b"PXEClient",
        };
        answer.options.set(code::VENDOR_CLASS, class);
        if let Some(machine) = client.machine {
            answer.options.set(code::MACHINE_ID, machine);
        }
        if client.stage == Stage::Pxe {
            // EDK II never takes an offer of a proxy that has this, and asks one that has not at port 4011.
            if client.architecture == Architecture::Bios {
                let vendor = [DISCOVERY_CONTROL, 1, NO_DISCOVERY, code::END];
                answer.options.set(code::VENDOR, vendor);
            }
            answer.sname = self.address.to_string().into_bytes();
        }
        answer.file = file.into_bytes();
        true
    }
}

/// The path of a machine's script, below the server's URL.
#[must_use]
pub fn script(client: &Client) -> String {
    format!("boot/{}.ipxe", client.mac.to_string().replace(':', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_dhcp_wire::{HardwareAddr, MessageType};

    #[test]
    fn each_stage_has_its_file() {
        let boot = Boot::new([192, 0, 2, 1].into(), 8080);
        let mac = HardwareAddr([2, 0, 0, 0, 0, 1]);
        let mut client =
            Client { mac, architecture: Architecture::Bios, stage: Stage::Pxe, machine: None };
        assert_eq!(boot.file(&client).unwrap(), "undionly.kpxe");
        client.architecture = Architecture::UefiX64;
        assert_eq!(boot.file(&client).unwrap(), "ipxe.efi");
        client.stage = Stage::Http;
        assert_eq!(boot.file(&client).unwrap(), "http://192.0.2.1:8080/ipxe.efi");
        client.stage = Stage::Ipxe;
        let script = "http://192.0.2.1:8080/boot/02-00-00-00-00-01.ipxe";
        assert_eq!(boot.file(&client).unwrap(), script);
        let mut answer = Message::new(true, MessageType::Offer, 1, mac);
        client.architecture = Architecture::Other(99);
        assert!(boot.tell(&client, &mut answer), "a script fits all");
        client.stage = Stage::Pxe;
        assert!(!boot.tell(&client, &mut answer));
    }
}
