//! Sources over HTTP and HTTPS.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use ureq::http::{HeaderMap, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector as _, NextTimeout, RustlsConnector, TcpConnector};

use crate::reader::Source;
use crate::{Answer, Error, Result};

/// Addresses of a name, found within a time; a sentence where there are none.
pub type Names =
    Arc<dyn Fn(&str, Duration) -> std::result::Result<Vec<IpAddr>, String> + Send + Sync>;

/// How servers are reached.
#[derive(Clone)]
#[non_exhaustive]
pub struct Reach {
    /// Who says what address a name has. Without, only addresses are reached: a static program has no resolver.
    pub names: Option<Names>,
    /// Whom to believe who a server is, as PEM. With none, no HTTPS.
    pub authorities: Vec<u8>,
    /// How long a connection and the beginning of an answer may take, and how long nothing may come.
    pub patience: Duration,
    /// How many redirections are followed.
    pub redirections: u32,
}

impl Default for Reach {
    fn default() -> Self {
        let patience = Duration::from_secs(30);
        Self { names: None, authorities: Vec::new(), patience, redirections: 4 }
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reach").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// A file of a web server.
#[derive(Debug)]
pub struct Url {
    url: String,
    agent: Agent,
}

impl Url {
    /// An address that begins with `http://` or `https://`.
    ///
    /// # Errors
    /// [`Error::Source`]: it is none, or needs certificates that there are not.
    pub fn new(url: &str, reach: &Reach) -> Result<Self> {
        let refused =
            |problem: &str| Error::Source { url: url.to_owned(), problem: problem.into() };
        let parsed: Uri = url.parse().map_err(|error| refused(&format!("{error}")))?;
        let secure = match parsed.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refused("it has to begin with http:// or https://")),
        };
        if parsed.host().is_none_or(str::is_empty) {
            return Err(refused("it names no server"));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(reach.redirections)
            .timeout_resolve(Some(reach.patience))
            .timeout_connect(Some(reach.patience))
            .timeout_send_request(Some(reach.patience))
            .timeout_recv_response(Some(reach.patience))
            .timeout_per_read(Some(reach.patience))
            .proxy(None)
            .https_only(secure);
        let authorities = authorities(&reach.authorities);
        if secure {
            if authorities.is_empty() {
                return Err(refused("no certificate of an authority is here"));
            }
            config = config.tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::new_with_certs(&authorities))
                    .unversioned_rustls_crypto_provider(Arc::new(
                        rustls::crypto::ring::default_provider(),
                    ))
                    .build(),
            );
        }
        let connector = ().chain(TcpConnector::default()).chain(RustlsConnector::default());
        let names = ByNames(reach.names.clone());
        let agent = Agent::with_parts(config.build(), connector, names);
        Ok(Self { url: url.to_owned(), agent })
    }
}

/// Those of them that are understood.
fn authorities(pem: &[u8]) -> Vec<Certificate<'static>> {
    let all = CertificateDer::pem_slice_iter(pem).filter_map(std::result::Result::ok);
    // one that nobody understands is no reason to trust nobody else
    all.filter(|one| RootCertStore::empty().add(one.clone()).is_ok())
        .map(|one| Certificate::from_der(&one).to_owned())
        .collect()
}

impl Source for Url {
    fn ask(&mut self, from: u64) -> std::result::Result<(Answer, Box<dyn Read + Send>), String> {
        let mut request = self.agent.get(&self.url).header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let answer = match parts.status {
            StatusCode::OK => Answer::Whole(body.content_length()),
            StatusCode::PARTIAL_CONTENT => part(&parts.headers)
                .ok_or_else(|| "the server does not say which part it sends".to_owned())?,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(format!("the server's file ends before byte {from}"));
            }
            other => return Err(format!("the server answers {}", other.as_u16())),
        };
        Ok((answer, Box::new(body.into_with_config().limit(u64::MAX).reader())))
    }
}

/// RFC 9110 section 14.4: `bytes 21010-47021/47022`.
fn part(headers: &HeaderMap) -> Option<Answer> {
    let (range, total) =
        headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-')?.0.trim().parse().ok()?;
    Some(Answer::Part(from, total.trim().parse().ok()))
}

struct ByNames(Option<Names>);

impl fmt::Debug for ByNames {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ByNames")
    }
}

impl Resolver for ByNames {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
        let found = match (unbracketed.parse(), &self.0) {
            (Ok(address), _) => vec![address],
            (Err(_), Some(names)) => {
                names(host, *timeout.after).map_err(|problem| ureq::Error::Other(problem.into()))?
            }
            (Err(_), None) => Vec::new(),
        };
        let mut addresses = self.empty();
        for address in found.into_iter().take(16) {
            addresses.push(SocketAddr::new(address, port));
        }
        match addresses.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(addresses),
        }
    }
}
