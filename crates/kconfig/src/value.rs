//! What an option is set to: the values that a `.config` line can hold.
//!
//! A `.config` does not say of which type an option is (the Kconfig files do), so a value is read
//! by its spelling. The rules are those of the kernel's own reader, `conf_set_sym_val()` in
//! `scripts/kconfig/confdata.c` and `sym_string_valid()` in `scripts/kconfig/symbol.c`.

use std::fmt;

/// Off, a loadable module, or built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tristate {
    /// `n`, or `# CONFIG_X is not set`.
    No,
    /// `m`: a loadable module.
    Module,
    /// `y`: in the kernel image itself.
    Yes,
}

impl Tristate {
    /// The letter that a `.config` writes.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::No => 'n',
            Self::Module => 'm',
            Self::Yes => 'y',
        }
    }
}

impl fmt::Display for Tristate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

/// The value of one option.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Value {
    /// `y`, `m`, `n`, or `# CONFIG_X is not set` (which is `n`).
    Tristate(Tristate),
    /// A decimal number without leading zeros, perhaps negative.
    Int(i64),
    /// A hexadecimal number; the `0x` may be absent when a digit says that it is one.
    Hex(u64),
    /// A quoted string with its escapes undone. Bytes, because a `.config` has no encoding.
    String(Vec<u8>),
}

impl Value {
    /// Built in.
    pub const YES: Self = Self::Tristate(Tristate::Yes);
    /// A loadable module.
    pub const MODULE: Self = Self::Tristate(Tristate::Module);
    /// Off.
    pub const NO: Self = Self::Tristate(Tristate::No);

    /// A string value.
    pub fn string(text: impl Into<String>) -> Self {
        Self::String(text.into().into_bytes())
    }

    /// The tristate, if it is one.
    #[must_use]
    pub fn tristate(&self) -> Option<Tristate> {
        match self {
            Self::Tristate(t) => Some(*t),
            _ => None,
        }
    }

    /// The string, if it is one and is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The number, if it is one that fits.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Hex(n) => i64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The bytes that stand behind the `=` in a `.config`, quoted and escaped as the kernel does
    /// (`escape_string_value()` in `confdata.c`: a backslash before `"` and `\`).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Tristate(t) => t.to_string().into_bytes(),
            Self::Int(n) => n.to_string().into_bytes(),
            Self::Hex(n) => format!("{n:#x}").into_bytes(),
            Self::String(text) => {
                let mut out = Vec::with_capacity(text.len() + 2);
                out.push(b'"');
                for &byte in text {
                    if matches!(byte, b'"' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(byte);
                }
                out.push(b'"');
                out
            }
        }
    }

    /// Reads what stands behind the `=`, without line ending.
    ///
    /// The second half tells of text behind the value, which the kernel ignores.
    ///
    /// # Errors
    ///
    /// Why the text is no value of any type.
    pub(crate) fn read(raw: &[u8]) -> Result<(Self, Trailing), Malformed> {
        let Some(&first) = raw.first() else { return Err(Malformed::Empty) };
        if raw.contains(&0) {
            return Err(Malformed::Nul);
        }
        if first == b'"' {
            return read_string(raw);
        }
        let letter = match first {
            b'y' => Some(Tristate::Yes),
            b'm' => Some(Tristate::Module),
            b'n' => Some(Tristate::No),
            _ => None,
        };
        if let Some(tristate) = letter {
            // The kernel looks at the first letter alone; a word such as "yes" is still a mistake
            // that somebody wants to hear of, blanks and a comment behind the letter less so.
            return match raw.get(1) {
                None => Ok((Self::Tristate(tristate), Trailing::No)),
                Some(b' ' | b'\t') => Ok((Self::Tristate(tristate), Trailing::Yes)),
                Some(_) => Err(Malformed::Unquoted),
            };
        }
        read_number(raw).map(|number| (number, Trailing::No))
    }
}

/// Whether something stands behind a complete value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trailing {
    No,
    Yes,
}

/// Why the text behind a `=` is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Nothing stands behind the `=`.
    Empty,
    /// A string without a closing quote.
    Unterminated,
    /// A NUL byte: the kernel's reader stops there.
    Nul,
    /// A number outside 64 bits.
    Overflow,
    /// Text that is no number and stands in no quotes.
    Unquoted,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "nothing behind the '='",
            Self::Unterminated => "string without a closing quote",
            Self::Nul => "value with a NUL byte",
            Self::Overflow => "number does not fit into 64 bits",
            Self::Unquoted => "expected y, m, n, a number or a quoted string",
        })
    }
}

fn read_string(raw: &[u8]) -> Result<(Value, Trailing), Malformed> {
    let mut text = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().skip(1);
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => {
                let trailing = if bytes.next().is_some() { Trailing::Yes } else { Trailing::No };
                return Ok((Value::String(text), trailing));
            }
            b'\\' => text.push(*bytes.next().ok_or(Malformed::Unterminated)?),
            _ => text.push(byte),
        }
    }
    Err(Malformed::Unterminated)
}

fn read_number(raw: &[u8]) -> Result<Value, Malformed> {
    let text = std::str::from_utf8(raw).map_err(|_| Malformed::Unquoted)?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    // A leading zero makes an int invalid for the kernel, but not a hex.
    if decimal && (digits == "0" || !digits.starts_with('0')) {
        return text.parse().map(Value::Int).map_err(|_| Malformed::Overflow);
    }
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return u64::from_str_radix(hex, 16).map(Value::Hex).map_err(|_| Malformed::Overflow);
    }
    Err(Malformed::Unquoted)
}

impl fmt::Display for Value {
    /// As a `.config` writes it, for people: bytes that are not UTF-8 are replaced, control
    /// characters escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.to_bytes()))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tristate(t) => write!(f, "Tristate({t})"),
            Self::Int(n) => write!(f, "Int({n})"),
            Self::Hex(n) => write!(f, "Hex({n:#x})"),
            Self::String(_) => write!(f, "String({self})"),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

/// Foreign bytes as one line of text: at most 200 characters, control characters escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    // Four bytes per character at most, so this much always suffices.
    let head = bytes.get(..LONGEST * 4 + 4).unwrap_or(bytes);
    let text = String::from_utf8_lossy(head);
    let mut out = String::with_capacity(text.len());
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, Malformed> {
        Value::read(text.as_bytes()).map(|(value, _)| value)
    }

    #[test]
    fn values_read_by_their_spelling() {
        let cases = [
            ("y", Value::YES),
            ("m", Value::MODULE),
            ("n", Value::NO),
            ("0", Value::Int(0)),
            ("-1", Value::Int(-1)),
            ("64", Value::Int(64)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("0x1000000", Value::Hex(0x0100_0000)),
            ("0Xff", Value::Hex(255)),
            ("ff", Value::Hex(255)),
            ("007", Value::Hex(7)),
            ("0xffffffffffffffff", Value::Hex(u64::MAX)),
            ("\"\"", Value::string("")),
            ("\"a b\"", Value::string("a b")),
            (r#""say \"hi\" \\o/""#, Value::string("say \"hi\" \\o/")),
            (r#""\a""#, Value::string("a")),
        ];
        for (text, value) in cases {
            assert_eq!(read(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_says_why() {
        let cases = [
            ("", Malformed::Empty),
            ("\"abc", Malformed::Unterminated),
            ("\"abc\\", Malformed::Unterminated),
            ("\"abc\\\"", Malformed::Unterminated),
            ("y\0", Malformed::Nul),
            ("99999999999999999999", Malformed::Overflow),
            ("0x1ffffffffffffffff", Malformed::Overflow),
            ("yes", Malformed::Unquoted),
            ("-", Malformed::Unquoted),
            ("0x", Malformed::Unquoted),
            ("gnu", Malformed::Unquoted),
            (" y", Malformed::Unquoted),
        ];
        for (text, why) in cases {
            assert_eq!(read(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn text_behind_a_value_is_noticed() {
        assert_eq!(Value::read(b"y # wanted"), Ok((Value::YES, Trailing::Yes)));
        assert_eq!(Value::read(b"\"a\" b"), Ok((Value::string("a"), Trailing::Yes)));
        assert_eq!(Value::read(b"\"a\""), Ok((Value::string("a"), Trailing::No)));
    }

    #[test]
    fn foreign_bytes_print_on_one_line() {
        assert_eq!(printable(b"a\x1b[31m\nb\xff"), "a\\u{1b}[31m\\nb\u{fffd}");
        assert_eq!(printable(&[b'x'; 5000]).chars().count(), 201);
    }
}
