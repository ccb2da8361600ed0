//! Users and groups by the files of a root: no library, no service, nothing of the host.

use kiln_tree::{Kind, Tree};

use crate::error::shown;
use crate::{Error, Result};

/// Longer files are not read.
const LIMIT: u64 = 1 << 20;

/// The text of a root's `/etc/passwd` and `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Users {
    /// passwd(5).
    pub passwd: String,
    /// group(5).
    pub group: String,
}

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Identity {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Further groups, sorted.
    pub groups: Vec<u32>,
    /// The home directory, where the user has one.
    pub home: Option<String>,
}

impl Users {
    /// Reads both files of a tree, symbolic links followed inside of it. A file that is not there is
    /// an empty one.
    ///
    /// # Errors
    /// [`Error::Document`] for a file of more than 1 MiB; [`Error::Stream`].
    pub fn of_tree(tree: &Tree) -> Result<Self> {
        let read = |path: &str| match tree.resolve(path).map(|(_, node)| &node.kind) {
            Some(Kind::File(source)) if source.len() > LIMIT => {
                Err(Error::document(path, format!("it is longer than {LIMIT} bytes")))
            }
            Some(Kind::File(source)) => {
                let bytes = source.read().map_err(Error::stream(path))?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => Ok(String::new()),
        };
        Ok(Self { passwd: read("/etc/passwd")?, group: read("/etc/group")? })
    }

    /// Who `user`, `uid`, `user:group` and so on is (config.md, "User"). A number need not be in the
    /// files; its group is then 0, as nothing else is known.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not in the files.
    pub fn identity(&self, text: &str) -> Result<Identity> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let unknown = |file: &str, name: &str| {
            let reason = format!("{} is not in the image's {file}", shown(name.as_bytes()));
            Error::invalid(shown(text.as_bytes()), reason)
        };
        let number = |text: &str| text.parse::<u32>().ok();
        let entry =
            fields(&self.passwd, 7).find(|fields| fields.first() == Some(&user)).or_else(|| {
                let uid = number(user)?;
                fields(&self.passwd, 7).find(|fields| field(fields, 2) == Some(uid))
            });
        let mut identity = Identity::default();
        let mut name = None;
        match (&entry, number(user)) {
            (Some(entry), _) => {
                identity.uid = field(entry, 2).ok_or_else(|| unknown("/etc/passwd", user))?;
                identity.gid = field(entry, 3).ok_or_else(|| unknown("/etc/passwd", user))?;
                name = entry.first().copied();
                identity.home =
                    entry.get(5).filter(|home| !home.is_empty()).map(ToString::to_string);
            }
            (None, Some(uid)) => identity.uid = uid,
            (None, None) => return Err(unknown("/etc/passwd", user)),
        }
        if let Some(group) = group {
            let named = fields(&self.group, 4).find(|fields| fields.first() == Some(&group));
            let gid = named.and_then(|fields| field(&fields, 2)).or_else(|| number(group));
            identity.gid = gid.ok_or_else(|| unknown("/etc/group", group))?;
        } else if let Some(name) = name {
            let mut groups: Vec<u32> = fields(&self.group, 4)
                .filter(|fields| {
                    fields.get(3).is_some_and(|members| members.split(',').any(|one| one == name))
                })
                .filter_map(|fields| field(&fields, 2))
                .collect();
            groups.sort_unstable();
            groups.dedup();
            identity.groups = groups;
        }
        Ok(identity)
    }
}

/// The fields of each line that has as many, at least; others are no entries.
fn fields(text: &str, count: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.trim_end().split(':').collect::<Vec<_>>()).filter(move |fields| {
        fields.len() >= count && fields.first().is_some_and(|name| !name.is_empty())
    })
}

fn field(fields: &[&str], number: usize) -> Option<u32> {
    fields.get(number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_those_of_the_files() {
        let users = Users {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:33:33::/srv:\n7:x:70:71:::\n".into(),
            group: "root:x:0:\nadm:x:4:web,other\nwww:x:33:\ndisk:x:6:other,web\nweb:x:99:x\n".into(),
        };
        let of = |text: &str| users.identity(text).map(|one| (one.uid, one.gid, one.groups));
        assert_eq!(of("").unwrap(), (0, 0, vec![]));
        assert_eq!(of("web").unwrap(), (33, 33, vec![4, 6]));
        assert_eq!(of("33").unwrap(), (33, 33, vec![4, 6]));
        assert_eq!(of("web:web").unwrap(), (33, 99, vec![]));
        assert_eq!(of("web:12").unwrap(), (33, 12, vec![]));
        assert_eq!(of("1000").unwrap(), (1000, 0, vec![]));
        assert_eq!(of("1000:www").unwrap(), (1000, 33, vec![]));
        // A name that looks like a number is a name first.
        assert_eq!(of("7").unwrap(), (70, 71, vec![]));
        assert_eq!(users.identity("web").unwrap().home.as_deref(), Some("/srv"));
        let error = of("nobody").unwrap_err().to_string();
        assert_eq!(error, "nobody: nobody is not in the image's /etc/passwd");
        let error = of("web:none").unwrap_err().to_string();
        assert_eq!(error, "web:none: none is not in the image's /etc/group");
    }
}
