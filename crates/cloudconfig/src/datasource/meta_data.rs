//! What whoever runs a machine says about it besides user-data.

use std::sync::Arc;

use crate::place::quoted;
use crate::schema::{is_host_name, is_key};
use crate::{Cursor, Findings, Kind, Limits, Map, Node, Notes, Place, Value, document};

/// Metadata in the forms that NoCloud (YAML) and OpenStack's config drive (JSON) have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetaData {
    /// Which machine this is: another one than at the last boot makes it a first boot.
    pub instance_id: Option<String>,
    /// How it is to be called.
    pub hostname: Option<String>,
    /// Keys to log in with.
    pub public_keys: Vec<String>,
}

impl MetaData {
    /// Reads it. Keys of it that nobody here needs are passed over, as everybody adds some.
    ///
    /// ```
    /// use kiln_cloudconfig::{Limits, datasource::MetaData};
    ///
    /// let text = b"instance-id: i-1\nlocal-hostname: node-1.example.org\n";
    /// let (found, findings) = MetaData::read("meta-data", text, &Limits::default());
    /// assert!(findings.is_empty());
    /// assert_eq!(found.hostname.as_deref(), Some("node-1.example.org"));
    /// ```
    #[must_use]
    pub fn read(source: &str, bytes: &[u8], limits: &Limits) -> (Self, Findings) {
        let (root, mut findings) = document::read(source, bytes, limits);
        let notes = Notes::new(limits);
        let mut found = Self::default();
        if !root.is_null()
            && let Some(mut fields) = notes.cursor(&root).fields()
        {
            let text = |at: &Cursor<'_>| at.word().map(str::to_owned);
            let ids = ["instance-id", "instance_id", "uuid"].map(|key| fields.get(key, text));
            found.instance_id = ids.into_iter().flatten().next();
            let names = ["local-hostname", "hostname"].map(|key| fields.get(key, hostname));
            found.hostname = names.into_iter().flatten().next();
            for key in ["public-keys", "public_keys"] {
                if let Some(at) = fields.field(key) {
                    keys(&at, &mut found.public_keys);
                }
            }
        }
        findings.append(notes.finish());
        (found, findings)
    }

    /// The layer that it is: `hostname` and `ssh_authorized_keys`.
    #[must_use]
    pub fn layer(&self, source: &str) -> Node {
        let place = Place::whole(Arc::<str>::from(source));
        let mut map = Map::new();
        if let Some(name) = &self.hostname {
            map.insert("hostname", place.clone(), Node::text(place.clone(), name.as_str()));
        }
        if !self.public_keys.is_empty() {
            let keys = self.public_keys.iter().map(|key| Node::text(place.clone(), key.as_str()));
            let list = Node::list(place.clone(), keys.collect());
            map.insert("ssh_authorized_keys", place.clone(), list);
        }
        if map.is_empty() { Node::null(place) } else { Node::map(place, map) }
    }
}

fn hostname(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    if is_host_name(text) {
        return Some(text.to_owned());
    }
    at.wrong(format_args!("{} is no host name", quoted(text)))
}

/// A text of lines, a list of those, or a map of names (OpenStack) or numbers (EC2) to them.
fn keys(at: &Cursor<'_>, found: &mut Vec<String>) {
    match &at.node().value {
        Value::Scalar(_) => {
            let lines = at.text().unwrap_or_default().lines().map(str::trim);
            for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
                if !is_key(line) {
                    at.note(Kind::Wrong, format_args!("{} is no public key", quoted(line)));
                } else if !found.iter().any(|there| there == line) {
                    found.push(line.to_owned());
                }
            }
        }
        // The document's depth is bounded, and so is this.
        Value::List(_) => {
            at.items().unwrap_or_default().iter().for_each(|item| keys(item, found));
        }
        Value::Map(_) => {
            at.entries().unwrap_or_default().iter().for_each(|(_, item)| keys(item, found));
        }
    }
}
