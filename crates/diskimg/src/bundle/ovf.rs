//! The Open Virtualization Format's descriptor, DSP0243 version 1.1, with what VMware and VirtualBox
//! read beside it.

use std::fmt::Write;

use super::machine::{Firmware, Machine};
use crate::container::Adapter;

/// The format of the only disk, as VMware and VirtualBox compare it.
const STREAM: &str = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";
/// Digits of the longest length of a file.
const DIGITS: usize = 20;

/// Text between tags or in an attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            char => out.push(char),
        }
    }
    out
}

/// An item of the virtual hardware: its fields in the order of their names, as the schema has them.
fn item(out: &mut String, fields: &[(&str, &str)]) {
    out.push_str("      <Item>\n");
    for (name, value) in fields {
        let _ = writeln!(out, "        <rasd:{name}>{}</rasd:{name}>", escape(value));
    }
    out.push_str("      </Item>\n");
}

/// The descriptor for a disk of `capacity` bytes in a file of `file_len` bytes. It has the same
/// length whatever `file_len` is, so that room can be kept for it.
pub(super) fn descriptor(machine: &Machine, disk: &str, capacity: u64, file_len: u64) -> String {
    let name = escape(&machine.name);
    let digits = file_len.to_string();
    let padding = " ".repeat(DIGITS.saturating_sub(digits.len()));
    let network = if machine.nic.is_some() {
        "  <NetworkSection>\n    <Info>The list of logical networks</Info>\n    \
         <Network ovf:name=\"VM Network\">\n      <Description>The VM Network network</Description>\n    \
         </Network>\n  </NetworkSection>\n"
    } else {
        ""
    };
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" \
         xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\" \
         xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData\" \
         xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData\" \
         xmlns:vmw=\"http://www.vmware.com/schema/ovf\">\n  \
         <References>\n    \
         <File ovf:href=\"{disk}\" ovf:id=\"file1\" ovf:size=\"{digits}\"{padding}/>\n  \
         </References>\n  \
         <DiskSection>\n    <Info>Virtual disk information</Info>\n    \
         <Disk ovf:capacity=\"{capacity}\" ovf:capacityAllocationUnits=\"byte\" \
         ovf:diskId=\"vmdisk1\" ovf:fileRef=\"file1\" ovf:format=\"{STREAM}\"/>\n  \
         </DiskSection>\n{network}  \
         <VirtualSystem ovf:id=\"{name}\">\n    <Info>A virtual machine</Info>\n    \
         <Name>{name}</Name>\n    \
         <OperatingSystemSection ovf:id=\"101\" vmw:osType=\"otherLinux64Guest\">\n      \
         <Info>The kind of installed guest operating system</Info>\n      \
         <Description>Linux, 64 bits</Description>\n    \
         </OperatingSystemSection>\n"
    );
    if !machine.product.is_empty() {
        let _ = write!(
            out,
            "    <ProductSection>\n      <Info>What it is</Info>\n      \
             <Product>{}</Product>\n    </ProductSection>\n",
            escape(&machine.product)
        );
    }
    hardware(&mut out, machine);
    out.push_str("  </VirtualSystem>\n</Envelope>\n");
    out
}

fn hardware(out: &mut String, machine: &Machine) {
    let name = escape(&machine.name);
    let _ = write!(
        out,
        "    <VirtualHardwareSection>\n      <Info>Virtual hardware requirements</Info>\n      \
         <System>\n        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n        \
         <vssd:InstanceID>0</vssd:InstanceID>\n        \
         <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>\n        \
         <vssd:VirtualSystemType>vmx-{:02}</vssd:VirtualSystemType>\n      </System>\n",
        machine.hardware_version
    );
    let (cpus, memory) = (machine.cpus.to_string(), machine.memory_mib.to_string());
    item(
        out,
        &[
            ("AllocationUnits", "hertz * 10^6"),
            ("Description", "Number of virtual CPUs"),
            ("ElementName", &format!("{cpus} virtual CPU(s)")),
            ("InstanceID", "1"),
            ("ResourceType", "3"),
            ("VirtualQuantity", &cpus),
        ],
    );
    item(
        out,
        &[
            ("AllocationUnits", "byte * 2^20"),
            ("Description", "Memory size"),
            ("ElementName", &format!("{memory} MiB of memory")),
            ("InstanceID", "2"),
            ("ResourceType", "4"),
            ("VirtualQuantity", &memory),
        ],
    );
    // DSP0243 and CIM: 5 is an IDE controller, 6 a parallel SCSI one, 17 a disk, 10 a network card.
    let (kind, element, sub) = match machine.controller {
        Adapter::Ide => ("5", "IDE controller 0", "PIIX4"),
        Adapter::BusLogic => ("6", "SCSI controller 0", "buslogic"),
        Adapter::LsiLogic => ("6", "SCSI controller 0", "lsilogic"),
    };
    item(
        out,
        &[
            ("Address", "0"),
            ("ElementName", element),
            ("InstanceID", "3"),
            ("ResourceSubType", sub),
            ("ResourceType", kind),
        ],
    );
    item(
        out,
        &[
            ("AddressOnParent", "0"),
            ("ElementName", "Hard disk 1"),
            ("HostResource", "ovf:/disk/vmdisk1"),
            ("InstanceID", "4"),
            ("Parent", "3"),
            ("ResourceType", "17"),
        ],
    );
    if let Some(nic) = machine.nic {
        item(
            out,
            &[
                ("AddressOnParent", "7"),
                ("AutomaticAllocation", "true"),
                ("Connection", "VM Network"),
                ("ElementName", "Ethernet 1"),
                ("InstanceID", "5"),
                ("ResourceSubType", nic.name()),
                ("ResourceType", "10"),
            ],
        );
    }
    if machine.firmware == Firmware::Uefi {
        // What does not know VMware's keys ignores them.
        out.push_str(
            "      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"efi\"/>\n",
        );
    }
    out.push_str("    </VirtualHardwareSection>\n");
}
