//! TOML values as serde's types, with the place of each problem. What is not understood is noted
//! and left out, and the rest is read once more, so that one mistake hides no other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::place::{hint, quoted};

type Value<'t> = Spanned<DeValue<'t>>;

/// So many mistakes of one table are looked for: each costs another reading.
const MAX_ROUNDS: usize = 64;

/// Something that is not understood.
#[derive(Debug)]
pub(super) struct Fault {
    text: String,
    /// Whether it has been noted, with its place.
    noted: bool,
    /// Whether something is missing, which may follow from another fault.
    missing: bool,
}

impl Fault {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), noted: false, missing: false }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(text.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        let hint = hint(found, known.iter().copied());
        Self::new(format!("unknown value {}{hint}", quoted(found)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: true, ..Self::new(format!("{field} is missing")) }
    }
}

/// What has been found wrong, and which values are left out for it.
#[derive(Default)]
pub(super) struct Notes {
    found: RefCell<Vec<(Range<usize>, String)>>,
    /// Values by their addresses, which are those of the parsed text and do not change.
    left_out: RefCell<BTreeSet<usize>>,
    hidden: Cell<bool>,
}

impl Notes {
    fn note(&self, span: Range<usize>, text: String) {
        self.found.borrow_mut().push((span, text));
    }

    fn leave_out<T>(&self, value: &T) -> bool {
        self.left_out.borrow_mut().insert(std::ptr::from_ref(value).addr())
    }

    fn is_left_out<T>(&self, value: &T) -> bool {
        self.left_out.borrow().contains(&std::ptr::from_ref(value).addr())
    }

    /// The value has a fault, which is noted where that has not happened further inside.
    fn fail(&self, value: &Value<'_>, key: Option<&str>, fault: Fault, follows: bool) -> Fault {
        if fault.noted {
            return fault;
        }
        self.leave_out(value);
        if !(fault.missing && follows) {
            let text = match key {
                Some(key) => format!("{key}: {fault}"),
                None => fault.text.clone(),
            };
            self.note(value.span(), text);
        }
        Fault { noted: true, ..fault }
    }
}

/// Reads a table as a type all of whose fields have defaults. `None` where that was not possible;
/// what is wrong comes with the bytes that it is about.
pub(super) fn table<T: de::DeserializeOwned>(
    value: &Value<'_>,
) -> (Option<T>, Vec<(Range<usize>, String)>) {
    let notes = Notes::default();
    let mut read = None;
    for _ in 0..MAX_ROUNDS {
        let reader = Reader { value, key: None, notes: &notes };
        match T::deserialize(reader) {
            Ok(it) => {
                read = Some(it);
                break;
            }
            Err(fault) if fault.noted => {}
            Err(fault) => {
                notes.note(value.span(), fault.text);
                break;
            }
        }
    }
    (read, notes.found.into_inner())
}

struct Reader<'v, 't> {
    value: &'v Value<'t>,
    /// The key that it is the value of.
    key: Option<&'v str>,
    notes: &'v Notes,
}

impl<'v, 't> Reader<'v, 't> {
    fn seq(&self, items: &'v [Value<'t>]) -> Items<'v, 't> {
        Items { items: items.iter(), key: self.key, notes: self.notes }
    }

    fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        let number = |text: &str, radix| {
            i64::from_str_radix(text, radix)
                .map_err(|_| Fault::new(format!("{} is too large a number", quoted(text))))
        };
        match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(text) => visitor.visit_i64(number(text.as_str(), text.radix())?),
            DeValue::Float(text) => match text.as_str().parse() {
                Ok(float) => visitor.visit_f64(float),
                Err(_) => Err(Fault::new(format!("bad number {}", quoted(text.as_str())))),
            },
            DeValue::Boolean(yes) => visitor.visit_bool(*yes),
            DeValue::Datetime(_) => {
                Err(Fault::new("a date or time, which nothing here takes".to_owned()))
            }
            DeValue::Array(items) => visitor.visit_seq(self.seq(items)),
            DeValue::Table(table) => visitor.visit_map(Entries::new(table, None, self.notes)),
        }
    }
}

impl<'de> de::Deserializer<'de> for Reader<'_, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let DeValue::Table(table) = self.value.get_ref() else { return self.visit(visitor) };
        let entries = Entries::new(table, Some(fields), self.notes);
        let read = visitor.visit_map(entries);
        // what is missing because it was left out has been told of
        let follows = table.iter().any(|(_, value)| self.notes.is_left_out(value));
        self.notes.hidden.set(follows);
        read
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_enum(Word(text)),
            DeValue::Table(table) => {
                let mut entries = table.iter();
                match (entries.next(), entries.next()) {
                    (Some((key, value)), None) => {
                        visitor.visit_enum(Choice { key: key.get_ref(), value, notes: self.notes })
                    }
                    _ => {
                        let known = variants.join(", ");
                        Err(Fault::new(format!("expected exactly one of {known}")))
                    }
                }
            }
            other => {
                let (known, found) = (variants.join(", "), other.type_str());
                Err(Fault::new(format!("expected one of {known}, found a value of type {found}")))
            }
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The keys and values of a table.
struct Entries<'v, 't> {
    entries: Box<dyn Iterator<Item = (&'v str, &'v Value<'t>)> + 'v>,
    next: Option<(&'v str, &'v Value<'t>)>,
    notes: &'v Notes,
}

impl<'v, 't> Entries<'v, 't> {
    /// Keys that are none of the fields are noted, once.
    fn new(
        table: &'v DeTable<'t>,
        fields: Option<&'static [&'static str]>,
        notes: &'v Notes,
    ) -> Self {
        for (key, value) in table {
            let Some(fields) = fields else { break };
            let name: &str = key.get_ref();
            if !fields.contains(&name) && notes.leave_out(value) {
                let hint = hint(name, fields.iter().copied());
                notes.note(key.span(), format!("unknown key {}{hint}", quoted(name)));
            }
        }
        let entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), value));
        let entries = entries.filter(|(_, value)| !notes.is_left_out(*value));
        Self { entries: Box::new(entries), next: None, notes }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.next = self.entries.next();
        let Some((key, value)) = self.next else { return Ok(None) };
        let read = seed.deserialize(key.into_deserializer());
        read.map(Some).map_err(|fault| self.notes.fail(value, Some(key), fault, false))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, value)) = self.next.take() else {
            return Err(Fault::new("a value without a key"));
        };
        self.notes.hidden.set(false);
        seed.deserialize(Reader { value, key: Some(key), notes: self.notes })
            .map_err(|fault| self.notes.fail(value, Some(key), fault, self.notes.hidden.get()))
    }
}

/// The elements of an array.
struct Items<'v, 't> {
    items: std::slice::Iter<'v, Value<'t>>,
    key: Option<&'v str>,
    notes: &'v Notes,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(value) = self.items.find(|value| !self.notes.is_left_out(*value)) else {
            return Ok(None);
        };
        self.notes.hidden.set(false);
        seed.deserialize(Reader { value, key: None, notes: self.notes })
            .map(Some)
            .map_err(|fault| self.notes.fail(value, self.key, fault, self.notes.hidden.get()))
    }
}

/// One of an enumeration's variants as a word: `"sd-notify"`.
struct Word<'v>(&'v str);

impl Word<'_> {
    fn lacks(&self) -> Fault {
        Fault::new(format!("{} takes a value: {{ {} = … }}", quoted(self.0), self.0))
    }
}

impl<'de> de::EnumAccess<'de> for Word<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        Ok((seed.deserialize(self.0.into_deserializer())?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Word<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Fault> {
        Err(self.lacks())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Fault> {
        Err(self.lacks())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(self.lacks())
    }
}

/// One of an enumeration's variants with its content: `{ notify-fd = 3 }`.
struct Choice<'v, 't> {
    key: &'v str,
    value: &'v Value<'t>,
    notes: &'v Notes,
}

impl<'de> de::EnumAccess<'de> for Choice<'_, '_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        Ok((seed.deserialize(self.key.into_deserializer())?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Choice<'_, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(Fault::new(format!("{} takes no value: write it as a string", quoted(self.key))))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(Reader { value: self.value, key: Some(self.key), notes: self.notes })
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        Reader { value: self.value, key: Some(self.key), notes: self.notes }.visit(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let reader = Reader { value: self.value, key: Some(self.key), notes: self.notes };
        de::Deserializer::deserialize_struct(reader, "", fields, visitor)
    }
}
