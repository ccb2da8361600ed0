//! The directory: the authority, the server's certificate, and who is known.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kurma_client::enroll::{Enroll, Enrolled, Issued, Known};
use kurma_client::rpc::{CONFLICT, DENIED, Fault, INTERNAL_ERROR, INVALID_PARAMS, NOT_FOUND};
use kurma_client::{Code, Role};
use rcgen::KeyPair;

use crate::authority::{Authority, Certified};
use crate::codes::Codes;
use crate::files::{read, replace, sentence};

/// Who can be known.
const MOST: usize = 1024;
/// Characters of a name.
const LONGEST: usize = 64;

/// Who is known, and how others come to be.
#[derive(Debug)]
pub(crate) struct Register {
    directory: PathBuf,
    names: Vec<String>,
    pub(crate) authority: Authority,
    codes: Codes,
    clients: Vec<Known>,
    /// Numbers of certificates that are refused, in hexadecimal.
    refused: BTreeSet<String>,
    /// Holds the directory.
    _lock: fs::File,
}

/// Random bytes of the system.
pub(crate) fn random<const COUNT: usize>() -> Result<[u8; COUNT], String> {
    let mut bytes = [0; COUNT];
    // up to 256 bytes come whole
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(count) if count == COUNT => Ok(bytes),
        Ok(_) => Err("the system gave too few random bytes".to_owned()),
        Err(error) => Err(format!("get random bytes: {error}")),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn failed(problem: String) -> Fault {
    Fault::new(INTERNAL_ERROR, problem)
}

/// Whether somebody can be called so: in certificates, logs and paths.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._@".contains(&byte);
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
}

fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate().map_err(|error| format!("make a key: {error}"))
}

/// The authority of a directory, which is made where it has none.
fn authority(directory: &Path, now: SystemTime) -> Result<Authority, String> {
    let (certificate, key) = (directory.join("ca.pem"), directory.join("ca.key"));
    match (read(&certificate)?, read(&key)?) {
        (Some(text), Some(key)) => Authority::again(text, &key)
            .map_err(|error| format!("{}: {error}", certificate.display())),
        (Some(_), None) => Err(format!(
            "{} is missing: with it {} would be of use again; without both everybody is enrolled anew",
            key.display(),
            certificate.display()
        )),
        // a key alone is of a start that broke off
        (None, _) => {
            let made = Authority::new(new_key()?, random()?, now)?;
            replace(&key, made.key().as_bytes())?;
            replace(&certificate, made.certificate.as_bytes())?;
            Ok(made)
        }
    }
}

impl Register {
    /// Opens a directory, which is made.
    pub(crate) fn open(
        directory: &Path,
        names: &[String],
        now: SystemTime,
    ) -> Result<Self, String> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(sentence("make", directory))?;
        let path = directory.join("lock");
        let lock = fs::File::create(&path).map_err(sentence("make", &path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| format!("{} is another kurma-api's", directory.display()))?;
        let path = directory.join("clients.json");
        let clients = match read(&path)? {
            Some(text) => serde_json::from_str(&text)
                .map_err(|error| format!("{}: {error}", path.display()))?,
            None => Vec::new(),
        };
        let listed = read(&directory.join("refused"))?.unwrap_or_default();
        let lines = listed.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        Ok(Self {
            directory: directory.to_owned(),
            names: names.to_vec(),
            authority: authority(directory, now)?,
            codes: Codes::default(),
            clients,
            refused: lines.filter(|line| !line.is_empty()).map(str::to_lowercase).collect(),
            _lock: lock,
        })
    }

    /// The server's certificate and key as PEM, and why they were made, if they were.
    pub(crate) fn server(
        &self,
        now: SystemTime,
    ) -> Result<(String, String, Option<String>), String> {
        let (path, key_path) =
            (self.directory.join("server.pem"), self.directory.join("server.key"));
        let why = match (read(&path)?, read(&key_path)?) {
            (Some(certificate), Some(key)) => {
                match self.authority.is_current(&certificate, &key, &self.names, now) {
                    Ok(()) => return Ok((certificate, key, None)),
                    Err(why) => why,
                }
            }
            _ => "there was none".to_owned(),
        };
        let key = new_key()?;
        let certificate = self.authority.server(&key, &self.names, random()?, now)?;
        let key = key.serialize_pem();
        replace(&key_path, key.as_bytes())?;
        replace(&path, certificate.as_bytes())?;
        Ok((certificate, key, Some(why)))
    }

    /// Whether nobody has ever been known.
    pub(crate) fn is_new(&self) -> bool {
        self.clients.is_empty()
    }

    /// A code for somebody with a role.
    pub(crate) fn code(
        &mut self,
        role: Role,
        lasting: Duration,
        now: SystemTime,
    ) -> Result<Issued, Fault> {
        let code = Code::new(&self.authority.der, random().map_err(failed)?);
        let until = self.codes.add(code.secret(), role, lasting, now);
        let until = until.map_err(|error| Fault::new(CONFLICT, error))?;
        Ok(Issued { code: code.to_string(), role, expires: seconds(until) })
    }

    /// Certifies somebody who knows a code.
    pub(crate) fn enroll(&mut self, ask: &Enroll, now: SystemTime) -> Result<Enrolled, Fault> {
        let role = self.codes.find(&ask.secret, now);
        let role = role.map_err(|wrong| Fault::new(DENIED, wrong.sentence()))?;
        if !is_name(&ask.name) {
            let what = format!(
                "a client is called by up to {LONGEST} letters, digits and -._@, not {:?}",
                ask.name.chars().take(LONGEST).collect::<String>()
            );
            return Err(Fault::new(INVALID_PARAMS, what));
        }
        let counts = |one: &Known| !one.revoked && seconds(now) < one.expires;
        if self.clients.iter().any(|one| one.name == ask.name && counts(one)) {
            let what = format!("somebody is called {} already: choose another --name", ask.name);
            return Err(Fault::new(CONFLICT, what));
        }
        if self.clients.len() >= MOST {
            let what = format!("{MOST} clients are known: none can be added");
            return Err(Fault::new(CONFLICT, what));
        }
        let serial = random().map_err(failed)?;
        let (certificate, expires) = self
            .authority
            .client(&ask.csr, &ask.name, role, serial, now)
            .map_err(|error| Fault::new(INVALID_PARAMS, error))?;
        let read = Certified::of(&certificate).map_err(failed)?;
        let name = ask.name.clone();
        let known = Known {
            name: name.clone(),
            role,
            serial: read.serial,
            since: seconds(now),
            expires,
            revoked: false,
        };
        let mut clients = self.clients.clone();
        clients.push(known);
        self.write(&clients).map_err(failed)?;
        self.clients = clients;
        self.codes.take(&ask.secret);
        Ok(Enrolled { certificate, authority: self.authority.certificate.clone(), name, role })
    }

    fn write(&self, clients: &[Known]) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(clients).map_err(|error| error.to_string())?;
        replace(&self.directory.join("clients.json"), &text)
    }

    /// Who is known, and whether they are refused.
    pub(crate) fn clients(&self) -> Vec<Known> {
        let mut clients = self.clients.clone();
        for one in &mut clients {
            one.revoked |= self.refused.contains(&one.serial);
        }
        clients
    }

    /// Refuses somebody from now on.
    pub(crate) fn revoke(&mut self, name: &str) -> Result<Known, Fault> {
        let mut clients = self.clients();
        let mut last = None;
        for one in clients.iter_mut().filter(|one| one.name == name) {
            one.revoked = true;
            self.refused.insert(one.serial.clone());
            last = Some(one.clone());
        }
        let last = last.ok_or_else(|| Fault::new(NOT_FOUND, format!("nobody is called {name}")))?;
        let lines: String = self.refused.iter().map(|serial| format!("{serial}\n")).collect();
        replace(&self.directory.join("refused"), lines.as_bytes()).map_err(failed)?;
        self.write(&clients).map_err(failed)?;
        self.clients = clients;
        Ok(last)
    }

    /// Whether a certificate is refused.
    pub(crate) fn is_refused(&self, serial: &str) -> bool {
        self.refused.contains(serial)
            || self.clients.iter().any(|one| one.revoked && one.serial == serial)
    }
}
