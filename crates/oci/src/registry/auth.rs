//! Who asks: tokens and passwords (the challenge of RFC 9110, section 11.3, and the token service of
//! Docker's registries).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_spec::distribution::Reference;
use ureq::http::uri::Authority;
use ureq::http::{Request, Response, Uri};
use ureq::{Body, SendBody};

use super::http::Failed;
use super::{Challenge, Client, is_local};
use crate::error::shown;
use crate::{Error, json};

impl Client {
    /// Gets what a registry asks for before it answers, and keeps it.
    pub(super) fn authorize(
        &self,
        reference: &Reference,
        response: &Response<Body>,
    ) -> Result<(), Failed> {
        let home = self.url(reference, "");
        let wrong = |reason: String| Failed::For(Error::Registry { url: home.clone(), reason });
        let headers = response.headers().get_all("www-authenticate");
        let said: Vec<&str> = headers.iter().filter_map(|value| value.to_str().ok()).collect();
        let challenges: Vec<Challenge> = said.iter().flat_map(|it| Challenge::parse(it)).collect();
        let by = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let basic = self.options.credentials.as_ref().map(|(user, password)| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        });
        let known = if let Some(bearer) = by("bearer") {
            format!("Bearer {}", self.token(bearer, basic.as_deref(), &wrong)?)
        } else if by("basic").is_some() {
            basic.ok_or_else(|| wrong("it wants a user and a password".into()))?
        } else {
            let shown = shown(said.join(", ").as_bytes());
            return Err(wrong(format!("it wants an authorization that is not known: {shown:?}")));
        };
        self.authorizations().insert(home, known);
        Ok(())
    }

    fn token(
        &self,
        challenge: &Challenge,
        basic: Option<&str>,
        wrong: &dyn Fn(String) -> Failed,
    ) -> Result<String, Failed> {
        let url = challenge
            .token_address()
            .ok_or_else(|| wrong("it does not say where tokens are had".into()))?;
        // A password goes nowhere in the clear but to this machine and to whom we were told.
        let place: Uri = url.parse().map_err(|error| wrong(format!("{url}: {error}")))?;
        let host = place.authority().map(Authority::as_str).unwrap_or_default();
        let is_safe = match place.scheme_str() {
            Some("https") => true,
            Some("http") => is_local(host) || self.is_plain(host),
            _ => false,
        };
        if !is_safe {
            let shown = shown(url.as_bytes());
            return Err(wrong(format!("it has tokens at {shown:?}, which is not safe")));
        }
        let mut request = Request::builder().method("GET").uri(&url);
        if let Some(basic) = basic {
            request = request.header("authorization", basic);
        }
        let request =
            request.body(SendBody::none()).map_err(|error| wrong(format!("{url}: {error}")))?;
        let response = self.call(&url, request)?;
        let status = response.status();
        if status.is_server_error() {
            return Err(Failed::Again(format!("{url}: {status}")));
        }
        if !status.is_success() {
            return Err(wrong(format!("no token from {url}: {status}")));
        }
        let mut reader = response.into_body().into_reader();
        let token =
            json::read(&url, &mut reader, 1 << 20).and_then(|bytes| Challenge::token(&url, &bytes));
        token.map_err(Failed::For)
    }
}
