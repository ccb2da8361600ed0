//! YAML text as a tree of nodes. Sizes, depth and what aliases add are bounded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use crate::place::quoted;
use crate::{Finding, Findings, Kind, Limits, Map, Meaning, Node, Place, Scalar, Value};

/// Reads a document (YAML 1.2, so JSON as well). What is no YAML at all is nothing, and a finding.
/// Of a key that is there twice the first counts.
///
/// ```
/// use kiln_cloudconfig::{Limits, document};
///
/// let (root, findings) = document::read("a.yml", b"users:\n- name: ada\n", &Limits::default());
/// assert!(findings.is_empty());
/// assert_eq!(root.at(["users", "0", "name"]).unwrap().place.to_string(), "a.yml:2");
///
/// let (root, findings) = document::read("b.yml", b"a: 1\na: 2\nb: ]\n", &Limits::default());
/// assert!(root.is_null());
/// assert!(findings.to_string().starts_with("b.yml:3: not YAML: "));
/// ```
#[must_use]
pub fn read(source: &str, bytes: &[u8], limits: &Limits) -> (Node, Findings) {
    let source: Arc<str> = source.into();
    let mut builder = Builder::new(Arc::clone(&source), limits);
    let root = match text(&source, bytes, limits).and_then(|text| builder.run(text)) {
        Ok(root) => root,
        Err(finding) => {
            // What was said about the rest of a text that is not used would be noise.
            builder.findings = vec![finding];
            None
        }
    };
    let root = root.unwrap_or_else(|| Node::null(Place::whole(source)));
    (root, crate::place::settle(builder.findings, limits.findings))
}

fn text<'t>(source: &Arc<str>, bytes: &'t [u8], limits: &Limits) -> Result<&'t str, Finding> {
    let unreadable = |line: Option<usize>, what: String| {
        let place = match line {
            Some(line) => Place::line(source, line),
            None => Place::whole(Arc::clone(source)),
        };
        Finding::new(Kind::Unreadable, place, "", what)
    };
    if bytes.len() > limits.document_bytes {
        let (size, most) = (bytes.len(), limits.document_bytes);
        return Err(unreadable(None, format!("{size} bytes, of which at most {most} are read")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
        unreadable(Some(line), "not UTF-8".into())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // YAML 1.2 section 5.1; a parser may take a NUL for the end, and what follows would be silent.
    let printable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some(at) = text.find(|c| !printable(c)) {
        let line = text.get(..at).unwrap_or_default().matches('\n').count().saturating_add(1);
        return Err(unreadable(
            Some(line),
            "a control character, which YAML does not allow".into(),
        ));
    }
    Ok(text)
}

/// A list or a map that is being read.
struct Open {
    place: Place,
    anchor: usize,
    inner: Inner,
}

enum Inner {
    List(Vec<Node>),
    /// The entries, the key that waits for its value, and what `<<` brings.
    Map(Map, Option<(Scalar, Place)>, Vec<Node>),
}

/// What an anchor names, how many nodes and bytes of text it has, and how deep it is.
struct Anchored {
    node: Node,
    nodes: usize,
    bytes: usize,
    depth: usize,
}

struct Builder<'l> {
    source: Arc<str>,
    limits: &'l Limits,
    findings: Vec<Finding>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
    /// Bytes that anchors and aliases have copied.
    copied: usize,
}

impl<'l> Builder<'l> {
    fn new(source: Arc<str>, limits: &'l Limits) -> Self {
        Self {
            source,
            limits,
            findings: Vec::new(),
            open: Vec::new(),
            anchors: BTreeMap::new(),
            nodes: 0,
            copied: 0,
        }
    }

    fn unreadable(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding::new(Kind::Unreadable, Place::line(&self.source, line), "", what)
    }

    fn run(&mut self, text: &str) -> Result<Option<Node>, Finding> {
        let mut parser = Parser::new_from_str(text);
        let mut root = None;
        let mut documents = 0_usize;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                self.unreadable(error.marker().line(), format!("not YAML: {}", error.info()))
            })?;
            let line = span.start.line();
            if documents > 1 && !matches!(event, Event::StreamEnd | Event::DocumentEnd) {
                return Err(self.unreadable(line, "a second document, where one is expected"));
            }
            if let Event::DocumentStart(_) = event {
                documents = documents.saturating_add(1);
            }
            if let Some(done) = self.event(event, line)? {
                root = Some(done);
            }
        }
        Ok(root)
    }

    /// Takes an event; gives the root when it is complete.
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<Option<Node>, Finding> {
        let place = Place::line(&self.source, line);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = self.is_plain(style, tag.as_deref(), &place, &text);
                let value = Value::Scalar(Scalar { text: text.into_owned(), plain });
                self.count(1, line)?;
                self.complete(Node { place, value }, anchor, line)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_ref(), "seq", &place);
                self.begin(Inner::List(Vec::new()), place, anchor, line)
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_ref(), "map", &place);
                self.begin(Inner::Map(Map::new(), None, Vec::new()), place, anchor, line)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(None) };
                let value = match open.inner {
                    Inner::List(items) => Value::List(items),
                    Inner::Map(map, _, merged) => Value::Map(self.merged(map, merged)),
                };
                self.complete(Node { place: open.place, value }, open.anchor, line)
            }
            Event::Alias(anchor) => {
                let Some(named) = self.anchors.get(&anchor) else {
                    return Err(self.unreadable(line, "an alias of something that it is a part of"));
                };
                let (nodes, bytes, depth) = (named.nodes, named.bytes, named.depth);
                self.count(nodes, line)?;
                self.copy(bytes, line)?;
                if self.open.len().saturating_add(depth) > self.limits.depth {
                    return Err(self.too_deep(line));
                }
                // The bounds are kept, so now it may be copied. It keeps its own lines.
                let Some(named) = self.anchors.get(&anchor) else { return Ok(None) };
                let node = named.node.clone();
                self.place(node)
            }
            _ => Ok(None),
        }
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), Finding> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.limits.nodes {
            let most = self.limits.nodes;
            return Err(self.unreadable(line, format!("more than {most} values, aliases included")));
        }
        Ok(())
    }

    fn copy(&mut self, bytes: usize, line: usize) -> Result<(), Finding> {
        self.copied = self.copied.saturating_add(bytes);
        if self.copied > self.limits.document_bytes {
            let most = self.limits.document_bytes;
            return Err(self.unreadable(line, format!("aliases that add more than {most} bytes")));
        }
        Ok(())
    }

    fn too_deep(&self, line: usize) -> Finding {
        let most = self.limits.depth;
        self.unreadable(line, format!("lists and maps nested deeper than {most}"))
    }

    fn begin(
        &mut self,
        inner: Inner,
        place: Place,
        anchor: usize,
        line: usize,
    ) -> Result<Option<Node>, Finding> {
        self.count(1, line)?;
        if self.open.len() >= self.limits.depth {
            return Err(self.too_deep(line));
        }
        self.open.push(Open { place, anchor, inner });
        Ok(None)
    }

    /// A node is complete: its anchor is known from here on.
    fn complete(
        &mut self,
        node: Node,
        anchor: usize,
        line: usize,
    ) -> Result<Option<Node>, Finding> {
        if anchor != 0 {
            let Size { nodes, bytes, depth } = size(&node);
            self.copy(bytes, line)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, bytes, depth });
        }
        self.place(node)
    }

    /// Puts a node where it belongs.
    fn place(&mut self, node: Node) -> Result<Option<Node>, Finding> {
        let Some(open) = self.open.last_mut() else { return Ok(Some(node)) };
        match &mut open.inner {
            Inner::List(items) => items.push(node),
            Inner::Map(_, key @ None, _) => match node.value {
                Value::Scalar(scalar) => *key = Some((scalar, node.place)),
                _ => {
                    let what = format!("{} as a key, expected a text", node.described());
                    return Err(Finding::new(Kind::Unreadable, node.place, "", what));
                }
            },
            Inner::Map(map, key, merged) => {
                let Some((Scalar { text: key, plain }, key_place)) = key.take() else {
                    return Ok(None);
                };
                if plain && key == "<<" {
                    merged.push(node);
                } else if let Some(first) = map.entry(&key) {
                    let first = first.key_place.line.unwrap_or_default();
                    let what =
                        format!("the key {} is there twice: line {first} counts", quoted(&key));
                    self.findings.push(Finding::new(Kind::Wrong, key_place, "", what));
                } else {
                    map.insert(key, key_place, node);
                }
            }
        }
        Ok(None)
    }

    /// What `<<` brings is added to what the map itself does not say (yaml.org/type/merge.html).
    fn merged(&mut self, mut map: Map, merged: Vec<Node>) -> Map {
        for node in merged {
            let brought = match node.value {
                Value::List(items) => items,
                _ => vec![node],
            };
            for node in brought {
                let Value::Map(other) = node.value else {
                    let what = format!("<<: expected a map, found {}", node.described());
                    self.findings.push(Finding::new(Kind::Wrong, node.place, "", what));
                    continue;
                };
                for entry in other {
                    if map.entry(&entry.key).is_none() {
                        map.insert(entry.key, entry.key_place, entry.node);
                    }
                }
            }
        }
        map
    }

    fn is_plain(
        &mut self,
        style: ScalarStyle,
        tag: Option<&Tag>,
        place: &Place,
        text: &str,
    ) -> bool {
        let plain = style == ScalarStyle::Plain;
        let Some(tag) = tag else { return plain };
        let scalar = Scalar { text: text.to_owned(), plain: true };
        let core = tag.handle == "tag:yaml.org,2002:";
        let fits = match (core, tag.suffix.as_str()) {
            (true, "str") => return false,
            // `!` alone, which makes a text of anything.
            (false, "") | (false, "!") => return false,
            (true, "int") => matches!(scalar.meaning(), Meaning::Integer(_)),
            (true, "float") => matches!(scalar.meaning(), Meaning::Float(_) | Meaning::Integer(_)),
            (true, "bool") => matches!(scalar.meaning(), Meaning::Bool(_)),
            (true, "null") => scalar.meaning() == Meaning::Null,
            _ => {
                self.other_tag(tag, place);
                return plain;
            }
        };
        if !fits {
            let what = format!("{} is no !!{}", quoted(text), tag.suffix);
            self.findings.push(Finding::new(Kind::Wrong, place.clone(), "", what));
        }
        fits
    }

    fn tag(&mut self, tag: Option<&Cow<'_, Tag>>, expected: &str, place: &Place) {
        if let Some(tag) = tag
            && !(tag.handle == "tag:yaml.org,2002:" && tag.suffix == expected)
        {
            self.other_tag(tag, place);
        }
    }

    fn other_tag(&mut self, tag: &Tag, place: &Place) {
        let name = match tag.handle.as_str() {
            "tag:yaml.org,2002:" => format!("!!{}", tag.suffix),
            handle => format!("{handle}{}", tag.suffix),
        };
        let what = format!("the tag {} is not supported", quoted(&name));
        self.findings.push(Finding::new(Kind::NotSupported, place.clone(), "", what));
    }
}

#[derive(Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// How many nodes there are, keys left out.
pub(crate) fn nodes(node: &Node) -> usize {
    size(node).nodes
}

fn size(node: &Node) -> Size {
    let mut sum = Size { nodes: 1, bytes: 0, depth: 0 };
    let mut add = |child: &Node, key: usize| {
        let of = size(child);
        sum.nodes = sum.nodes.saturating_add(of.nodes);
        sum.bytes = sum.bytes.saturating_add(of.bytes).saturating_add(key);
        sum.depth = sum.depth.max(of.depth.saturating_add(1));
    };
    match &node.value {
        Value::Scalar(scalar) => sum.bytes = scalar.text.len(),
        Value::List(items) => items.iter().for_each(|item| add(item, 0)),
        Value::Map(map) => map.iter().for_each(|entry| add(&entry.node, entry.key.len())),
    }
    sum
}
