//! Where files come from.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Something that gets files by their address. What it brings is never trusted: its size and
/// digest are checked by who asked for it.
pub trait Fetch: Sync {
    /// Gets the file at `uri` into a new file at `into`, or an error as soon as it has more than
    /// `limit` bytes. Every wait must be bounded. What is left at `into` after an error is removed
    /// by the caller.
    ///
    /// # Errors
    /// [`Error::Fetch`], made with [`Error::fetch`].
    fn fetch(&self, uri: &str, into: &Path, limit: u64) -> Result<()>;
}

/// Archives that are directories of the host: addresses `file:///DIRECTORY/…`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl Fetch for LocalFiles {
    fn fetch(&self, uri: &str, into: &Path, limit: u64) -> Result<()> {
        let path = match uri.strip_prefix("file://") {
            Some(path) if path.starts_with('/') => PathBuf::from(path),
            _ => {
                return Err(Error::fetch(uri, "only addresses that start with file:/// are files"));
            }
        };
        let refused = |error: std::io::Error| Error::fetch(uri, error);
        let length = fs::metadata(&path).map_err(refused)?.len();
        if length > limit {
            return Err(Error::fetch(uri, too_long(limit)));
        }
        fs::copy(&path, into).map(drop).map_err(Error::io("copy a file to", into))
    }
}

/// Why a file is not fetched to its end.
pub(crate) fn too_long(limit: u64) -> String {
    format!("it is longer than the {limit} bytes that it may have")
}

#[cfg(feature = "apt")]
pub use apt::AptHelper;

#[cfg(feature = "apt")]
mod apt {
    use std::fs::{self, File};
    use std::io::Read;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    use super::{Fetch, too_long};
    use crate::{Error, Result};

    /// How often a running helper is looked at.
    const GLANCE: Duration = Duration::from_millis(5);

    /// Files fetched by apt's own helper, which takes the proxy and the methods from the host's
    /// configuration of apt.
    #[derive(Debug, Clone)]
    #[non_exhaustive]
    pub struct AptHelper {
        /// The helper. Default: `/usr/lib/apt/apt-helper`.
        pub program: PathBuf,
        /// How often a file is tried. Default: 5.
        pub tries: u32,
        /// How long to wait before the second try; before each one after it, twice as long. Default: 1 s.
        pub pause: Duration,
        /// How long one try may take. Default: 10 minutes.
        pub timeout: Duration,
    }

    impl Default for AptHelper {
        fn default() -> Self {
            Self {
                program: "/usr/lib/apt/apt-helper".into(),
                tries: 5,
                pause: Duration::from_secs(1),
                timeout: Duration::from_secs(600),
            }
        }
    }

    impl Fetch for AptHelper {
        fn fetch(&self, uri: &str, into: &Path, limit: u64) -> Result<()> {
            let mut pause = self.pause;
            for _ in 1..self.tries {
                match self.once(uri, into, limit) {
                    Err(error) if may_pass(&error) => {
                        std::thread::sleep(pause);
                        pause = pause.saturating_mul(2);
                    }
                    ended => return ended,
                }
            }
            self.once(uri, into, limit)
        }
    }

    /// Whether another try may end otherwise: not where the answer is that there is no such file.
    fn may_pass(error: &Error) -> bool {
        let Error::Fetch { uri, reason } = error else { return false };
        // It says the address again.
        let said = reason.replace(uri, "");
        !["404", "410", "File not found", "it is longer"].iter().any(|last| said.contains(last))
    }

    impl AptHelper {
        fn once(&self, uri: &str, into: &Path, limit: u64) -> Result<()> {
            // The helper takes what is there already for the start of the file.
            match fs::remove_file(into) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", into)(error));
                }
                _ => {}
            }
            let log = tempfile::tempfile().map_err(Error::io("make a file in", "/tmp"))?;
            let errors = log.try_clone().map_err(Error::io("open again", "/tmp"))?;
            let mut child = Command::new(&self.program)
                .arg("-qq")
                // The tries are counted here.
                .args(["-o", "Acquire::Retries=0", "download-file", uri])
                .arg(into)
                .env("LC_ALL", "C")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(errors)
                .spawn()
                .map_err(Error::io("start", &self.program))?;
            let ended = self.wait(&mut child, into, limit);
            if ended.is_err() {
                // It may have ended by itself in the meantime, which is as well.
                let _ = child.kill();
                let _ = child.wait();
            }
            match ended {
                Err(reason) => Err(Error::fetch(uri, reason)),
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(Error::fetch(uri, complaint(log, status))),
            }
        }

        fn wait(&self, child: &mut Child, into: &Path, limit: u64) -> Result<ExitStatus, String> {
            let start = Instant::now();
            loop {
                let length = fs::metadata(into).map_or(0, |found| found.len());
                if length > limit {
                    return Err(too_long(limit));
                }
                match child.try_wait() {
                    Ok(Some(status)) => return Ok(status),
                    Ok(None) if start.elapsed() > self.timeout => {
                        return Err(format!("no answer within {} s", self.timeout.as_secs()));
                    }
                    Ok(None) => std::thread::sleep(GLANCE),
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
    }

    /// What the helper said, in one line.
    fn complaint(mut log: File, status: ExitStatus) -> String {
        use std::io::Seek;
        let mut said = Vec::new();
        let read = log.rewind().and_then(|()| log.take(1 << 16).read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said);
        let errors: Vec<&str> = said
            .lines()
            .filter_map(|line| line.strip_prefix("E: "))
            .filter(|line| *line != "Download Failed")
            .collect();
        match (read, errors.is_empty()) {
            (Ok(_), false) => errors.join("; "),
            _ => format!("apt-helper: {status}"),
        }
    }
}

#[cfg(all(test, feature = "apt"))]
#[allow(clippy::unwrap_used, reason = "tests end by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;

    /// A helper that fails so often, and how often it is started.
    fn starts(complaint: &str, failures: u32) -> (Result<()>, usize) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let script = format!(
            "#!/bin/sh\necho >>{starts}\nif [ $(wc -l <{starts}) -le {failures} ]; then\n\
             echo 'E: Failed to fetch http://h/404  {complaint}' >&2; exit 100; fi\n",
            starts = at("starts").display()
        );
        fs::write(at("helper"), script).unwrap();
        fs::set_permissions(at("helper"), fs::Permissions::from_mode(0o755)).unwrap();
        let helper = AptHelper {
            program: at("helper"),
            pause: Duration::from_millis(1),
            ..AptHelper::default()
        };
        let ended = helper.fetch("http://h/404", &at("file"), 1);
        (ended, fs::read(at("starts")).unwrap().len())
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        assert!(matches!(starts("Could not connect to h", 3), (Ok(()), 4)));
        let (ended, starts_of) = starts("Connection timed out", 9);
        assert!(ended.unwrap_err().to_string().contains("timed out"));
        assert_eq!(starts_of, 5);
        let (ended, starts_of) = starts("404  Not Found [IP: h 80]", 9);
        assert!(ended.unwrap_err().to_string().contains("Not Found"));
        assert_eq!(starts_of, 1);
    }
}
