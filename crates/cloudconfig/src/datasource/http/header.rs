//! The header of an answer, and what it says about the body (RFC 9112).

/// How long a body is (RFC 9112 section 6.3).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    Close,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) framing: Framing,
    /// Bytes up to the body.
    pub(super) length: usize,
}

impl Header {
    /// The header that bytes begin with; none where it is not whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|digits| digits.parse::<u16>().ok())
            .ok_or_else(|| "what answers does not speak HTTP/1.1".to_owned())?;
        let mut found =
            Self { status, location: None, framing: Framing::Close, length: end.saturating_add(4) };
        let mut length: Option<usize> = None;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "location" => found.location = Some(value.to_owned()),
                "content-length" => {
                    let size =
                        value.parse().map_err(|_| "a length that is no number".to_owned())?;
                    if length.is_some_and(|earlier| earlier != size) {
                        return Err("two lengths that differ".into());
                    }
                    length = Some(size);
                }
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                    found.framing = Framing::Chunked;
                }
                "transfer-encoding" => return Err("a transfer encoding that is not known".into()),
                "content-encoding" if !value.eq_ignore_ascii_case("identity") => {
                    return Err("a content encoding that nobody asked for".into());
                }
                _ => {}
            }
        }
        if let (Framing::Close, Some(length)) = (&found.framing, length) {
            found.framing = Framing::Length(length);
        }
        Ok(Some(found))
    }
}

/// RFC 9112 section 7.1; none where they are not whole. What follows the last one is passed over.
pub(super) fn chunks(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        bytes = bytes.get(end.checked_add(2)?..)?;
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_bodies() {
        assert_eq!(chunks(b"4;x=y\r\nWiki\r\n1\r\n!\r\n0\r\n\r\n").unwrap(), b"Wiki!");
        for bad in [
            &b"4\r\nWik"[..],
            b"4\r\nWikiX\r\n0\r\n",
            b"",
            b"ffffffffffffffffff\r\n",
            b"+1\r\na\r\n0\r\n",
        ] {
            assert_eq!(chunks(bad), None);
        }
    }
}
