//! The settings of a virtual machine of VMware's desktop programs (`.vmx`): lines of `key = "value"`.

use std::fmt::Write;

use super::machine::{Firmware, Machine};
use crate::container::Adapter;

/// A value between quotes: what would end it, and what begins such an escape, by number.
fn quoted(text: &str) -> String {
    text.replace('|', "|7C").replace('"', "|22")
}

/// The settings of a machine whose disk is that file beside them.
pub(super) fn settings(machine: &Machine, disk: &str) -> String {
    let shown = if machine.product.is_empty() { &machine.name } else { &machine.product };
    let numbers = [machine.hardware_version, machine.memory_mib, machine.cpus];
    let [version, memory, cpus] = numbers.map(|number| number.to_string());
    let mut lines = vec![
        (".encoding", "UTF-8"),
        ("config.version", "8"),
        ("virtualHW.version", &version),
        ("displayName", shown),
        ("guestOS", "otherlinux-64"),
        // A copy is another machine, about which nobody is asked.
        ("uuid.action", "create"),
        ("memsize", &memory),
        ("numvcpus", &cpus),
    ];
    if machine.firmware == Firmware::Uefi {
        lines.push(("firmware", "efi"));
    }
    // The buttons: the guest is asked before its power goes.
    lines.extend([("powerType.powerOff", "soft"), ("powerType.reset", "soft")]);
    lines.extend([("floppy0.present", "FALSE"), ("pciBridge0.present", "TRUE")]);
    // Cards for PCI Express find no slot without these.
    let bridges: Vec<String> = (4..8).map(|number| format!("pciBridge{number}")).collect();
    let bridge = |name: &str, what: &str| format!("{name}.{what}");
    let keys: Vec<[String; 3]> = bridges
        .iter()
        .map(|name| ["present", "virtualDev", "functions"].map(|what| bridge(name, what)))
        .collect();
    for [present, kind, functions] in &keys {
        lines.extend([(&**present, "TRUE"), (kind, "pcieRootPort"), (functions, "8")]);
    }
    let controller = match machine.controller {
        Adapter::Ide => None,
        Adapter::BusLogic => Some("buslogic"),
        Adapter::LsiLogic => Some("lsilogic"),
    };
    match controller {
        None => lines.extend([("ide0:0.present", "TRUE"), ("ide0:0.fileName", disk)]),
        Some(kind) => lines.extend([
            ("scsi0.present", "TRUE"),
            ("scsi0.virtualDev", kind),
            ("scsi0:0.present", "TRUE"),
            ("scsi0:0.fileName", disk),
        ]),
    }
    let card = machine.nic.map(|nic| nic.name().to_ascii_lowercase());
    if let Some(card) = &card {
        lines.extend([
            ("ethernet0.present", "TRUE"),
            ("ethernet0.virtualDev", card),
            ("ethernet0.connectionType", "nat"),
            ("ethernet0.addressType", "generated"),
        ]);
    }
    lines.into_iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key} = \"{}\"", quoted(value));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Nic;

    #[test]
    fn the_settings_of_a_machine_as_kiln_makes_it() {
        let mut machine = Machine::new("kiln");
        machine.product = "A \"machine\" | two".into();
        (machine.nic, machine.controller) = (Some(Nic::E1000), Adapter::Ide);
        let expected = r#".encoding = "UTF-8"
config.version = "8"
virtualHW.version = "13"
displayName = "A |22machine|22 |7C two"
guestOS = "otherlinux-64"
uuid.action = "create"
memsize = "1024"
numvcpus = "1"
powerType.powerOff = "soft"
powerType.reset = "soft"
floppy0.present = "FALSE"
pciBridge0.present = "TRUE"
pciBridge4.present = "TRUE"
pciBridge4.virtualDev = "pcieRootPort"
pciBridge4.functions = "8"
pciBridge5.present = "TRUE"
pciBridge5.virtualDev = "pcieRootPort"
pciBridge5.functions = "8"
pciBridge6.present = "TRUE"
pciBridge6.virtualDev = "pcieRootPort"
pciBridge6.functions = "8"
pciBridge7.present = "TRUE"
pciBridge7.virtualDev = "pcieRootPort"
pciBridge7.functions = "8"
ide0:0.present = "TRUE"
ide0:0.fileName = "disk.vmdk"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "e1000"
ethernet0.connectionType = "nat"
ethernet0.addressType = "generated"
"#;
        assert_eq!(settings(&machine, "disk.vmdk"), expected);
    }

    #[test]
    fn other_machines_have_other_lines() {
        let mut machine = Machine::new("kiln");
        machine.firmware = Firmware::Uefi;
        machine.nic = None;
        let text = settings(&machine, "disk.vmdk");
        for line in [
            "displayName = \"kiln\"\n",
            "firmware = \"efi\"\n",
            "scsi0.virtualDev = \"lsilogic\"\n",
            "scsi0:0.fileName = \"disk.vmdk\"\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("ethernet0") && !text.contains("ide0"), "{text}");
    }
}
