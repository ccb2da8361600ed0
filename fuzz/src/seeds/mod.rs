//! Inputs to begin with: small images of our own writers.

mod boot;
mod cloud;
mod disks;
mod images;
mod text;

use std::collections::BTreeMap;
use std::error::Error;

/// What a maker of seeds gives.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The inputs of a target.
pub type Inputs = Vec<Vec<u8>>;

/// The inputs of all targets, by their names.
///
/// # Errors
/// Those of the writers.
pub fn all() -> Result<BTreeMap<&'static str, Inputs>> {
    let mut all = disks::all()?;
    all.extend(boot::all()?);
    all.extend(text::all()?);
    all.extend(cloud::all()?);
    all.extend(images::all()?);
    Ok(all)
}
