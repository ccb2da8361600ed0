//! The readers of kiln-cloudconfig. Also a module of that crate's tests.

use std::collections::BTreeMap;

use kiln_cloudconfig::datasource::{Provided, ReadError, config_drive, nocloud};
use kiln_cloudconfig::schema::User;
use kiln_cloudconfig::user_data::PartKind;
use kiln_cloudconfig::{Findings, Limits, Node, decode, document, layer, plan, user_data};

/// Bounds that keep a single input cheap, and that inputs of some kilobytes reach.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.document_bytes = 16 << 10;
    limits.depth = 12;
    limits.nodes = 1000;
    limits.findings = 20;
    limits.user_data_bytes = 64 << 10;
    limits.parts = 12;
    limits.file_bytes = 16 << 10;
    limits
}

/// What goes to a terminal is lines without what a terminal would act on.
fn shown(findings: &Findings) {
    for finding in findings {
        let text = finding.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    let mut of_one: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings {
        *of_one.entry(&finding.place.source).or_default() += 1;
    }
    // Two steps, each with a finding that there are more.
    assert!(of_one.values().all(|count| *count <= 2 * (limits().findings + 1)));
}

/// Layers, the lowest first, as one; as types; as what is to be done.
fn taken(layers: Vec<Node>) {
    for layer in &layers {
        let text = layer.to_yaml();
        // What is written may be longer than what was read, and the keys of what aliases repeat count.
        let mut wide = limits();
        wide.document_bytes = usize::MAX;
        wide.nodes = usize::MAX;
        let (again, findings) = document::read("again", text.as_bytes(), &wide);
        assert!(again.says(layer) && findings.is_empty(), "{findings}\n{text}\n{layer:?}");
    }
    let merged = layer::merge(layers, &layer::Rules::default());
    let lines = merged.explain();
    assert!(!lines.replace('\n', "").contains(char::is_control), "{lines:?}");
    let (config, findings) = decode(&merged.root, &limits());
    shown(&findings);
    let plan = plan::plan(&config, &plan::Options::with_user(User::named("admin")));
    let lines = plan.to_string();
    assert_eq!(lines.lines().count(), plan.actions.len() + plan.problems.len(), "{lines:?}");
    for file in &config.write_files {
        assert!(file.content.len() <= limits().file_bytes);
    }
}

/// Documents as layers: those of an input are separated by NUL, which YAML does not have.
pub fn documents(input: &[u8]) {
    let read = |(at, text): (usize, &[u8])| {
        let (root, findings) = document::read(&format!("layer {at}"), text, &limits());
        shown(&findings);
        root
    };
    taken(input.split(|byte| *byte == 0).take(4).enumerate().map(read).collect());
}

/// User-data of any kind, and the documents in it.
pub fn user_data(input: &[u8]) {
    let limits = limits();
    let (parts, findings) = user_data::read("user-data", input, &limits);
    shown(&findings);
    assert!(parts.len() <= limits.parts.max(1));
    let bytes: usize = parts.iter().map(|part| part.bytes.len()).sum();
    assert!(bytes <= limits.user_data_bytes.saturating_mul(2).max(input.len()), "{bytes} bytes");
    let documents = parts.iter().filter(|part| part.kind == PartKind::CloudConfig);
    let read = documents.map(|part| {
        let (root, findings) = document::read(&part.name, &part.bytes, &limits);
        shown(&findings);
        root
    });
    taken(read.collect());
}

/// The kernel's command line, below a document.
pub fn command_line(input: &[u8]) {
    let line = String::from_utf8_lossy(input);
    let reader = layer::CommandLine::with_key("rancher");
    let (root, findings) = reader.read(&line, &limits());
    shown(&findings);
    let elided = layer::CommandLine::elided(&line);
    assert!(line.starts_with(elided));
    // What comes before the separator says the same alone.
    let (again, _) = reader.read(elided, &limits());
    let (twice, _) = reader.read(layer::CommandLine::elided(elided), &limits());
    assert!(again.says(&twice));
    let below = b"hostname: a\nrancher: {debug: false, disable: [a]}\n";
    let (below, _) = document::read("below", below, &limits());
    taken(vec![below, root]);
}

/// The files of a medium, separated by NUL: user-data, metadata, network.
pub fn medium(input: &[u8]) {
    type Source =
        fn(&BTreeMap<String, Vec<u8>>, &str, &Limits) -> Result<Option<Provided>, ReadError>;
    let sources: [(Source, [&str; 3]); 2] = [
        (nocloud, ["user-data", "meta-data", "network-config"]),
        (config_drive, ["user_data", "meta_data.json", "network_data.json"]),
    ];
    for (source, names) in sources {
        let below = if names[0] == "user_data" { "openstack/latest/" } else { "" };
        let files: BTreeMap<String, Vec<u8>> = names
            .iter()
            .zip(input.splitn(3, |byte| *byte == 0))
            .map(|(name, bytes)| (format!("{below}{name}"), bytes.to_vec()))
            .collect();
        let Ok(Some(found)) = source(&files, "medium", &limits()) else { continue };
        shown(&found.findings);
        let mut layers = Vec::new();
        if let Some(bytes) = &found.user_data {
            let (parts, findings) = user_data::read("user-data", bytes, &limits());
            shown(&findings);
            for part in parts {
                layers.push(document::read(&part.name, &part.bytes, &limits()).0);
            }
        }
        layers.push(found.meta_data.layer("metadata"));
        if let Some(bytes) = &found.network {
            layers.push(document::read("network", bytes, &limits()).0);
        }
        taken(layers);
    }
}
