//! What a machine is told of itself: layers of YAML or JSON, merged and understood.
//!
//! The keys are Kurma's of 2016 (`podNetworks`); those of 2015 (`pod_networks`) are the same. What nobody
//! knows is told with its line. Later layers win: built-in, `/etc/kurma.yml` or `/etc/kurma.json`, the kernel's
//! command line (`kurma.debug`, `kurma.modules=a,b`), and the file of the OEM's partition.

mod disks;
mod keys;
mod network;
mod pods;
mod schema;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kiln_cloudconfig::layer::{self, CommandLine, Merged, Prefix, Rules};
use kiln_cloudconfig::{Finding, Findings, Kind, Limits, Node, Place, document};

pub use disks::{Disk, Usage};
pub use pods::{InitialPod, PodNetwork};
pub use schema::{Api, Configuration, Console, Ntp, Oem};

/// The machine's own file, the first of these that is there.
pub const FILES: [&str; 2] = ["/etc/kurma.yml", "/etc/kurma.json"];

/// Lists of which each layer has a part.
const JOINED: [&str; 3] = ["modules", "initialPods", "podNetworks"];

/// A configuration, and where it is from.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// What counts.
    pub configuration: Configuration,
    /// All layers together, each value with its place.
    pub merged: Merged,
    /// What is wrong with any of it.
    pub findings: Findings,
}

/// Layers as they are read.
#[derive(Debug, Default)]
pub struct Layers {
    nodes: Vec<Node>,
    findings: Findings,
}

impl Layers {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a document above those that are there.
    pub fn text(&mut self, name: &str, text: &[u8]) {
        let (mut node, more) = document::read(name, text, &Limits::default());
        self.findings.append(more);
        keys::settle(&mut node);
        keys::lists(&mut node, &JOINED);
        self.nodes.push(node);
    }

    /// Adds a file, if it is there.
    pub fn file(&mut self, path: &Path) {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => self.text(&name, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let place = Place::whole(name);
                self.findings.0.push(Finding::new(Kind::Unreadable, place, "", error.to_string()));
            }
        }
    }

    /// Adds what the kernel's command line says.
    pub fn command_line(&mut self, line: &str) {
        let mut words = CommandLine::default();
        words.prefixes = vec![Prefix { name: "kurma".into(), is_key: false }];
        let (mut node, more) = words.read(line, &Limits::default());
        self.findings.append(more);
        keys::settle(&mut node);
        keys::lists(&mut node, &JOINED);
        self.nodes.push(node);
    }

    /// Merges and understands them.
    #[must_use]
    pub fn load(self) -> Loaded {
        let mut rules = Rules::default();
        rules.appended = JOINED.map(str::to_owned).to_vec();
        let merged = layer::merge(self.nodes, &rules);
        let (configuration, more) = schema::decode(&merged.root);
        let mut findings = self.findings;
        findings.append(more);
        Loaded { configuration, merged, findings }
    }
}

/// Reads a file, no more of it than is looked at.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let most = u64::try_from(Limits::default().document_bytes).unwrap_or(u64::MAX);
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut text)?;
    Ok(text)
}

/// The machine's own file.
#[must_use]
pub fn own_file() -> PathBuf {
    let files = FILES.map(PathBuf::from);
    let there = files.iter().find(|path| path.exists()).cloned();
    there.unwrap_or_else(|| PathBuf::from("/etc/kurma.yml"))
}

#[cfg(test)]
mod tests;
