//! A whole archive in a directory, signed by gpg: read, locked, downloaded, unpacked; and all the
//! ways in which it can be false.
#![cfg(all(feature = "archive", feature = "unpack"))]

mod packages;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kiln_debroot::fetch::{Fetch, LocalFiles};
use kiln_debroot::root::Options;
use kiln_debroot::{
    Archive, Error, Index, Lock, Request, Root, archive, download, openpgp, resolve,
};
use packages::{Package, file, sha256, symlink};

/// 2026-11-21, when the archive below was still valid.
const NOW: u64 = 1_795_219_200;

fn skipped(tool: &str) {
    println!("skipped: {tool}");
    assert!(std::env::var_os("CI").is_none(), "CI has all tools");
}

/// A gpg with a home of its own.
struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    fn new() -> Option<Self> {
        let found = |tool: &str| {
            let status = Command::new(tool)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if status.is_err() {
                skipped(tool);
            }
            status.is_ok()
        };
        (found("gpg") && found("gpgv"))
            .then(|| Self { home: tempfile::tempdir().expect("a directory") })
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("gpg")
            .args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(arguments)
            .env("GNUPGHOME", self.home.path())
            .output()
            .expect("gpg runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn key(&self, name: &str, algorithm: &str, expires: &str) {
        self.run(&["--quick-generate-key", name, algorithm, "sign", expires]);
    }

    fn export(&self, names: &[&str]) -> Vec<u8> {
        self.run(&[&["--export"], names].concat())
    }

    fn sign(&self, by: &[&str], text: &str) -> Vec<u8> {
        let input = self.home.path().join("text");
        std::fs::write(&input, text).expect("written");
        let mut arguments = vec!["--clearsign", "--output", "-"];
        for name in by {
            arguments.extend(["--local-user", name]);
        }
        let input = input.display().to_string();
        arguments.push(&input);
        self.run(&arguments)
    }

    /// Whether gpgv takes the same file with the same keyring.
    fn gpgv(&self, message: &[u8], keyring: &[u8]) -> bool {
        self.gpgv_status(message, keyring).0
    }

    /// The same, and what it says for programs.
    fn gpgv_status(&self, message: &[u8], keyring: &[u8]) -> (bool, String) {
        let at = |name: &str| self.home.path().join(name);
        std::fs::write(at("message"), message).expect("written");
        std::fs::write(at("keyring.gpg"), keyring).expect("written");
        let output = Command::new("gpgv")
            .args(["--status-fd", "1", "--keyring"])
            .args([at("keyring.gpg"), at("message")])
            .env("GNUPGHOME", self.home.path())
            .output()
            .expect("gpgv runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // The agent that gpg has started goes with its home.
        let _ = Command::new("gpgconf")
            .args(["--kill", "all"])
            .env("GNUPGHOME", self.home.path())
            .status();
    }
}

const FIELDS: &str = "Origin: Test\nSuite: stable\nCodename: test\nDate: Fri, 20 Nov 2026 00:12:41 \
                      UTC\nValid-Until: Fri, 27 Nov 2026 00:12:41 UTC\nArchitectures: amd64 \
                      all\nComponents: main\n";

/// Writes an archive with these packages below `directory`.
fn publish(directory: &Path, gpg: &Gpg, packages: &[Package], fields: &str) -> Archive {
    let mut index = String::new();
    for package in packages {
        let bytes = package.bytes();
        let path = format!("pool/{}.deb", package.name);
        std::fs::create_dir_all(directory.join("pool")).expect("made");
        std::fs::write(directory.join(&path), &bytes).expect("written");
        index.push_str(&format!(
            "{}Filename: {path}\nSize: {}\nSHA256: {}\n\n",
            package.control_text(),
            bytes.len(),
            sha256(&bytes)
        ));
    }
    let dist = directory.join("dists/stable");
    std::fs::create_dir_all(dist.join("main/binary-amd64")).expect("made");
    std::fs::write(dist.join("main/binary-amd64/Packages"), &index).expect("written");
    let release = format!(
        "{fields}SHA256:\n {} {} main/binary-amd64/Packages\n",
        sha256(index.as_bytes()),
        index.len()
    );
    std::fs::write(dist.join("InRelease"), gpg.sign(&["archive"], &release)).expect("written");
    let uri = format!("file://{}", directory.display());
    Archive::new(uri, "stable", "amd64", gpg.export(&["archive"]))
}

fn set() -> [Package; 2] {
    [
        Package::new("app", "2.0-1")
            .with_control("Depends: lib (>= 1)")
            .with(file("./usr/bin/app", "a")),
        Package::new("lib", "1.5")
            .with(file("./lib/libx.so.1.5", "l"))
            .with(symlink("./lib/libx.so.1", "libx.so.1.5")),
    ]
}

fn read(archive: &Archive, store: &Path, now: u64) -> Result<Index, Error> {
    archive::read(std::slice::from_ref(archive), now, store, &LocalFiles)
}

#[test]
fn from_names_to_a_root_and_again_offline() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("archive", "ed25519", "never");
    let work = tempfile::tempdir().unwrap();
    let archive = publish(&work.path().join("archive"), &gpg, &set(), FIELDS);
    let cache = work.path().join("cache");
    let index = read(&archive, &cache, NOW).unwrap();
    let request = Request::new(["app"]);
    let lock =
        Lock::new(std::slice::from_ref(&archive), &request, &resolve(&index, &request).unwrap());
    let place = download::by_digest(&cache);

    let error = download::download(&lock, &place, None).unwrap_err();
    assert!(matches!(&error, Error::Offline { package, .. } if package == "app 2.0-1"), "{error}");
    let paths = download::download(&lock, &place, Some(&LocalFiles)).unwrap();
    std::fs::remove_dir_all(work.path().join("archive")).unwrap();
    assert_eq!(download::download(&lock, &place, None).unwrap(), paths);

    let packages: Vec<_> = lock.packages.iter().cloned().zip(paths.clone()).collect();
    let root = Root::unpack(&packages, &work.path().join("root"), &Options::default()).unwrap();
    assert_eq!(root.owner_of("/lib/libx.so.1").unwrap().to_string(), "lib 1.5");
    let again = Root::unpack(&packages, &work.path().join("again"), &Options::default()).unwrap();
    assert_eq!(root.tree.len(), again.tree.len());

    // One byte of one file, and nothing of it is used.
    let mut bytes = std::fs::read(&paths[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&paths[1], bytes).unwrap();
    let error = download::download(&lock, &place, Some(&LocalFiles)).unwrap_err();
    assert!(matches!(&error, Error::Digest { package, .. } if package == "lib 1.5"), "{error}");
    assert!(error.to_string().contains(&paths[1].display().to_string()));
}

#[test]
fn an_archive_that_is_false_is_refused() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("archive", "ed25519", "never");
    gpg.key("other", "ed25519", "never");
    let work = tempfile::tempdir().unwrap();
    let at = work.path().join("archive");
    let store = work.path().join("store");
    let fails = |archive: &Archive, now: u64, expected: &str| {
        let message = read(archive, &store, now).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected:?} is not in {message:?}");
    };
    let good = publish(&at, &gpg, &set(), FIELDS);
    assert_eq!(read(&good, &store, NOW).unwrap().len(), 2);

    fails(&good, NOW + 30 * 86_400, "valid until 2026-11-27 00:12 UTC, and it is 2026-12-21");
    let mut wrong = good.clone();
    wrong.keyring = gpg.export(&["other"]);
    fails(&wrong, NOW, "the keyring has no such key");
    wrong.keyring = b"nonsense".to_vec();
    fails(&wrong, NOW, "the keyring cannot be read");
    let mut wrong = good.clone();
    wrong.components = vec!["contrib".into()];
    fails(&wrong, NOW, "no component contrib; there is main");
    let mut wrong = good.clone();
    wrong.architecture = "arm64".into();
    fails(&wrong, NOW, "it lists no main/binary-arm64/Packages");
    wrong.suite = "unstable".into();
    fails(&wrong, NOW, "cannot fetch");

    // An archive that gives another suite than the one asked for.
    std::fs::create_dir_all(at.join("dists/testing")).unwrap();
    std::fs::copy(at.join("dists/stable/InRelease"), at.join("dists/testing/InRelease")).unwrap();
    let mut wrong = good.clone();
    wrong.suite = "testing".into();
    fails(&wrong, NOW, "it is of the suite stable or test, not testing");

    // A changed index, release file or signature. The store must not hide it.
    let index = at.join("dists/stable/main/binary-amd64/Packages");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("2.0-1", "2.0-2")).unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    fails(&good, NOW, "main/binary-amd64/Packages is not what was promised");
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0);
    std::fs::write(&index, text + "\n").unwrap();
    fails(&good, NOW, "longer than");
    let release = at.join("dists/stable/InRelease");
    let text = std::fs::read_to_string(&release).unwrap();
    std::fs::write(&release, text.replace("Suite: stable", "Suite: Stable")).unwrap();
    fails(&good, NOW, "does not fit the text");
    std::fs::write(&release, "Suite: stable\n").unwrap();
    fails(&good, NOW, "no clear-signed text");
    publish(&at, &gpg, &set(), &format!("{FIELDS}Extra: x\n\nSuite: y\n"));
    fails(&good, NOW, "more than one paragraph");
}

#[test]
fn signatures_are_judged_as_gpgv_judges_them() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("archive", "ed25519", "never");
    gpg.key("rsa", "rsa2048", "never");
    gpg.key("nist", "nistp256", "never");
    let text = "Suite: stable\n- dashed\nFrom here  \n\nend\n";
    let expected = "Suite: stable\n- dashed\nFrom here\n\nend";
    let all = gpg.export(&["archive", "rsa", "nist"]);
    let one = gpg.export(&["rsa"]);
    for by in [&["archive"][..], &["rsa"], &["nist"], &["archive", "rsa"]] {
        let message = gpg.sign(by, text);
        let signed = openpgp::verify(&message, &all, NOW, "InRelease").unwrap();
        assert_eq!(signed.signers.len(), by.len());
        assert_eq!(signed.text.trim_end(), expected);
        assert!(gpg.gpgv(&message, &all));
        let ours = openpgp::verify(&message, &one, NOW, "InRelease").is_ok();
        assert_eq!(ours, by.contains(&"rsa"));

        // Every byte of the text counts. Some of a signature do not (its checksum, the hint at the
        // key): whether such a file is taken or not, the text is what was signed.
        let start = message.windows(6).position(|window| window == b"Suite:").unwrap();
        let end = message.windows(10).position(|window| window == b"-----BEGIN").unwrap();
        assert_eq!(end, 0);
        let end = message.windows(14).position(|window| window == b"\n-----BEGIN PG").unwrap();
        for at in (start..end).chain((end..message.len() - 40).step_by(9)) {
            let mut changed = message.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            if let Ok(found) = openpgp::verify(&changed, &all, NOW, "InRelease") {
                assert!(at >= end && found.text == signed.text, "byte {at} of {by:?}");
            }
        }
    }
    let unsigned = openpgp::verify(text.as_bytes(), &all, NOW, "InRelease");
    assert!(unsigned.is_err());
}

#[test]
fn keys_that_may_not_be_used_any_more() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("archive", "ed25519", "1d");
    let message = gpg.sign(&["archive"], "Suite: stable\n");
    let keyring = gpg.export(&["archive"]);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    openpgp::verify(&message, &keyring, now, "InRelease").unwrap();
    let error = openpgp::verify(&message, &keyring, now + 3 * 86_400, "InRelease").unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");

    let fingerprint = gpg.run(&["--with-colons", "--list-keys", "archive"]);
    let fingerprint = String::from_utf8_lossy(&fingerprint);
    let fingerprint = fingerprint.lines().find_map(|line| line.strip_prefix("fpr:::::::::"));
    let fingerprint = fingerprint.unwrap().trim_end_matches(':');
    let revocation = gpg.home.path().join(format!("openpgp-revocs.d/{fingerprint}.rev"));
    let text = std::fs::read_to_string(&revocation).unwrap().replace(":-----BEGIN", "-----BEGIN");
    std::fs::write(&revocation, text).unwrap();
    gpg.run(&["--import", &revocation.display().to_string()]);
    let keyring = gpg.export(&["archive"]);
    let error = openpgp::verify(&message, &keyring, now, "InRelease").unwrap_err();
    assert!(error.to_string().contains("is revoked"), "{error}");
    // gpgv alone takes revoked keys (gpgv(1)); whoever calls it must read its status, as apt does.
    assert!(gpg.gpgv_status(&message, &keyring).1.contains("REVKEYSIG"));
}

#[test]
fn no_space_is_a_clear_error_and_leaves_nothing() {
    /// What a full disk says.
    struct Full;
    impl Fetch for Full {
        fn fetch(&self, _: &str, into: &Path, _: u64) -> Result<(), Error> {
            std::fs::write(into, "half").expect("written");
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Err(Error::Io { action: "write", path: into.into(), source })
        }
    }
    let work = tempfile::tempdir().unwrap();
    let (package, _) = set()[0].write(work.path());
    let mut lock = Lock::default();
    lock.packages.push(package);
    let cache: PathBuf = work.path().join("cache");
    let error = download::download(&lock, &download::by_digest(&cache), Some(&Full)).unwrap_err();
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);
}
