//! What a blob of user-data is: a cloud-config, a script, these compressed, or several of them as
//! parts of a MIME message. Other kinds of cloud-init are refused by name.

mod mime;

use std::sync::Arc;

use crate::unpack::{Inflated, gunzip};
use crate::{Finding, Findings, Kind, Limits, Place};

/// A part of user-data that is done here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// How it is called in messages: the name of the blob, and in a message which part it is.
    pub name: String,
    /// What it is.
    pub kind: PartKind,
    /// What is in it, unpacked.
    pub bytes: Vec<u8>,
}

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartKind {
    /// A document for [`crate::document::read`].
    CloudConfig,
    /// A program that begins with `#!`.
    Script,
}

/// How the first line says what something is (cloud-init's "User-data formats"); those with a reason
/// are not done here. What begins another one stands after it.
const FIRST_LINES: &[(&str, Known)] = &[
    ("#!", Known::Done(PartKind::Script)),
    ("#cloud-config-archive", Known::Refused("a cloud-config archive")),
    ("#cloud-config-jsonp", Known::Refused("a JSON patch of a cloud-config")),
    ("#cloud-config", Known::Done(PartKind::CloudConfig)),
    ("#cloud-boothook", Known::Refused("a boot hook")),
    ("#include-once", Known::Refused("a list of addresses to include")),
    ("#include", Known::Refused("a list of addresses to include")),
    ("## template:", Known::Refused("a template (Jinja)")),
    ("#part-handler", Known::Refused("a part handler")),
    ("#upstart-job", Known::Refused("an Upstart job")),
    ("#compose", Known::Refused("a compose file")),
    ("{\"ignition\"", Known::Refused("an Ignition configuration")),
];

#[derive(Debug, Clone, Copy)]
enum Known {
    Done(PartKind),
    Refused(&'static str),
}

/// Takes user-data apart. What cannot be used is told, and the other parts count.
///
/// ```
/// use kiln_cloudconfig::Limits;
/// use kiln_cloudconfig::user_data::{self, PartKind};
///
/// let (parts, findings) = user_data::read("user-data", b"#!/bin/sh\necho hi\n", &Limits::default());
/// assert!(findings.is_empty());
/// assert_eq!(parts[0].kind, PartKind::Script);
///
/// let (_, findings) = user_data::read("user-data", b"#include\nhttp://x/\n", &Limits::default());
/// assert_eq!(
///     findings.to_string(),
///     "user-data: a list of addresses to include (#include), which is not supported"
/// );
/// ```
#[must_use]
pub fn read(name: &str, bytes: &[u8], limits: &Limits) -> (Vec<Part>, Findings) {
    let mut reader = Reader { limits, parts: Vec::new(), findings: Vec::new(), bytes: 0, seen: 0 };
    if bytes.len() > limits.user_data_bytes {
        let (size, most) = (bytes.len(), limits.user_data_bytes);
        reader.tell(
            name,
            Kind::Unreadable,
            format!("{size} bytes, of which at most {most} are read"),
        );
    } else {
        reader.blob(name, bytes, None, 0);
    }
    (reader.parts, crate::place::settle(reader.findings, limits.findings))
}

struct Reader<'l> {
    limits: &'l Limits,
    parts: Vec<Part>,
    findings: Vec<Finding>,
    /// Bytes that have been unpacked.
    bytes: usize,
    seen: usize,
}

impl Reader<'_> {
    fn tell(&mut self, name: &str, kind: Kind, what: impl Into<String>) {
        let place = Place::whole(Arc::<str>::from(name));
        self.findings.push(Finding::new(kind, place, "", what));
    }

    /// Something of which a message may say what it is.
    fn blob(&mut self, name: &str, bytes: &[u8], said: Option<&str>, nesting: usize) {
        if nesting > self.limits.nesting {
            let most = self.limits.nesting;
            self.tell(name, Kind::Unreadable, format!("packed more than {most} times"));
            return;
        }
        if bytes.starts_with(&[0x1f, 0x8b]) {
            self.compressed(name, bytes, said, nesting);
            return;
        }
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        if text.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        if mime::is_message(text) {
            self.message(name, text, nesting);
            return;
        }
        let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let known = FIRST_LINES.iter().find(|(begin, _)| first.starts_with(begin.as_bytes()));
        match known {
            Some((_, Known::Done(kind))) => self.keep(name, *kind, text),
            Some((begin, Known::Refused(what))) => {
                let what = format!("{what} ({begin}), which is not supported");
                self.tell(name, Kind::NotSupported, what);
            }
            // A message may say what does not say so itself.
            None => match said {
                Some("text/cloud-config") => self.keep(name, PartKind::CloudConfig, text),
                Some("text/x-shellscript") => self.keep(name, PartKind::Script, text),
                _ => {
                    let first: Vec<u8> = first.iter().take(40).copied().collect();
                    let first = String::from_utf8_lossy(&first).into_owned();
                    let what = format!(
                        "it begins with {first:?}, expected #cloud-config, #!, gzip or a MIME message"
                    );
                    self.tell(name, Kind::Unreadable, what);
                }
            },
        }
    }

    fn keep(&mut self, name: &str, kind: PartKind, bytes: &[u8]) {
        self.parts.push(Part { name: name.to_owned(), kind, bytes: bytes.to_vec() });
    }

    fn compressed(&mut self, name: &str, bytes: &[u8], said: Option<&str>, nesting: usize) {
        let most = self.limits.user_data_bytes.saturating_sub(self.bytes);
        match gunzip(bytes, most) {
            Inflated::Bytes(bytes) => {
                self.bytes = self.bytes.saturating_add(bytes.len());
                self.blob(name, &bytes, said, nesting.saturating_add(1));
            }
            Inflated::TooLong => {
                let most = self.limits.user_data_bytes;
                self.tell(name, Kind::Unreadable, format!("more than {most} bytes when unpacked"));
            }
            Inflated::Broken => self.tell(name, Kind::Unreadable, "damaged gzip"),
        }
    }

    fn message(&mut self, name: &str, bytes: &[u8], nesting: usize) {
        let message = match mime::split(bytes) {
            Ok(message) => message,
            Err(why) => {
                self.tell(name, Kind::Unreadable, format!("a MIME message {why}"));
                return;
            }
        };
        for (at, part) in message.iter().enumerate() {
            self.seen = self.seen.saturating_add(1);
            if self.seen > self.limits.parts {
                let most = self.limits.parts;
                self.tell(name, Kind::Unreadable, format!("more than {most} parts"));
                return;
            }
            let number = at.saturating_add(1).to_string();
            let label = part.filename.as_deref().unwrap_or(&number);
            let label = format!("{name}[{label}]");
            if part.merges {
                let what = "its Merge-Type, which is not supported: the usual rules count";
                self.tell(&label, Kind::NotSupported, what);
            }
            let content = match mime::decoded(part) {
                Ok(content) => content,
                Err(why) => {
                    self.tell(&label, Kind::Unreadable, why);
                    continue;
                }
            };
            self.bytes = self.bytes.saturating_add(content.len());
            // Each level of messages holds its parts once more.
            if self.bytes > self.limits.user_data_bytes.saturating_mul(2) {
                self.tell(&label, Kind::Unreadable, "too many bytes when unpacked");
                return;
            }
            if part.kind.starts_with("multipart/") {
                // Its own header says where it is to be cut.
                let mut whole = part.header.to_vec();
                whole.extend_from_slice(b"\n\n");
                whole.extend_from_slice(&content);
                self.message_in(&label, &whole, nesting.saturating_add(1));
            } else {
                self.blob(&label, &content, Some(&part.kind), nesting.saturating_add(1));
            }
        }
    }

    fn message_in(&mut self, name: &str, bytes: &[u8], nesting: usize) {
        if nesting > self.limits.nesting {
            let most = self.limits.nesting;
            self.tell(name, Kind::Unreadable, format!("packed more than {most} times"));
        } else {
            self.message(name, bytes, nesting);
        }
    }
}
