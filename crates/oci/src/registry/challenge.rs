//! What a registry asks of who is not let in (RFC 9110, section 11.6.1), and the token that it has
//! somebody fetch (Docker's token authentication, which the distribution specification points to).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Error, Result, json};

/// A challenge of the header `WWW-Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Challenge {
    /// How somebody may say who it is, in small letters: `basic`, `bearer`.
    pub scheme: String,
    /// What is said besides, by names in small letters. Of a name that is there twice the first counts.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// Reads the challenges of a header, of which there may be several. What comes after something
    /// that is none is not looked at.
    ///
    /// ```
    /// use kiln_oci::registry::Challenge;
    ///
    /// let header = r#"Basic realm="r", Bearer realm="https://auth.example.org/",scope="a:b,c""#;
    /// let [_, bearer] = &Challenge::parse(header)[..] else { panic!() };
    /// assert_eq!(
    ///     bearer.token_address().as_deref(),
    ///     Some("https://auth.example.org/?scope=a%3Ab%2Cc")
    /// );
    /// ```
    #[must_use]
    pub fn parse(header: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut rest = header;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let (name, after) = cut(rest, is_token);
            if name.is_empty() {
                return found;
            }
            let name = name.to_ascii_lowercase();
            let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
            match (value, found.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let (value, after) = parameter(value.trim_start_matches([' ', '\t']));
                    challenge.parameters.entry(name).or_insert(value);
                    rest = after;
                }
                // A parameter of nothing.
                (Some(_), None) => return found,
                (None, _) => {
                    found.push(Self { scheme: name, parameters: BTreeMap::new() });
                    rest = without_token68(after);
                }
            }
        }
    }

    /// Where a token is had, and for what; `None` where that is not said.
    #[must_use]
    pub fn token_address(&self) -> Option<String> {
        let mut address = self.parameters.get("realm")?.clone();
        for key in ["service", "scope"] {
            if let Some(value) = self.parameters.get(key) {
                address.push(if address.contains('?') { '&' } else { '?' });
                address.push_str(key);
                address.push('=');
                address.push_str(&escaped(value));
            }
        }
        Some(address)
    }

    /// The token in what such an address gives.
    ///
    /// # Errors
    /// [`Error::Document`] for what is no JSON, and where there is none.
    pub fn token(origin: &str, answer: &[u8]) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let answer: Answer = json::parse(origin, answer)?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(|| Error::document(origin, "there is no token in it"))
    }
}

/// The characters of a name (RFC 9110, section 5.6.2).
fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

fn cut(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|letter| !belongs(letter)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// A value, and what is after it. Without quotes it may have more characters than the standard allows,
/// as those of some registries have.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = cut(text, |letter| !matches!(letter, ',' | ' ' | '\t'));
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => value.extend(letters.next()),
            letter => value.push(letter),
        }
    }
    (value, letters.as_str())
}

/// What is after a scheme, without the single value that some have instead of parameters.
fn without_token68(text: &str) -> &str {
    let value = text.trim_start_matches([' ', '\t']);
    let (_, after) =
        cut(value, |letter| letter.is_ascii_alphanumeric() || "-._~+/".contains(letter));
    let after = after.trim_start_matches('=').trim_start_matches([' ', '\t']);
    if after.is_empty() || after.starts_with(',') { after } else { text }
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

    fn read(header: &str) -> Vec<(String, Vec<(String, String)>)> {
        let pairs = |challenge: Challenge| {
            (challenge.scheme, challenge.parameters.into_iter().collect::<Vec<_>>())
        };
        Challenge::parse(header).into_iter().map(pairs).collect()
    }

    fn one(scheme: &str, pairs: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        (scheme.to_owned(), pairs.iter().map(own).collect())
    }

    #[test]
    fn challenges_are_read() {
        // RFC 9110, section 11.6.1
        let header = "Basic realm=\"simple\", Newauth realm=\"apps\", type=1, title=\"Login to \\\"apps\\\"\"";
        let newauth = [("realm", "apps"), ("title", "Login to \"apps\""), ("type", "1")];
        assert_eq!(read(header), [one("basic", &[("realm", "simple")]), one("newauth", &newauth)]);
        let header = r#"Bearer realm="https://auth.example.org/t?a=b",service="r", scope="repository:a/b:pull,push""#;
        let expected = [
            ("realm", "https://auth.example.org/t?a=b"),
            ("scope", "repository:a/b:pull,push"),
            ("service", "r"),
        ];
        assert_eq!(read(header), [one("bearer", &expected)]);
        let address = Challenge::parse(header)[0].token_address();
        let expected =
            "https://auth.example.org/t?a=b&service=r&scope=repository%3Aa%2Fb%3Apull%2Cpush";
        assert_eq!(address.as_deref(), Some(expected));
    }

    #[test]
    fn what_is_not_as_it_should_be_is_read_as_far_as_it_goes() {
        assert_eq!(read(""), []);
        assert_eq!(read("a=b"), []);
        assert_eq!(read("\"x\""), []);
        assert_eq!(read("Negotiate , Basic"), [one("negotiate", &[]), one("basic", &[])]);
        let with_value = [one("negotiate", &[]), one("bearer", &[("realm", "x")])];
        assert_eq!(read("Negotiate YWJj==, Bearer realm=x"), with_value);
        assert_eq!(read("Bearer realm=\"open"), [one("bearer", &[("realm", "open")])]);
        assert_eq!(
            read("Bearer scope=a:b realm = x"),
            [one("bearer", &[("realm", "x"), ("scope", "a:b")])]
        );
        assert_eq!(read("Bearer realm=a,realm=b"), [one("bearer", &[("realm", "a")])]);
        assert_eq!(Challenge::parse("Bearer service=x")[0].token_address(), None);
    }

    #[test]
    fn tokens_have_two_names() {
        let token =
            |text: &str| Challenge::token("x", text.as_bytes()).map_err(|it| it.to_string());
        assert_eq!(token(r#"{"token":"a","access_token":"b"}"#).as_deref(), Ok("a"));
        assert_eq!(token(r#"{"access_token":"b","expires_in":300}"#).as_deref(), Ok("b"));
        for empty in ["{}", r#"{"token":""}"#, r#"{"token":null}"#] {
            assert_eq!(token(empty), Err("x: there is no token in it".into()));
        }
        assert!(token("[").is_err());
    }
}
