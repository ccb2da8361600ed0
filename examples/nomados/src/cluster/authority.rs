//! The cluster's own certificate authority, and what it certifies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::Moment;

/// How long the authority itself is good for, in days.
const AUTHORITY_DAYS: u32 = 3650;
/// How far a node's clock may be behind the one that certified it.
const SLACK: Duration = Duration::days(1);

/// A key that signs certificates of one cluster.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// `server.REGION.nomad`, by which Nomad tells servers from clients.
    pub(super) name: String,
    /// The address that others reach it at, beside loopback.
    pub(super) address: Option<Ipv4Addr>,
    /// Whether it is spoken to, or only speaks.
    pub(super) serves: bool,
}

impl Authority {
    /// The authority of a region with this key. The same key and region are the same authority.
    ///
    /// # Errors
    /// None that a caller could bring about.
    pub fn new(region: &str, key: KeyPair, moment: &mut Moment<'_>) -> Result<(Self, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("NomadOS cluster {region}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, moment, AUTHORITY_DAYS)?;
        let certificate = params.self_signed(&key).context("certify the authority")?;
        Ok((Self { issuer: Issuer::new(params, key) }, certificate.pem()))
    }

    /// A certificate as PEM.
    pub(super) fn certify(
        &self,
        subject: &Subject,
        key: &KeyPair,
        days: u32,
        moment: &mut Moment<'_>,
    ) -> Result<String> {
        let names = [subject.name.clone(), "localhost".into()];
        let mut params =
            CertificateParams::new(names).with_context(|| format!("name {}", subject.name))?;
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let own = subject.address.map(IpAddr::from);
        params.subject_alt_names.extend(loopback.into_iter().chain(own).map(SanType::IpAddress));
        params.distinguished_name = named(&subject.name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if subject.serves {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, moment, days)?;
        let certificate = params
            .signed_by(key, &self.issuer)
            .with_context(|| format!("certify {}", subject.name))?;
        Ok(certificate.pem())
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Sets what depends on the moment: validity and serial number.
fn valid(params: &mut CertificateParams, moment: &mut Moment<'_>, days: u32) -> Result<()> {
    let now = i64::try_from(moment.now).context("the time is beyond all calendars")?;
    let now =
        OffsetDateTime::from_unix_timestamp(now).context("the time is beyond all calendars")?;
    params.not_before = now.checked_sub(SLACK).context("it is before all calendars")?;
    params.not_after = now
        .checked_add(Duration::days(i64::from(days)))
        .context("the certificates would outlive all calendars")?;
    // RFC 5280, section 4.1.2.2: positive and at most 20 octets.
    let mut serial = [0; 16];
    (moment.random)(&mut serial)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}
