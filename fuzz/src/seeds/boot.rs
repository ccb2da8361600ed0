//! Executables, signatures, variables.

use std::collections::BTreeMap;

use kiln_diskimg::boot::pe::Image;
use kiln_diskimg::boot::secure_boot::{Enrollment, Signature, signatures};
use kiln_diskimg::boot::sign::{Certificate, PrivateKey, Profile, Signer, sign};
use kiln_diskimg::boot::uki::Uki;
use kiln_diskimg::{Content, Guid, Limits, Seed};
use kiln_tree::Source;
use sha2::{Digest, Sha256};

use super::{Inputs, Result};
use crate::sparse::Sparse;

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// An executable with two sections that do nothing.
fn executable() -> Vec<u8> {
    let mut file = vec![0; 0x600];
    put(&mut file, 0, b"MZ");
    put(&mut file, 0x3c, &[0x40]);
    put(&mut file, 0x40, b"PE\0\0");
    let (coff, optional) = (0x44, 0x58);
    put(&mut file, coff, &0x8664_u16.to_le_bytes());
    put(&mut file, coff + 2, &[2]);
    put(&mut file, coff + 16, &240_u16.to_le_bytes());
    put(&mut file, optional, &0x20b_u16.to_le_bytes());
    for (at, value) in [(32, 0x1000), (36, 0x200), (56, 0x3000), (60, 0x200), (108, 16_u32)] {
        put(&mut file, optional + at, &value.to_le_bytes());
    }
    put(&mut file, optional + 68, &[10]);
    for (at, name, number) in [(0x148, &b".text"[..], 1_u32), (0x170, b".sdmagic", 2)] {
        put(&mut file, at, name);
        let place = [0x100, number * 0x1000, 0x200, number * 0x200].map(u32::to_le_bytes).concat();
        put(&mut file, at + 8, &place);
        put(&mut file, at + 36, &0x6000_0020_u32.to_le_bytes());
    }
    file[0x200..0x600].fill(0x90);
    put(&mut file, 0x400, b"#### LoaderInfo: systemd-stub 252 ####");
    file
}

fn unified() -> Result<Image> {
    let mut uki = Uki::new(executable(), executable());
    uki.command_line = Some(String::from("quiet"));
    uki.os_release = Some(String::from("ID=kiln\n"));
    uki.uname = Some(String::from("6.1"));
    uki.initrds = vec![Source::from(b"initrd".to_vec())];
    Ok(uki.plan()?.checksummed()?)
}

fn bytes(content: &dyn Content) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.write_to(&mut bytes)?;
    Ok(bytes)
}

fn signer() -> Result<Signer> {
    let mut count = 0_u64;
    let key = PrivateKey::generate(2048, &mut |out| {
        for part in out.chunks_mut(32) {
            count += 1;
            part.copy_from_slice(&Sha256::digest(count.to_le_bytes())[..part.len()]);
        }
    })?;
    let certificate = Certificate::self_signed(&key, &Profile::new("Kiln"))?;
    Ok(Signer::new(key, certificate)?)
}

/// A certificate with its length, and an executable.
fn pair(certificate: &Certificate, file: &[u8]) -> Vec<u8> {
    let der = certificate.to_der();
    let len = u16::try_from(der.len()).unwrap_or(u16::MAX).to_le_bytes();
    [&len[..], der, file].concat()
}

/// An empty variable store in a firmware volume.
fn store() -> Vec<u8> {
    const LEN: u32 = 0x4000;
    let volume = Guid::from_u128(0xfff1_2b8d_7696_4c8b_a985_2747_075b_4f50);
    let kind = Guid::from_u128(0xaaf3_2c78_947b_439a_a180_2e14_4ec3_7792);
    let mut image = vec![0xff; LEN as usize];
    image[..0x64].fill(0);
    put(&mut image, 16, &volume.to_disk());
    put(&mut image, 32, &u64::from(LEN).to_le_bytes());
    put(&mut image, 40, b"_FVH");
    put(&mut image, 48, &0x48_u16.to_le_bytes());
    put(&mut image, 0x48, &kind.to_disk());
    put(&mut image, 0x58, &(0x2000_u32).to_le_bytes());
    put(&mut image, 0x5c, &[0x5a, 0xfe]);
    let words = image[..0x48].chunks_exact(2);
    let sum = words.fold(0_u16, |sum, it| sum.wrapping_sub(u16::from_le_bytes([it[0], it[1]])));
    put(&mut image, 50, &sum.to_le_bytes());
    image
}

fn variables(certificate: &Certificate) -> Result<Inputs> {
    let owner = Seed::new("seed").guid("owner");
    let by = Signature::certificate(owner, certificate.to_der());
    let hash = Signature::image_hash(owner, [5; 32]);
    let mut keys = Enrollment::new(by.clone());
    keys.key_exchange.push(by.clone());
    keys.allowed = vec![by.clone(), hash.clone()];
    keys.forbidden = vec![Signature::image_hash(owner, [6; 32])];
    keys.time = 1_700_000_000;
    let mut enrolled = keys.enroll(&store())?;
    // What is erased is mostly not needed, and is no zero.
    while enrolled.last() == Some(&0xff) {
        enrolled.pop();
    }
    enrolled.resize(0x4000, 0);
    let mut empty = store();
    empty[0x100..].fill(0);
    let list = signatures::emit(&[hash.clone(), hash, by]);
    Ok(vec![Sparse::encode(&empty), Sparse::encode(&enrolled), list])
}

/// An installer with the parts of a SYSLINUX that does nothing.
fn installer() -> Vec<u8> {
    const MAGIC: [u8; 4] = 0x3eb2_02fe_u32.to_le_bytes();
    let mut file = vec![0; 0x1000];
    // The length of the loader, as a constant.
    put(&mut file, 0x10, &0x600_u32.to_le_bytes());
    put(&mut file, 0x200, &[0xeb, 0x58, 0x90]);
    put(&mut file, 0x203, b"SYSLINUX");
    put(&mut file, 0x200 + 504, &MAGIC);
    put(&mut file, 0x200 + 510, &[0x55, 0xaa]);
    let sys = 0x400;
    put(&mut file, sys, b"\r\nSYSLINUX 6\r\n");
    put(&mut file, sys + 0x80, &MAGIC);
    put(&mut file, sys + 0x80 + 22, &0x100_u16.to_le_bytes());
    // ADV, directory and its room, three more, extents and their number, two fields of the sector.
    for (at, value) in
        (sys + 0x100..).step_by(2).zip([0x200_u16, 0x300, 64, 0, 0, 0x180, 8, 0, 0x30, 0x38])
    {
        put(&mut file, at, &value.to_le_bytes());
    }
    for (at, value) in [(10, 0x180_u16), (12, 8), (14, 0x30), (16, 0x38)] {
        put(&mut file, sys + 0x100 + at, &value.to_le_bytes());
    }
    let elf = sys + 0x600;
    put(&mut file, elf, b"\x7fELF\x01\x01");
    put(&mut file, elf + 32, &0x40_u32.to_le_bytes());
    put(&mut file, elf + 46, &[40, 0, 2, 0]);
    file
}

pub(super) fn all() -> Result<BTreeMap<&'static str, Inputs>> {
    let signer = signer()?;
    let certificate = signer.certificate();
    let mut limits = Limits::default();
    limits.file_len = 1 << 20;
    let plain = Image::read(&Source::from(executable()), &limits)?;
    let signed = bytes(&sign(plain, &signer)?)?;
    let unified = bytes(&unified()?)?;
    let mut altered = signed.clone();
    altered[0x210] ^= 1;
    let pem = |text: String| text.into_bytes();
    Ok(BTreeMap::from([
        ("pe", [&executable(), &unified, &signed].map(|file| Sparse::encode(file)).to_vec()),
        (
            "authenticode",
            vec![
                pair(certificate, &signed),
                pair(certificate, &altered),
                pair(certificate, &executable()),
            ],
        ),
        (
            "certificate",
            vec![
                certificate.to_der().to_vec(),
                pem(certificate.to_pem()?),
                pem(signer.key().to_pem()?),
            ],
        ),
        ("secure_boot", variables(certificate)?),
        ("syslinux", vec![Sparse::encode(&installer())]),
    ]))
}
