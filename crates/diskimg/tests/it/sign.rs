//! Signatures: sbverify, osslsigncode and pesign take ours, and we take sbsign's.

use std::path::Path;
use std::sync::OnceLock;

use kiln_diskimg::Limits;
use kiln_diskimg::boot::pe::Image;
use kiln_diskimg::boot::sign::{
    Certificate, PrivateKey, Profile, Request, Signer, Verdict, image_hash, sign, verify,
};
use kiln_tree::Source;
use sha2::{Digest, Sha256};

use crate::tools::{bytes, expect, run};
use crate::uki::{stub_and_kernel, uki};

/// A key that is the same in every run.
pub(crate) fn key(seed: &str, bits: usize) -> PrivateKey {
    let mut count = 0_u64;
    let mut stream = Vec::new();
    PrivateKey::generate(bits, &mut |out: &mut [u8]| {
        while stream.len() < out.len() {
            count += 1;
            stream.extend(Sha256::digest(format!("{seed} {count}")));
        }
        out.copy_from_slice(&stream.drain(..out.len()).collect::<Vec<u8>>());
    })
    .unwrap()
}

pub(crate) fn signer(name: &str) -> Signer {
    let key = key(name, 2048);
    let certificate = Certificate::self_signed(&key, &Profile::new(name)).unwrap();
    Signer::new(key, certificate).unwrap()
}

/// The two that most tests need; made once, because primes are searched for.
pub(crate) fn signers() -> &'static (Signer, Signer) {
    static SIGNERS: OnceLock<(Signer, Signer)> = OnceLock::new();
    SIGNERS.get_or_init(|| (signer("Kiln db"), signer("somebody else")))
}

fn image() -> Option<Image> {
    let (stub, kernel) = stub_and_kernel()?;
    Some(uki(stub, kernel).plan().unwrap())
}

fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn read(bytes: &[u8]) -> Image {
    Image::read(&Source::from(bytes), &Limits::default()).unwrap()
}

#[test]
fn the_fields_own_tools_take_our_signatures() {
    let Some(image) = image() else { return };
    let (ours, other) = signers();
    let signed = sign(image.clone(), ours).unwrap();
    let file = bytes(&signed);
    assert_eq!(file, bytes(&sign(image.clone(), ours).unwrap()), "not deterministic");
    assert_eq!(*signed.source().read().unwrap(), *file);
    let dir = tempfile::tempdir().unwrap();
    let cert = write(dir.path(), "cert.pem", ours.certificate().to_pem().unwrap());
    let wrong = write(dir.path(), "wrong.pem", other.certificate().to_pem().unwrap());
    let path = write(dir.path(), "signed.efi", &file);
    let unsigned = write(dir.path(), "unsigned.efi", bytes(&image));
    let mut changed = file.clone();
    changed[200_000] ^= 1;
    let changed = write(dir.path(), "changed.efi", changed);

    if let Some(said) = expect("sbverify", &["--cert", &cert, &path]) {
        assert!(said.contains("Signature verification OK"), "{said}");
        assert!(!said.contains("warning"), "{said}");
        for (cert, path) in [(&wrong, &path), (&cert, &unsigned), (&cert, &changed)] {
            let (ok, said) = run("sbverify", &["--cert", cert, path]).unwrap();
            assert!(!ok, "{cert} {path}: {said}");
        }
    }
    let both = write(dir.path(), "both.efi", bytes(&sign(signed.clone(), other).unwrap()));
    for cert in [&cert, &wrong] {
        expect("sbverify", &["--cert", cert, &both]);
    }
    if let Some(said) = expect("osslsigncode", &["verify", "-CAfile", &cert, "-in", &path]) {
        assert!(said.contains("Succeeded"), "{said}");
        for (cert, path) in [(&wrong, &path), (&cert, &unsigned), (&cert, &changed)] {
            let (ok, said) =
                run("osslsigncode", &["verify", "-CAfile", cert, "-in", path]).unwrap();
            assert!(!ok, "{cert} {path}: {said}");
        }
    }
    let hash: String = image_hash(&image).unwrap().iter().map(|it| format!("{it:02x}")).collect();
    for path in [&unsigned, &path] {
        if let Some(said) = expect("pesign", &["-h", "-i", path]) {
            assert!(said.contains(&hash), "{said} instead of {hash}");
        }
    }
}

#[test]
fn signatures_are_judged() {
    let Some(image) = image() else { return };
    let (ours, other) = signers();
    assert_eq!(verify(&image, ours.certificate()).unwrap(), Verdict::Unsigned);
    let signed = sign(image.clone(), ours).unwrap();
    let by = |image: &Image, who: &Signer| verify(image, who.certificate()).unwrap();
    assert_eq!(by(&signed, ours), Verdict::Signed);
    assert_eq!(by(&signed, other), Verdict::Others(vec!["CN=Kiln db".to_owned()]));
    let both = sign(signed.clone(), other).unwrap();
    assert_eq!((by(&both, ours), by(&both, other)), (Verdict::Signed, Verdict::Signed));
    assert_eq!(both.certificates()[..signed.certificates().len()], *signed.certificates());

    // Every part of the file is covered; the checksum is not, so it can be set after signing.
    let file = bytes(&signed);
    let summed = read(&bytes(&signed.clone().checksummed().unwrap()));
    assert_eq!(by(&summed, ours), Verdict::Signed);
    assert_ne!(bytes(&summed), file);
    for section in &signed.headers().sections {
        let mut changed = file.clone();
        changed[section.offset as usize] ^= 1;
        assert_eq!(by(&read(&changed), ours), Verdict::Altered, "{}", section.name);
    }
    // Any byte of the message.
    let start = usize::try_from(signed.headers().certificates.start).unwrap();
    for at in (start + 8..file.len() - 8).step_by(3) {
        let mut changed = file.clone();
        changed[at] ^= 0x41;
        let verdict = verify(&read(&changed), ours.certificate());
        // What signs nothing: certificates and algorithm parameters beside the signature.
        if let Ok(Verdict::Signed) = verdict {
            let message = &changed[start + 8..];
            assert_ne!(message, &file[start + 8..]);
        }
    }
    let last = file.len() - 64;
    let mut changed = file.clone();
    changed[last] ^= 1;
    assert_eq!(by(&read(&changed), ours), Verdict::Forged);
}

#[test]
fn a_signature_may_come_from_elsewhere() {
    let Some(image) = image() else { return };
    let (ours, other) = signers();
    let request = Request::new(image.clone(), ours.certificate()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key = write(dir.path(), "key.pem", ours.key().to_pem().unwrap());
    let data = write(dir.path(), "data", request.to_be_signed());
    let out = dir.path().join("signature");
    let out = out.to_str().unwrap();
    if expect("openssl", &["dgst", "-sha256", "-sign", &key, "-out", out, &data]).is_some() {
        let signature = std::fs::read(out).unwrap();
        let attached = request.clone().attach(&signature).unwrap();
        assert_eq!(bytes(&attached), bytes(&sign(image, ours).unwrap()));
    }
    let wrong = other.key().sign(request.to_be_signed()).unwrap();
    assert_eq!(
        request.clone().attach(&wrong).unwrap_err().to_string(),
        "signature: the signature is not one of this executable by the key of CN=Kiln db"
    );
    assert_eq!(
        request.attach(&wrong[1..]).unwrap_err().to_string(),
        "signature: the signature has 255 bytes, but one by the key of CN=Kiln db has 256"
    );
}

#[test]
fn we_take_signatures_of_others() {
    let Some(image) = image() else { return };
    let (ours, other) = signers();
    let dir = tempfile::tempdir().unwrap();
    let cert = write(dir.path(), "cert.pem", ours.certificate().to_pem().unwrap());
    let key = write(dir.path(), "key.pem", ours.key().to_pem().unwrap());
    let unsigned = write(dir.path(), "unsigned.efi", bytes(&image));
    let out = dir.path().join("signed.efi");
    let out = out.to_str().unwrap();
    if expect("sbsign", &["--key", &key, "--cert", &cert, "--output", out, &unsigned]).is_some() {
        let theirs = read(&std::fs::read(out).unwrap());
        assert_eq!(verify(&theirs, ours.certificate()).unwrap(), Verdict::Signed);
        let verdict = verify(&theirs, other.certificate()).unwrap();
        assert_eq!(verdict, Verdict::Others(vec!["CN=Kiln db".to_owned()]));
    }
    let arguments =
        ["sign", "-h", "sha256", "-certs", &cert, "-key", &key, "-in", &unsigned, "-out", out];
    let _ = std::fs::remove_file(out);
    if expect("osslsigncode", &arguments).is_some() {
        let theirs = read(&std::fs::read(out).unwrap());
        assert_eq!(verify(&theirs, ours.certificate()).unwrap(), Verdict::Signed);
    }
}

#[test]
fn keys_and_certificates_are_read_in_every_form() {
    let (ours, other) = signers();
    let pem = ours.key().to_pem().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "key.pem", &pem);
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    for form in [
        vec!["pkcs8", "-topk8", "-nocrypt", "-in", &path, "-outform", "DER", "-out", out],
        vec!["rsa", "-in", &path, "-traditional", "-out", out],
        vec!["rsa", "-in", &path, "-traditional", "-outform", "DER", "-out", out],
    ] {
        if expect("openssl", &form).is_none() {
            return;
        }
        let key = PrivateKey::parse(&std::fs::read(out).unwrap()).unwrap();
        assert_eq!(key.to_pem().unwrap(), pem, "{form:?}");
    }
    let refused = |bytes: &[u8]| PrivateKey::parse(bytes).unwrap_err().to_string();
    expect("openssl", &["pkcs8", "-topk8", "-passout", "pass:x", "-in", &path, "-out", out]);
    assert_eq!(
        refused(&std::fs::read(out).unwrap()),
        "private key: an encrypted key is not supported"
    );
    expect("openssl", &["genrsa", "-out", out, "1024"]);
    let said = refused(&std::fs::read(out).unwrap());
    assert!(said.contains("a key of 1024 bits (expected 2048 to 4096)"), "{said}");
    expect("openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", out]);
    assert!(refused(&std::fs::read(out).unwrap()).contains("neither PRIVATE KEY nor RSA"));
    for bad in
        [&b""[..], b"-----BEGIN PRIVATE KEY-----\nAAAA", b"0\x82\xff\xff", &pem.as_bytes()[..900]]
    {
        assert!(refused(bad).starts_with("private key: "), "{bad:?}");
    }
    assert_eq!(
        Signer::new(ours.key().clone(), other.certificate().clone()).unwrap_err().to_string(),
        "signer: the certificate of CN=somebody else is not that of the private key"
    );

    let certificate = ours.certificate();
    assert_eq!(Certificate::parse(certificate.to_der()).unwrap(), *certificate);
    assert_eq!(Certificate::parse(certificate.to_pem().unwrap().as_bytes()).unwrap(), *certificate);
    for len in 0..certificate.to_der().len() {
        assert!(Certificate::parse(&certificate.to_der()[..len]).is_err());
    }
    let path = write(dir.path(), "cert.pem", certificate.to_pem().unwrap());
    let said = expect("openssl", &["x509", "-in", &path, "-noout", "-text", "-nameopt", "RFC2253"]);
    for line in [
        "Version: 3 (0x2)",
        "Issuer: CN=Kiln db",
        "Not Before: Jan  1 00:00:00 2000 GMT",
        "Not After : Dec 31 23:59:59 2049 GMT",
        "CA:FALSE",
    ] {
        assert!(said.as_ref().is_none_or(|said| said.contains(line)), "{line}: {said:?}");
    }
    expect("openssl", &["verify", "-check_ss_sig", "-CAfile", &path, &path]);
    let mut profile = Profile::new("\n");
    profile.not_after = 5;
    let said = Certificate::self_signed(ours.key(), &profile).unwrap_err().to_string();
    assert!(said.starts_with("certificate: 2 problems"), "{said}");
    // The longest key.
    expect("openssl", &["genrsa", "-out", out, "4096"]);
    let large = PrivateKey::parse(&std::fs::read(out).unwrap()).unwrap();
    let large_certificate = Certificate::self_signed(&large, &Profile::new("large")).unwrap();
    let signature = large.sign(b"bytes").unwrap();
    assert_eq!(signature.len(), 512);
    assert!(large_certificate.has_signed(b"bytes", &signature));
    assert!(!large_certificate.has_signed(b"other", &signature));
    let said = PrivateKey::generate(1024, &mut |_| {}).unwrap_err().to_string();
    assert!(said.contains("expected 2048, 3072 or 4096"), "{said}");
}
