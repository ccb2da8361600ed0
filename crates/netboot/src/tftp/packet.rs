//! What stands in a datagram (RFC 1350 section 5, RFC 2347).

use core::fmt;

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OPTION_ACK: u16 = 6;

/// Options of one request that are read; more are left out.
const MOST_OPTIONS: usize = 16;

/// Why bytes are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Shorter than its kind has to be.
    Truncated,
    /// None of the six kinds.
    Kind(u16),
    /// A text without its end, or that is no UTF-8.
    Text,
    /// A mode of transfer that is none.
    Mode,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the packet is too short"),
            Self::Kind(kind) => write!(f, "no packet has the number {kind}"),
            Self::Text => f.write_str("a text is no text, or does not end"),
            Self::Mode => f.write_str("the mode is neither octet nor netascii"),
        }
    }
}

impl core::error::Error for Malformed {}

/// How the bytes of a file are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As they are.
    Octet,
    /// As text, which nothing that boots asks for.
    Netascii,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The file, as the client calls it.
    pub file: String,
    /// How its bytes are to be understood.
    pub mode: Mode,
    /// Names of options in lower case, with their values.
    pub options: Vec<(String, String)>,
}

impl Request {
    /// The number that an option says; `None` without the option or a number.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<u64> {
        let (_, value) = self.options.iter().find(|(option, _)| option == name)?;
        value.parse().ok()
    }
}

/// What an error packet says with a number (RFC 1350 section 5, RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the text.
    Undefined = 0,
    /// There is no such file.
    NotFound = 1,
    /// That is not allowed.
    AccessViolation = 2,
    /// No room, or too many at once.
    DiskFull = 3,
    /// What is asked for is no operation.
    IllegalOperation = 4,
    /// It comes from nobody who is known.
    UnknownTransfer = 5,
    /// The options are not taken.
    BadOptions = 8,
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A file is asked for.
    Read(Request),
    /// A file is offered.
    Write(Request),
    /// A piece of a file.
    Data {
        /// Its number, from 1, modulo 65536.
        block: u16,
        /// Its bytes; fewer than the block size in the last one.
        data: &'a [u8],
    },
    /// Pieces up to this one have come.
    Ack(u16),
    /// It ends here.
    Error {
        /// The number of the error, which may be none that is known.
        code: u16,
        /// For people.
        message: String,
    },
    /// Options that are taken, with their values.
    OptionAck(Vec<(String, String)>),
}

fn word(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (word, rest) = bytes.split_first_chunk::<2>().ok_or(Malformed::Truncated)?;
    Ok((u16::from_be_bytes(*word), rest))
}

/// A text up to its NUL.
fn text(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Malformed::Text)?;
    let (text, rest) = bytes.split_at(end);
    let text = core::str::from_utf8(text).map_err(|_| Malformed::Text)?;
    Ok((text, rest.get(1..).unwrap_or_default()))
}

fn options(mut rest: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut options = Vec::new();
    while !rest.is_empty() && options.len() < MOST_OPTIONS {
        // firmware pads its requests
        if rest.iter().all(|byte| *byte == 0) {
            break;
        }
        let (name, after) = text(rest)?;
        let (value, after) = text(after)?;
        options.push((name.to_ascii_lowercase(), value.to_owned()));
        rest = after;
    }
    Ok(options)
}

fn request(rest: &[u8]) -> Result<Request, Malformed> {
    let (file, rest) = text(rest)?;
    let (mode, rest) = text(rest)?;
    let mode = match mode.to_ascii_lowercase().as_str() {
        "octet" => Mode::Octet,
        "netascii" => Mode::Netascii,
        _ => return Err(Malformed::Mode),
    };
    Ok(Request { file: file.to_owned(), mode, options: options(rest)? })
}

impl<'a> Packet<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, rest) = word(bytes)?;
        Ok(match kind {
            READ => Self::Read(request(rest)?),
            WRITE => Self::Write(request(rest)?),
            DATA => {
                let (block, data) = word(rest)?;
                Self::Data { block, data }
            }
            ACK => Self::Ack(word(rest)?.0),
            ERROR => {
                let (code, rest) = word(rest)?;
                let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
                let message = rest.get(..end).unwrap_or_default();
                Self::Error { code, message: String::from_utf8_lossy(message).into_owned() }
            }
            OPTION_ACK => Self::OptionAck(options(rest)?),
            kind => return Err(Malformed::Kind(kind)),
        })
    }

    /// Writes a datagram. A NUL within a text ends it there.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let word = |bytes: &mut Vec<u8>, word: u16| bytes.extend(word.to_be_bytes());
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend(text.bytes().take_while(|byte| *byte != 0));
            bytes.push(0);
        };
        match self {
            Self::Read(request) | Self::Write(request) => {
                word(&mut bytes, if matches!(self, Self::Read(_)) { READ } else { WRITE });
                text(&mut bytes, &request.file);
                text(&mut bytes, if request.mode == Mode::Octet { "octet" } else { "netascii" });
                for (name, value) in &request.options {
                    text(&mut bytes, name);
                    text(&mut bytes, value);
                }
            }
            Self::Data { block, data } => {
                word(&mut bytes, DATA);
                word(&mut bytes, *block);
                bytes.extend_from_slice(data);
            }
            Self::Ack(block) => {
                word(&mut bytes, ACK);
                word(&mut bytes, *block);
            }
            Self::Error { code, message } => {
                word(&mut bytes, ERROR);
                word(&mut bytes, *code);
                text(&mut bytes, message);
            }
            Self::OptionAck(options) => {
                word(&mut bytes, OPTION_ACK);
                for (name, value) in options {
                    text(&mut bytes, name);
                    text(&mut bytes, value);
                }
            }
        }
        bytes
    }

    /// An error with one of the known numbers.
    #[must_use]
    pub fn error(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Error { code: code as u16, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_request_of_rfc_2348() {
        let bytes = b"\0\x01foobar\0octet\0blksize\x001428\0";
        let Ok(Packet::Read(request)) = Packet::decode(bytes) else { panic!("no request") };
        assert_eq!((request.file.as_str(), request.mode), ("foobar", Mode::Octet));
        assert_eq!(request.option("blksize"), Some(1428));
        assert_eq!(Packet::Read(request).encode(), bytes);
    }

    #[test]
    fn firmware_is_read_as_it_writes() {
        // names in upper case, zeros behind it
        let bytes = b"\0\x01a\0OCTET\0TSIZE\x000\0BLKSIZE\x001468\0\0\0";
        let Ok(Packet::Read(request)) = Packet::decode(bytes) else { panic!("no request") };
        assert_eq!((request.option("tsize"), request.option("blksize")), (Some(0), Some(1468)));
        assert_eq!(request.option("windowsize"), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bytes, why) in [
            (&b""[..], Malformed::Truncated),
            (b"\0", Malformed::Truncated),
            (b"\0\x07", Malformed::Kind(7)),
            (b"\0\x04\0", Malformed::Truncated),
            (b"\0\x01name", Malformed::Text),
            (b"\0\x01name\0octet", Malformed::Text),
            (b"\0\x01name\0mail\0", Malformed::Mode),
            (b"\0\x01\xff\0octet\0", Malformed::Text),
            (b"\0\x01name\0octet\0blksize\0", Malformed::Text),
        ] {
            assert_eq!(Packet::decode(bytes), Err(why), "{bytes:?}");
        }
    }

    #[test]
    fn an_error_without_its_end_is_one() {
        let error = Packet::decode(b"\0\x05\0\x08no");
        assert_eq!(error, Ok(Packet::error(ErrorCode::BadOptions, "no")));
    }
}
