//! Secure Boot's variables: efitools and virt-firmware read ours, and we read theirs.

use kiln_diskimg::boot::secure_boot::{Database, Enrollment, Signature, Store, signatures};
use kiln_diskimg::{Guid, Limits, Seed};

const VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

fn owner() -> Guid {
    Seed::new("tests").guid("owner")
}

/// OVMF's empty variables.
fn empty() -> Option<Vec<u8>> {
    let bytes = std::fs::read(VARS).ok();
    if bytes.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{VARS} is not installed");
        eprintln!("skipped: {VARS}");
    }
    bytes
}

/// What is DER as far as a database is concerned.
fn der(fill: u8) -> Vec<u8> {
    let mut der = vec![0x30, 0x82, 0x03, 0xe8];
    der.resize(1004, fill);
    der
}

fn enrollment() -> Enrollment {
    let certificate = |fill| Signature::certificate(owner(), der(fill));
    let mut keys = Enrollment::new(certificate(1));
    keys.key_exchange.push(certificate(2));
    keys.allowed = vec![certificate(3), certificate(4), Signature::image_hash(owner(), [5; 32])];
    keys.forbidden = (6..9).map(|fill| Signature::image_hash(owner(), [fill; 32])).collect();
    keys.time = 1_700_000_000;
    keys
}

#[test]
fn enrolled_keys_are_what_is_read_back() {
    let Some(empty) = empty() else { return };
    let keys = enrollment();
    let enrolled = keys.enroll(&empty).unwrap();
    assert_eq!(enrolled, keys.enroll(&empty).unwrap());
    assert_eq!(enrolled.len(), empty.len());
    let store = Store::parse(&enrolled, &Limits::default()).unwrap();
    let names: Vec<&str> = store.variables().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["PK", "KEK", "db", "dbx", "SecureBootEnable", "CustomMode"]);
    for database in Database::ALL {
        let variable = store.get(database.vendor(), database.name()).unwrap();
        assert_eq!((variable.attributes, variable.timestamp.year), (0x27, 2023));
        let found = signatures::parse(&variable.data, &Limits::default()).unwrap();
        assert_eq!(found, keys.database(database));
    }
    // Nothing outside of the store is touched, and enrolling again changes nothing.
    let end = 0x40000;
    assert_eq!(enrolled[end..], empty[end..]);
    assert_eq!(enrolled[..100], empty[..100]);
    assert_eq!(keys.enroll(&enrolled).unwrap(), enrolled);
    assert_eq!(store.to_bytes().unwrap(), enrolled);
}

#[test]
fn variables_of_a_used_store_survive() {
    let Ok(used) = std::fs::read("/usr/share/OVMF/OVMF_VARS_4M.ms.fd") else { return };
    let before = Store::parse(&used, &Limits::default()).unwrap();
    let after = Store::parse(&enrollment().enroll(&used).unwrap(), &Limits::default()).unwrap();
    let ours = ["PK", "KEK", "db", "dbx", "SecureBootEnable", "CustomMode"];
    let others = |store: &Store| {
        let kept = store.variables().iter().filter(|it| !ours.contains(&it.name.as_str()));
        kept.cloned().collect::<Vec<_>>()
    };
    assert!(others(&before).len() > 10);
    assert_eq!(others(&before), others(&after));
    let order = before.variables().iter().filter(|it| it.name == "BootOrder").count();
    assert!(order <= 1, "deleted variables are left out");
    let db = before.get(Database::Allowed.vendor(), "db").unwrap();
    let db = signatures::parse(&db.data, &Limits::default()).unwrap();
    assert_eq!(db.iter().filter(|it| it.kind == signatures::X509).count(), 2, "Microsoft's");
    let found = before.get(Database::Allowed.vendor(), "db").unwrap();
    assert_eq!(signatures::emit(&db), found.data);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let Some(empty) = empty() else { return };
    let mut keys = Enrollment::new(Signature::image_hash(owner(), [1; 32]));
    keys.key_exchange.push(Signature::certificate(owner(), "-----BEGIN CERTIFICATE-----"));
    keys.forbidden.push(Signature::image_hash(owner(), [2; 32]));
    keys.time = u64::MAX;
    insta::assert_snapshot!(keys.enroll(&empty).unwrap_err(), @"
    secure boot: 4 problems
      db is empty: the machine would start nothing
      PK has something other than a certificate
      KEK: a certificate is not in DER
      the time 18446744073709551615 is after the year 9999
    ");
    let mut keys = enrollment();
    keys.forbidden.push(keys.allowed[0].clone());
    let said = keys.enroll(&empty).unwrap_err().to_string();
    assert_eq!(said, "secure boot: something is both in db and in dbx");
    let mut keys = enrollment();
    keys.forbidden = (0..6000_u32)
        .map(|at| {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&at.to_le_bytes());
            Signature::image_hash(owner(), hash)
        })
        .collect();
    let said = keys.enroll(&empty).unwrap_err().to_string();
    assert!(said.contains("bytes longer than the store's 262044; take a larger"), "{said}");
}

#[test]
fn hostile_stores_and_lists_are_errors() {
    let Some(empty) = empty() else { return };
    let enrolled = enrollment().enroll(&empty).unwrap();
    let limits = Limits::default();
    for len in (0..4096).step_by(37) {
        let _ = Store::parse(&enrolled[..len], &limits);
    }
    for at in (0..180).chain(1160..1240) {
        for value in [0, 0x7f, 0xff] {
            let mut changed = enrolled.clone();
            changed[at] = value;
            if let Ok(store) = Store::parse(&changed, &limits) {
                let _ = store.to_bytes();
            }
        }
    }
    let list = signatures::emit(&enrollment().allowed);
    for at in 0..list.len() {
        let mut changed = list.clone();
        changed[at] ^= 0xff;
        let _ = signatures::parse(&changed, &limits);
        let cut = signatures::parse(&list[..at], &limits);
        assert!(cut.is_err() || cut.unwrap().len() < 3, "{at}");
    }
    // A list whose signatures have no length would never end.
    let mut endless = list[..28].to_vec();
    endless[16..20].copy_from_slice(&28_u32.to_le_bytes());
    endless[24..28].fill(0);
    assert!(signatures::parse(&endless, &limits).is_err());
}

#[cfg(feature = "sign")]
mod signed {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use kiln_diskimg::boot::secure_boot::{Update, Variable};

    use super::*;
    use crate::sign::signers;
    use crate::tools::expect;

    /// virt-firmware's directory, filled by pip once per target directory; says why there is none.
    fn virt_firmware() -> Result<PathBuf, String> {
        const WANTED: &str = "virt-firmware==26.9";
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let place = root.join("virt-firmware-1");
        if place.exists() {
            return Ok(place);
        }
        let beside = tempfile::tempdir_in(root).map_err(|error| error.to_string())?;
        let made = beside.path().join("made");
        let output = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
            .arg(&made)
            .arg(WANTED)
            .output()
            .map_err(|error| format!("python3 ({error})"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{WANTED} by pip ({})", said.trim()));
        }
        match std::fs::rename(&made, &place) {
            Err(error) if !place.exists() => Err(error.to_string()),
            _ => Ok(place),
        }
    }

    fn real() -> Enrollment {
        let (ours, other) = signers();
        let of = |signer: &kiln_diskimg::boot::sign::Signer| {
            Signature::certificate(owner(), signer.certificate().to_der())
        };
        let mut keys = Enrollment::new(of(ours));
        keys.key_exchange.push(of(other));
        keys.allowed.push(of(ours));
        keys
    }

    #[test]
    fn virt_firmware_reads_what_we_enrol_and_we_what_it_does() {
        let Some(empty) = empty() else { return };
        let place = match virt_firmware() {
            Ok(place) => place,
            Err(missing) => {
                println!("skipped: {missing}");
                assert!(std::env::var_os("CI").is_none(), "missing in CI: {missing}");
                return;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let tool = |arguments: &[&str]| {
            let output = Command::new("python3")
                .args(["-c", "import sys; from virt.firmware.vars import main; sys.exit(main())"])
                .args(arguments)
                .env("PYTHONPATH", &place)
                .output()
                .unwrap();
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(output.status.success(), "{text}");
            text
        };
        std::fs::write(at("ours.fd"), real().enroll(&empty).unwrap()).unwrap();
        let said = tool(&["-i", &at("ours.fd"), "--print", "--verbose"]);
        for line in
            ["SecureBootEnable", "bool: ON", "CustomMode", "bool: off", "Kiln db", "somebody else"]
        {
            assert!(said.contains(line), "{line}: {said}");
        }
        // The same by virt-firmware.
        let (ours, other) = signers();
        std::fs::write(at("ours.pem"), ours.certificate().to_pem().unwrap()).unwrap();
        std::fs::write(at("other.pem"), other.certificate().to_pem().unwrap()).unwrap();
        let owner = owner().to_string();
        tool(&[
            "-i",
            VARS,
            "-o",
            &at("theirs.fd"),
            "--set-pk",
            &owner,
            &at("ours.pem"),
            "--add-kek",
            &owner,
            &at("other.pem"),
            "--add-db",
            &owner,
            &at("ours.pem"),
            "--secure-boot",
        ]);
        let read = |name: &str| {
            Store::parse(&std::fs::read(at(name)).unwrap(), &Limits::default()).unwrap()
        };
        let (ours, theirs) = (read("ours.fd"), read("theirs.fd"));
        for variable in ours.variables() {
            let found = theirs.get(variable.vendor, &variable.name);
            // It writes CustomMode only if asked for.
            let Some(found) = found else {
                assert_eq!(variable.name, "CustomMode");
                continue;
            };
            let of = |it: &Variable| (it.attributes, it.data.clone());
            assert_eq!(of(found), of(variable), "{}", variable.name);
        }
    }

    #[test]
    fn efitools_makes_the_same_lists_and_updates() {
        let (ours, other) = signers();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("cert.pem"), ours.certificate().to_pem().unwrap()).unwrap();
        let owner_text = owner().to_string();
        let made =
            expect("cert-to-efi-sig-list", &["-g", &owner_text, &at("cert.pem"), &at("esl")]);
        if made.is_none() {
            return;
        }
        let signature = Signature::certificate(owner(), ours.certificate().to_der());
        let list = signatures::emit(std::slice::from_ref(&signature));
        assert_eq!(std::fs::read(at("esl")).unwrap(), list);

        // What is signed is the same; the messages differ in how OpenSSL writes them.
        std::fs::write(at("kek.pem"), other.certificate().to_pem().unwrap()).unwrap();
        std::fs::write(at("kek.key"), other.key().to_pem().unwrap()).unwrap();
        for (append, flags) in [(false, vec![]), (true, vec!["-a"])] {
            let mut update = Update::new(Database::Allowed, vec![signature.clone()]);
            (update.append, update.time) = (append, 1_700_000_000);
            let mut arguments = flags;
            let (key, cert, esl, out) = (at("kek.key"), at("kek.pem"), at("esl"), at("auth"));
            arguments.extend([
                "-t",
                "2023-11-14 22:13:20",
                "-k",
                &key,
                "-c",
                &cert,
                "db",
                &esl,
                &out,
            ]);
            // It takes times in the zone of the machine.
            expect("env", &[&["TZ=UTC", "sign-efi-sig-list"], arguments.as_slice()].concat());
            let theirs = std::fs::read(&out).unwrap();
            let ours = update.sign(other).unwrap();
            // Time and list are as they are; the signature is the same bytes in both messages.
            assert!(ours.ends_with(&list) && theirs.ends_with(&list));
            if !append {
                assert_eq!(ours[..16], theirs[..16], "the time");
                let signature = other.key().sign(&update.to_be_signed().unwrap()).unwrap();
                let has = |auth: &[u8]| auth.windows(256).any(|it| it == signature);
                assert!(has(&ours) && has(&theirs));
            }
            assert_eq!(ours[20..40], theirs[20..40], "revision, type and kind");
            std::fs::write(at("message"), &ours[40..ours.len() - list.len()]).unwrap();
            if let Some(said) =
                expect("openssl", &["asn1parse", "-inform", "DER", "-in", &at("message")])
            {
                assert!(said.contains("sha256") && said.contains("rsaEncryption"), "{said}");
            }
        }
        let update = Update::new(Database::PlatformKey, vec![signature.clone(), signature]);
        let said = update.sign(other).unwrap_err().to_string();
        assert_eq!(said, "update: PK can have one certificate only");
        let wrong = Update::new(Database::Allowed, Vec::new());
        let signature = ours.key().sign(b"something else").unwrap();
        let said = wrong.attach(ours.certificate(), &signature).unwrap_err().to_string();
        assert!(said.contains("not one of this update by the key of CN=Kiln db"), "{said}");
    }
}
