//! Registries over TLS, whose certificates are of an authority that is made for a test.

use std::path::Path;
use std::sync::Arc;

use kiln_oci::registry::reference;
use kiln_oci::{Compression, Layout, Limits};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::server::{Fault, serve_with};
use super::{client, pulled, start};
use crate::debian::tool;
use crate::images::image;

/// `user:pass`, as `htpasswd -B -C 4` writes it.
const PASSWORDS: &str = "user:$2y$04$abcdefghijklmnopqrstuufznL8bkzdtHwLhca4To/v9Lo9bA7fR6\n";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a name or an address, up to a year.
    fn certify(&self, name: &str, until: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

impl Identity {
    /// Files of it, as the registry's configuration wants them.
    fn of_registry(&self, work: &Path, name: &str) -> String {
        let [certificate, key] =
            [("pem", &self.certificate), ("key", &self.key)].map(|(extension, text)| {
                let path = work.join(format!("{name}.{extension}"));
                std::fs::write(&path, text).unwrap();
                path
            });
        format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display())
    }

    fn of_server(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
    }
}

/// Somebody who believes an authority, of a registry at a port of this machine.
fn believer(pem: &str, port: u16, password: Option<&str>) -> kiln_oci::registry::Client {
    client(|options| {
        options.authorities = pem.into();
        options.secure = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{port}")).into();
        options.credentials = password.map(|password| ("user".into(), password.into()));
    })
}

#[test]
fn debians_registry_over_tls_lets_in_who_has_the_password_and_knows_its_authority() {
    let Some(registry) = tool("docker-registry") else { return };
    let work = tempfile::tempdir().unwrap();
    let authority = Authority::new("own");
    let passwords = work.path().join("htpasswd");
    std::fs::write(&passwords, PASSWORDS).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: kiln, path: {}}}}}\n", passwords.display());
    let sound = authority.certify("127.0.0.1", 2999).of_registry(work.path(), "sound");
    let (_running, port) = start(&registry, work.path(), &sound, &auth);
    let inside = believer(&authority.pem, port, Some("pass"));
    let image = image(Compression::Gzip);
    let by_tag = format!("127.0.0.1:{port}/team/app:1");
    inside.push(&image, &reference(&by_tag).unwrap()).unwrap();
    let by_digest = format!("127.0.0.1:{port}/team/app@{}", image.digest());
    for name in [&by_tag, &by_digest] {
        let (_, found) = pulled(&inside, name).unwrap();
        assert_eq!(found.manifest_bytes, image.manifest_bytes);
    }
    if let Some(skopeo) = tool("skopeo") {
        let certificates = work.path().join("certificates");
        std::fs::create_dir(&certificates).unwrap();
        std::fs::write(certificates.join("ca.crt"), &authority.pem).unwrap();
        let directory = format!("--cert-dir={}", certificates.display());
        let name = format!("docker://{by_tag}");
        let said = skopeo.expect(&["inspect", &directory, "--creds=user:pass", "--raw", &name]);
        assert_eq!(said.as_bytes(), image.manifest_bytes);
        let layout = work.path().join("layout");
        Layout::create(&layout, Limits::default()).unwrap().add(&image, Some("x")).unwrap();
        let from = format!("oci:{}:x", layout.display());
        let target = format!("docker://127.0.0.1:{port}/team/theirs:1");
        let directory = format!("--dest-cert-dir={}", certificates.display());
        let creds = "--dest-creds=user:pass";
        skopeo.expect(&["--insecure-policy", "copy", &directory, creds, &from, &target]);
        let (_, found) = pulled(&inside, &format!("127.0.0.1:{port}/team/theirs:1")).unwrap();
        assert_eq!(found.config_bytes, image.config_bytes);
    }

    let refused = |client: kiln_oci::registry::Client, name: &str| {
        let error = pulled(&client, name).unwrap_err();
        // Nothing of it gets better by asking again.
        assert!(!error.contains("tried"), "{error}");
        error
    };
    let error = refused(believer(&authority.pem, port, None), &by_tag);
    assert!(error.contains("it wants a user and a password"), "{error}");
    let error = refused(believer(&authority.pem, port, Some("other")), &by_tag);
    assert!(error.contains("GET 401 Unauthorized: UNAUTHORIZED"), "{error}");

    let other = Authority::new("other");
    let not_believed = "no certificate that the authorities given here vouch for: ";
    let error = refused(believer(&other.pem, port, Some("pass")), &by_tag);
    assert!(error.contains(&format!("{not_believed}UnknownIssuer")), "{error}");
    let error = refused(believer("", port, Some("pass")), &by_tag);
    assert!(error.contains(&format!("{not_believed}UnknownIssuer")), "{error}");
    let by_name = format!("localhost:{port}/team/app:1");
    let error = refused(believer(&authority.pem, port, Some("pass")), &by_name);
    assert!(error.contains(not_believed) && error.contains("localhost"), "{error}");

    let expired = authority.certify("127.0.0.1", 2020).of_registry(work.path(), "expired");
    let (_running, port) = start(&registry, work.path(), &expired, &auth);
    let name = format!("127.0.0.1:{port}/team/app:1");
    let error = refused(believer(&authority.pem, port, Some("pass")), &name);
    assert!(error.contains(not_believed) && error.contains("xpired"), "{error}");

    let (_running, port) = start(&registry, work.path(), "", &auth);
    let name = format!("127.0.0.1:{port}/team/app:1");
    let error = refused(believer(&authority.pem, port, Some("pass")), &name);
    assert!(error.contains("what answers does not speak TLS"), "{error}");
}

#[test]
fn blobs_that_are_elsewhere_are_had_there_without_the_password() {
    let image = image(Compression::Gzip);
    let authority = Authority::new("own");
    let tls = authority.certify("127.0.0.1", 2999).of_server();
    for fault in [Fault::None, Fault::BreaksOff, Fault::NoRanges] {
        let store = serve_with(&image, fault, Some(Arc::clone(&tls)), None);
        let address = format!("https://127.0.0.1:{}", store.port);
        let registry = serve_with(&image, Fault::Password, Some(Arc::clone(&tls)), Some(address));
        let inside = believer(&authority.pem, registry.port, Some("pass"));
        let name = format!("127.0.0.1:{}/app:1", registry.port);
        let (_, found) = pulled(&inside, &name).unwrap();
        assert_eq!(found.manifest_bytes, image.manifest_bytes);
        let told = |head: &String| head.contains("authorization:");
        assert!(registry.seen().iter().any(told));
        let seen = store.seen();
        assert!(seen.iter().all(|head| head.contains("?signature=x") && !told(head)), "{seen:?}");
        let ranges = seen.iter().filter(|head| head.contains("range: bytes=")).count();
        assert_eq!(ranges, usize::from(fault != Fault::None));
    }
    // Whoever keeps them can no more lie than the registry.
    let layer = image.layers[1].descriptor.digest().to_string();
    let store = serve_with(&image, Fault::Lies, Some(Arc::clone(&tls)), None);
    let address = format!("https://127.0.0.1:{}", store.port);
    let registry = serve_with(&image, Fault::None, Some(tls), Some(address));
    let name = format!("127.0.0.1:{}/app:1", registry.port);
    let error = pulled(&believer(&authority.pem, registry.port, None), &name).unwrap_err();
    assert!(error.starts_with(&layer) && error.contains("bytes with digest"), "{error}");
    // Nor can it be one that nobody vouches for.
    let other = Authority::new("other").certify("127.0.0.1", 2999).of_server();
    let store = serve_with(&image, Fault::None, Some(other), None);
    let address = format!("https://127.0.0.1:{}", store.port);
    let tls = authority.certify("127.0.0.1", 2999).of_server();
    let registry = serve_with(&image, Fault::None, Some(tls), Some(address));
    let name = format!("127.0.0.1:{}/app:1", registry.port);
    let error = pulled(&believer(&authority.pem, registry.port, None), &name).unwrap_err();
    assert!(error.contains("vouch for: UnknownIssuer"), "{error}");
}
