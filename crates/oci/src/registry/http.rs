//! Requests: made again where that may help, with a reason where it does not.

use std::sync::Arc;
use std::time::Duration;

use oci_spec::distribution::Reference;
use ureq::http::{Request, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Body, SendBody};

use super::{Client, Options};
use crate::error::shown;
use crate::{Error, Result};

pub(super) fn agent(options: &Options) -> Result<ureq::Agent> {
    let mut authorities: Vec<Certificate<'static>> = Vec::new();
    for item in ureq::tls::parse_pem(&options.authorities) {
        match item.map_err(|error| Error::invalid("authorities", error.to_string()))? {
            PemItem::Certificate(certificate) => authorities.push(certificate),
            _ => continue,
        }
    }
    let proxy = options.proxy.as_deref().map(ureq::Proxy::new).transpose();
    let proxy = proxy.map_err(|error| Error::invalid("proxy", error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&authorities))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Ok(ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .proxy(proxy)
        .user_agent("kiln-oci")
        .timeout_connect(Some(options.connect))
        .timeout_recv_response(Some(options.silence))
        .timeout_per_read(Some(options.silence))
        .timeout_per_write(Some(options.silence))
        .timeout_recv_body(Some(options.whole))
        .timeout_send_body(Some(options.whole))
        .max_idle_connections_per_host(options.parallel.max(1))
        .build()
        .into())
}

/// What came of one attempt.
pub(super) enum Failed {
    /// It may go better.
    Again(String),
    /// It will not.
    For(Error),
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'ask> {
    pub(super) method: &'static str,
    pub(super) url: &'ask str,
    pub(super) headers: &'ask [(&'ask str, &'ask str)],
}

impl Client {
    /// Calls until it works, it cannot work, or it was tried often enough.
    pub(super) fn persist<T>(
        &self,
        url: &str,
        mut attempt: impl FnMut() -> Result<T, Failed>,
    ) -> Result<T> {
        let mut pause = self.options.pause;
        let mut tried = 0;
        loop {
            tried += 1;
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Again(reason)) if tried >= self.options.attempts => {
                    let reason = format!("{reason} (tried {tried} times)");
                    return Err(Error::Registry { url: url.into(), reason });
                }
                Err(Failed::Again(_)) => {}
            }
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2).min(Duration::from_secs(60));
        }
    }

    /// Makes one request without a body. Where the registry wants to know who asks, it is told.
    pub(super) fn once(
        &self,
        reference: &Reference,
        ask: Ask<'_>,
    ) -> Result<Response<Body>, Failed> {
        let response = self.send(reference, ask, SendBody::none())?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.authorize(reference, &response)?;
        self.send(reference, ask, SendBody::none())
    }

    pub(super) fn send(
        &self,
        reference: &Reference,
        ask: Ask<'_>,
        body: SendBody<'_>,
    ) -> Result<Response<Body>, Failed> {
        let mut request = Request::builder().method(ask.method).uri(ask.url);
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        // What lets us in is for the registry alone, wherever it sends us for an upload.
        let home = self.url(reference, "");
        if origin(ask.url) == origin(&home)
            && let Some(known) = self.authorizations().get(&home)
        {
            request = request.header("authorization", known);
        }
        let wrong = |error: ureq::http::Error| {
            Failed::For(Error::Registry { url: ask.url.into(), reason: error.to_string() })
        };
        self.call(ask.url, request.body(body).map_err(wrong)?)
    }

    /// Has a request answered.
    pub(super) fn call(
        &self,
        url: &str,
        request: Request<SendBody<'_>>,
    ) -> Result<Response<Body>, Failed> {
        self.agent.run(request).map_err(|error| {
            let wrong = |reason: String| Failed::For(Error::Registry { url: url.into(), reason });
            match error {
                ureq::Error::Io(error) => match not_secure(&error) {
                    Some(reason) => wrong(reason),
                    None => Failed::Again(error.to_string()),
                },
                ureq::Error::Timeout(_)
                | ureq::Error::ConnectionFailed
                | ureq::Error::Protocol(_)
                | ureq::Error::HostNotFound => Failed::Again(error.to_string()),
                other => wrong(other.to_string()),
            }
        })
    }

    /// The status as an error, with what the registry says of it.
    pub(super) fn refused(&self, ask: Ask<'_>, mut response: Response<Body>) -> Failed {
        let status = response.status();
        let text =
            response.body_mut().with_config().limit(4 << 10).read_to_vec().unwrap_or_default();
        // Distribution specification, "Error Codes".
        let errors = serde_json::from_slice::<serde_json::Value>(&text).ok();
        let said = errors
            .as_ref()
            .and_then(|errors| errors.pointer("/errors/0"))
            .map(|error| {
                let part =
                    |key| error.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
                format!(
                    ": {} {}",
                    shown(part("code").as_bytes()),
                    shown(part("message").as_bytes())
                )
            })
            .unwrap_or_default();
        let reason = format!("{} {status}{said}", ask.method);
        if status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
        {
            return Failed::Again(reason);
        }
        Failed::For(Error::Registry { url: ask.url.into(), reason })
    }
}

/// Why TLS cannot come about, if that is it: asking again would not help.
fn not_secure(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(reason) => {
            Some(format!("no certificate that the authorities given here vouch for: {reason}"))
        }
        rustls::Error::InvalidMessage(_) => {
            Some("what answers does not speak TLS; is it a registry for `insecure`?".into())
        }
        _ => None,
    }
}

/// Scheme, host and port of an address.
pub(super) fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end =
        url.get(start..).and_then(|rest| rest.find(['/', '?'])).map_or(url.len(), |at| start + at);
    url.get(..end).unwrap_or(url)
}

pub(super) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}
