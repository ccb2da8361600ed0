//! The configuration: its layers read, merged and understood.

use std::path::{Path, PathBuf};

use kiln_cloudconfig::datasource::{self, Directory, Provided};
use kiln_cloudconfig::layer::{self, CommandLine, Merged, Rules};
use kiln_cloudconfig::user_data::{self, PartKind};
use kiln_cloudconfig::{CloudConfig, Findings, Limits, Node, Sections, decode_with, document};

use crate::schema::{self, Rancher};
use crate::{command_line, files, places};

/// A configuration as it counts.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// All layers together.
    pub(crate) merged: Merged,
    /// What cloud-config's own sections say.
    pub(crate) cloud: CloudConfig,
    /// What `rancher:` says.
    pub(crate) rancher: Rancher,
    /// What is wrong with any of it.
    pub(crate) findings: Findings,
}

/// Layers, the lowest first, as one configuration.
pub(crate) fn merge(layers: Vec<Node>, mut findings: Findings) -> Configuration {
    let limits = Limits::default();
    let merged = layer::merge(layers, &Rules::default());
    let (cloud, rancher, more) =
        decode_with(&merged.root, &Sections::default(), &limits, |fields| {
            fields.get("rancher", schema::rancher).unwrap_or_default()
        });
    findings.append(more);
    Configuration { merged, cloud, rancher, findings }
}

/// The files that layers are, the lowest first.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        [places::BUILT_IN, places::OEM_CONFIG].map(PathBuf::from).to_vec();
    let directory = Path::new(places::CONF).join("cloud-config.d");
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut more: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yml"))
        .collect();
    more.sort();
    files.extend(more);
    files.extend([places::CLOUD_CONFIG, places::META_DATA].map(PathBuf::from));
    files
}

/// Reads everything that says something about this machine.
pub(crate) fn load() -> Configuration {
    load_from(&files(), &command_line::read())
}

/// What counts before there is a disk.
pub(crate) fn early() -> Rancher {
    load_from(&[places::BUILT_IN.into(), places::OEM_CONFIG.into()], &command_line::read()).rancher
}

/// Where user-data may come from, in order of precedence, and who vouches for it: as layers say it that are not
/// user-data themselves. Nobody whom the machine asks says whom it asks.
pub(crate) fn sources() -> Rancher {
    let files: Vec<PathBuf> = files()
        .into_iter()
        .filter(|path| ![places::USER_DATA, places::META_DATA].map(Path::new).contains(&&**path))
        .collect();
    load_from(&files, &command_line::read()).rancher
}

/// Reads these files and a command line.
pub(crate) fn load_from(files: &[PathBuf], command_line: &str) -> Configuration {
    let limits = Limits::default();
    let mut findings = Findings::default();
    let mut layers = Vec::new();
    for file in files {
        let shown = file.display().to_string();
        match files::read(file) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                let (node, more) = document::read(&shown, &bytes, &limits);
                findings.append(more);
                layers.push(node);
            }
            Err(error) => findings.0.push(kiln_cloudconfig::Finding::new(
                kiln_cloudconfig::Kind::Unreadable,
                kiln_cloudconfig::Place::whole(shown),
                "",
                error.to_string(),
            )),
        }
    }
    let (node, more) = CommandLine::with_key("rancher").read(command_line, &limits);
    findings.append(more);
    layers.push(node);
    merge(layers, findings)
}

/// What a medium has, by the kind of source that it is.
///
/// # Errors
/// A sentence.
pub(crate) fn look(source: &str, directory: &Path) -> Result<Option<Provided>, String> {
    let limits = Limits::default();
    let files = Directory::open(directory).map_err(|error| error.to_string())?;
    let found = match source {
        "configdrive" => datasource::config_drive(&files, source, &limits),
        _ => datasource::nocloud(&files, source, &limits),
    };
    found.map_err(|error| error.to_string())
}

/// What of user-data becomes which file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// A cloud-config.
    pub(crate) config: Option<Vec<u8>>,
    /// A script.
    pub(crate) script: Option<Vec<u8>>,
    /// What the source itself says of the machine.
    pub(crate) meta_data: Option<Vec<u8>>,
}

/// Takes apart what a source has. Several cloud-configs of one message are one.
pub(crate) fn parts(source: &str, provided: &Provided) -> (Parts, Findings) {
    let limits = Limits::default();
    let mut findings = provided.findings.clone();
    let mut parts = Parts::default();
    if let Some(bytes) = &provided.user_data {
        let (found, more) = user_data::read(source, bytes, &limits);
        findings.append(more);
        let configs: Vec<_> =
            found.iter().filter(|part| part.kind == PartKind::CloudConfig).collect();
        parts.config = match configs.as_slice() {
            [] => None,
            // as it was written, so that messages name its lines
            [one] => Some(one.bytes.clone()),
            several => {
                let nodes = several.iter().map(|part| {
                    let (node, more) = document::read(&part.name, &part.bytes, &limits);
                    findings.append(more);
                    node
                });
                let nodes: Vec<Node> = nodes.collect();
                Some(layer::merge(nodes, &Rules::default()).root.to_yaml().into_bytes())
            }
        };
        let script = found.into_iter().find(|part| part.kind == PartKind::Script);
        parts.script = script.map(|part| part.bytes);
    }
    let layer = provided.meta_data.layer(source);
    parts.meta_data = (!layer.is_null()).then(|| layer.to_yaml().into_bytes());
    (parts, findings)
}
