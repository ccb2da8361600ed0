//! What a server does first: images that are at hand are taken in, and pods made that are always there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kurma_client::{Create, Pod};
use serde_json::Value;

use crate::caller::{Caller, Role};
use crate::files;
use crate::images::Images;
use crate::pods::Pods;
use crate::tail;

/// What is done first.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Begin {
    /// Archives of images; of a directory, all files.
    pub images: Vec<PathBuf>,
    /// What `Pods.Create` is asked for. A pod of the same name that runs stays, and another one goes.
    pub pods: Vec<Value>,
    /// Names of pods of these whose apps' output is shown where the server's is.
    pub shown: Vec<String>,
}

fn say(what: impl std::fmt::Display) {
    eprintln!("kurma-server: {what}");
}

/// Does it. What fails is told, and the rest is done all the same.
pub(crate) fn begin(pods: &Arc<Pods>, images: &Images, begin: &Begin, noted: &Path) {
    let text = fs::read(noted).unwrap_or_default();
    let before: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap_or_default();
    let mut now = BTreeMap::new();
    for path in begin.images.iter().flat_map(|path| archives(path)) {
        match take(images, &path, &before) {
            Ok((digest, hash)) => drop(now.insert(digest, hash)),
            Err(problem) => say(format_args!("{}: {problem}", path.display())),
        }
    }
    if now != before
        && let Ok(text) = serde_json::to_vec(&now)
        && let Err(error) = files::replace(noted, &text)
    {
        say(files::sentence("write", noted)(error));
    }
    for create in &begin.pods {
        let name = create.get("name").and_then(Value::as_str).unwrap_or("?");
        match make(pods, create) {
            Ok(pod) if begin.shown.iter().any(|shown| shown == name) => tail::show(pods, &pod),
            Ok(_) => {}
            Err(problem) => say(format_args!("pod {name}: {problem}")),
        }
    }
}

/// The archives of a path, in order of their names.
fn archives(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Takes an archive in, unless just this one was before. Gives its digest and that of its image.
fn take(
    images: &Images,
    path: &Path,
    before: &BTreeMap<String, String>,
) -> Result<(String, String), String> {
    let digest = files::sha512(path).map_err(|error| error.to_string())?;
    if let Some(hash) = before.get(&digest).filter(|hash| images.get(hash).is_ok()) {
        return Ok((digest, hash.clone()));
    }
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut copy = images.spool().map_err(|error| error.to_string())?;
    io::copy(&mut file, &mut copy).map_err(|error| error.to_string())?;
    let image = images.import(copy).map_err(|fault| fault.message)?;
    say(format_args!("image {} is here", image.name()));
    Ok((digest, image.hash))
}

fn make(pods: &Arc<Pods>, create: &Value) -> Result<Pod, String> {
    let create: Create =
        serde_json::from_value(create.clone()).map_err(|error| error.to_string())?;
    if let Ok(there) = pods.get(&create.name) {
        if there.state.is_live() {
            return Ok(there);
        }
        pods.destroy(&there.uuid).map_err(|fault| fault.message)?;
    }
    let own = Caller::local("the configuration", Role::Operator);
    let pod = pods.create(&own, &create).map_err(|fault| fault.message)?;
    let addresses: Vec<&str> =
        pod.networks.iter().flat_map(|network| &network.addresses).map(String::as_str).collect();
    say(format_args!("pod {} runs {}", pod.name, addresses.join(" ")));
    Ok(pod)
}
