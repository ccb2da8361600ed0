//! A bundle (OCI runtime specification, `bundle.md` and `config.md`), as far as a supervisor must know
//! it: what a runtime would refuse with fewer words, and what would take the container out of its service.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Error, with_socket};

/// Bytes of the longest `config.json` that is read.
pub const LONGEST: u64 = 4 << 20;

const CONFIG: &str = "config.json";

/// A bundle that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its directory.
    pub directory: PathBuf,
    /// The root file system.
    pub root: PathBuf,
}

impl Bundle {
    /// Reads and judges the bundle in a directory.
    ///
    /// # Errors
    /// What is wrong, with the file's path and the key.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(CONFIG);
        let root = Self::judge(&text(&path)?, &path)?;
        let root = directory.join(root);
        match std::fs::metadata(&root) {
            Ok(found) if found.is_dir() => Ok(Self { directory: directory.to_owned(), root }),
            Ok(_) => Err(bad(&path, "root.path", format!("{} is no directory", root.display()))),
            Err(error) => Err(bad(&path, "root.path", format!("{}: {error}", root.display()))),
        }
    }

    /// A copy of the bundle beside a notification socket's file: its container has that socket, and the
    /// variable `NOTIFY_SOCKET`. Only `config.json` is copied, and readable by its owner alone; what it
    /// names is where it was.
    ///
    /// # Errors
    /// As of [`with_socket`]; the copy cannot be written.
    pub fn copy_with_socket(&self, socket: &Path) -> Result<Self, Error> {
        let path = self.directory.join(CONFIG);
        let config = with_socket(&text(&path)?, &path, self, socket)?;
        let directory = socket.parent().map(Path::to_owned).unwrap_or_default();
        let copy = directory.join(CONFIG);
        if std::fs::canonicalize(&path).ok() == std::fs::canonicalize(&copy).ok() {
            let what = "the socket is in the bundle's directory, where there can be no copy of it";
            let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, what);
            return Err(Error::Read { path, source });
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&copy);
        let written = file.and_then(|mut file| file.write_all(&config));
        written.map_err(|source| Error::Read { path: copy, source })?;
        Ok(Self { directory, root: self.root.clone() })
    }

    /// Judges the text of a `config.json`, and gives its `root.path`.
    ///
    /// # Errors
    /// As of [`Bundle::read`].
    pub fn judge(text: &[u8], path: &Path) -> Result<PathBuf, Error> {
        let config: Value = serde_json::from_slice(text)
            .map_err(|source| Error::Json { path: path.to_owned(), source })?;
        let at = |pointer: &str| config.pointer(pointer);
        let refuse = |key, what: &str| Err(bad(path, key, what.to_owned()));
        if at("/ociVersion").and_then(Value::as_str).is_none() {
            return refuse("ociVersion", "missing, expected a version such as \"1.0.2\"");
        }
        let arguments = at("/process/args").and_then(Value::as_array);
        if arguments.is_none_or(|words| words.is_empty() || !words.iter().all(Value::is_string)) {
            return refuse("process.args", "expected a list of a program and its arguments");
        }
        if at("/process/terminal").and_then(Value::as_bool) == Some(true) {
            return refuse("process.terminal", "a service has no terminal, expected false");
        }
        if at("/linux/cgroupsPath").is_some_and(|group| group.as_str() != Some("")) {
            let what = "a service's container stays in the service's control group, leave it out";
            return refuse("linux.cgroupsPath", what);
        }
        match at("/root/path").and_then(Value::as_str) {
            Some(root) if !root.is_empty() => Ok(root.into()),
            _ => refuse("root.path", "missing, expected the root file system's directory"),
        }
    }
}

fn text(path: &Path) -> Result<Vec<u8>, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(LONGEST.saturating_add(1)).read_to_end(&mut text).map_err(read)?;
    if text.len() as u64 > LONGEST {
        let what = format!("longer than {LONGEST} bytes");
        return Err(read(std::io::Error::new(std::io::ErrorKind::FileTooLarge, what)));
    }
    Ok(text)
}

pub(super) fn bad(path: &Path, key: &'static str, what: String) -> Error {
    Error::Key { path: path.to_owned(), key, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"ociVersion":"1.0.2","process":{"args":["/bin/x"],"cwd":"/"},
"root":{"path":"rootfs"}}"#;

    fn complaint(text: &str) -> String {
        Bundle::judge(text.as_bytes(), Path::new("/b/config.json")).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named_by_file_and_key() {
        let path = Path::new("/b/config.json");
        assert_eq!(Bundle::judge(GOOD.as_bytes(), path).unwrap(), PathBuf::from("rootfs"));
        let changed = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            complaint(&GOOD.replace(from, to))
        };
        for (from, to, said) in [
            ("\"ociVersion\":\"1.0.2\",", "", "ociVersion: missing, expected a version"),
            ("[\"/bin/x\"]", "[]", "process.args: expected a list"),
            ("\"cwd\"", "\"terminal\":true,\"cwd\"", "process.terminal: a service has no terminal"),
            ("{\"path\":\"rootfs\"}", "{}", "root.path: missing"),
            (
                "\"root\"",
                "\"linux\":{\"cgroupsPath\":\"/x\"},\"root\"",
                "linux.cgroupsPath: a service's",
            ),
        ] {
            let complaint = changed(from, to);
            assert!(complaint.starts_with(&format!("/b/config.json: {said}")), "{complaint}");
        }
        assert_eq!(complaint("{\n\"a\": }"), "/b/config.json:2: expected value at line 2 column 6");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let complaint = || Bundle::read(directory.path()).unwrap_err().to_string();
        let config = directory.path().join("config.json");
        let shown = config.display().to_string();
        assert_eq!(complaint(), format!("{shown}: No such file or directory (os error 2)"));
        std::fs::write(&config, GOOD).unwrap();
        let root = directory.path().join("rootfs");
        let missing = format!("{shown}: root.path: {}: No such file", root.display());
        assert!(complaint().starts_with(&missing), "{}", complaint());
        std::fs::write(&root, "").unwrap();
        assert_eq!(complaint(), format!("{shown}: root.path: {} is no directory", root.display()));
        std::fs::remove_file(&root).unwrap();
        std::fs::create_dir(&root).unwrap();
        assert_eq!(Bundle::read(directory.path()).unwrap().root, root);
        let beside = tempfile::tempdir().unwrap();
        let bundle = Bundle::read(directory.path()).unwrap();
        let copy = bundle.copy_with_socket(&beside.path().join("socket")).unwrap();
        assert_eq!((copy.directory.as_path(), &copy.root), (beside.path(), &root));
        assert_eq!(Bundle::read(beside.path()).unwrap(), copy);
        let found = std::fs::metadata(beside.path().join("config.json")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777, 0o600);
        let error = copy.copy_with_socket(&beside.path().join("other")).unwrap_err().to_string();
        assert!(error.ends_with("where there can be no copy of it"), "{error}");
        let error = bundle.copy_with_socket(Path::new("/no/such/socket")).unwrap_err().to_string();
        assert!(error.starts_with("/no/such/config.json: No such file"), "{error}");
        std::fs::write(&config, " ".repeat(5 << 20)).unwrap();
        assert_eq!(complaint(), format!("{shown}: longer than 4194304 bytes"));
    }
}
