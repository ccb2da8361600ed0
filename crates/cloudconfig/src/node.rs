//! A document as a tree whose every node knows where it stands.

use std::collections::BTreeMap;

use crate::Place;

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, a number, a truth value, or nothing.
    Scalar(Scalar),
    /// Values in order.
    List(Vec<Node>),
    /// Values by name.
    Map(Map),
}

/// A scalar as it was written. What a plain one means is for [`Scalar::meaning`] to say, so that a
/// mode of `0644` can still be told from one of `420`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// Its characters, without quotes.
    pub text: String,
    /// Whether it was written without quotes, and so may be something else than a text.
    pub plain: bool,
}

/// What a scalar means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning<'a> {
    /// Nothing: empty, `~`, `null`.
    Null,
    /// `true` and `false`, and as YAML 1.1 has it `yes`, `no`, `on` and `off`.
    Bool(bool),
    /// A number: decimal, `0x`, `0o`, or as YAML 1.1 has it octal after a leading zero.
    Integer(i64),
    /// A number with a point or an exponent.
    Float(f64),
    /// A text.
    Text(&'a str),
}

impl Scalar {
    /// What it means: YAML 1.2's core schema (section 10.3), and of YAML 1.1 the other truth values
    /// and octal numbers, because cloud-init reads that.
    #[must_use]
    pub fn meaning(&self) -> Meaning<'_> {
        if !self.plain {
            return Meaning::Text(&self.text);
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
                Meaning::Bool(true)
            }
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
                Meaning::Bool(false)
            }
            text => number(text).unwrap_or(Meaning::Text(text)),
        }
    }
}

fn number(text: &str) -> Option<Meaning<'static>> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let first = digits.bytes().next()?;
    if !first.is_ascii_digit() && first != b'.' {
        return None;
    }
    let all = |digits: &str, radix| {
        !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix))
    };
    let (radix, digits) = match (digits.get(..2), digits.get(2..)) {
        (Some("0x"), Some(rest)) => (16, rest),
        (Some("0o"), Some(rest)) => (8, rest),
        _ if first == b'0' && digits.len() > 1 && all(digits, 8) => (8, digits),
        _ => (10, digits),
    };
    if all(digits, radix) {
        let size = i64::from_str_radix(digits, radix).ok()?;
        return Some(Meaning::Integer(if negative { size.checked_neg()? } else { size }));
    }
    let is_float = radix == 10
        && digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    // Rust reads no more than what the core schema's expression has, these letters alone given.
    if is_float { text.parse().ok().map(Meaning::Float) } else { None }
}

/// Values by name, in the order of writing. No name is there twice.
#[derive(Debug, Clone, Default)]
pub struct Map {
    entries: Vec<Entry>,
    index: BTreeMap<String, usize>,
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Where the name stands.
    pub key_place: Place,
    /// Its value.
    pub node: Node,
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Map {}

impl Map {
    /// A map without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The entries, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The entry of a name.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).and_then(|at| self.entries.get(*at))
    }

    /// The value of a name, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let at = self.index.get(key)?;
        self.entries.get_mut(*at).map(|entry| &mut entry.node)
    }

    pub(crate) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.entries.iter_mut().map(|entry| &mut entry.node)
    }

    /// Sets a value: in its place if the name is there, else at the end. Gives back what was there.
    pub fn insert(&mut self, key: impl Into<String>, key_place: Place, node: Node) -> Option<Node> {
        let key = key.into();
        if let Some(entry) = self.index.get(&key).and_then(|at| self.entries.get_mut(*at)) {
            entry.key_place = key_place;
            return Some(std::mem::replace(&mut entry.node, node));
        }
        self.index.insert(key.clone(), self.entries.len());
        self.entries.push(Entry { key, key_place, node });
        None
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

impl IntoIterator for Map {
    type Item = Entry;
    type IntoIter = std::vec::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl Node {
    /// Nothing.
    #[must_use]
    pub fn null(place: Place) -> Self {
        Self { place, value: Value::Scalar(Scalar { text: String::new(), plain: true }) }
    }

    /// A text.
    #[must_use]
    pub fn text(place: Place, text: impl Into<String>) -> Self {
        Self { place, value: Value::Scalar(Scalar { text: text.into(), plain: false }) }
    }

    /// A list.
    #[must_use]
    pub fn list(place: Place, items: Vec<Self>) -> Self {
        Self { place, value: Value::List(items) }
    }

    /// A map.
    #[must_use]
    pub fn map(place: Place, map: Map) -> Self {
        Self { place, value: Value::Map(map) }
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    /// The map that it is.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The node at a path of keys, and of positions in lists (`["users", "0", "name"]`).
    #[must_use]
    pub fn at<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> Option<&Self> {
        path.into_iter().try_fold(self, |node, key| match &node.value {
            Value::Map(map) => map.get(key),
            Value::List(items) => items.get(key.parse::<usize>().ok()?),
            Value::Scalar(_) => None,
        })
    }

    /// Whether both say the same, wherever they stand. The order of a map's entries counts.
    #[must_use]
    pub fn says(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Scalar(one), Value::Scalar(other)) => {
                one.meaning() == other.meaning()
                    && (one.text == other.text || !matches!(one.meaning(), Meaning::Text(_)))
            }
            (Value::List(one), Value::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.says(b))
            }
            (Value::Map(one), Value::Map(other)) => {
                one.len() == other.len()
                    && one.iter().zip(other).all(|(a, b)| a.key == b.key && a.node.says(&b.node))
            }
            _ => false,
        }
    }

    /// What it is, in words for a message.
    pub(crate) fn described(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => "nothing".into(),
                Meaning::Bool(_) => format!("the truth value {}", scalar.text),
                Meaning::Integer(_) | Meaning::Float(_) => {
                    format!("the number {}", scalar.text.chars().take(40).collect::<String>())
                }
                Meaning::Text(text) => format!("the text {}", crate::place::quoted(text)),
            },
        }
    }
}
