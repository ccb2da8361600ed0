//! Carries out what a plan says about files, below a root: another one's, or the running system's.
//!
//! Paths are resolved by the kernel as if the root were `/` (openat2(2), `RESOLVE_IN_ROOT`, Linux 5.6), so no
//! link leads out of it. A file is written beside its place, made durable and renamed: a crash
//! leaves the old one or the new one. A link at the very place is replaced, not followed.

mod place;

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::accounts::Accounts;
use crate::plan::Action;
use crate::schema::{User, WriteFile};
use place::Directory;

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{path}: {why}")]
pub struct Error {
    /// The path, as seen from the root.
    pub path: String,
    /// Why.
    pub why: String,
}

impl Error {
    fn new(path: &str, why: impl ToString) -> Self {
        Self { path: path.to_owned(), why: why.to_string() }
    }
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Done {
    /// It is done.
    Done,
    /// It is nothing that files alone could do: commands, modules, mounts, links, services.
    NotHere,
}

/// A root.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens a root.
    ///
    /// # Errors
    /// Where it is not there, or no directory.
    pub fn open(path: &Path) -> Result<Self, Error> {
        place::open(path).map(Self).map_err(|error| Error::new(&path.display().to_string(), error))
    }

    /// Does what files can do: files, users, keys, rules of sudo, the name in `/etc/hostname`.
    ///
    /// # Errors
    /// Where that fails; nothing is half written then.
    pub fn perform(&self, action: &Action) -> Result<Done, Error> {
        match action {
            Action::SetHostname(name) => {
                self.write("/etc/hostname", format!("{name}\n").as_bytes(), 0o644, 0, 0)?;
            }
            Action::AddUser(user) => self.add_user(user)?,
            Action::AddKeys { user, keys } => self.add_keys(user, keys)?,
            Action::AllowSudo { user, rules } => {
                // sudo passes over files with a dot in their name, and no name of a user has a plus.
                let path = format!("/etc/sudoers.d/90-cloud-config-{}", user.replace('.', "+"));
                let lines: String = rules.iter().map(|rule| format!("{user} {rule}\n")).collect();
                self.write(&path, lines.as_bytes(), 0o440, 0, 0)?;
            }
            Action::WriteFile(file) if file.container.is_none() => self.write_file(file)?,
            _ => return Ok(Done::NotHere),
        }
        Ok(Done::Done)
    }

    fn write_file(&self, file: &WriteFile) -> Result<(), Error> {
        let accounts = self.accounts()?;
        let unknown = |what: &str, name: &str| {
            Error::new(&file.path, format_args!("its {what} {name} is not there"))
        };
        let (user, group) = (&file.owner.user, &file.owner.group);
        let uid = accounts.uid_of(user).ok_or_else(|| unknown("owner", user))?;
        let gid = accounts.gid_of(group).ok_or_else(|| unknown("group", group))?;
        if !file.append {
            return self.write(&file.path, &file.content, file.mode, uid, gid);
        }
        let wrong = |why: std::io::Error| Error::new(&file.path, why);
        let (directory, name) = self.parent(&file.path)?;
        let mut content = directory.read(name, place::MOST).map_err(wrong)?.unwrap_or_default();
        content.extend_from_slice(&file.content);
        directory.write(name, &content, file.mode, uid, gid).map_err(wrong)
    }

    fn parent<'p>(&self, path: &'p str) -> Result<(Directory, &'p str), Error> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = Directory::in_root(&self.0, above);
        Ok((directory.map_err(|error| Error::new(path, error))?, name))
    }

    fn write(
        &self,
        path: &str,
        content: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<(), Error> {
        let (directory, name) = self.parent(path)?;
        directory.write(name, content, mode, uid, gid).map_err(|error| Error::new(path, error))
    }

    /// Reads a file of the root as text; nothing where it is not there.
    fn text(&self, path: &str) -> Result<String, Error> {
        let bytes = place::read_in_root(&self.0, path).map_err(|error| Error::new(path, error))?;
        String::from_utf8(bytes.unwrap_or_default()).map_err(|_| Error::new(path, "not UTF-8"))
    }

    fn accounts(&self) -> Result<Accounts, Error> {
        Ok(Accounts {
            passwd: self.text("/etc/passwd")?,
            group: self.text("/etc/group")?,
            shadow: self.text("/etc/shadow")?,
        })
    }

    fn add_user(&self, user: &User) -> Result<(), Error> {
        let before = self.accounts()?;
        let mut after = before.clone();
        after
            .add(user)
            .map_err(|why| Error::new("/etc/passwd", format_args!("{}: {why}", user.name)))?;
        let Some(account) = after.user(&user.name) else {
            return Err(Error::new("/etc/passwd", format_args!("{} is not there", user.name)));
        };
        let shadow = after.group_id("shadow").unwrap_or(0);
        let write = |path: &str, old: &str, new: &str, mode: u32, gid: u32| {
            if old == new { Ok(()) } else { self.write(path, new.as_bytes(), mode, 0, gid) }
        };
        // passwd at the end: a crash before it leaves no user by halves, and the next run goes on.
        write("/etc/group", &before.group, &after.group, 0o644, 0)?;
        write("/etc/shadow", &before.shadow, &after.shadow, 0o640, shadow)?;
        if user.make_home && before.user(&user.name).is_none() {
            let wrong = |error: std::io::Error| Error::new(&account.home, error);
            let (above, name) = self.parent(&account.home)?;
            above.child(name, 0o755, account.uid, account.gid).map_err(wrong)?;
        }
        write("/etc/passwd", &before.passwd, &after.passwd, 0o644, 0)
    }

    /// What is below a home directory is its user's, who may have put links anywhere: none is followed.
    fn add_keys(&self, name: &str, keys: &[String]) -> Result<(), Error> {
        let Some(account) = self.accounts()?.user(name) else {
            return Err(Error::new("/etc/passwd", format_args!("{name} is not there")));
        };
        let path = format!("{}/.ssh/authorized_keys", account.home);
        let wrong = |error: std::io::Error| Error::new(&path, error);
        let (above, home) = self.parent(&account.home)?;
        let (uid, gid) = (account.uid, account.gid);
        let home = above.child(home, 0o755, uid, gid).map_err(wrong)?;
        let ssh = home.child(".ssh", 0o700, uid, gid).map_err(wrong)?;
        let old = ssh.read("authorized_keys", place::MOST).map_err(wrong)?.unwrap_or_default();
        let mut text = String::from_utf8_lossy(&old).into_owned();
        for key in keys {
            if !text.lines().any(|line| line.trim() == key) {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(key);
                text.push('\n');
            }
        }
        if text.as_bytes() == old {
            return Ok(());
        }
        ssh.write("authorized_keys", text.as_bytes(), 0o600, uid, gid).map_err(wrong)
    }
}
