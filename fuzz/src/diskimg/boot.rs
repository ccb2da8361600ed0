//! What boot loaders and firmware read.

#[cfg(feature = "sign")]
use kiln_diskimg::boot::sign::{Certificate, PrivateKey, image_hash, verify};
use kiln_diskimg::boot::{
    bls::{Entry, FileName, LoaderConf, compare_versions, menu_order},
    pe::{Checksum, Headers, Image, read_sections},
    secure_boot::{Store, signatures},
    syslinux::Loader,
    uki,
};
use kiln_diskimg::{Content, Sink};
use kiln_tree::{Source, TreePath};

use super::super::sparse::Sparse;
use super::{limits, repair};

/// The longest file, which keeps hashing short.
const MOST: u64 = 32 << 10;

/// An executable of UEFI, and what a unified kernel image has in it.
pub fn pe(input: &[u8]) {
    let mut disk = Sparse::decode_within(input, MOST);
    let bytes = disk.to_bytes();
    let _ = Headers::parse(&bytes, bytes.len() as u64);
    let _ = read_sections(&mut disk, &limits());
    if let Ok(report) = uki::read(&mut disk, &limits()) {
        let _ = format!("{report:?}");
    }
    let _ = uki::kernel_release(&bytes);
    let Ok(image) = Image::read(&Source::from(bytes.clone()), &limits()) else { return };
    let mut written = Vec::new();
    assert!(image.write_to(&mut written).is_ok() && written == bytes, "it is not what was read");
    #[cfg(feature = "sign")]
    let _ = image_hash(&image);
    let mut sum = Checksum::default();
    assert!(sum.data(&bytes).is_ok());
    let _ = sum.finish();
    let _ = image.checksummed();
}

/// A certificate with its length (2 bytes) before it, and an executable with signatures.
#[cfg(feature = "sign")]
pub fn authenticode(input: &[u8]) {
    let Some((&[low, high], rest)) = input.split_first_chunk() else { return };
    let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (certificate, file) = rest.split_at(len);
    let Ok(certificate) = Certificate::parse(certificate) else { return };
    let Ok(image) = Image::read(&Source::from(file), &limits()) else { return };
    if let Ok(verdict) = verify(&image, &certificate) {
        let _ = verdict.to_string();
    }
}

/// A certificate or a key, as DER or PEM.
#[cfg(feature = "sign")]
pub fn certificate(input: &[u8]) {
    if let Ok(certificate) = Certificate::parse(input) {
        let _ = certificate.subject();
        let _ = certificate.to_pem();
        let _ = certificate.has_signed(b"something", &[1; 256]);
        let again = Certificate::parse(certificate.to_der());
        assert!(again.is_ok_and(|again| again == certificate));
    }
    let _ = PrivateKey::parse(input);
}

/// Variables of a firmware, or lists of signatures.
pub fn secure_boot(input: &[u8]) {
    let signatures_in = |bytes: &[u8]| {
        if let Ok(found) = signatures::parse(bytes, &limits()) {
            let again = signatures::parse(&signatures::emit(&found), &limits());
            assert!(again.is_ok_and(|again| again == found));
        }
    };
    signatures_in(input);
    let disk = Sparse::decode_within(input, MOST);
    let mut bytes = disk.to_bytes();
    if disk.repaired {
        repair::firmware_volume(&mut bytes);
    }
    let Ok(store) = Store::parse(&bytes, &limits()) else { return };
    for variable in store.variables() {
        signatures_in(&variable.data);
    }
    if let Ok(written) = store.to_bytes() {
        let again = Store::parse(&written, &limits());
        assert!(again.is_ok_and(|again| again.variables() == store.variables()));
    }
}

/// Menu entries and their names, by the Boot Loader Specification.
pub fn bls(input: &[u8]) {
    let limits = limits();
    let entry = Entry::parse(input, &limits);
    if let Ok(entry) = &entry
        && let Ok(text) = entry.to_text()
    {
        let again = Entry::parse(text.as_bytes(), &limits);
        assert!(again.is_ok_and(|again| again == *entry), "{text}");
    }
    if let Ok(conf) = LoaderConf::parse(input, &limits)
        && let Ok(text) = conf.to_text()
    {
        let again = LoaderConf::parse(text.as_bytes(), &limits);
        assert!(again.is_ok_and(|again| again == conf), "{text}");
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (one, other) = text.split_once('\n').unwrap_or((text, ""));
    assert_eq!(compare_versions(one, other), compare_versions(other, one).reverse());
    if let (Ok(one), Ok(other)) = (FileName::parse(one), FileName::parse(other)) {
        assert!(FileName::parse(&one.to_string()).is_ok_and(|again| again == one));
        let plain = Entry::new("a");
        let entry = entry.as_ref().unwrap_or(&plain);
        let order = menu_order((&one, entry), (&other, &plain));
        assert_eq!(order, menu_order((&other, &plain), (&one, entry)).reverse());
    }
}

/// SYSLINUX's installer, of which a loader is taken.
pub fn syslinux(input: &[u8]) {
    let bytes = Sparse::decode_within(input, MOST).to_bytes();
    let code = [0x90; 440];
    let Ok(loader) = Loader::from_installer(&bytes, &code, &code) else { return };
    let _ = loader.patched(2048, &TreePath::root());
    assert!(!loader.ldlinux_c32().is_empty());
}
