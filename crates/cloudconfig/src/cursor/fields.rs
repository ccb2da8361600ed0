//! Maps whose keys are known: read by name, and what is left over is told.

use super::{Cursor, Step};
use crate::place::{hint, quoted, suggestion};
use crate::{Finding, Kind};

/// A map whose keys are read one by one. [`Fields::finish`] tells of those that nobody asked for.
#[derive(Debug)]
#[must_use = "unknown keys are told by `finish`"]
pub struct Fields<'a> {
    at: Cursor<'a>,
    map: &'a crate::Map,
    known: Vec<&'static str>,
    silent: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(at: Cursor<'a>, map: &'a crate::Map) -> Self {
        Self { at, map, known: Vec::new(), silent: Vec::new() }
    }

    /// The map itself.
    #[must_use]
    pub fn at(&self) -> &Cursor<'a> {
        &self.at
    }

    /// A key's value; none where there is none or it is null.
    pub fn field(&mut self, key: &'static str) -> Option<Cursor<'a>> {
        self.known.push(key);
        let entry = self.map.entry(key)?;
        if entry.node.is_null() {
            return None;
        }
        let path = self.at.path.to(Step::Key(&entry.key));
        Some(Cursor { node: &entry.node, path, notes: self.at.notes })
    }

    /// Reads a key that may be missing.
    pub fn get<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Cursor<'a>) -> Option<T>,
    ) -> Option<T> {
        self.field(key).as_ref().and_then(read)
    }

    /// Reads a key that has to be there.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Cursor<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.field(key) {
            Some(at) => read(&at),
            None => {
                // A key that is nearly this one is told as unknown, and that says it all.
                let near = self.map.iter().map(|entry| entry.key.as_str());
                if suggestion(key, near).is_none() {
                    self.at.note(Kind::Wrong, format_args!("{key} is missing"));
                }
                None
            }
        }
    }

    /// Reads a list that may be missing; elements with a fault are left out.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read: impl FnMut(&Cursor<'a>) -> Option<T>,
    ) -> Vec<T> {
        self.field(key).map(|at| at.list(read)).unwrap_or_default()
    }

    /// Reads a list of texts, or one text.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        self.field(key).map(|at| at.texts()).unwrap_or_default()
    }

    /// Keys that others have and that are not done here: they are told by name, and are no fault.
    /// Those that have been read are passed over.
    pub fn not_supported(&mut self, keys: &[&'static str]) {
        for key in keys {
            if self.known.contains(key) {
                continue;
            }
            self.silent.push(key);
            if let Some(entry) = self.map.entry(key) {
                let path = self.at.path.to(Step::Key(&entry.key)).to_string();
                let finding = Finding::new(
                    Kind::NotSupported,
                    entry.key_place.clone(),
                    path,
                    "not supported",
                );
                self.at.notes.add(finding);
            }
        }
    }

    /// Tells of the keys that nobody asked for.
    pub fn finish(self) {
        for entry in self.map {
            let key = entry.key.as_str();
            if self.known.contains(&key) || self.silent.contains(&key) {
                continue;
            }
            // What is done here is suggested first, then what is at least known.
            let hint = match suggestion(key, self.silent.iter().copied()) {
                Some(meant) if suggestion(key, self.known.iter().copied()).is_none() => {
                    format!(", did you mean {meant:?}, which is not supported?")
                }
                _ => hint(key, &self.known),
            };
            let what = format!("unknown key {}{hint}", quoted(key));
            let place = entry.key_place.clone();
            self.at.notes.add(Finding::new(Kind::Unknown, place, self.at.path(), what));
        }
    }
}
