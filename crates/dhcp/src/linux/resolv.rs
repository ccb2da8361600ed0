//! resolv.conf (resolv.conf(5)): rendered from a lease, written beside and renamed.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::lease::Lease;

/// What is kept of a file that was there before.
const LARGEST_OLD: u64 = 64 * 1024;

/// The text for a lease. Names in a lease hold letters, digits, hyphens and dots, so nothing here
/// can start a line of its own.
pub(super) fn render(lease: &Lease) -> String {
    let mut text = String::from("# written by kiln-dhcp from a lease\n");
    let mut search: Vec<&str> = lease.search.iter().map(String::as_str).collect();
    if let Some(domain) = lease.domain.as_deref()
        && !search.contains(&domain)
    {
        search.insert(0, domain);
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    for server in &lease.dns {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

/// A resolv.conf that this process has taken over, and what was in it.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    before: Option<Vec<u8>>,
    written: Option<String>,
}

impl ResolvConf {
    /// Follows symbolic links once, so that the file behind them is replaced and not the link.
    pub(super) fn new(path: &Path) -> Self {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Self { path, before: None, written: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn write(&mut self, lease: &Lease) -> io::Result<()> {
        let text = render(lease);
        if self.written.as_deref() == Some(&text) {
            return Ok(());
        }
        if self.written.is_none() {
            self.before = read_bounded(&self.path);
        }
        replace(&self.path, text.as_bytes())?;
        self.written = Some(text);
        Ok(())
    }

    /// Puts back what was there before, unless somebody else has written since.
    pub(super) fn restore(&mut self) -> io::Result<()> {
        let Some(written) = self.written.take() else { return Ok(()) };
        if read_bounded(&self.path).as_deref() != Some(written.as_bytes()) {
            return Ok(());
        }
        match self.before.take() {
            Some(before) => replace(&self.path, &before),
            None => fs::remove_file(&self.path),
        }
    }
}

fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LARGEST_OLD).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    // A file of that name can only be what an earlier process with this id left behind.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
