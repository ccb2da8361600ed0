//! Documents in layers: what an image has built in, below what whoever runs it says.
//!
//! # The rules
//! - Of two maps both count: keys that only one has are kept, others are merged by these rules.
//! - Of two lists the upper one counts, as in RancherOS and in cloud-init's default
//!   (`dict(replace)+list()+str()` for user-data). Lists at the paths of [`Rules::appended`] are joined
//!   instead, without what is there already: the keys to log in with, as both of these join them
//!   with those of the metadata.
//! - Otherwise the upper value counts, of whatever type. A key without a value (`null`) in an upper
//!   layer takes the lower one's value away.
//!
//! Every value keeps the place that it is from; what it took the place of is kept beside it
//! ([`Merged::replaced`]). [`Merged::explain`] tells both.

mod command_line;
mod explain;

use std::collections::BTreeMap;

pub use command_line::{CommandLine, Prefix};

use crate::{Map, Node, Place, Value};

/// How layers are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// Paths of lists that are joined, as keys with dots: `rancher.disable`.
    pub appended: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { appended: vec!["ssh_authorized_keys".into()] }
    }
}

/// All layers together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// What counts, each value with the place that it is from.
    pub root: Node,
    /// By path (`a.b[0].c`): the values that others took the place of, the lowest first.
    pub replaced: BTreeMap<String, Vec<Node>>,
}

/// The lists of paths and values that a merge looks at and fills.
struct Merge<'r> {
    rules: &'r Rules,
    replaced: BTreeMap<String, Vec<Node>>,
}

/// Merges documents, the lowest first: built-in, OEM, `cloud-config.d/*`, cloud-config, metadata,
/// command line. Those that are nothing are passed over.
///
/// ```
/// use kiln_cloudconfig::{Limits, document, layer};
///
/// let read = |name, text: &str| document::read(name, text.as_bytes(), &Limits::default()).0;
/// let merged = layer::merge(
///     [
///         read("os.yml", "hostname: image\nrancher: {debug: false, console: default}\n"),
///         read("cloud-config.yml", "rancher: {debug: true}\n"),
///     ],
///     &layer::Rules::default(),
/// );
/// assert_eq!(
///     merged.explain(),
///     "hostname = image (os.yml:1)\n\
///      rancher.debug = true (cloud-config.yml:1, instead of false of os.yml:2)\n\
///      rancher.console = default (os.yml:2)\n"
/// );
/// ```
#[must_use]
pub fn merge(layers: impl IntoIterator<Item = Node>, rules: &Rules) -> Merged {
    let mut merge = Merge { rules, replaced: BTreeMap::new() };
    let mut root: Option<Node> = None;
    for layer in layers {
        if layer.is_null() {
            continue;
        }
        root = Some(match root {
            None => layer,
            Some(lower) => merge.node("", lower, layer),
        });
    }
    let root = root.unwrap_or_else(|| Node::map(Place::whole("nothing"), Map::new()));
    Merged { root, replaced: merge.replaced }
}

impl Merge<'_> {
    fn node(&mut self, path: &str, lower: Node, upper: Node) -> Node {
        match (lower.value, upper.value) {
            (Value::Map(mut under), Value::Map(over)) => {
                for entry in over {
                    let below = joined(path, &entry.key);
                    let node = match under.get_mut(&entry.key) {
                        // Taken out, merged, and put back in its place.
                        Some(place) => {
                            let lower =
                                std::mem::replace(place, Node::null(entry.node.place.clone()));
                            self.node(&below, lower, entry.node)
                        }
                        None => entry.node,
                    };
                    under.insert(entry.key, entry.key_place, node);
                }
                Node { place: upper.place, value: Value::Map(under) }
            }
            (Value::List(mut under), Value::List(over))
                if self.rules.appended.iter().any(|appended| appended == path) =>
            {
                for item in over {
                    if !under.iter().any(|there| there.says(&item)) {
                        under.push(item);
                    }
                }
                Node { place: upper.place, value: Value::List(under) }
            }
            (under, over) => {
                let lower = Node { place: lower.place, value: under };
                self.replaced.entry(path.to_owned()).or_default().push(lower);
                Node { place: upper.place, value: over }
            }
        }
    }
}

/// A path and a key; dots in keys are shown as they are, as in findings.
fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
