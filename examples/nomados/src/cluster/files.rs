//! A cluster in a directory: what is there is kept, what is missing is made. Keys are readable by
//! their owner alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use kiln_diskimg::container;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{Authority, Moment, Node, Options, nodes, operator};

/// Whom the API's certificate in the directory is for: `operator.pem`, `operator-key.pem`.
pub const OPERATOR: &str = "operator";
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const GOSSIP: &str = "gossip.key";
const CLUSTER: &str = "cluster.json";
/// Bytes of a gossip key, which makes it AES-256.
const GOSSIP_LEN: usize = 32;

/// What there is now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Made {
    /// Nodes whose disks were made.
    pub nodes: Vec<Node>,
    /// Whether the authority was there already.
    pub joined: bool,
}

/// The disk of a node.
fn disk_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.raw"))
}

/// Makes a cluster in a directory, or adds what it lacks of one. Disks that are there stay as they
/// are.
///
/// # Errors
/// Everything that is wrong with the options at once, before anything is written; a directory that
/// holds another cluster; what the file system refuses.
pub fn make(directory: &Path, options: &Options) -> Result<Made> {
    super::check(options)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("it is before 1970")?.as_secs();
    let mut random = |bytes: &mut [u8]| {
        let mut source = File::open("/dev/urandom").context("open /dev/urandom")?;
        source.read_exact(bytes).context("read /dev/urandom")
    };
    let mut key = || KeyPair::generate().context("make a key");
    let mut moment = Moment { now, random: &mut random, key: &mut key };

    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("create directory {}", directory.display()))?;
    let read = |name: &str| read_if_there(&directory.join(name));
    let identity = json!({ "region": options.region });
    if let Some(text) = read(CLUSTER)? {
        let found: Value = serde_json::from_str(&text)
            .with_context(|| format!("parse {}", directory.join(CLUSTER).display()))?;
        if found != identity {
            bail!(
                "{} holds the cluster {found}, not {identity}; take another directory",
                directory.display()
            );
        }
    }
    let (authority, ca, joined) = match (read(CA_KEY)?, read(CA)?) {
        (Some(key), Some(ca)) => {
            let path = directory.join(CA_KEY);
            let key =
                KeyPair::from_pem(&key).with_context(|| format!("read {}", path.display()))?;
            (Authority::new(&options.region, key, &mut moment)?.0, ca, true)
        }
        (None, None) => {
            let key = (moment.key)()?;
            let pem = key.serialize_pem();
            let (authority, ca) = Authority::new(&options.region, key, &mut moment)?;
            write(directory, CLUSTER, (identity.to_string() + "\n").as_bytes(), 0o644)?;
            write(directory, CA, ca.as_bytes(), 0o644)?;
            write(directory, CA_KEY, pem.as_bytes(), 0o600)?;
            (authority, ca, false)
        }
        (key, _) => bail!(
            "{}: there is {} without {}; put it back, or take another directory",
            directory.display(),
            if key.is_some() { CA_KEY } else { CA },
            if key.is_some() { CA } else { CA_KEY },
        ),
    };
    let gossip = match read(GOSSIP)? {
        Some(text) => text.trim().to_owned(),
        None => {
            let mut bytes = [0; GOSSIP_LEN];
            (moment.random)(&mut bytes)?;
            let text = BASE64_STANDARD.encode(bytes);
            write(directory, GOSSIP, text.as_bytes(), 0o600)?;
            text
        }
    };
    if read(&format!("{OPERATOR}.pem"))?.is_none() {
        let (certificate, key) = operator(options, &authority, &mut moment)?;
        write(directory, &format!("{OPERATOR}-key.pem"), key.as_bytes(), 0o600)?;
        write(directory, &format!("{OPERATOR}.pem"), certificate.as_bytes(), 0o644)?;
    }
    let wanted = |name: &str| !disk_path(directory, name).exists();
    let nodes = nodes(options, &authority, &ca, &gossip, &wanted, &mut moment)?;
    for node in &nodes {
        let disk =
            container::write(container::Format::Raw, &node.disk()?, Cursor::new(Vec::new()))?;
        write(directory, &format!("{}.raw", node.name), disk.get_ref(), 0o600)?;
    }
    Ok(Made { nodes, joined })
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Writes a file beside its place, with its mode from the start, and renames it.
fn write(directory: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let path = directory.join(name);
    let beside = directory.join(format!(".{name}.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, &path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&beside);
    }
    written.with_context(|| format!("write {}", path.display()))
}
