//! TLS: who a client is, and how it knows the server.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::code::Code;
use crate::{Error, Result};

/// What every server's certificate says it is, whatever else it is called: its authority certifies no other
/// server, and so it may be asked by any name and address that leads to it.
pub const SERVER_NAME: &str = "kurma.internal";
const AUTHORITY: &str = "ca.pem";
const CERTIFICATE: &str = "client.pem";
const KEY: &str = "client.key";

/// Who a client is for one server, as PEM.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The server's authority.
    pub authority: String,
    /// What it says of the client.
    pub certificate: String,
    /// The client's key, which nobody else has.
    pub key: String,
}

/// The key is not for logs.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Identity {
    /// An identity.
    #[must_use]
    pub fn new(authority: String, certificate: String, key: String) -> Self {
        Self { authority, certificate, key }
    }

    /// Reads what [`Identity::write`] has written.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|source| Error::File { path, source })
        };
        Ok(Self::new(read(AUTHORITY)?, read(CERTIFICATE)?, read(KEY)?))
    }

    /// Writes `ca.pem`, `client.pem` and `client.key` into a directory, which is made.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, directory: &Path) -> Result<()> {
        let fault = |source| Error::File { path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fault)?;
        for (name, text) in
            [(AUTHORITY, &self.authority), (KEY, &self.key), (CERTIFICATE, &self.certificate)]
        {
            let path = directory.join(name);
            replace(&path, text).map_err(|source| Error::File { path, source })?;
        }
        Ok(())
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// A server that is asked over TLS.
#[derive(Clone)]
pub struct Secure {
    pub(crate) address: String,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").field("address", &self.address).finish_non_exhaustive()
    }
}

impl PartialEq for Secure {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for Secure {}

fn wrong(problem: impl ToString) -> Error {
    Error::Identity(problem.to_string())
}

impl Secure {
    pub(crate) fn new(address: String, identity: &Identity) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(identity.authority.as_bytes()) {
            roots.add(certificate.map_err(wrong)?).map_err(wrong)?;
        }
        let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
        let chain = chain.collect::<std::result::Result<Vec<_>, _>>().map_err(wrong)?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(wrong)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(wrong)?;
        Ok(Self { address, config: Arc::new(config) })
    }

    /// A server that has not certified the client yet, known by a code.
    pub(crate) fn unknown(address: String, code: &Code) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let known = Known { code: code.clone(), provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(known))
            .with_no_client_auth();
        Ok(Self { address, config: Arc::new(config) })
    }

    pub(crate) async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

/// Knows a server by a code: it shows the authority that the code is of, and is certified by that.
#[derive(Debug)]
struct Known {
    code: Code,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let authority = others.iter().find(|one| self.code.is_of(one));
        let authority = authority
            .ok_or_else(|| rustls::Error::General("the code is not one of this server".into()))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(own, others, name, stapled, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, own, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, own, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
