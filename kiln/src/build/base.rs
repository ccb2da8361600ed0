//! What every image has, whatever else is in it: the directories that process 1 mounts on, merged
//! `/usr`, names of users and of the machine. A file of the definition or of a package goes before.

use kiln_tree::{Metadata, Node, Tree, TreePath};

use crate::Result;
use crate::definition::Definition;

/// Adds what is not there yet.
pub(super) fn add(tree: &mut Tree, definition: &Definition) -> Result<()> {
    let mut add = |path: &str, node: Node, why: &str| {
        if tree.contains(path) { Ok(()) } else { tree.insert(path, node.because(why)) }
    };
    let name = definition.name.as_str();

    add("etc/passwd", Node::file(passwd(definition)), "the users")?;
    add("etc/group", Node::file(group(definition)), "the groups")?;
    add("etc/hostname", Node::file(format!("{name}\n")), "the machine's name")?;
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n");
    add("etc/hosts", Node::file(hosts), "names without a name server")?;
    let release = os_release(definition);
    add("etc/os-release", Node::file(release), "what programs say the system is")?;
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n";
    add("etc/nsswitch.conf", Node::file(nsswitch), "how glibc looks names up")?;
    let directory = |mode| Node::directory().with(Metadata::new(mode));
    for path in ["dev", "proc", "sys", "run", "mnt"] {
        add(path, directory(0o755), "a place to mount on")?;
    }
    add("tmp", directory(0o1777), "temporary files; process 1 mounts a tmpfs there")?;
    add("var/tmp", directory(0o1777), "temporary files that may outlive a boot")?;
    add("var/run", Node::symlink("/run"), "the former place of /run (FHS 3.0, 5.13)")?;
    add("root", directory(0o700), "root's home")?;
    add("var/log", directory(0o755), "the services' logs")?;
    // What follows is for process 1. Without it no device is in the tree, so that whoever has no
    // rights to make one can unpack it.
    if definition.init.is_none() {
        return Ok(());
    }
    add("dev/console", Node::char_device(5, 1), "the kernel opens it for process 1")?;
    let epoch = format!("{}\n", definition.epoch);
    add("etc/kiln/epoch", Node::file(epoch), "a clock before this time is wrong")?;
    // How the first boot of a disk knows that it is a plain copy of the image.
    let disk = definition.seed().guid("disk");
    let first = format!("[first-boot]\nimage-disk = \"{disk}\"\n");
    add("etc/kiln/first-boot.toml", Node::file(first), "what a copy of the image changes")?;
    Ok(())
}

/// The four directories that are one with those of `/usr`, as Debian has them.
pub(super) fn merge_usr(tree: &mut Tree) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let below = format!("usr/{name}");
        if !tree.contains(&below) {
            tree.insert(&below, Node::directory().because("merged /usr"))?;
        }
        if !tree.contains(name) {
            tree.insert(name, Node::symlink(below).because("merged /usr"))?;
        }
    }
    Ok(())
}

/// The same path in a tree with merged `/usr`: `bin/x` is `usr/bin/x`.
pub(super) fn in_merged_usr(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let merged = ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|start| path.starts_with(start));
    if merged { format!("usr/{path}") } else { path.to_owned() }
}

fn passwd(definition: &Definition) -> String {
    let shell = "/bin/sh";
    let mut text = format!(
        "root:x:0:0:root:/root:{shell}\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    );
    for user in &definition.users {
        text += &format!(
            "{}:x:{}:{}:{}:{}:{}\n",
            user.name.value, user.uid.value, user.gid, user.comment, user.home, user.shell
        );
    }
    text
}

fn group(definition: &Definition) -> String {
    let members = |group: &str| {
        let users = definition.users.iter();
        let users = users.filter(|user| user.groups.iter().any(|name| name.value == group));
        users.map(|user| user.name.value.as_str()).collect::<Vec<_>>().join(",")
    };
    let mut text = String::from("root:x:0:\nnogroup:x:65534:\n");
    for group in &definition.groups {
        let name = group.name.as_str();
        text += &format!("{name}:x:{}:{}\n", group.gid.value, members(name));
    }
    // A user without a group of that number gets one of the user's name.
    for user in &definition.users {
        let known = definition.groups.iter().any(|group| group.gid.value == user.gid);
        if !known && user.gid != 0 && user.gid != 65534 {
            text += &format!("{}:x:{}:\n", user.name.value, user.gid);
        }
    }
    text
}

/// What `/etc/os-release` says.
pub(super) fn os_release(definition: &Definition) -> String {
    let (name, title) = (definition.name.as_str(), quoted(definition.title()));
    let mut release = format!("NAME={title}\nID={name}\nPRETTY_NAME={title}\n");
    if let Some(version) = &definition.version {
        release += &format!("VERSION_ID={}\n", quoted(version));
    }
    release
}

/// A value of os-release(5): in quotes unless it is one plain word.
fn quoted(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars().filter(|c| *c != '\n') {
        if matches!(character, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted + "\""
}

/// Whether a tree has a path, through links too.
pub(super) fn leads_somewhere(tree: &Tree, path: &str) -> bool {
    TreePath::new(path).is_ok() && tree.resolve(path.trim_start_matches('/')).is_some()
}
