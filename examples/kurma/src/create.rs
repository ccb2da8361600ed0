//! `kurma create`.

use std::path::Path;

use kurma_client::Client;
use serde_json::Value;

use crate::arguments;
use crate::problem::Problem;
use crate::{images, show};

/// Bytes of the longest manifest that is read.
const LONGEST: u64 = 1 << 20;

/// Makes a pod.
pub(crate) async fn run(
    client: &Client,
    asked: &arguments::Create,
    json: bool,
) -> Result<(), Problem> {
    let mut create = kurma_client::Create::default();
    create.name = asked.name.clone().unwrap_or_default();
    create.ports.clone_from(&asked.ports);
    if !asked.networks.is_empty() {
        let named = asked.networks.iter().filter(|name| !name.is_empty());
        create.networks = Some(named.cloned().collect());
    }
    let path = Path::new(&asked.what);
    let is_manifest =
        asked.manifest || path.extension().is_some_and(|extension| extension == "json");
    if is_manifest {
        let mut pod = manifest(path)?;
        // a file may have a name and ports around the manifest
        if pod.get("pod").is_some_and(Value::is_object) {
            let mut whole: kurma_client::Create =
                serde_json::from_value(pod).map_err(|error| wrong(path, error))?;
            whole.name = if create.name.is_empty() { whole.name } else { create.name };
            whole.ports.append(&mut create.ports);
            whole.networks = create.networks.or(whole.networks);
            create = whole;
        } else {
            if create.name.is_empty()
                && let Some(name) = pod.get("name").and_then(Value::as_str)
            {
                create.name = name.to_owned();
            }
            if let Some(fields) = pod.as_object_mut() {
                fields.remove("name");
            }
            create.pod = Some(pod);
        }
    } else if path.is_file() {
        create.image = Some(images::upload(client, path).await?.hash);
    } else {
        create.image = Some(asked.what.clone());
    }
    let pod = client.create(&create).await?;
    show::created(&pod, json)?;
    Ok(())
}

fn wrong(path: &Path, problem: impl ToString) -> Problem {
    Problem::File { path: path.display().to_string(), problem: problem.to_string() }
}

fn manifest(path: &Path) -> Result<Value, Problem> {
    let about = std::fs::metadata(path).map_err(|error| wrong(path, error))?;
    if about.len() > LONGEST {
        return Err(wrong(path, format!("a manifest has at most {LONGEST} bytes")));
    }
    let text = std::fs::read(path).map_err(|error| wrong(path, error))?;
    serde_json::from_slice(&text).map_err(|error| wrong(path, error))
}
