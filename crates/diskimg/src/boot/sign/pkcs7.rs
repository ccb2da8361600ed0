//! The PKCS#7 messages in which signatures travel (RFC 2315, of which RFC 5652 is the successor).

use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::CmsVersion;
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use der::Encode;
use der::asn1::{Any, ObjectIdentifier, OctetString, SetOfVec};
use x509_cert::attr::{Attribute, Attributes};

use super::{Certificate, RSA, SHA256, algorithm, der_error};
use crate::Result;

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");

pub(super) fn attribute(oid: ObjectIdentifier, value: Any) -> Result<Attribute> {
    let values = SetOfVec::try_from(vec![value]).map_err(der_error("pkcs7"))?;
    Ok(Attribute { oid, values })
}

/// A message with one signature.
pub(crate) fn signed_data(
    content: EncapsulatedContentInfo,
    attributes: Option<Attributes>,
    certificate: &Certificate,
    signature: &[u8],
) -> Result<SignedData> {
    let error = || der_error("pkcs7");
    let signed = &certificate.parsed.tbs_certificate;
    let info = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: signed.issuer.clone(),
            serial_number: signed.serial_number.clone(),
        }),
        digest_alg: algorithm(SHA256),
        signed_attrs: attributes,
        signature_algorithm: algorithm(RSA),
        signature: OctetString::new(signature).map_err(error())?,
        unsigned_attrs: None,
    };
    let certificates = vec![CertificateChoices::Certificate(certificate.parsed.clone())];
    Ok(SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::try_from(vec![algorithm(SHA256)]).map_err(error())?,
        encap_content_info: content,
        certificates: Some(CertificateSet(SetOfVec::try_from(certificates).map_err(error())?)),
        crls: None,
        signer_infos: SignerInfos(SetOfVec::try_from(vec![info]).map_err(error())?),
    })
}

/// A message in DER with a signature of bytes that are elsewhere, without attributes and without
/// the usual envelope: what UEFI expects of authenticated variables.
pub(crate) fn detached(certificate: &Certificate, signature: &[u8]) -> Result<Vec<u8>> {
    let content = EncapsulatedContentInfo { econtent_type: DATA, econtent: None };
    let message = signed_data(content, None, certificate, signature)?;
    message.to_der().map_err(der_error("pkcs7"))
}
