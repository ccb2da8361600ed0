//! `ros config`.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use clap::Subcommand;
use kiln_cloudconfig::layer::{self, Rules};
use kiln_cloudconfig::{Findings, Limits, Map, Node, Place, Value, document};

use super::{Failure, Result};
use crate::{configuration, files, places};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints a value: `ros config get rancher.docker.storage_driver`
    Get {
        /// Keys with dots between them
        key: String,
    },
    /// Sets a value, which counts from the next start of what it is for
    Set {
        /// Keys with dots between them
        key: String,
        /// The value, as YAML
        value: String,
    },
    /// Prints the configuration
    Export {
        /// All of it, not only what the user has configured
        #[arg(short, long)]
        full: bool,
        /// Each value with where it is from
        #[arg(short, long)]
        explain: bool,
    },
    /// Merges a file (or standard input) into what the user has configured
    Merge {
        /// The file
        #[arg(short, long)]
        input: Option<PathBuf>,
    },
    /// Says what is wrong with a file (or standard input)
    Validate {
        /// The file
        #[arg(short, long)]
        input: Option<PathBuf>,
    },
    /// The images that the system's services are made of
    Images,
}

pub(crate) fn run(command: Command) -> Result {
    match command {
        Command::Get { key } => {
            let configuration = configuration::load();
            let found = configuration.merged.root.at(key.split('.'));
            let found = found.ok_or_else(|| Failure::new(format_args!("{key}: no such value")))?;
            print(&shown(found))
        }
        Command::Set { key, value } => {
            let value = parsed("the value", value.as_bytes())?;
            let changed = set(own()?, &key, value)?;
            keep(&changed)
        }
        Command::Export { full, explain } => {
            let configuration = configuration::load();
            if explain {
                return print(&configuration.merged.explain());
            }
            let root = if full { configuration.merged.root } else { own()? };
            print(&root.to_yaml())
        }
        Command::Merge { input } => {
            let (name, bytes) = read(input)?;
            let more = parsed(&name, &bytes)?;
            let findings = configuration::merge(vec![more.clone()], Findings::default()).findings;
            if !findings.is_empty() {
                return Err(Failure::new(findings));
            }
            keep(&layer::merge([own()?, more], &Rules::default()).root)
        }
        Command::Validate { input } => {
            let (name, bytes) = read(input)?;
            let (node, findings) = document::read(&name, &bytes, &Limits::default());
            let findings = configuration::merge(vec![node], findings).findings;
            if findings.is_empty() { Ok(()) } else { Err(Failure::new(findings)) }
        }
        Command::Images => {
            let services = configuration::load().rancher.services.into_values();
            let mut images: Vec<String> = services.map(|service| service.image).collect();
            images.sort();
            images.dedup();
            print(&images.iter().map(|image| format!("{image}\n")).collect::<String>())
        }
    }
}

fn print(text: &str) -> Result {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).map_err(Failure::about("write"))
}

/// A value alone is its text; anything else is YAML.
fn shown(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) => format!("{}\n", scalar.text),
        _ => node.to_yaml(),
    }
}

fn read(input: Option<PathBuf>) -> Result<(String, Vec<u8>)> {
    let Some(path) = input.filter(|path| path.as_os_str() != "-") else {
        let mut bytes = Vec::new();
        let bounded = std::io::stdin().lock().take(Limits::default().document_bytes as u64 + 1);
        { bounded }.read_to_end(&mut bytes).map_err(Failure::about("standard input"))?;
        return Ok(("standard input".into(), bytes));
    };
    let name = path.display().to_string();
    let bytes = files::read(&path).map_err(Failure::about(&name))?;
    bytes
        .map(|bytes| (name.clone(), bytes))
        .ok_or_else(|| Failure::new(format_args!("{name}: no such file")))
}

fn parsed(name: &str, bytes: &[u8]) -> Result<Node> {
    let (node, findings) = document::read(name, bytes, &Limits::default());
    findings.strict(node).map_err(Failure::new)
}

/// What the user has configured.
fn own() -> Result<Node> {
    let bytes = files::read(places::CLOUD_CONFIG).map_err(Failure::about(places::CLOUD_CONFIG))?;
    match bytes {
        Some(bytes) => parsed(places::CLOUD_CONFIG, &bytes),
        None => Ok(Node::null(Place::whole(places::CLOUD_CONFIG))),
    }
}

fn keep(root: &Node) -> Result {
    let text = format!("#cloud-config\n{}", root.to_yaml());
    files::replace(places::CLOUD_CONFIG, text.as_bytes(), 0o600)
        .map_err(Failure::about(places::CLOUD_CONFIG))
}

/// A document with another value at a key; nothing that would not be understood.
pub(crate) fn set(root: Node, key: &str, value: Node) -> Result<Node> {
    let place = Place::whole(places::CLOUD_CONFIG);
    let keys: Vec<&str> = key.split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(Failure::new(format_args!("{key:?}: expected keys with dots between them")));
    }
    // A layer of this value alone is merged over the rest.
    let layer = keys.iter().rev().fold(value, |node, key| {
        let mut map = Map::new();
        map.insert(*key, place.clone(), node);
        Node::map(place.clone(), map)
    });
    let findings = configuration::merge(vec![layer.clone()], Findings::default()).findings;
    if !findings.is_empty() {
        return Err(Failure::new(findings));
    }
    let mut rules = Rules::default();
    // a list that is set is that list
    rules.appended.clear();
    Ok(layer::merge([root, layer], &rules).root)
}

/// Sets a value of what the user has configured.
pub(crate) fn change(key: &str, value: &str) -> Result {
    keep(&set(own()?, key, parsed("the value", value.as_bytes())?)?)
}

/// Sets several texts, all of them or none.
pub(crate) fn change_texts(values: &[(&str, &str)]) -> Result {
    let place = Place::whole("the value");
    let mut root = own()?;
    for (key, text) in values {
        root = set(root, key, Node::text(place.clone(), *text))?;
    }
    keep(&root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        parsed("test", text.as_bytes()).unwrap()
    }

    #[test]
    fn values_are_set_in_their_place() {
        let root = node("hostname: a\nrancher:\n  debug: false\n  disable: [x]\n");
        let root = set(root, "rancher.debug", node("true")).unwrap();
        let root = set(root, "rancher.docker.bip", node("10.0.0.1/24")).unwrap();
        let root = set(root, "rancher.disable", node("[y]")).unwrap();
        assert_eq!(
            root.to_yaml(),
            "hostname: a\nrancher:\n  debug: true\n  disable:\n    - y\n  docker:\n    bip: 10.0.0.1/24\n"
        );
    }

    #[test]
    fn what_nobody_would_understand_is_not_set() {
        let fails = |key: &str, value: &str| {
            set(Node::null(Place::whole("x")), key, node(value)).unwrap_err().to_string()
        };
        assert!(fails("rancher.debgu", "true").contains("did you mean \"debug\"?"));
        assert!(fails("rancher.debug", "[1]").contains("expected true or false"));
        assert!(fails("rancher..debug", "1").contains("expected keys with dots"));
    }
}
