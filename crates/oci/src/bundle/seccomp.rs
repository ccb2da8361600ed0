//! Which system calls a container may do (runtime specification, config-linux.md, "Seccomp").

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// A filter of system calls, for programs of the host's own architecture: others are ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seccomp {
    /// Which ones.
    pub calls: Calls,
    /// The number of the error that a call gives that it may not do. Without, it ends the container.
    pub errno: Option<u32>,
}

/// System calls by name. What the host's libseccomp does not know is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Calls {
    /// These and no others.
    Only(BTreeSet<String>),
    /// All but these.
    AllBut(BTreeSet<String>),
}

impl Seccomp {
    /// A filter.
    #[must_use]
    pub fn new(calls: Calls, errno: Option<u32>) -> Self {
        Self { calls, errno }
    }

    pub(super) fn value(&self) -> Value {
        let refused = if self.errno.is_some() { "SCMP_ACT_ERRNO" } else { "SCMP_ACT_KILL_PROCESS" };
        let (mut filter, names, action) = match &self.calls {
            Calls::Only(names) => (json!({ "defaultAction": refused }), names, "SCMP_ACT_ALLOW"),
            Calls::AllBut(names) => (json!({ "defaultAction": "SCMP_ACT_ALLOW" }), names, refused),
        };
        let mut rule = json!({ "names": names, "action": action });
        let (of, key) = match &self.calls {
            Calls::Only(_) => (&mut filter, "defaultErrnoRet"),
            Calls::AllBut(_) => (&mut rule, "errnoRet"),
        };
        if let (Some(errno), Some(members)) = (self.errno, of.as_object_mut()) {
            members.insert(key.into(), json!(errno));
        }
        if let Some(members) = filter.as_object_mut().filter(|_| !names.is_empty()) {
            members.insert("syscalls".into(), json!([rule]));
        }
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_the_specification() {
        let names = || BTreeSet::from(["reboot".to_owned()]);
        assert_eq!(
            Seccomp::new(Calls::AllBut(names()), Some(1)).value(),
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
            })
        );
        assert_eq!(
            Seccomp::new(Calls::Only(names()), None).value(),
            json!({
                "defaultAction": "SCMP_ACT_KILL_PROCESS",
                "syscalls": [{ "names": ["reboot"], "action": "SCMP_ACT_ALLOW" }],
            })
        );
        let filter = Seccomp::new(Calls::Only(names()), Some(38)).value();
        assert_eq!(filter["defaultErrnoRet"], 38);
    }
}
