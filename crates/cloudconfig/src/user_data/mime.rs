//! MIME messages of several parts (RFC 2045 and 2046), as cloud-init's `make-mime` writes them.

use crate::place::quoted;

/// A part of a message, with what its header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MimePart<'m> {
    /// Its header as it is.
    pub(super) header: &'m [u8],
    /// `text/plain` and so on, in small letters.
    pub(super) kind: String,
    /// How it is to be called.
    pub(super) filename: Option<String>,
    /// Whether it wants rules of its own for merging.
    pub(super) merges: bool,
    encoding: String,
    body: &'m [u8],
}

/// Whether this is a message: header fields, among which are those that MIME has.
pub(super) fn is_message(bytes: &[u8]) -> bool {
    let (header, _) = header_and_body(bytes);
    let begins = |name: &str| {
        bytes.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    };
    ["content-type:", "mime-version:", "from "].iter().any(|name| begins(name))
        && field(header, "content-type").is_some()
}

/// Cuts a message into its parts.
pub(super) fn split(bytes: &[u8]) -> Result<Vec<MimePart<'_>>, String> {
    let (header, body) = header_and_body(bytes);
    let kind = field(header, "content-type").unwrap_or_default();
    let (name, parameters) = parameters(&kind);
    if !name.starts_with("multipart/") {
        return Ok(vec![part(bytes)]);
    }
    let boundary = parameters.into_iter().find(|(name, _)| name == "boundary");
    let Some((_, boundary)) = boundary.filter(|(_, text)| (1..=70).contains(&text.len())) else {
        return Err("without a boundary".into());
    };
    // RFC 2046 section 5.1.1: two hyphens and the boundary at the beginning of a line.
    let (mut parts, mut began, mut closed) = (Vec::new(), None, false);
    let mut at = 0_usize;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let here = at;
        at = at.saturating_add(line.len());
        let Some(rest) =
            line.strip_prefix(b"--").and_then(|it| it.strip_prefix(boundary.as_bytes()))
        else {
            continue;
        };
        let (last, rest) = match rest.strip_prefix(b"--") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if !rest.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if let Some(from) = began {
            // The break before a boundary is the boundary's.
            let bytes = body.get(from..here).unwrap_or_default();
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            parts.push(part(bytes.strip_suffix(b"\r").unwrap_or(bytes)));
        }
        began = Some(at);
        if last {
            closed = true;
            break;
        }
    }
    if closed { Ok(parts) } else { Err("whose last boundary is missing: it was cut off".into()) }
}

fn part(bytes: &[u8]) -> MimePart<'_> {
    let (header, body) = header_and_body(bytes);
    let kind = field(header, "content-type").unwrap_or_else(|| "text/plain".into());
    let disposition = field(header, "content-disposition").unwrap_or_default();
    let (_, named) = parameters(&disposition);
    let filename = named.into_iter().find(|(name, _)| name == "filename").map(|(_, text)| text);
    let merges = ["merge-type", "x-merge-type"].iter().any(|name| field(header, name).is_some());
    let encoding = field(header, "content-transfer-encoding").unwrap_or_default();
    MimePart {
        header,
        kind: parameters(&kind).0,
        filename: filename.filter(|name| !name.is_empty() && name.len() <= 255),
        merges,
        encoding: encoding.trim().to_ascii_lowercase(),
        body,
    }
}

/// The bytes that a part stands for (RFC 2045 section 6).
pub(super) fn decoded(part: &MimePart<'_>) -> Result<Vec<u8>, String> {
    match part.encoding.as_str() {
        "" | "7bit" | "8bit" | "binary" => Ok(part.body.to_vec()),
        "base64" => crate::unpack::base64(part.body).ok_or_else(|| "not base64".into()),
        "quoted-printable" => Ok(quoted_printable(part.body)),
        other => Err(format!("its transfer encoding {} is not known", quoted(other))),
    }
}

/// RFC 2045 section 6.7. What is no escape stays as it is.
fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let mut text = line.trim_ascii_end();
        let soft = text.strip_suffix(b"=");
        let end =
            if soft.is_some() { &b""[..] } else { line.get(text.len()..).unwrap_or_default() };
        text = soft.unwrap_or(text);
        let mut rest = text;
        while let Some((byte, after)) = rest.split_first() {
            let digit = |at: usize| after.get(at).and_then(|it| char::from(*it).to_digit(16));
            rest = after;
            match (byte, digit(0), digit(1)) {
                (b'=', Some(high), Some(low)) => {
                    out.extend(u8::try_from(high.wrapping_mul(16).wrapping_add(low)));
                    rest = after.get(2..).unwrap_or_default();
                }
                _ => out.push(*byte),
            }
        }
        // Blanks before a break were added on the way.
        let first = end.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        out.extend_from_slice(first.and_then(|at| end.get(at..)).unwrap_or_default());
    }
    out
}

/// What is before the first empty line, and what is after it.
fn header_and_body(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0_usize;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let next = at.saturating_add(line.len());
        if matches!(line, b"\n" | b"\r\n") {
            return (bytes.get(..at).unwrap_or_default(), bytes.get(next..).unwrap_or_default());
        }
        at = next;
    }
    (bytes, b"")
}

/// Bytes of a field that are read: more than any has that is meant well.
const FIELD: usize = 4096;

/// A field of a header, its lines joined (RFC 5322 section 2.2.3).
fn field(header: &[u8], wanted: &str) -> Option<String> {
    let mut found: Option<String> = None;
    for line in header.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line.get(..FIELD).unwrap_or(line));
        let line = line.trim_end_matches('\r');
        if line.starts_with([' ', '\t']) {
            if let Some(text) = found.as_mut().filter(|text| text.len() <= FIELD) {
                text.push(' ');
                text.push_str(line.trim());
            }
            continue;
        }
        if found.is_some() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case(wanted)
        {
            found = Some(value.trim().to_owned());
        }
    }
    found
}

/// `text/plain; charset="utf-8"`: the value in small letters, and the parameters.
fn parameters(text: &str) -> (String, Vec<(String, String)>) {
    let mut rest = text;
    let mut take = |end: char| match rest.split_once(end) {
        Some((before, after)) => {
            rest = after;
            Some(before.to_owned())
        }
        None => Some(std::mem::take(&mut rest).to_owned()).filter(|text| !text.is_empty()),
    };
    let value = take(';').unwrap_or_default().trim().to_ascii_lowercase();
    let mut found = Vec::new();
    while let Some(name) = take('=') {
        let name = name.trim().to_ascii_lowercase();
        let Some(next) = take(';') else { break };
        let mut next = next.trim_start().to_owned();
        if next.starts_with('"') {
            // A semicolon may stand between quotes.
            while next.matches('"').count() < 2 {
                let Some(more) = take(';') else { break };
                next = format!("{next};{more}");
            }
            next = next.split('"').nth(1).unwrap_or_default().to_owned();
        }
        found.push((name, next.trim().to_owned()));
    }
    (value, found)
}
