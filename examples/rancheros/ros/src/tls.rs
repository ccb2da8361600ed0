//! Certificates of the user's engine: its authority, its own, and those of who may speak with it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;

use crate::schema::Docker;

/// Where the engine has its own, in its container.
const ENGINE: &str = "/etc/docker/tls";
/// The authority's name, by which it is known again.
const AUTHORITY: &str = "ros: authority of this machine's Docker engine";
/// How long certificates are good for, in days; the authority's longer.
const DAYS: u64 = 3 * 365;
const AUTHORITY_DAYS: u64 = 10 * 365;
/// How far others' clocks may be behind.
const SLACK: Duration = Duration::from_secs(24 * 3600);

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Server,
    Client,
}

/// Who certifies.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own.
    pub(crate) identity: Identity,
}

fn sentence(what: &str) -> impl Fn(rcgen::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Sets a name and how long it counts.
fn valid(
    params: &mut CertificateParams,
    name: &str,
    now: SystemTime,
    days: u64,
) -> Result<(), String> {
    let moment = |time: SystemTime| {
        let seconds = time.duration_since(UNIX_EPOCH).map_err(|_| "it is before 1970")?.as_secs();
        let seconds = i64::try_from(seconds).map_err(|_| "it is beyond all calendars")?;
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| "it is beyond all calendars")
    };
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(now.checked_sub(SLACK).unwrap_or(now))?;
    let end = now.checked_add(Duration::from_secs(days.saturating_mul(24 * 3600))).unwrap_or(now);
    params.not_after = moment(end)?;
    Ok(())
}

impl Authority {
    fn params(now: SystemTime) -> Result<CertificateParams, String> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, AUTHORITY, now, AUTHORITY_DAYS)?;
        Ok(params)
    }

    /// A new one.
    pub(crate) fn new(now: SystemTime) -> Result<Self, String> {
        let key = KeyPair::generate().map_err(sentence("make a key"))?;
        let params = Self::params(now)?;
        let certificate =
            params.self_signed(&key).map_err(sentence("certify the authority"))?.pem();
        let identity = Identity { certificate, key: key.serialize_pem() };
        Ok(Self { issuer: Issuer::new(params, key), identity })
    }

    /// The one that was made before.
    pub(crate) fn again(identity: Identity) -> Result<Self, String> {
        // What it certifies says its name, so it has to be the name of this one.
        let is_own = KeyPair::from_pem(&identity.key).ok().filter(|_| {
            let der: Vec<u8> = pem_bytes(&identity.certificate);
            der.windows(AUTHORITY.len()).any(|bytes| bytes == AUTHORITY.as_bytes())
        });
        let key = is_own.ok_or(
            "rancher.docker.ca_cert is not of this machine: make certificates where its authority is",
        )?;
        let params = Self::params(UNIX_EPOCH + SLACK)?;
        Ok(Self { issuer: Issuer::new(params, key), identity })
    }

    /// A certificate for names and addresses.
    pub(crate) fn certify(
        &self,
        purpose: Purpose,
        names: &[String],
        now: SystemTime,
    ) -> Result<Identity, String> {
        let key = KeyPair::generate().map_err(sentence("make a key"))?;
        let shown = names.first().map_or("docker", String::as_str);
        let mut params = match purpose {
            Purpose::Server => CertificateParams::new(names).map_err(sentence(shown))?,
            Purpose::Client => CertificateParams::default(),
        };
        valid(&mut params, shown, now, DAYS)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(sentence(shown))?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

/// What is between the lines of a PEM text (RFC 7468), decoded; as much of it as is base64.
fn pem_bytes(text: &str) -> Vec<u8> {
    let body: String =
        text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0_u32);
    for byte in body.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

/// Writes files into a directory, which is made: keys for their owner alone, all somebody's.
pub(crate) fn write(
    directory: &Path,
    files: &[(&str, &str, u32)],
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let is_new = !directory.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if let Some((uid, gid)) = owner.filter(|_| is_new) {
        std::os::unix::fs::lchown(directory, Some(uid), Some(gid))?;
    }
    for (name, text, mode) in files {
        let beside = directory.join(format!(".{name}.new"));
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(*mode).open(&beside)?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, directory.join(name))?;
    }
    Ok(())
}

/// Puts what the configuration says where the engine reads it; the arguments by which it does, none
/// where it is to have no TLS or has no certificate.
pub(crate) fn engine(docker: &Docker) -> Result<Vec<String>, String> {
    if !docker.tls {
        return Ok(Vec::new());
    }
    let (Some(ca), Some(certificate), Some(key)) =
        (&docker.ca_cert, &docker.server_cert, &docker.server_key)
    else {
        return Err("no certificates: `ros tls generate --server` makes them".into());
    };
    let files = [
        ("ca.pem", ca.as_str(), 0o644),
        ("server-cert.pem", certificate.as_str(), 0o644),
        ("server-key.pem", key.as_str(), 0o600),
    ];
    write(Path::new(ENGINE), &files, None).map_err(|error| format!("{ENGINE}: {error}"))?;
    Ok(docker.tls_args.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    #[test]
    fn openssl_believes_what_the_authority_certifies_now_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        let now = SystemTime::now();
        let first = Authority::new(now).unwrap();
        let names = ["localhost".to_owned(), "192.0.2.1".to_owned()];
        let server = first.certify(Purpose::Server, &names, now).unwrap();
        let again = Authority::again(first.identity.clone()).unwrap();
        let client = again.certify(Purpose::Client, &["rancher".to_owned()], now).unwrap();
        let files = [
            ("ca.pem", first.identity.certificate.as_str(), 0o644),
            ("server.pem", &server.certificate, 0o644),
            ("client.pem", &client.certificate, 0o644),
            ("key.pem", &client.key, 0o600),
        ];
        write(&place("tls"), &files, None).unwrap();
        let mode = |name: &str| fs::metadata(place(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("tls"), mode("tls/key.pem"), mode("tls/ca.pem")), (0o700, 0o600, 0o644));
        if !Path::new("/usr/bin/openssl").exists() {
            println!("skipped: openssl");
            return;
        }
        let verify = |purpose: &str, more: &[&str], name: &str| {
            let mut openssl = Command::new("/usr/bin/openssl");
            openssl.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]);
            openssl.arg(place("tls/ca.pem")).args(more).arg(place(name)).output().unwrap().status
        };
        assert!(
            verify("sslserver", &["-verify_hostname", "localhost"], "tls/server.pem").success()
        );
        assert!(verify("sslserver", &["-verify_ip", "192.0.2.1"], "tls/server.pem").success());
        assert!(!verify("sslserver", &["-verify_ip", "192.0.2.2"], "tls/server.pem").success());
        assert!(verify("sslclient", &[], "tls/client.pem").success());
        assert!(!verify("sslserver", &[], "tls/client.pem").success());
    }

    #[test]
    fn another_authority_is_not_taken_for_this_one() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap().pem();
        let other = Identity { certificate, key: key.serialize_pem() };
        assert!(Authority::again(other).err().unwrap().contains("is not of this machine"));
    }

    #[test]
    fn without_certificates_the_engine_has_no_tls() {
        let mut docker = Docker::default();
        assert_eq!(engine(&docker), Ok(Vec::new()));
        docker.tls = true;
        assert!(engine(&docker).unwrap_err().contains("ros tls generate --server"));
    }
}
