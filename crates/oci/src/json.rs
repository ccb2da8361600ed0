//! JSON documents: read up to a limit, written so that equal values have equal bytes.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result};

/// Reads a document of at most `limit` bytes.
pub(crate) fn read(origin: &str, reader: &mut dyn Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::stream(origin))?;
    if bytes.len() as u64 > limit {
        return Err(Error::document(origin, format!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

pub(crate) fn parse<T: DeserializeOwned>(origin: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::document(origin, error))
}

/// A value as JSON with the keys of each object sorted: the specification's types keep labels and
/// annotations in hash maps, whose order must not show.
pub(crate) fn write(value: &impl Serialize) -> Result<Vec<u8>> {
    let failed = |error| Error::document("JSON", error);
    let value = serde_json::to_value(value).map_err(failed)?;
    serde_json::to_vec(&Sorted(&value)).map_err(failed)
}

/// Whatever features of `serde_json` are on in a build, the order is that of the keys.
struct Sorted<'value>(&'value Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let sorted: BTreeMap<&String, Sorted<'_>> =
                    map.iter().map(|(key, value)| (key, Sorted(value))).collect();
                to.collect_map(sorted)
            }
            Value::Array(items) => to.collect_seq(items.iter().map(Sorted)),
            other => other.serialize(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_however_deep() {
        let value: Value = parse("test", br#"{"b":[{"z":1,"a":null}],"a":"x","C":{}}"#).unwrap();
        assert_eq!(write(&value).unwrap(), br#"{"C":{},"a":"x","b":[{"a":null,"z":1}]}"#);
        let error = parse::<Value>("index.json", b"{\n]").unwrap_err().to_string();
        assert!(error.starts_with("index.json: ") && error.contains("line 2"), "{error}");
        let error = read("config", &mut &b"12345"[..], 4).unwrap_err().to_string();
        assert_eq!(error, "config: it is longer than 4 bytes");
    }
}
