//! Who did what: a line of JSON for everything that was changed, or was to be.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use kurma_client::rpc::Fault;
use serde_json::json;

use crate::caller::Caller;

/// Bytes after which a new file is begun; one older is kept.
const LONGEST: u64 = 4 << 20;
/// Characters of what somebody else has written.
const SHOWN: usize = 200;

#[derive(Debug)]
pub(super) struct Audit {
    path: PathBuf,
    file: Mutex<Option<File>>,
    /// Whether lines are said as well.
    debug: bool,
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl Audit {
    /// Writes to a file, which is made.
    pub(super) fn new(path: &Path, debug: bool) -> std::io::Result<Self> {
        Ok(Self { path: path.into(), file: Mutex::new(Some(open(path)?)), debug })
    }

    /// Writes down what somebody did to what, and how it went.
    pub(super) fn write<T>(
        &self,
        caller: &Caller,
        what: &str,
        whom: &str,
        done: Result<&T, &Fault>,
    ) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let short = |text: &str| text.chars().take(SHOWN).collect::<String>();
        let line = json!({
            "time": now.as_secs(),
            "caller": short(&caller.name),
            "from": if caller.local { "here" } else { "elsewhere" },
            "role": caller.role.as_str(),
            "did": what,
            "to": short(whom),
            "refused": done.err().map(|fault| short(&fault.message)),
        });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let is_long = |file: &File| file.metadata().is_ok_and(|about| about.len() > LONGEST);
        if file.as_ref().is_some_and(is_long) {
            let mut older = self.path.as_os_str().to_owned();
            older.push(".1");
            if fs::rename(&self.path, older).is_ok() {
                *file = open(&self.path).ok();
            }
        }
        // what cannot be written there is at least seen
        let written = file.as_mut().map(|file| writeln!(file, "{line}"));
        if self.debug || !matches!(written, Some(Ok(()))) {
            eprintln!("audit: {line}");
        }
    }
}
