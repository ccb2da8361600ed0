//! What an image says of users, read without leaving its root.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use kiln_oci::appc::App;
use kiln_tree::{Node, Tree};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::Found;

/// Bytes of the longest file of users that is read.
const LONGEST: u64 = 1 << 20;

impl Found {
    /// The files of the root that say who an app's user is: as little of it as that takes.
    pub(crate) fn root_of_users(&self, app: Option<&App>) -> Result<Tree, String> {
        let mut tree = Tree::new();
        for name in ["etc/passwd", "etc/group"] {
            let Some(file) = self.open(name, OFlags::RDONLY | OFlags::NONBLOCK)? else { continue };
            let mut text = Vec::new();
            let read = File::from(file).take(LONGEST).read_to_end(&mut text);
            read.map_err(|error| format!("{name} of the image: {error}"))?;
            tree.insert(name, Node::file(text)).map_err(|error| error.to_string())?;
        }
        let owners = app.into_iter().flat_map(|app| [&app.user, &app.group]);
        for path in owners.filter(|text| text.starts_with('/')) {
            let Some(file) = self.open(path.trim_start_matches('/'), OFlags::PATH)? else {
                continue;
            };
            let stat = rustix::fs::fstat(&file).map_err(|error| error.to_string())?;
            let mut node = Node::file("");
            (node.meta.uid, node.meta.gid) = (stat.st_uid, stat.st_gid);
            // the files of users are there already, and belong to whom they say
            let _ = tree.insert(path.as_str(), node);
        }
        Ok(tree)
    }

    /// A file of the root. Links lead nowhere else.
    fn open(&self, name: &str, flags: OFlags) -> Result<Option<OwnedFd>, String> {
        match open_in(&self.root, name, flags) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{name} of the image: {error}")),
        }
    }
}

fn open_in(root: &Path, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, directory, Mode::empty())?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let name = if name.is_empty() { "." } else { name };
    Ok(openat2(&root, name, flags | OFlags::CLOEXEC, Mode::empty(), within)?)
}
