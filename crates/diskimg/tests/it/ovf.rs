//! Our OVF descriptors against the rules of DSP0243 and its schema (DSP8023, with CIM's two classes),
//! written down here: which elements there are, in which order, with which attributes, and what they
//! refer to.

#![cfg(feature = "zlib")]

use std::collections::BTreeSet;
use std::io::Cursor;

use kiln_diskimg::bundle::{self, Firmware, Machine, Nic};
use kiln_diskimg::container::{Adapter, Options};
use roxmltree::{Document, Node};
use sha2::{Digest, Sha256};

const OVF: &str = "http://schemas.dmtf.org/ovf/envelope/1";
const RASD: &str =
    "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData";
const VSSD: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData";

/// An element: its children in the order of the schema, those that must be there marked with `!` and
/// those that may be there many times with `*`; then attributes, marked alike.
type Rule = (&'static str, &'static [&'static str], &'static [&'static str]);

const RULES: &[Rule] = &[
    ("Envelope", &["References!", "DiskSection", "NetworkSection", "VirtualSystem!"], &[]),
    ("References", &["File*"], &[]),
    ("File", &[], &["id!", "href!", "size", "compression", "chunkSize"]),
    ("DiskSection", &["Info!", "Disk*"], &["required"]),
    (
        "Disk",
        &[],
        &[
            "diskId!",
            "fileRef",
            "capacity!",
            "capacityAllocationUnits",
            "format",
            "populatedSize",
            "parentRef",
        ],
    ),
    ("NetworkSection", &["Info!", "Network*"], &["required"]),
    ("Network", &["Description"], &["name!"]),
    (
        "VirtualSystem",
        &["Info!", "Name", "OperatingSystemSection", "ProductSection", "VirtualHardwareSection"],
        &["id!"],
    ),
    (
        "OperatingSystemSection",
        &["Info!", "Description"],
        &["id!", "version", "required", "osType"],
    ),
    ("ProductSection", &["Info!", "Product", "Vendor", "Version"], &["required"]),
    ("VirtualHardwareSection", &["Info!", "System", "Item*", "Config*"], &["required"]),
    ("Config", &[], &["required", "key!", "value!"]),
    (
        "System",
        &["ElementName!", "InstanceID!", "VirtualSystemIdentifier", "VirtualSystemType"],
        &[],
    ),
    (
        "Item",
        &[
            "Address",
            "AddressOnParent",
            "AllocationUnits",
            "AutomaticAllocation",
            "AutomaticDeallocation",
            "Caption",
            "Connection*",
            "Description",
            "ElementName!",
            "HostResource*",
            "InstanceID!",
            "Limit",
            "Parent",
            "ResourceSubType",
            "ResourceType!",
            "VirtualQuantity",
        ],
        &["required", "configuration", "bound"],
    ),
];

/// Checks an element and all below it.
fn check(node: Node<'_, '_>) {
    let name = node.tag_name().name();
    let namespace = node.tag_name().namespace();
    let Some((_, children, attributes)) = RULES.iter().find(|rule| rule.0 == name) else {
        // The fields have text alone, and are of their class's namespace.
        assert_eq!(node.children().filter(Node::is_element).count(), 0, "{name}");
        match node.parent_element().unwrap().tag_name().name() {
            "Item" => assert_eq!(namespace, Some(RASD), "{name}"),
            "System" => assert_eq!(namespace, Some(VSSD), "{name}"),
            _ => assert_eq!(namespace, Some(OVF), "{name}"),
        }
        return;
    };
    if name != "Config" {
        assert_eq!(namespace, Some(OVF), "{name}");
    }
    let plain = |rule: &'static str| rule.trim_end_matches(['!', '*']);
    let mut place = 0;
    let mut seen = BTreeSet::new();
    for child in node.children().filter(Node::is_element) {
        let child_name = child.tag_name().name();
        let at = children.iter().position(|rule| plain(rule) == child_name);
        let at = at.unwrap_or_else(|| panic!("{name} holds no {child_name}"));
        assert!(at >= place, "{child_name} is too late in {name}");
        place = at;
        let first = seen.insert(child_name);
        assert!(first || children[at].ends_with('*'), "{child_name} twice in {name}");
        check(child);
    }
    for rule in children.iter().filter(|rule| rule.ends_with('!')) {
        assert!(seen.contains(plain(rule)), "{name} has no {rule}");
    }
    for attribute in node.attributes() {
        let known = attributes.iter().any(|rule| plain(rule) == attribute.name());
        assert!(known, "{name} has no attribute {}", attribute.name());
        // `attributeFormDefault="qualified"`.
        assert!(attribute.namespace().is_some(), "{name}: {} is not qualified", attribute.name());
    }
    for rule in attributes.iter().filter(|rule| rule.ends_with('!')) {
        let there = node.attributes().any(|it| it.name() == plain(rule) && !it.value().is_empty());
        assert!(there, "{name} has no {rule}");
    }
}

fn texts<'doc>(document: &'doc Document<'_>, name: &str) -> Vec<&'doc str> {
    let found = document.descendants().filter(|node| node.tag_name().name() == name);
    found.map(|node| node.text().unwrap_or_default()).collect()
}

fn attributes<'doc>(document: &'doc Document<'_>, element: &str, name: &str) -> Vec<&'doc str> {
    let found = document.descendants().filter(|node| node.tag_name().name() == element);
    found.filter_map(|node| node.attribute((OVF, name))).collect()
}

/// What refers to something, and that there is nothing twice.
fn refers(document: &Document<'_>, machine: &Machine, file: &str, file_len: u64, capacity: u64) {
    let ids = texts(document, "InstanceID");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    for parent in texts(document, "Parent") {
        assert!(ids.contains(&parent), "no item {parent}");
    }
    assert_eq!(attributes(document, "Disk", "fileRef"), attributes(document, "File", "id"));
    let disks = attributes(document, "Disk", "diskId");
    for host in texts(document, "HostResource") {
        assert!(disks.contains(&host.strip_prefix("ovf:/disk/").unwrap()), "{host}");
    }
    let networks = attributes(document, "Network", "name");
    assert_eq!(texts(document, "Connection"), networks);
    assert_eq!(networks.len(), usize::from(machine.nic.is_some()));
    assert_eq!(attributes(document, "File", "href"), [file]);
    assert_eq!(attributes(document, "File", "size"), [file_len.to_string()]);
    assert_eq!(attributes(document, "Disk", "capacity"), [capacity.to_string()]);
    assert_eq!(attributes(document, "Disk", "capacityAllocationUnits"), ["byte"]);
    let format = attributes(document, "Disk", "format");
    assert!(
        matches!(format[..], [url] if url.ends_with("vmdk.html#streamOptimized")),
        "{format:?}"
    );
    // CIM_ResourceAllocationSettingData.ResourceType and CIM_OperatingSystem.OsType.
    let controller = if machine.controller == Adapter::Ide { "5" } else { "6" };
    let mut types = vec!["3", "4", controller, "17"];
    types.extend(machine.nic.map(|_| "10"));
    assert_eq!(texts(document, "ResourceType"), types);
    assert_eq!(attributes(document, "OperatingSystemSection", "id"), ["101"]);
    let quantities = [machine.cpus.to_string(), machine.memory_mib.to_string()];
    assert_eq!(texts(document, "VirtualQuantity"), quantities);
    let family = format!("vmx-{:02}", machine.hardware_version);
    assert_eq!(texts(document, "VirtualSystemType"), [family]);
}

/// The members of a tar archive.
fn members(mut tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut members = Vec::new();
    while tar.first().is_some_and(|byte| *byte != 0) {
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&tar[range]).trim_end_matches(['\0', ' ']).to_owned()
        };
        assert_eq!(&tar[257..263], b"ustar\0");
        let len = usize::from_str_radix(&text(124..136), 8).unwrap();
        members.push((text(0..100), tar[512..512 + len].to_vec()));
        tar = &tar[512 + len.next_multiple_of(512)..];
    }
    assert!(tar.len() >= 1024 && tar.iter().all(|byte| *byte == 0), "no end of the archive");
    members
}

fn machines() -> Vec<Machine> {
    let mut all = Vec::new();
    for nic in [None, Some(Nic::Vmxnet3), Some(Nic::E1000), Some(Nic::E1000e)] {
        for controller in [Adapter::LsiLogic, Adapter::BusLogic] {
            for firmware in [Firmware::Bios, Firmware::Uefi] {
                let mut machine = Machine::new(format!("kiln-{}", all.len()));
                (machine.nic, machine.controller, machine.firmware) = (nic, controller, firmware);
                machine.product =
                    if all.len() % 2 == 0 { "<A & \"B\">".into() } else { String::new() };
                machine.cpus = 1 + u32::try_from(all.len()).unwrap();
                machine.hardware_version = 7 + u32::try_from(all.len()).unwrap();
                all.push(machine);
            }
        }
    }
    all
}

#[test]
fn descriptors_of_all_machines_keep_to_the_schema() {
    let disk: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let capacity = (disk.len() as u64).next_multiple_of(512);
    let machines = machines();
    for machine in &machines {
        let out = Cursor::new(Vec::new());
        let ova = bundle::write_ova(machine, &disk, out, &Options::default()).unwrap();
        let members = members(ova.get_ref());
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        let name = |extension: &str| format!("{}{extension}", machine.name);
        assert_eq!(names, [name(".ovf"), name(".mf"), name("-disk1.vmdk")]);
        let text = std::str::from_utf8(&members[0].1).unwrap();
        let document = Document::parse(text).unwrap();
        let root = document.root_element();
        assert_eq!((root.tag_name().name(), root.tag_name().namespace()), ("Envelope", Some(OVF)));
        check(root);
        refers(&document, machine, names[2], members[2].1.len() as u64, capacity);
        let is_uefi = machine.firmware == Firmware::Uefi;
        assert_eq!(text.contains("vmw:key=\"firmware\" vmw:value=\"efi\""), is_uefi);
        // No space before the parenthesis; every file but the manifest itself, in order.
        let line = |(name, bytes): &(String, Vec<u8>)| {
            let digest = Sha256::digest(bytes);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("SHA256({name})= {hex}\n")
        };
        let manifest = line(&members[0]) + &line(&members[2]);
        assert_eq!(std::str::from_utf8(&members[1].1).unwrap(), manifest);
    }
    println!("{} descriptors", machines.len());
}
