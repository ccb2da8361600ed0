//! Who certifies: the server, and the clients that are known to it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kurma_client::Role;
use kurma_client::tls::SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

const DAY: u64 = 24 * 3600;
/// How long certificates count; the authority's for longer than machines live.
const AUTHORITY: Duration = Duration::from_secs(30 * 365 * DAY);
const SERVER: Duration = Duration::from_secs(365 * DAY);
const CLIENT: Duration = Duration::from_secs(3 * 365 * DAY);
/// How long before its end the server's is made anew.
const EARLY: Duration = Duration::from_secs(30 * DAY);
/// No certificate was made before 2026: a machine whose clock says so has not been told the time yet.
const FLOOR: Duration = Duration::from_secs(1_767_225_600);

/// Bytes of a certificate's number.
pub(crate) type Serial = [u8; 16];

/// Who certifies.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, as PEM.
    pub(crate) certificate: String,
    /// The same, as it is sent.
    pub(crate) der: CertificateDer<'static>,
}

fn sentence(what: &str) -> impl Fn(rcgen::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number is positive and has no zeros in front (RFC 5280, section 4.1.2.2).
fn number(serial: Serial) -> Serial {
    let [first, rest @ ..] = serial;
    let mut number = [first & 0x7f | 0x40; 16];
    number.iter_mut().skip(1).zip(rest).for_each(|(to, from)| *to = from);
    number
}

/// What all certificates have. They count from 1970 on: clocks of machines that have just begun say anything.
fn params(now: SystemTime, lasting: Duration) -> Result<(CertificateParams, u64), String> {
    let beyond = "the clock is beyond all calendars";
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().max(FLOOR);
    let until = now.checked_add(lasting).ok_or(beyond)?.as_secs();
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::UNIX_EPOCH;
    let seconds = i64::try_from(until).map_err(|_| beyond)?;
    params.not_after = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| beyond)?;
    params.distinguished_name = DistinguishedName::new();
    Ok((params, until))
}

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    Ok(certificate)
}

/// Whether a name can be in a certificate.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.parse::<IpAddr>().is_ok() || name.len() <= 253 && name.split('.').all(is_label)
}

impl Authority {
    /// A new one.
    pub(crate) fn new(key: KeyPair, serial: Serial, now: SystemTime) -> Result<Self, String> {
        let serial = number(serial);
        let (mut params, _) = params(now, AUTHORITY)?;
        // two that are called the same would be taken for one until signatures are looked at
        let name = format!("kurma {}", hex(serial.get(..6).unwrap_or_default()));
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(sentence("certify the authority"))?;
        let (text, der) = (certificate.pem(), certificate.der().clone());
        Ok(Self { issuer: Issuer::new(params, key), certificate: text, der })
    }

    /// The one that was made before.
    pub(crate) fn again(certificate: String, key: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key).map_err(sentence("the key"))?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| format!("the certificate: {error}"))?;
        if parsed(&der)?.public_key().subject_public_key.data != key.public_key_raw() {
            return Err("the key is of another certificate".to_owned());
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(sentence("the certificate"))?;
        Ok(Self { issuer, certificate, der })
    }

    /// Its key, as PEM.
    pub(crate) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for the server. Its names are those and the one that all servers have.
    pub(crate) fn server(
        &self,
        key: &KeyPair,
        names: &[String],
        serial: Serial,
        now: SystemTime,
    ) -> Result<String, String> {
        let (base, _) = params(now, SERVER)?;
        let all: Vec<String> = all(names);
        let mut params = CertificateParams::new(all).map_err(sentence("the server's names"))?;
        (params.not_before, params.not_after) = (base.not_before, base.not_after);
        params.distinguished_name = base.distinguished_name;
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        self.sign(params, key, serial, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Whether the server's certificate can stay.
    pub(crate) fn is_current(
        &self,
        certificate: &str,
        key: &str,
        names: &[String],
        now: SystemTime,
    ) -> Result<(), String> {
        let key = KeyPair::from_pem(key).map_err(sentence("its key"))?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| error.to_string())?;
        let (own, authority) = (parsed(&der)?, parsed(&self.der)?);
        if own.public_key().subject_public_key.data != key.public_key_raw() {
            return Err("its key is another".to_owned());
        }
        if own.verify_signature(Some(authority.public_key())).is_err() {
            return Err("its authority is another".to_owned());
        }
        let until = u64::try_from(own.validity().not_after.timestamp()).unwrap_or_default();
        let soon = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(EARLY);
        if soon.as_secs() >= until {
            return Err("it ends soon".to_owned());
        }
        let named = own.subject_alternative_name().ok().flatten();
        let named = named.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let mut named: Vec<String> = named.iter().filter_map(shown).collect();
        let mut wanted = all(names);
        named.sort();
        wanted.sort();
        if named == wanted { Ok(()) } else { Err("its names are others".to_owned()) }
    }

    /// A certificate for a client that has the key of a request, and when it ends. Only the key is taken.
    pub(crate) fn client(
        &self,
        request: &str,
        name: &str,
        role: Role,
        serial: Serial,
        now: SystemTime,
    ) -> Result<(String, u64), String> {
        let request = CertificateSigningRequestParams::from_pem(request)
            .map_err(sentence("the request for a certificate"))?;
        let (mut params, until) = params(now, CLIENT)?;
        params.distinguished_name.push(DnType::OrganizationalUnitName, role.as_str());
        params.distinguished_name.push(DnType::CommonName, name);
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        Ok((self.sign(params, &request.public_key, serial, purpose)?, until))
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl rcgen::PublicKeyData,
        serial: Serial,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<String, String> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(SerialNumber::from_slice(&number(serial)));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(sentence("certify"))?;
        Ok(certificate.pem())
    }
}

/// All names of a server: addresses as they are usually written, each once.
fn all(names: &[String]) -> Vec<String> {
    let mut all = vec![SERVER_NAME.to_owned()];
    for name in names {
        let name = match name.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name.clone(),
        };
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

fn shown(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let six = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| six()).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// What a client's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certified {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// In hexadecimal.
    pub(crate) serial: String,
    /// Until when it counts, in seconds since 1970.
    pub(crate) until: u64,
}

impl Certified {
    /// Reads a certificate that is PEM.
    pub(crate) fn of(text: &str) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(text.as_bytes());
        Self::read(&der.map_err(|error| error.to_string())?)
    }

    /// Reads a certificate that has been found to be from the authority.
    pub(crate) fn read(der: &[u8]) -> Result<Self, String> {
        let certificate = parsed(der)?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        let role = subject.iter_organizational_unit().next().and_then(|unit| unit.as_str().ok());
        let role = role.and_then(Role::of).ok_or("the certificate says no role")?;
        Ok(Self {
            name: name.ok_or("the certificate says no name")?.to_owned(),
            role,
            serial: hex(certificate.raw_serial()),
            until: u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default(),
        })
    }
}
