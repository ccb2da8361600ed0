//! Readers of sources.

use super::{Files, MetaData, ReadError};
use crate::{Findings, Limits};

/// What a source has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provided {
    /// User-data, for [`crate::user_data::read`].
    pub user_data: Option<Vec<u8>>,
    /// Metadata.
    pub meta_data: MetaData,
    /// The network as the source says it, in its own form: netplan's of NoCloud (which `network` of
    /// a cloud-config takes), OpenStack's `network_data.json` of a config drive.
    pub network: Option<Vec<u8>>,
    /// What was wrong with the metadata.
    pub findings: Findings,
}

/// NoCloud: `user-data`, `meta-data`, `network-config`, at the root of a file system labelled
/// `cidata` or `CIDATA`, or below an address. None where there is neither of the first two.
///
/// # Errors
/// Where one of them cannot be read.
pub fn nocloud<F: Files + ?Sized>(
    files: &F,
    name: &str,
    limits: &Limits,
) -> Result<Option<Provided>, ReadError> {
    let user_data = files.read("user-data", limits.user_data_bytes)?;
    let meta_data = files.read("meta-data", limits.document_bytes)?;
    if user_data.is_none() && meta_data.is_none() {
        return Ok(None);
    }
    let network = files.read("network-config", limits.document_bytes)?;
    Ok(Some(provided(
        user_data,
        meta_data.as_deref(),
        network,
        &format!("{name}/meta-data"),
        limits,
    )))
}

/// A config drive: `openstack/latest/`{`user_data`, `meta_data.json`, `network_data.json`} in a file
/// system labelled `config-2`. None where there is neither of the first two.
///
/// # Errors
/// Where one of them cannot be read.
pub fn config_drive<F: Files + ?Sized>(
    files: &F,
    name: &str,
    limits: &Limits,
) -> Result<Option<Provided>, ReadError> {
    let user_data = files.read("openstack/latest/user_data", limits.user_data_bytes)?;
    let meta_data = files.read("openstack/latest/meta_data.json", limits.document_bytes)?;
    if user_data.is_none() && meta_data.is_none() {
        return Ok(None);
    }
    let network = files.read("openstack/latest/network_data.json", limits.document_bytes)?;
    let meta_name = format!("{name}/openstack/latest/meta_data.json");
    Ok(Some(provided(user_data, meta_data.as_deref(), network, &meta_name, limits)))
}

/// A single file of user-data.
///
/// # Errors
/// Where it cannot be read.
pub fn file<F: Files + ?Sized>(
    files: &F,
    path: &str,
    limits: &Limits,
) -> Result<Option<Provided>, ReadError> {
    let user_data = files.read(path, limits.user_data_bytes)?;
    Ok(user_data.map(|bytes| Provided { user_data: Some(bytes), ..Provided::default() }))
}

fn provided(
    user_data: Option<Vec<u8>>,
    meta_data: Option<&[u8]>,
    network: Option<Vec<u8>>,
    meta_name: &str,
    limits: &Limits,
) -> Provided {
    let (meta_data, findings) = match meta_data {
        Some(bytes) => MetaData::read(meta_name, bytes, limits),
        None => Default::default(),
    };
    Provided { user_data, meta_data, network, findings }
}
