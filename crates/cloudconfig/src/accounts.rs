//! passwd(5), group(5) and shadow(5) as texts: who is there, and how another one is added. No library of
//! the system is asked, because a static program has none, and because the root may be another one's.

use std::collections::BTreeSet;

use crate::schema::User;

/// The three files of a root. Lines that are not touched stay as they are, whatever they say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
    /// `/etc/shadow`.
    pub shadow: String,
}

/// A user as passwd says it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// The home directory.
    pub home: String,
}

/// The first number of people, and the last one of programs (Debian's adduser.conf).
const PEOPLE: u32 = 1000;
/// The last number of people; what is above belongs to others.
const LAST: u32 = 59_999;

impl Accounts {
    /// A user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<Account> {
        let line = self.passwd.lines().find(|line| first(line) == name)?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { uid, gid, home: fields.nth(1)?.to_owned() })
    }

    /// A group's number.
    #[must_use]
    pub fn group_id(&self, name: &str) -> Option<u32> {
        let line = self.group.lines().find(|line| first(line) == name)?;
        line.split(':').nth(2)?.parse().ok()
    }

    /// A user's number, by name or as a number.
    #[must_use]
    pub fn uid_of(&self, name: &str) -> Option<u32> {
        self.user(name).map(|user| user.uid).or_else(|| root_or_number(name))
    }

    /// A group's number, by name or as a number.
    #[must_use]
    pub fn gid_of(&self, name: &str) -> Option<u32> {
        self.group_id(name).or_else(|| root_or_number(name))
    }

    /// Adds a user, with the groups that are not there yet. Of one who is there only groups and password
    /// are changed: what belongs to somebody should stay so.
    ///
    /// # Errors
    /// Why it cannot be: a number that another one has, or none that is free.
    ///
    /// ```
    /// use kiln_cloudconfig::{accounts::Accounts, schema::User};
    ///
    /// let mut accounts = Accounts::default();
    /// let mut ada = User::named("ada");
    /// ada.groups = vec!["docker".into()];
    /// accounts.add(&ada).unwrap();
    /// assert_eq!(accounts.passwd, "ada:x:1000:1000::/home/ada:/bin/sh\n");
    /// assert_eq!(accounts.group, "ada:x:1000:\ndocker:x:999:ada\n");
    /// assert_eq!(accounts.shadow, "ada:*:::::::\n");
    /// ```
    pub fn add(&mut self, user: &User) -> Result<(), String> {
        let mut next = self.clone();
        if next.user(&user.name).is_none() {
            next.add_new(user)?;
        } else if user.password_hash.is_some() {
            next.set_password(user);
        }
        for group in &user.groups {
            next.join(group, &user.name)?;
        }
        *self = next;
        Ok(())
    }

    fn add_new(&mut self, user: &User) -> Result<(), String> {
        let name = &user.name;
        if self.passwd.lines().any(|line| first(line) == name) {
            return Err(format!("/etc/passwd has a line for {name} that is damaged"));
        }
        let uids = numbers(&self.passwd);
        let uid = match user.uid {
            Some(uid) if uids.contains(&uid) => {
                return Err(format!("another user has the number {uid}"));
            }
            Some(uid) => uid,
            None => free(&uids, user.system)?,
        };
        let gid = match &user.primary_group {
            Some(group) => self.group(group, user.system)?,
            None => match self.group_id(name) {
                Some(gid) => gid,
                None => {
                    let gids = numbers(&self.group);
                    let gid = if gids.contains(&uid) { free(&gids, user.system)? } else { uid };
                    line(&mut self.group, &format!("{name}:x:{gid}:"));
                    gid
                }
            },
        };
        let (gecos, home) = (&user.gecos, user.home_directory());
        let shell = user.shell.as_deref().unwrap_or("/bin/sh");
        line(&mut self.passwd, &format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}"));
        self.set_password(user);
        Ok(())
    }

    /// An empty date of the last change switches ageing off, and needs no clock. `*` fits no password,
    /// and unlike `!` lets sshd without PAM take keys.
    fn set_password(&mut self, user: &User) {
        let hash = match (&user.password_hash, user.lock_password) {
            (Some(hash), false) => hash.clone(),
            (Some(hash), true) => format!("!{hash}"),
            (None, _) => "*".into(),
        };
        let mut out = String::new();
        let mut found = false;
        for old in self.shadow.lines() {
            if first(old) == user.name && !found {
                found = true;
                let rest = old.splitn(3, ':').nth(2).unwrap_or("::::::");
                line(&mut out, &format!("{}:{hash}:{rest}", user.name));
            } else {
                line(&mut out, old);
            }
        }
        if !found {
            line(&mut out, &format!("{}:{hash}:::::::", user.name));
        }
        self.shadow = out;
    }

    /// A group's number; it is made where it is not there.
    fn group(&mut self, name: &str, system: bool) -> Result<u32, String> {
        if let Some(gid) = self.group_id(name) {
            return Ok(gid);
        }
        if self.group.lines().any(|line| first(line) == name) {
            return Err(format!("/etc/group has a line for {name} that is damaged"));
        }
        let gid = free(&numbers(&self.group), system)?;
        line(&mut self.group, &format!("{name}:x:{gid}:"));
        Ok(gid)
    }

    fn join(&mut self, group: &str, user: &str) -> Result<(), String> {
        // A group that is there for a purpose has a low number, as a program has.
        self.group(group, true)?;
        let mut out = String::new();
        for old in self.group.lines() {
            let members = old.splitn(4, ':').nth(3).filter(|_| first(old) == group);
            match members {
                Some(members) if !members.split(',').any(|member| member == user) => {
                    let comma = if members.is_empty() { "" } else { "," };
                    line(&mut out, &format!("{old}{comma}{user}"));
                }
                _ => line(&mut out, old),
            }
        }
        self.group = out;
        Ok(())
    }
}

fn first(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

/// Adds a line; one that was not ended before it is ended.
fn line(text: &mut String, new: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(new);
    text.push('\n');
}

/// The numbers that passwd or group have.
fn numbers(text: &str) -> BTreeSet<u32> {
    text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
}

fn free(taken: &BTreeSet<u32>, system: bool) -> Result<u32, String> {
    let found = if system {
        (100..PEOPLE).rev().find(|number| !taken.contains(number))
    } else {
        (PEOPLE..=LAST).find(|number| !taken.contains(number))
    };
    found.ok_or_else(|| "no number is free".into())
}

/// root is 0 in each system, also in one without a passwd.
fn root_or_number(name: &str) -> Option<u32> {
    if name == "root" { Some(0) } else { name.parse().ok().filter(|id| *id != u32::MAX) }
}
