//! Which system calls a service may make (seccomp(2)).

use std::fmt;

use syscalls::Sysno;

/// A filter of system calls. Calls by another architecture's numbers kill the process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Seccomp {
    /// Only these, and `execve`, `exit` and `exit_group`, without which nothing could begin.
    Allow {
        /// By name.
        calls: Vec<SystemCall>,
        /// What any other call does.
        #[cfg_attr(feature = "serde", serde(default))]
        otherwise: Violation,
    },
    /// All but these.
    Deny {
        /// By name.
        calls: Vec<SystemCall>,
        /// What one of these does.
        #[cfg_attr(feature = "serde", serde(default))]
        otherwise: Violation,
    },
}

/// What a call that is not allowed does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Violation {
    /// It fails with `EPERM`.
    #[default]
    Fail,
    /// It fails with this error number.
    Errno(u16),
    /// The process is killed with `SIGSYS`.
    Kill,
    /// It is done, and the kernel logs it.
    Log,
}

/// A system call of this architecture.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SystemCall(Sysno);

impl SystemCall {
    pub(crate) fn number(self) -> i64 {
        i64::from(self.0.id())
    }
}

impl fmt::Display for SystemCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl fmt::Debug for SystemCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for SystemCall {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|()| {
            let near = Sysno::iter()
                .map(|call| (strsim::damerau_levenshtein(call.name(), text), call.name()))
                .min();
            let hint = near.filter(|(distance, _)| *distance <= 3);
            let hint =
                hint.map(|(_, name)| format!(", did you mean {name:?}?")).unwrap_or_default();
            let architecture = std::env::consts::ARCH;
            format!("no system call {text:?} on {architecture}{hint}")
        })
    }
}

#[cfg(feature = "serde")]
super::text::shown_and_parsed!(SystemCall);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_and_others_have_a_suggestion() {
        let mkdir: SystemCall = "mkdirat".parse().unwrap();
        assert_eq!(mkdir.to_string(), "mkdirat");
        let error = "unshrae".parse::<SystemCall>().unwrap_err();
        assert!(error.contains("did you mean \"unshare\"?"), "{error}");
        let error = "no_such_thing_at_all".parse::<SystemCall>().unwrap_err();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[cfg(feature = "toml")]
    #[test]
    fn a_service_file_names_them() {
        use crate::service_file::{Source, parse};

        let text = "[[service]]\nname = \"a\"\ncommand = [\"/a\"]\n\
                    isolation = { seccomp = { deny = { calls = [\"unshare\"], otherwise = \"kill\" } } }\n";
        let read = |text: &str| parse(&[Source::new("a.toml", text)]);
        let specs = read(text).unwrap().specs;
        let Some(Seccomp::Deny { calls, otherwise }) = &specs[0].isolation.seccomp else {
            unreachable!("it is a list of what is denied")
        };
        assert_eq!((calls[0].to_string().as_str(), *otherwise), ("unshare", Violation::Kill));
        let wrong = read(&text.replace("unshare", "unshard")).unwrap_err().to_string();
        assert!(wrong.starts_with("a.toml:4: ") && wrong.contains("did you mean"), "{wrong}");
    }
}
