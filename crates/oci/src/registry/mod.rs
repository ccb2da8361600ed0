//! Images from and to registries (OCI distribution specification 1.1), by a blocking client.
//!
//! Nothing that a registry says is believed: manifests and blobs are checked against their digests
//! while they arrive, and nothing appears in a layout before it is whole and right.

mod auth;
mod challenge;
mod http;
mod pull;
mod push;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

pub use challenge::Challenge;
pub use oci_spec::distribution::Reference;

use crate::limits::Limits;
use crate::{Error, Result};

/// How registries are asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// User and password, sent to the registry of the reference, or to where it says that tokens are
    /// had, and over TLS or to this machine only.
    pub credentials: Option<(String, String)>,
    /// The authorities that are believed, as PEM: on Debian the content of
    /// `/etc/ssl/certs/ca-certificates.crt`. Without any no registry can be reached but those of this
    /// machine.
    pub authorities: Vec<u8>,
    /// Registries (`host:port`) that speak plain HTTP, besides those of this machine.
    pub insecure: Vec<String>,
    /// Registries (`host:port`) of this machine that speak TLS; the others here speak plain HTTP.
    pub secure: Vec<String>,
    /// The proxy by which registries are reached, as an address. Default: none; that of the
    /// environment is the caller's to pass on.
    pub proxy: Option<String>,
    /// How often a request is made before it has failed. Default: 4.
    pub attempts: u32,
    /// How long the first of these waits for the second; each further one waits twice as long.
    /// Default: 500 ms.
    pub pause: Duration,
    /// How long to wait for a connection. Default: 15 s.
    pub connect: Duration,
    /// How long a registry may be silent in the middle of something. Default: 30 s.
    pub silence: Duration,
    /// How long a blob may take altogether. Default: an hour.
    pub whole: Duration,
    /// Blobs at a time. Default: 4.
    pub parallel: usize,
    /// How much an image may ask for.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: None,
            authorities: Vec::new(),
            insecure: Vec::new(),
            secure: Vec::new(),
            proxy: None,
            attempts: 4,
            pause: Duration::from_millis(500),
            connect: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            whole: Duration::from_secs(3600),
            parallel: 4,
            limits: Limits::default(),
        }
    }
}

/// A client for registries. It keeps tokens and connections.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    options: Options,
    /// The header by which a registry and repository let us in, by both.
    authorization: Mutex<BTreeMap<String, String>>,
}

impl Client {
    /// A client that has asked nobody yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] for authorities that are no PEM, and for a proxy that is no address.
    pub fn new(options: Options) -> Result<Self> {
        let agent = http::agent(&options)?;
        Ok(Self { agent, options, authorization: Mutex::new(BTreeMap::new()) })
    }

    fn authorizations(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        match self.authorization.lock() {
            Ok(known) => known,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Where a repository is asked for something.
    fn url(&self, reference: &Reference, what: &str) -> String {
        let registry = reference.resolve_registry();
        let scheme = if self.is_plain(registry) { "http" } else { "https" };
        format!("{scheme}://{registry}/v2/{}/{what}", reference.repository())
    }

    /// Whether a registry is asked without TLS.
    fn is_plain(&self, registry: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|known| known == registry);
        listed(&self.options.insecure) || (is_local(registry) && !listed(&self.options.secure))
    }
}

/// Reads `[registry/]repository[:tag][@digest]`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn reference(text: &str) -> Result<Reference> {
    let wrong = |reason: String| Error::invalid(crate::error::shown(text.as_bytes()), reason);
    let found: Reference = text.parse().map_err(|error| wrong(format!("{error}")))?;
    // `Name/app` is read as if it were a registry's and then taken for a repository of Docker's.
    if found.to_string().parse::<Reference>().is_err() {
        let reason =
            "a repository has no capitals; a registry has a dot or a port, or is localhost";
        return Err(wrong(reason.into()));
    }
    Ok(found)
}

/// Whether this (`host` or `host:port`) is an address of this machine.
fn is_local(registry: &str) -> bool {
    // What is before it in an address is a user's name, whatever it looks like.
    if registry.contains('@') {
        return false;
    }
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        let options = Options {
            insecure: vec!["lab:5000".into()],
            secure: vec!["localhost:5001".into()],
            ..Options::default()
        };
        let client = Client::new(options).unwrap();
        let url = |text: &str| client.url(&reference(text).unwrap(), "x");
        assert_eq!(url("127.0.0.1:5000/a/b:1"), "http://127.0.0.1:5000/v2/a/b/x");
        assert_eq!(url("localhost/a/b:1"), "http://localhost/v2/a/b/x");
        assert_eq!(url("localhost:5001/a"), "https://localhost:5001/v2/a/x");
        assert_eq!(url("lab:5000/a"), "http://lab:5000/v2/a/x");
        assert_eq!(url("registry.example.org/a"), "https://registry.example.org/v2/a/x");
        assert!(!is_local("127.0.0.1.example.org") && !is_local("localhost.example.org"));
        assert!(!is_local("127.0.0.1:80@example.org") && !is_local("[::1]@example.org"));
        assert!(is_local("[::1]:5000"));
        for bad in ["a/UPPER", "Upper/a", "UPPER", "", "a//b", "../a"] {
            assert!(reference(bad).is_err(), "{bad}");
        }
    }
}
