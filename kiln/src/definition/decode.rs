//! A cursor over TOML tables that notes everything that is wrong, instead of ending at the first.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::place::{Place, Placed, Problem, hint};

/// A text and what has been found wrong with it so far.
pub(super) struct Notes<'text> {
    pub(super) text: &'text str,
    pub(super) problems: Vec<Problem>,
}

impl Notes<'_> {
    pub(super) fn place(&self, span: &std::ops::Range<usize>) -> Place {
        Place::of_span(self.text, span)
    }

    pub(super) fn note(&mut self, at: Option<Place>, text: impl Into<String>) {
        self.problems.push(Problem::new(at, text));
    }
}

/// One table, whose keys are taken one after the other; what is left at the end is unknown.
pub(super) struct Section<'table, 'text> {
    /// How the section is called in messages: `[kernel]`, or nothing for the top.
    name: String,
    pub(super) at: Place,
    table: &'table DeTable<'text>,
    known: BTreeSet<&'static str>,
}

impl<'table, 'text> Section<'table, 'text> {
    pub(super) fn new(name: impl Into<String>, at: Place, table: &'table DeTable<'text>) -> Self {
        Self { name: name.into(), at, table, known: BTreeSet::new() }
    }

    /// The value of a key, which is known from now on.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'table Spanned<DeValue<'text>>> {
        self.known.insert(key);
        self.table.get(key)
    }

    fn wrong(&self, notes: &mut Notes<'_>, value: &Spanned<DeValue<'_>>, key: &str, want: &str) {
        let at = notes.place(&value.span());
        let found = value.get_ref().type_str();
        notes.note(Some(at), format!("{}{key} must be {want}, not {found}", self.prefix()));
    }

    fn prefix(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("{} ", self.name) }
    }

    /// How the section is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn string(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Option<Placed<String>> {
        let value = self.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(notes, value, key, "a string");
            return None;
        };
        Some(Placed::new(text.to_owned(), notes.place(&value.span())))
    }

    /// A string that must be there.
    pub(super) fn required(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Option<Placed<String>> {
        if self.get(key).is_none() {
            notes.note(Some(self.at), format!("{}{key} is missing", self.prefix()));
        }
        self.string(notes, key)
    }

    pub(super) fn boolean(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Option<Placed<bool>> {
        let value = self.get(key)?;
        let Some(yes) = value.get_ref().as_bool() else {
            self.wrong(notes, value, key, "true or false");
            return None;
        };
        Some(Placed::new(yes, notes.place(&value.span())))
    }

    /// A whole number that is not negative.
    pub(super) fn number(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Option<Placed<u64>> {
        let value = self.get(key)?;
        let number = value.get_ref().as_integer();
        let number = number.and_then(|it| u64::from_str_radix(it.as_str(), it.radix()).ok());
        let Some(number) = number else {
            self.wrong(notes, value, key, "a whole number of 0 or more");
            return None;
        };
        Some(Placed::new(number, notes.place(&value.span())))
    }

    /// A list of strings; one string alone stands for a list of one.
    pub(super) fn strings(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Vec<Placed<String>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let mut found = Vec::new();
        let items: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::String(_) => vec![value],
            DeValue::Array(items) => items.iter().collect(),
            _ => {
                self.wrong(notes, value, key, "a list of strings");
                return found;
            }
        };
        for item in items {
            match item.get_ref().as_str() {
                Some(text) => {
                    found.push(Placed::new(text.to_owned(), notes.place(&item.span())));
                }
                None => self.wrong(notes, item, key, "a list of strings"),
            }
        }
        found
    }

    /// A table of its own.
    pub(super) fn table(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Option<Self> {
        let value = self.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(notes, value, key, "a table");
            return None;
        };
        Some(Self::new(self.child(key), notes.place(&value.span()), table))
    }

    /// Tables by names that are the file's own: `[input.NAME]`.
    pub(super) fn tables(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Vec<(Placed<String>, Self)> {
        let Some(section) = self.table(notes, key) else { return Vec::new() };
        let mut found = Vec::new();
        for (name, value) in section.table {
            let at = notes.place(&name.span());
            match value.get_ref().as_table() {
                Some(table) => {
                    let title = format!("[{key}.{}]", name.get_ref());
                    let name = Placed::new(name.get_ref().to_string(), at);
                    found.push((name, Self::new(title, at, table)));
                }
                None => section.wrong(notes, value, name.get_ref(), "a table"),
            }
        }
        found
    }

    /// Strings by names that are the file's own.
    pub(super) fn dictionary(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Vec<(String, Placed<String>)> {
        let Some(section) = self.table(notes, key) else { return Vec::new() };
        let mut found = Vec::new();
        for (name, value) in section.table {
            match value.get_ref().as_str() {
                Some(text) => {
                    let text = Placed::new(text.to_owned(), notes.place(&value.span()));
                    found.push((name.get_ref().to_string(), text));
                }
                None => section.wrong(notes, value, name.get_ref(), "a string"),
            }
        }
        found
    }

    /// An array of tables: `[[file]]`.
    pub(super) fn array(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Vec<Self> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            let want = format!("an array of tables, each under [[{key}]]");
            self.wrong(notes, value, key, &want);
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items {
            match item.get_ref().as_table() {
                Some(table) => {
                    let name = format!("[[{}]]", self.child(key).trim_matches(['[', ']']));
                    found.push(Self::new(name, notes.place(&item.span()), table));
                }
                None => self.wrong(notes, item, key, "a table"),
            }
        }
        found
    }

    /// The table but for some keys as a type of another crate, whose own rules say what is wrong.
    pub(super) fn rest<T: DeserializeOwned>(
        self,
        notes: &mut Notes<'_>,
        but: &[&str],
    ) -> Option<Placed<T>> {
        let mut table = self.table.clone();
        for key in but {
            table.remove(*key);
        }
        let value = Spanned::new(0..0, DeValue::Table(table));
        match T::deserialize(toml::de::ValueDeserializer::from(value)) {
            Ok(read) => Some(Placed::new(read, self.at)),
            Err(error) => {
                let inside = error.span().filter(|span| span.end > 0);
                let at = inside.map_or(self.at, |span| notes.place(&span));
                let name = self.prefix();
                notes.note(Some(at), format!("{name}{}", error.message()));
                None
            }
        }
    }

    fn child(&self, key: &str) -> String {
        match self.name.trim_matches(['[', ']']) {
            "" => format!("[{key}]"),
            parent => format!("[{parent}.{key}]"),
        }
    }

    /// Says which keys nobody asked for.
    pub(super) fn finish(self, notes: &mut Notes<'_>) {
        for key in self.table.keys() {
            if self.known.contains(key.get_ref().as_ref()) {
                continue;
            }
            let at = notes.place(&key.span());
            let place = if self.name.is_empty() { "at the top" } else { &self.name };
            let hint = hint(key.get_ref(), self.known.iter().copied());
            notes.note(Some(at), format!("unknown key {:?} {place}{hint}", key.get_ref()));
        }
    }
}
