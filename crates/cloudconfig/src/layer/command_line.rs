//! The kernel's command line as the topmost layer: `rancher.a.b=value`, `cc.hostname=value`.

use std::sync::Arc;

use crate::place::quoted;
use crate::{Finding, Findings, Kind, Limits, Map, Node, Place, Value, document};

/// How the line is called in messages.
const SOURCE: &str = "the kernel's command line";

/// Keys that are taken from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// What words begin with, without the dot: `rancher`, `cc`.
    pub name: String,
    /// Whether the prefix is itself a key of the document, as `rancher` is and `cc` is not.
    pub is_key: bool,
}

/// How an image takes settings from the command line.
///
/// A word is `PREFIX.KEY.KEY=VALUE`. The value is YAML, with lists as `[a,b]`, or the text itself where
/// it is none; without one it is true. Words are separated by blanks that are not between double
/// quotes, as the kernel has it (Documentation/admin-guide/kernel-parameters.rst). Words after `--` are for process 1
/// and count as well: an image that wants them for itself can show others [`CommandLine::elided`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandLine {
    /// The prefixes. Default: `cc.`, whose keys are those of the document.
    pub prefixes: Vec<Prefix>,
    /// How long a line is read, in bytes; Linux has at most 2,048 on x86.
    pub most: usize,
}

impl Default for CommandLine {
    fn default() -> Self {
        Self { prefixes: vec![Prefix { name: "cc".into(), is_key: false }], most: 64 << 10 }
    }
}

impl CommandLine {
    /// The default, and `NAME.` for keys below `NAME`.
    #[must_use]
    pub fn with_key(name: impl Into<String>) -> Self {
        let mut found = Self::default();
        found.prefixes.push(Prefix { name: name.into(), is_key: true });
        found
    }

    /// The layer that a line is. Words without one of the prefixes are others' and passed over.
    ///
    /// ```
    /// use kiln_cloudconfig::{Limits, layer::CommandLine};
    ///
    /// let line = "quiet rancher.debug rancher.disable=[a,b] cc.hostname=node-1 -- rancher.password=x";
    /// let (root, findings) = CommandLine::with_key("rancher").read(line, &Limits::default());
    /// assert!(findings.is_empty());
    /// assert_eq!(
    ///     root.to_yaml(),
    ///     "rancher:\n  debug: true\n  disable:\n    - a\n    - b\n  password: x\nhostname: node-1\n"
    /// );
    /// assert_eq!(CommandLine::elided(line), "quiet rancher.debug rancher.disable=[a,b] cc.hostname=node-1");
    /// ```
    #[must_use]
    pub fn read(&self, line: &str, limits: &Limits) -> (Node, Findings) {
        let source: Arc<str> = SOURCE.into();
        let place = Place { source: Arc::clone(&source), line: None };
        let mut root = Map::new();
        let mut findings = Vec::new();
        if line.len() > self.most {
            let what = format!("{} bytes, of which at most {} are read", line.len(), self.most);
            findings.push(Finding::new(Kind::Unreadable, place.clone(), "", what));
        } else {
            let mut left = limits.clone();
            for word in words(line) {
                self.word(word, &mut root, &place, &mut left, &mut findings);
            }
        }
        let node = if root.is_empty() { Node::null(place) } else { Node::map(place, root) };
        (node, crate::place::settle(findings, limits.findings))
    }

    /// Takes a word; of the values that a line may have, those are `left` that no word has taken.
    fn word(
        &self,
        word: &str,
        root: &mut Map,
        place: &Place,
        left: &mut Limits,
        findings: &mut Vec<Finding>,
    ) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(unquoted(value))),
            None => (word, None),
        };
        let of = |prefix: &&Prefix| {
            name.strip_prefix(&prefix.name).is_some_and(|rest| rest.starts_with('.'))
        };
        let Some(prefix) = self.prefixes.iter().find(of) else { return };
        let mut keys: Vec<&str> = name.split('.').collect();
        if !prefix.is_key {
            // The prefix itself may have dots in it.
            keys.drain(..prefix.name.split('.').count().min(keys.len()));
        }
        let mut wrong = |what: String| {
            findings.push(Finding::new(Kind::Wrong, place.clone(), name.to_owned(), what));
        };
        if keys.iter().any(|key| key.is_empty()) {
            wrong("expected keys with dots between them".into());
            return;
        }
        let Some(depth) = left.depth.checked_sub(keys.len()) else {
            wrong(format!("keys nested deeper than {}", left.depth));
            return;
        };
        let Some(nodes) = left.nodes.checked_sub(keys.len()).filter(|nodes| *nodes > 0) else {
            wrong("too many values, aliases included".into());
            return;
        };
        let Some((last, above)) = keys.split_last() else { return };
        let mut map = root;
        for key in above {
            if map.entry(key).is_none() {
                let empty = Node::map(place.clone(), Map::new());
                map.insert(*key, place.clone(), empty);
            }
            match map.get_mut(key).map(|node| &mut node.value) {
                Some(Value::Map(inner)) => map = inner,
                _ => {
                    wrong(format!("{} has a value already, so it has no keys", quoted(key)));
                    return;
                }
            }
        }
        // The value is below the keys, and one of many.
        let limits = Limits { depth, nodes, ..left.clone() };
        let node =
            value.map_or_else(|| plain(place, "true"), |value| parsed(value, place, &limits));
        left.nodes = nodes.saturating_sub(document::nodes(&node));
        // As with any parameter of the kernel, the last one counts.
        map.insert(*last, place.clone(), node);
    }

    /// The line without what follows `--`, for whoever is not to see that.
    #[must_use]
    pub fn elided(line: &str) -> &str {
        let mut at = 0_usize;
        for word in split(line) {
            if word == "--" {
                return line.get(..at).unwrap_or(line).trim_end();
            }
            // A separator is one byte long.
            at = at.saturating_add(word.len()).saturating_add(1);
        }
        line.trim_end()
    }
}

fn plain(place: &Place, text: &str) -> Node {
    let scalar = crate::Scalar { text: text.to_owned(), plain: true };
    Node { place: place.clone(), value: Value::Scalar(scalar) }
}

/// A value as YAML, or itself.
fn parsed(value: &str, place: &Place, limits: &Limits) -> Node {
    // A text with `key: value` in it is a text: nobody writes maps without braces on this line.
    if !value.starts_with(['[', '{', '"', '\'']) {
        return plain(place, value);
    }
    let (mut node, findings) = document::read(SOURCE, value.as_bytes(), limits);
    if !findings.is_empty() {
        return Node::text(place.clone(), value);
    }
    placed(&mut node, place);
    node
}

/// The line's first line is all there is.
fn placed(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| placed(item, place)),
        Value::Map(map) => map.nodes_mut().for_each(|node| placed(node, place)),
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    split(line).filter(|word| !word.is_empty())
}

/// What is between blanks; blanks between double quotes do not count.
fn split(line: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    line.split(move |c: char| {
        inside ^= c == '"';
        c.is_ascii_whitespace() && !inside
    })
}

/// As the kernel's next_arg (lib/cmdline.c): quotes around a whole value are taken away.
fn unquoted(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('"')).unwrap_or(value)
}
