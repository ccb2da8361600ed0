//! Requests of HTTP/1.1 for a file or a part of it, as everything that boots writes them.
//!
//! What is said in any other way is not understood here, and left to hyper: other methods and versions, bodies,
//! conditions, names with signs in them, several ranges, heads that come in pieces.

use std::ops::Range;

use httparse::Status;

/// Fields of a head that are read; with more it is hyper's.
const FIELDS: usize = 32;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Bytes of the request.
    pub(super) len: usize,
    /// Whether the file itself is wanted, or only what is said of it.
    pub(super) body: bool,
    /// The path, with the slash at its beginning.
    pub(super) path: String,
    /// The bytes that are wanted: the first, and the last where it is said.
    pub(super) range: Option<(u64, Option<u64>)>,
    /// Whether that was all.
    pub(super) last: bool,
}

impl Asked {
    /// Reads a request; none where it is not understood or not whole.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let Ok(Status::Complete(len)) = request.parse(bytes) else { return None };
        let body = match (request.method?, request.version?) {
            ("GET", 1) => true,
            ("HEAD", 1) => false,
            _ => return None,
        };
        let path = request.path?;
        let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"/-._~+,@=:".contains(&it);
        if !path.starts_with('/') || !path.bytes().all(is_plain) {
            return None;
        }
        let mut asked = Self { len, body, path: path.to_owned(), range: None, last: false };
        for field in request.headers.iter() {
            let name = field.name.to_ascii_lowercase();
            match name.as_str() {
                "range" if asked.range.is_none() => asked.range = Some(range(field.value)?),
                "connection" if field.value.eq_ignore_ascii_case(b"close") => asked.last = true,
                "connection" if field.value.eq_ignore_ascii_case(b"keep-alive") => {}
                "range" | "connection" | "content-length" | "transfer-encoding" | "expect"
                | "upgrade" => return None,
                _ if name.starts_with("if-") => return None,
                _ => {}
            }
        }
        Some(asked)
    }

    /// Which bytes of a file of this length are wanted; none where it does not have the first of them.
    pub(super) fn part(&self, len: u64) -> Option<Range<u64>> {
        match self.range {
            None => Some(0..len),
            Some((first, _)) if first >= len => None,
            Some((first, last)) => {
                Some(first..last.map_or(len, |last| last.saturating_add(1).min(len)))
            }
        }
    }
}

/// A range from its first byte on (RFC 9110 section 14.1.2).
fn range(value: &[u8]) -> Option<(u64, Option<u64>)> {
    let value = std::str::from_utf8(value).ok()?.strip_prefix("bytes=")?;
    let (first, last) = value.split_once('-')?;
    let number = |text: &str| {
        text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    let first = number(first)?;
    let last = if last.is_empty() { None } else { Some(number(last)?) };
    (last.is_none_or(|last| last >= first)).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Asked> {
        Asked::parse(text.as_bytes())
    }

    #[test]
    fn files_and_parts_are_understood() {
        let asked = of("GET /boot/vmlinuz-6.1 HTTP/1.1\r\nHost: a\r\n\r\nGET").unwrap();
        let expected = Asked {
            len: 43,
            body: true,
            path: "/boot/vmlinuz-6.1".into(),
            range: None,
            last: false,
        };
        assert_eq!(asked, expected);
        assert_eq!(asked.part(0), Some(0..0));
        assert_eq!(asked.part(7), Some(0..7));
        let asked = of("HEAD /a HTTP/1.1\r\nconnection: Close\r\nRANGE: bytes=5-\r\n\r\n").unwrap();
        assert!(!asked.body && asked.last);
        assert_eq!(asked.part(7), Some(5..7));
        assert_eq!(asked.part(5), None);
        for (said, part) in [
            ("0-0", Some(0..1)),
            ("3-99", Some(3..7)),
            ("3-18446744073709551615", Some(3..7)),
            ("7-8", None),
        ] {
            let asked = of(&format!("GET /a HTTP/1.1\r\nRange: bytes={said}\r\n\r\n")).unwrap();
            assert_eq!(asked.part(7), part, "{said}");
        }
    }

    #[test]
    fn everything_else_is_left() {
        for other in [
            "",
            "GET /a HTTP/1.1\r\nHost: a\r\n",
            "GET /a HTTP/1.0\r\n\r\n",
            "POST /a HTTP/1.1\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
            "GET http://a/b HTTP/1.1\r\n\r\n",
            "GET /a%20b HTTP/1.1\r\n\r\n",
            "GET /a?b HTTP/1.1\r\n\r\n",
            "GET /a\\b HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /a HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
            "GET /a HTTP/1.1\r\nConnection: Upgrade\r\n\r\n",
            "GET /a HTTP/1.1\r\nIf-Modified-Since: x\r\n\r\n",
            "GET /a HTTP/1.1\r\nif-range: x\r\nRange: bytes=0-1\r\n\r\n",
            "GET /a HTTP/1.1\r\nRange: bytes=-5\r\n\r\n",
            "GET /a HTTP/1.1\r\nRange: bytes=5-4\r\n\r\n",
            "GET /a HTTP/1.1\r\nRange: bytes=0-1,3-4\r\n\r\n",
            "GET /a HTTP/1.1\r\nRange: bytes=+1-4\r\n\r\n",
            "GET /a HTTP/1.1\r\nRange: bytes=18446744073709551616-\r\n\r\n",
            "GET /a HTTP/1.1\r\nRange: lines=1-4\r\n\r\n",
            "GET /a HTTP/1.1\r\nRange: bytes=1-4\r\nRange: bytes=1-4\r\n\r\n",
            "GET /a HTTP/1.1\r\n folded: a\r\n\r\n",
        ] {
            assert_eq!(of(other), None, "{other:?}");
        }
        let many = "A: b\r\n".repeat(FIELDS + 1);
        assert_eq!(of(&format!("GET /a HTTP/1.1\r\n{many}\r\n")), None);
    }
}
