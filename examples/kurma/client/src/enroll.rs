//! How a client comes to be known to a server, and others do through it.
//!
//! A server shows a [`Code`] when nobody is known to it yet; an operator can ask for further ones. By it the
//! client knows the server and the server the client, once.

use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};

use crate::tls::Identity;
use crate::{Client, Code, Endpoint, Error, Result, Role};

/// What is sent to `POST /enroll`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enroll {
    /// The code's secret.
    pub secret: String,
    /// A request for a certificate (PKCS #10, PEM). Only its key is taken.
    pub csr: String,
    /// What the client is to be called.
    pub name: String,
}

/// The secret is not for logs.
impl std::fmt::Debug for Enroll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enroll").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is answered to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The client's certificate, as PEM.
    pub certificate: String,
    /// The server's authority, as PEM.
    pub authority: String,
    /// What the client is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// What is sent to `POST /enroll/codes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// What may be done by who has the code.
    pub role: Role,
}

/// What is answered to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// What is to be typed.
    pub code: String,
    /// Its role.
    pub role: Role,
    /// Until when it counts, in seconds since 1970.
    pub expires: u64,
}

/// A client that is known, as `GET /enroll/clients` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its certificate's number, in hexadecimal.
    pub serial: String,
    /// Since when it is known, in seconds since 1970.
    pub since: u64,
    /// Until when its certificate counts.
    pub expires: u64,
    /// Whether it is refused.
    #[serde(default)]
    pub revoked: bool,
}

/// Makes a key, and has a server certify it. `address` is `HOST:PORT`.
///
/// # Errors
/// [`Error`]: [`Error::Connect`] where the code is of another server, [`Error::Refused`] where the server does
/// not know it any longer.
pub async fn enroll(address: &str, code: &Code, name: &str) -> Result<(Identity, Enrolled)> {
    let wrong = |error: rcgen::Error| Error::Identity(error.to_string());
    let key = KeyPair::generate().map_err(wrong)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&key).and_then(|request| request.pem()).map_err(wrong)?;
    let ask = Enroll { secret: code.secret(), csr, name: name.to_owned() };
    let client = Client::new(Endpoint::unknown(address, code)?);
    let enrolled: Enrolled = client.send("/enroll", &ask).await?;
    let identity = Identity::new(
        enrolled.authority.clone(),
        enrolled.certificate.clone(),
        key.serialize_pem(),
    );
    // what came is one for this server
    Endpoint::tls(address, &identity)?;
    Ok((identity, enrolled))
}

impl Client {
    /// A code for somebody else. Over TLS only, as all that is about who is known.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn code(&self, role: Role) -> Result<Issued> {
        self.send("/enroll/codes", &Wanted { role }).await
    }

    /// Who is known to the server.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn known(&self) -> Result<Vec<Known>> {
        self.fetch(hyper::Method::GET, "/enroll/clients").await
    }

    /// Has a client refused from now on.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revoke(&self, name: &str) -> Result<Known> {
        let path = format!("/enroll/clients/{}", crate::client::encoded(name));
        self.fetch(hyper::Method::DELETE, &path).await
    }
}
