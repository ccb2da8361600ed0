//! Who asks: tokens and passwords (the challenge of RFC 9110, section 11.3, and the token service of
//! Docker's registries).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_spec::distribution::Reference;
use serde::Deserialize;
use ureq::http::{Request, Response};
use ureq::{Body, SendBody};

use super::http::{Failed, header, origin};
use super::{Client, is_local};
use crate::error::shown;
use crate::{Error, json};

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Client {
    /// Gets what a registry asks for before it answers, and keeps it.
    pub(super) fn authorize(
        &self,
        reference: &Reference,
        response: &Response<Body>,
    ) -> Result<(), Failed> {
        let home = self.url(reference, "");
        let wrong = |reason: String| Failed::For(Error::Registry { url: home.clone(), reason });
        let challenge = header(response, "www-authenticate").unwrap_or_default();
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        let basic = self.options.credentials.as_ref().map(|(user, password)| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        });
        let known = if scheme.eq_ignore_ascii_case("basic") {
            basic.ok_or_else(|| wrong("it wants a user and a password".into()))?
        } else if scheme.eq_ignore_ascii_case("bearer") {
            format!("Bearer {}", self.token(&parameters_of(parameters), basic.as_deref(), &wrong)?)
        } else {
            let shown = shown(challenge.as_bytes());
            return Err(wrong(format!("it wants an authorization that is not known: {shown:?}")));
        };
        self.authorizations().insert(home, known);
        Ok(())
    }

    fn token(
        &self,
        parameters: &[(String, String)],
        basic: Option<&str>,
        wrong: &dyn Fn(String) -> Failed,
    ) -> Result<String, Failed> {
        let find = |key: &str| {
            parameters
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(key))
                .map(|(_, value)| value)
        };
        let realm =
            find("realm").ok_or_else(|| wrong("it does not say where tokens are had".into()))?;
        // A password goes nowhere in the clear but to this machine and to whom we were told.
        let host = origin(realm).split("://").nth(1).unwrap_or_default();
        let plain = realm.starts_with("http://") && (is_local(host) || self.is_plain(host));
        if !realm.starts_with("https://") && !plain {
            let shown = shown(realm.as_bytes());
            return Err(wrong(format!("it has tokens at {shown:?}, which is not safe")));
        }
        let mut url = realm.clone();
        for key in ["service", "scope"] {
            if let Some(value) = find(key) {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(key);
                url.push('=');
                url.push_str(&escaped(value));
            }
        }
        let mut request = Request::builder().method("GET").uri(&url);
        if let Some(basic) = basic {
            request = request.header("authorization", basic);
        }
        let request =
            request.body(SendBody::none()).map_err(|error| wrong(format!("{url}: {error}")))?;
        let response =
            self.agent.run(request).map_err(|error| Failed::Again(format!("{url}: {error}")))?;
        let status = response.status();
        if status.is_server_error() {
            return Err(Failed::Again(format!("{url}: {status}")));
        }
        if !status.is_success() {
            return Err(wrong(format!("no token from {url}: {status}")));
        }
        let mut reader = response.into_body().into_reader();
        let token: Token = json::read(&url, &mut reader, 1 << 20)
            .and_then(|bytes| json::parse(&url, &bytes))
            .map_err(Failed::For)?;
        token.token.or(token.access_token).ok_or_else(|| wrong(format!("no token from {url}")))
    }
}

/// `name="value",…`, commas in values allowed.
fn parameters_of(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(rest) => {
                let (value, rest) = rest.split_once('"').unwrap_or((rest, ""));
                (value, rest.trim_start().strip_prefix(',').unwrap_or(rest))
            }
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.push((name.trim().to_owned(), value.to_owned()));
        text = rest;
    }
    found
}

/// Percent-encoded, but for what needs no encoding anywhere (RFC 3986, section 2.3).
pub(super) fn escaped(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let found = parameters_of(
            r#"realm="https://auth.example.org/t?a=b",service="r", scope="repository:a/b:pull,push""#,
        );
        let pairs: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [
            ("realm", "https://auth.example.org/t?a=b"),
            ("service", "r"),
            ("scope", "repository:a/b:pull,push"),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(escaped("a/b:pull,push"), "a%2Fb%3Apull%2Cpush");
        assert!(parameters_of("nothing").is_empty());
        assert_eq!(parameters_of("a=\"open").len(), 1);
    }
}
