//! Cloud-configs, messages with them, media, command lines.

use std::collections::BTreeMap;
use std::io::Write;

use super::{Inputs, Result};

const FULL: &str = include_str!("../../../crates/cloudconfig/tests/samples/full.yml");
const BAD: &str = include_str!("../../../crates/cloudconfig/tests/samples/bad.txt");
const MERGED: &str = "#cloud-config\nx-a: &a {b: [1, 0x1f, 1e3, ~], c: !!str no}\nd: {<<: *a, c: 'yes'}\n\
    e: [*a, *a]\nf: |\n  text\n  more\ng: >-\n  folded\n  text\nh: \"\\x41\\u00e9\\\"\"\n? i\n: j\n";
const MESSAGE: &str = "Content-Type: multipart/mixed; boundary=\"=a=\"\nMIME-Version: 1.0\n\n--=a=\n\
    Content-Type: text/cloud-config; charset=\"utf-8\"\nContent-Disposition: attachment; filename=\"a\"\n\
    Content-Transfer-Encoding: quoted-printable\n\nhostname: =61=\nb\n--=a=\n\
    Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/x-shellscript\n\
    Content-Transfer-Encoding: base64\n\nIyEvYmluL3NoCg==\n--b\nMerge-Type: list()\n\n#cloud-config\n\
    runcmd: [ls]\n--b--\n--=a=--\n";
const META: &str = "instance-id: i-1\nlocal-hostname: node-1\npublic-keys:\n- ssh-ed25519 \
    AAAAC3NzaC1lZDI1NTE5AAAAIHFZDvJJUVn2uUaRPVuKLtNPbVPHzJfNYJ9VZpn0xg5e ada\n";
const DRIVE: &str = "{\"uuid\": \"u-1\", \"hostname\": \"node-2\", \"public_keys\": {\"one\": \"ssh-rsa \
    AAAAB3NzaC1yc2EAAAADAQABAAAAAQCB x\"}, \"meta\": {}}";
const NETWORK: &str = "version: 2\nethernets:\n  eth0:\n    match: {macaddress: '52:54:00:12:34:56'}\n    \
    addresses: [192.0.2.5/24, '2001:db8::5/64']\n    gateway4: 192.0.2.1\n    nameservers: {addresses: [192.0.2.1]}\n";
const LINES: [&str; 2] = [
    "BOOT_IMAGE=/vmlinuz quiet rancher.debug rancher.disable=[a,b] cc.hostname=node-1 -- rancher.password=x",
    "cc.runcmd=\"[[echo, 'a b'], ls]\" rancher.a.b.c={d: [1]} rancher.a=\"x y\" cc.services.sshd=false cc.=1",
];

fn packed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes)?;
    Ok(out.finish()?)
}

/// What is separated by NUL.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&0)
}

pub(super) fn all() -> Result<BTreeMap<&'static str, Inputs>> {
    let bad = BAD.replace("\n\n", "\n");
    let pieces = bad.as_bytes().chunks(700).map(<[u8]>::to_vec);
    let documents: Inputs = [
        FULL.as_bytes().to_vec(),
        MERGED.as_bytes().to_vec(),
        joined(&[
            b"hostname: a\nusers: [default]\n",
            MERGED.as_bytes(),
            b"d: {b: ~}\nhostname: ~\n",
        ]),
    ]
    .into_iter()
    .chain(pieces)
    .collect();
    let user_data = vec![
        FULL.as_bytes().to_vec(),
        MESSAGE.as_bytes().to_vec(),
        MESSAGE.replace('\n', "\r\n").into_bytes(),
        packed(MESSAGE.as_bytes())?,
        packed(&packed(b"#!/bin/sh\n")?)?,
        b"#include\nhttp://192.0.2.1/\n".to_vec(),
    ];
    let media = vec![
        joined(&[FULL.as_bytes(), META.as_bytes(), NETWORK.as_bytes()]),
        joined(&[b"#cloud-config\nhostname: a\n", DRIVE.as_bytes(), b"{\"links\": []}"]),
        joined(&[b"", META.as_bytes(), b""]),
    ];
    Ok(BTreeMap::from([
        ("cloud_command_line", LINES.map(|line| line.as_bytes().to_vec()).to_vec()),
        ("cloud_documents", documents),
        ("cloud_medium", media),
        ("cloud_user_data", user_data),
    ]))
}
