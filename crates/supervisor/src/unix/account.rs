//! Who a service runs as, and files of variables: read from the machine when it starts.

use std::io::Read;
use std::path::Path;

use nix::libc;
use rustix::process::{Gid, Uid};

use super::spawn::unprepared;
use crate::spec::{Account, ServiceSpec, account};
use crate::vocabulary::{Errno, SpawnError, SpawnStep};

/// More is not read of a file: far above what such files have.
const MOST: u64 = 1 << 20;

/// What a process runs as; what is absent stays as the supervisor's.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) uid: Option<Uid>,
    pub(super) gid: Option<Gid>,
    pub(super) groups: Option<Vec<Gid>>,
}

/// Looks up what a spec names.
pub(super) fn identity(spec: &ServiceSpec) -> Result<Identity, SpawnError> {
    if spec.user.is_none() && spec.group.is_none() {
        return Ok(Identity::default());
    }
    // Without the file there are numbers only.
    let passwd = read(Path::new("/etc/passwd")).unwrap_or_default();
    let group = read(Path::new("/etc/group")).unwrap_or_default();
    let unknown = |what: &str, account: &Account| SpawnError {
        step: SpawnStep::Prepare,
        errno: Errno(libc::ENOENT),
        subject: format!("{what} {account}"),
    };
    let of = |text: &str, what: &str, account: &Account| {
        account::id(text, account).ok_or_else(|| unknown(what, account))
    };
    let entry = spec.user.as_ref().and_then(|user| account::entry(&passwd, user));
    let field = |place: usize| entry.as_ref().and_then(|fields| fields.get(place).copied());
    let uid = spec.user.as_ref().map(|user| of(&passwd, "user", user)).transpose()?;
    let gid = match &spec.group {
        Some(wanted) => Some(of(&group, "group", wanted)?),
        None => field(3).and_then(|field| field.parse().ok()),
    };
    let groups: Vec<u32> = if spec.groups.is_empty() {
        field(0).map(|name| account::groups_of(&group, name)).unwrap_or_default()
    } else {
        let numbers = spec.groups.iter().map(|wanted| of(&group, "group", wanted));
        numbers.collect::<Result<_, _>>()?
    };
    Ok(Identity {
        uid: uid.map(Uid::from_raw),
        gid: gid.map(Gid::from_raw),
        groups: Some(groups.into_iter().map(Gid::from_raw).collect()),
    })
}

/// A `NAME=value` on each line; empty lines and those that begin with `#` or `;` mean nothing, and
/// a value may be in quotes of one kind.
pub(super) fn env_file(path: &Path) -> Result<Vec<(String, String)>, SpawnError> {
    let text = path.to_string_lossy();
    let (path, optional) = match text.strip_prefix('-') {
        Some(rest) => (Path::new(rest), true),
        None => (path, false),
    };
    match read(path) {
        Ok(text) => variables(&text).map_err(|line| SpawnError {
            step: SpawnStep::Prepare,
            errno: Errno(libc::EINVAL),
            subject: format!("{}:{line}, expected NAME=value", path.display()),
        }),
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unprepared(path.display().to_string(), &error)),
    }
}

pub(crate) fn variables(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(number)?;
        if name.is_empty() || name.contains(char::is_whitespace) || line.contains('\0') {
            return Err(number);
        }
        let quoted = |mark: char| value.strip_prefix(mark)?.strip_suffix(mark);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        found.push((name.to_owned(), value.to_owned()));
    }
    Ok(found)
}

/// A text file, or the error of it being too long.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let length = std::fs::File::open(path)?.take(MOST).read_to_string(&mut text)?;
    if length as u64 == MOST {
        return Err(std::io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_variables() {
        let text = "# no\n\nA=1\nB=\"two words\"\n; no\nC='x=\"y\"'\nD=\n";
        let expected = [("A", "1"), ("B", "two words"), ("C", "x=\"y\""), ("D", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables(text).unwrap(), expected);
        assert_eq!(variables("A=1\nno\n"), Err(2));
        assert_eq!(variables("=1\n"), Err(1));
        assert_eq!(variables("A B=1\n"), Err(1));
    }

    #[test]
    fn an_optional_file_may_be_absent() {
        assert_eq!(env_file(Path::new("-/nonexistent/file")), Ok(Vec::new()));
        let error = env_file(Path::new("/nonexistent/file")).unwrap_err();
        assert_eq!(error.to_string(), "cannot prepare /nonexistent/file: ENOENT");
    }
}
