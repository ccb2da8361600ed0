//! Manifests as JSON, read strictly: unknown and repeated keys are problems as wrong values are, each
//! is told with its path, and all of them at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::names::Identifier;
use crate::error::shown;
use crate::{Error, Result};

/// More problems than these of one document are not told.
const MOST: usize = 100;

/// Reads a document, and what `read` makes of it where there is no problem.
pub(super) fn read<T>(
    origin: &str,
    bytes: &[u8],
    read: impl FnOnce(&Place<'_>) -> Option<T>,
) -> Result<T> {
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let value = Strict
        .deserialize(&mut from)
        .and_then(|value| from.end().map(|()| value))
        .map_err(|error| Error::document(origin, error))?;
    let problems = RefCell::new(Vec::new());
    let root = Place { problems: &problems, path: String::new(), value: &value };
    let made = read(&root);
    match (made, problems.into_inner()) {
        (Some(made), problems) if problems.is_empty() => Ok(made),
        (_, problems) => Err(Error::Manifest { origin: origin.into(), problems }),
    }
}

/// Any value; `serde_json`'s own keeps the last of several equal keys.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = items.next_key::<String>()? {
            if map.contains_key(&key) {
                let key = shown(key.as_bytes());
                return Err(A::Error::custom(format_args!("the key {key:?} is there twice")));
            }
            map.insert(key, items.next_value_seed(Self)?);
        }
        Ok(Value::Object(map))
    }
}

/// A value of a document, and where it is.
pub(super) struct Place<'doc> {
    problems: &'doc RefCell<Vec<String>>,
    path: String,
    pub(super) value: &'doc Value,
}

impl<'doc> Place<'doc> {
    /// Notes a problem. It gives nothing, for whoever has nothing to go on with.
    pub(super) fn refuse<T>(&self, reason: impl fmt::Display) -> Option<T> {
        self.note(reason);
        None
    }

    /// Notes a problem, and goes on.
    fn note(&self, reason: impl fmt::Display) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MOST {
            let place = if self.path.is_empty() { "the document" } else { &self.path };
            problems.push(format!("{place}: {reason}"));
        }
    }

    fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    fn wanted<T>(&self, what: &str) -> Option<T> {
        self.refuse(format_args!("it is {}, not {what}", self.kind()))
    }

    pub(super) fn text(&self) -> Option<&'doc str> {
        let Some(text) = self.value.as_str() else { return self.wanted("a string") };
        if text.contains('\0') { self.refuse("it has a NUL") } else { Some(text) }
    }

    pub(super) fn string(&self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    /// A string that is a value of another type.
    pub(super) fn parsed<T: FromStr<Err = Error>>(&self) -> Option<T> {
        match self.text()?.parse() {
            Ok(value) => Some(value),
            Err(Error::Invalid { what, reason }) => self.refuse(format_args!("{what:?}: {reason}")),
            Err(other) => self.refuse(other),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wanted("a boolean"))
    }

    /// A whole number from one to another.
    pub(super) fn number<T: TryFrom<i64>>(&self, from: i64, to: i64) -> Option<T> {
        if !self.value.is_number() {
            return self.wanted("a number");
        }
        let number = self.value.as_i64().filter(|number| (from..=to).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.or_else(|| self.refuse(format_args!("it is no whole number from {from} to {to}")))
    }

    /// An absolute path without `..`.
    pub(super) fn path(&self) -> Option<String> {
        let text = self.text()?;
        match path(text) {
            Ok(()) => Some(text.into()),
            Err(reason) => self.refuse(format_args!("{:?}: {reason}", shown(text.as_bytes()))),
        }
    }

    /// A list, whose items are read one and all.
    pub(super) fn list<T>(&self, read: impl Fn(&Self) -> Option<T>) -> Option<Vec<T>> {
        let Value::Array(items) = self.value else { return self.wanted("a list") };
        let made: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(number, value)| {
                let path = format!("{}[{number}]", self.path);
                read(&Place { problems: self.problems, path, value })
            })
            .collect();
        made.into_iter().collect()
    }

    pub(super) fn strings(&self) -> Option<Vec<String>> {
        self.list(Self::string)
    }

    fn at(&self, key: &str, value: &'doc Value) -> Self {
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let path = match (plain, self.path.is_empty()) {
            (true, true) => key.to_owned(),
            (true, false) => format!("{}.{key}", self.path),
            (false, _) => format!("{}[{:?}]", self.path, shown(key.as_bytes())),
        };
        Place { problems: self.problems, path, value }
    }

    /// The members of an object, of which only these keys are known.
    pub(super) fn fields(&self, known: &[&str]) -> Option<Fields<'_, 'doc>> {
        let Value::Object(map) = self.value else { return self.wanted("an object") };
        for (key, value) in map {
            if !known.contains(&key.as_str()) {
                let known = known.join(", ");
                self.at(key, value)
                    .note(format_args!("there is no such key here (there is {known})"));
            }
        }
        Some(Fields { place: self, map })
    }

    /// An object of strings by any key.
    pub(super) fn texts(&self) -> Option<BTreeMap<String, String>> {
        let Value::Object(map) = self.value else { return self.wanted("an object") };
        let made: Vec<Option<(String, String)>> = map
            .iter()
            .map(|(key, value)| Some((key.clone(), self.at(key, value).string()?)))
            .collect();
        made.into_iter().collect()
    }

    /// A list of objects with a name and a value, each name once.
    pub(super) fn pairs<K: FromStr<Err = Error> + Ord + fmt::Display>(
        &self,
    ) -> Option<BTreeMap<K, String>> {
        let pairs = self.list(|place| {
            let fields = place.fields(&["name", "value"])?;
            let name = fields.required("name", Place::parsed::<K>);
            let value = fields.required("value", Place::string);
            Some((name?, value?))
        })?;
        let mut map = BTreeMap::new();
        for (name, value) in pairs {
            if map.contains_key(&name) {
                let () =
                    self.refuse(format_args!("{name} is there more than once")).unwrap_or_default();
            }
            map.insert(name, value);
        }
        Some(map)
    }

    pub(super) fn labels(&self) -> Option<BTreeMap<Identifier, String>> {
        let labels = self.pairs::<Identifier>()?;
        if labels.contains_key("name") {
            return self.refuse("a label cannot be called name");
        }
        Some(labels)
    }

    /// Notes whatever name is there more than once.
    pub(super) fn unique<'name>(&self, names: impl Iterator<Item = &'name str>) {
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                let () =
                    self.refuse(format_args!("{name} is there more than once")).unwrap_or_default();
            }
        }
    }
}

/// The members of an object.
pub(super) struct Fields<'place, 'doc> {
    place: &'place Place<'doc>,
    map: &'doc Map<String, Value>,
}

impl<'doc> Fields<'_, 'doc> {
    pub(super) fn required<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Place<'doc>) -> Option<T>,
    ) -> Option<T> {
        match self.map.get(key) {
            Some(value) => read(&self.place.at(key, value)),
            None => self.place.refuse(format_args!("it has no {key}")),
        }
    }

    /// What need not be there. `null` is what programs in Go write for lists that are empty.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Place<'doc>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Some(None),
            Some(value) => read(&self.place.at(key, value)).map(Some),
        }
    }

    /// The same, with the type's default for what is not there.
    pub(super) fn or_default<T: Default>(
        &self,
        key: &str,
        read: impl FnOnce(&Place<'doc>) -> Option<T>,
    ) -> Option<T> {
        self.optional(key, read).map(Option::unwrap_or_default)
    }
}

/// What is wrong with a path in a root, if anything.
pub(super) fn path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("paths in an image are absolute".into());
    }
    kiln_tree::TreePath::new(text).map(drop).map_err(|error| match error {
        kiln_tree::Error::InvalidPath { reason, .. } => reason.to_owned(),
        other => other.to_string(),
    })
}

/// A list of objects with a name and a value.
pub(super) fn pairs<K: fmt::Display>(map: &BTreeMap<K, String>) -> Value {
    map.iter()
        .map(|(name, value)| serde_json::json!({ "name": name.to_string(), "value": value }))
        .collect()
}

/// An object of what is there.
pub(super) fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let members = members.into_iter();
    Value::Object(members.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

/// A list that is not empty.
pub(super) fn listed(value: Value) -> Option<Value> {
    let empty = match &value {
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    };
    (!empty).then_some(value)
}
