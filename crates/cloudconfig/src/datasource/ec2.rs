//! Metadata services that give a file for each value: EC2's, and DigitalOcean's.

use super::{Files, MetaData, Provided, ReadError};
use crate::place::quoted;
use crate::schema::{is_host_name, is_key};
use crate::{Finding, Findings, Kind, Limits, Place};

/// No value is longer.
const LARGEST: usize = 64 << 10;
/// No machine has more keys.
const MOST_KEYS: usize = 64;

/// EC2's instance metadata, below `latest/`: `user-data`, and of `meta-data/` the `instance-id`,
/// `local-hostname` (or `hostname`), `public-keys/`. None where there is neither an identifier nor
/// user-data. Of a web server this is `http://169.254.169.254/`; those of Amazon want a token
/// (`http::imds` with the feature `http`).
///
/// ```
/// use std::collections::BTreeMap;
/// use kiln_cloudconfig::{Limits, datasource::ec2};
///
/// let files = [("latest/meta-data/instance-id", "i-0123"), ("latest/user-data", "#!/bin/sh\n")];
/// let files: BTreeMap<String, Vec<u8>> =
///     files.into_iter().map(|(path, text)| (path.to_owned(), text.into())).collect();
/// let found = ec2(&files, "ec2", &Limits::default())?.unwrap();
/// assert_eq!(found.meta_data.instance_id.as_deref(), Some("i-0123"));
/// # Ok::<(), kiln_cloudconfig::datasource::ReadError>(())
/// ```
///
/// # Errors
/// Where one of them cannot be read.
pub fn ec2<F: Files + ?Sized>(
    files: &F,
    name: &str,
    limits: &Limits,
) -> Result<Option<Provided>, ReadError> {
    let mut values = Values::new(files, name);
    let id = values.line("latest/meta-data/instance-id")?;
    let user_data = files.read("latest/user-data", limits.user_data_bytes)?;
    if id.is_none() && user_data.is_none() {
        return Ok(None);
    }
    let mut meta_data = MetaData { instance_id: id, ..MetaData::default() };
    for path in ["latest/meta-data/local-hostname", "latest/meta-data/hostname"] {
        if meta_data.hostname.is_none() {
            meta_data.hostname = values.hostname(path)?;
        }
    }
    // A line for each key: `0=its name`.
    let list = values.text("latest/meta-data/public-keys/")?.unwrap_or_default();
    for line in list.lines().take(MOST_KEYS) {
        let number = line.split('=').next().unwrap_or_default().trim();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            let path = format!("latest/meta-data/public-keys/{number}/openssh-key");
            values.keys(&path, &mut meta_data.public_keys)?;
        }
    }
    Ok(Some(Provided { user_data, meta_data, network: None, findings: values.findings }))
}

/// DigitalOcean's metadata, below `metadata/v1/`: `user-data`, `id`, `hostname`, `public-keys`. None where
/// there is neither an identifier nor user-data.
///
/// # Errors
/// Where one of them cannot be read.
pub fn digital_ocean<F: Files + ?Sized>(
    files: &F,
    name: &str,
    limits: &Limits,
) -> Result<Option<Provided>, ReadError> {
    let mut values = Values::new(files, name);
    let id = values.line("metadata/v1/id")?;
    let user_data = files.read("metadata/v1/user-data", limits.user_data_bytes)?;
    if id.is_none() && user_data.is_none() {
        return Ok(None);
    }
    let mut meta_data = MetaData { instance_id: id, ..MetaData::default() };
    meta_data.hostname = values.hostname("metadata/v1/hostname")?;
    values.keys("metadata/v1/public-keys", &mut meta_data.public_keys)?;
    Ok(Some(Provided { user_data, meta_data, network: None, findings: values.findings }))
}

/// Values of a service, and what is wrong with them.
struct Values<'f, F: ?Sized> {
    files: &'f F,
    name: &'f str,
    findings: Findings,
}

impl<'f, F: Files + ?Sized> Values<'f, F> {
    fn new(files: &'f F, name: &'f str) -> Self {
        Self { files, name, findings: Findings::default() }
    }

    fn wrong(&mut self, path: &str, what: String) {
        let place = Place::whole(format!("{}/{path}", self.name));
        self.findings.0.push(Finding::new(Kind::Wrong, place, "", what));
    }

    fn text(&mut self, path: &str) -> Result<Option<String>, ReadError> {
        match self.files.read(path, LARGEST)?.map(String::from_utf8) {
            Some(Err(_)) => {
                self.wrong(path, "not UTF-8".into());
                Ok(None)
            }
            Some(Ok(text)) => Ok(Some(text)),
            None => Ok(None),
        }
    }

    fn line(&mut self, path: &str) -> Result<Option<String>, ReadError> {
        let text = self.text(path)?;
        let text = text.as_deref().map(str::trim).filter(|text| !text.is_empty());
        Ok(text.map(str::to_owned))
    }

    fn hostname(&mut self, path: &str) -> Result<Option<String>, ReadError> {
        let Some(text) = self.line(path)? else { return Ok(None) };
        if is_host_name(&text) {
            return Ok(Some(text));
        }
        self.wrong(path, format!("{} is no host name", quoted(&text)));
        Ok(None)
    }

    fn keys(&mut self, path: &str, keys: &mut Vec<String>) -> Result<(), ReadError> {
        let text = self.text(path)?.unwrap_or_default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MOST_KEYS) {
            if !is_key(line) {
                self.wrong(path, format!("{} is no public key", quoted(line)));
            } else if !keys.iter().any(|known| known == line) {
                keys.push(line.to_owned());
            }
        }
        Ok(())
    }
}
