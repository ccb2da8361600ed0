//! Archives, messages, configurations, menus.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use kiln_dhcp::HardwareAddr;
use kiln_dhcp::wire::udp::{self, Endpoints};
use kiln_initramfs::cpio::Options;
use kiln_initramfs::{Compression, Segment, write_segments};
use kiln_tree::{Node, Tree, TreePath};

use super::{Inputs, Result};

const MENU: &str = "title Kiln\nid 1\nversion 6.1.0-56\nmachine-id 00112233445566778899aabbccddeeff\n\
    sort-key kiln\nlinux /vmlinuz\ninitrd /one\ninitrd /two\noptions quiet root=LABEL=root\n\
    efi /a.efi\narchitecture x64\ndevicetree /a.dtb\n";
const LOADER: &str = "timeout 5\ndefault kiln-*\neditor no\nconsole-mode max\nauto-entries yes\n";
const KCONFIG: &str = "mainmenu \"Linux\"\nconfig NET\n\tbool \"Networking\"\n\tdefault y if !A\n\
    menu \"Drivers\"\n\tdepends on NET && (A || B=m)\nconfig B\n\ttristate \"b\"\n\tselect A if NET\n\
    \thelp\n\t  Text.\nchoice\n\tprompt \"One\"\nconfig C\n\tbool \"c\"\nendchoice\nendmenu\nif A\n\
    source \"arch/$(SRCARCH)/Kconfig\"\nendif\nconfig D\n\tint \"d\"\n\trange 1 $(shell,x)\n\
    \tdef_tristate m\n\timply B\n\tvisible if A\n# end\n";
const DOTCONFIG: &str = "# Linux\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=12\n\
    CONFIG_E=\"a \\\"text\\\"\"\nCONFIG_F=0x10\r\n\nCONFIG_A=n\n";

fn archives() -> Result<Inputs> {
    let mut tree = Tree::new();
    tree.insert("init", Node::executable("#!/bin/sh\n"))?;
    tree.insert("bin/sh", Node::symlink("../init"))?;
    tree.insert("dev/console", Node::char_device(5, 1))?;
    tree.insert("again", Node::hardlink(TreePath::new("init")?))?;
    let mut early = Tree::new();
    early.insert("kernel/x86/microcode/AuthenticAMD.bin", Node::file("microcode"))?;
    let mut inputs = Vec::new();
    for compression in [Compression::None, Compression::GZIP, Compression::ZSTD] {
        let segments = [Segment::early(&early), Segment::new(&tree, compression)];
        inputs.push(write_segments(&segments, &Options::default(), Vec::new())?);
    }
    Ok(inputs)
}

fn messages() -> Inputs {
    let mut bytes = vec![2, 1, 6, 0, 1, 2, 3, 4, 0, 5, 0x80, 0];
    bytes.resize(236, 0);
    bytes[16..20].copy_from_slice(&[10, 0, 0, 5]);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, 5, 54, 4, 10, 0, 0, 1, 51, 4, 0, 0, 14, 16]);
    bytes.extend_from_slice(&[
        1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 0, 1, 6, 8, 1, 1, 1, 1, 8, 8, 8, 8,
    ]);
    bytes.extend_from_slice(&[
        121, 9, 24, 10, 1, 2, 10, 0, 0, 1, 0, 12, 4, b'k', b'i', b'l', b'n', 52, 1, 3,
    ]);
    bytes.extend_from_slice(&[119, 9, 3, b'c', b'o', b'm', 0, 1, b'a', 0xc0, 0, 255]);
    let ends = Endpoints {
        source_mac: HardwareAddr([2; 6]),
        destination_mac: HardwareAddr::BROADCAST,
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::BROADCAST,
        source_port: 67,
        destination_port: 68,
    };
    let names = bytes[bytes.len() - 10..].to_vec();
    let frame = udp::encode(&ends, &bytes);
    [bytes, names].into_iter().chain(frame).collect()
}

pub(super) fn all() -> Result<BTreeMap<&'static str, Inputs>> {
    let names = "kiln-6.1+3.conf\nkiln-6.1+2-1.efi\n";
    Ok(BTreeMap::from([
        (
            "bls",
            [MENU, LOADER, names, "6.1.0-56\n6.1~rc2^a"].map(|it| it.as_bytes().to_vec()).to_vec(),
        ),
        ("cpio", archives()?),
        ("dhcp", messages()),
        ("dotconfig", vec![DOTCONFIG.as_bytes().to_vec()]),
        ("kconfig", vec![KCONFIG.as_bytes().to_vec()]),
    ]))
}
