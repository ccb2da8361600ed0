//! Somebody who proves over TLS who he is, to who believes an authority that is made for a test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A certificate for a name or an address, and who vouches for it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The authority's certificate, as PEM.
    pub authority: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|why| anyhow!(why))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Self { authority, config: Arc::new(config) })
    }

    /// The server's side of a connection.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(crate) fn serve(&self, plain: TcpStream) -> Result<impl Read + Write + use<>> {
        let connection = ServerConnection::new(Arc::clone(&self.config)).context("TLS")?;
        Ok(StreamOwned::new(connection, plain))
    }
}
