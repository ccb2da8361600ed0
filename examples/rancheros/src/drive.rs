//! A CD with a cloud-config, as OpenStack's config drives are.

use std::path::Path;

use anyhow::Result;
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::iso;
use kiln_tree::{Node, Tree};

/// Writes a config drive with this user-data.
///
/// # Errors
/// What the file system refuses.
pub fn write(path: &Path, user_data: &[u8]) -> Result<()> {
    let mut tree = Tree::new();
    tree.insert("openstack/latest/user_data", Node::file(user_data))?;
    let mut options = iso::Options::default();
    options.volume_id = "config-2".into();
    container::write_file(Format::Raw, &iso::Volume::plan(&tree, &options)?, path)?;
    Ok(())
}
