//! Users and groups by number or name.

use std::fmt;

/// A user or group, by number or by its name in the machine's own files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(untagged, expecting = "expected a number or a name"))]
pub enum Account {
    /// A number.
    Id(u32),
    /// A name, looked up when the service starts.
    Name(String),
}

impl From<u32> for Account {
    fn from(id: u32) -> Self {
        Self::Id(id)
    }
}

impl From<&str> for Account {
    /// A text of digits is a number.
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Id)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The line of a file such as /etc/passwd (passwd(5)) or /etc/group (group(5)) that is about this
/// account, in its fields; both have the name first and the number third.
#[cfg(any(feature = "unix", test))]
pub(crate) fn entry<'text>(text: &'text str, account: &Account) -> Option<Vec<&'text str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| match account {
        Account::Id(id) => fields.get(2).and_then(|field| field.parse().ok()) == Some(*id),
        Account::Name(name) => fields.first() == Some(&name.as_str()),
    })
}

/// The number of an account.
#[cfg(any(feature = "unix", test))]
pub(crate) fn id(text: &str, account: &Account) -> Option<u32> {
    match account {
        Account::Id(id) => Some(*id),
        Account::Name(_) => entry(text, account)?.get(2)?.parse().ok(),
    }
}

/// The groups of /etc/group that list a user by name.
#[cfg(any(feature = "unix", test))]
pub(crate) fn groups_of(group: &str, user: &str) -> Vec<u32> {
    let lists = |fields: &Vec<&str>| {
        fields.get(3).is_some_and(|members| members.split(',').any(|member| member == user))
    };
    let fields = group.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(lists);
    fields.filter_map(|fields| fields.get(2)?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_either() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/srv:/bin/false\n";
        assert_eq!(id(passwd, &"web".into()), Some(33));
        assert_eq!(id(passwd, &"7".into()), Some(7));
        assert_eq!(id(passwd, &"nobody".into()), None);
        assert_eq!(entry(passwd, &Account::Id(33)).and_then(|e| e.get(3).copied()), Some("34"));
        let group = "adm:x:4:syslog,web\nweb:x:34:\nvideo:x:44:web\n";
        assert_eq!(groups_of(group, "web"), [4, 44]);
        assert_eq!(groups_of(group, ""), [34]);
    }
}
