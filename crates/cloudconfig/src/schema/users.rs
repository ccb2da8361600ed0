//! `users` and `ssh_authorized_keys`.

use crate::place::quoted;
use crate::{Cursor, Meaning, Value};

/// Who there is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Users {
    /// Whether the image's default user is there. Default: yes. A list without
    /// `default` in it says no.
    pub default: bool,
    /// The others, in order.
    pub list: Vec<User>,
}

impl Default for Users {
    fn default() -> Self {
        Self { default: true, list: Vec::new() }
    }
}

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The name.
    pub name: String,
    /// What is said about the person.
    pub gecos: String,
    /// The number. Default: one that is free.
    pub uid: Option<u32>,
    /// The home directory. Default: `/home/NAME`, of root `/root`.
    pub home: Option<String>,
    /// The shell. Default: the system's.
    pub shell: Option<String>,
    /// The first group. Default: one of the same name.
    pub primary_group: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// Keys to log in with.
    pub ssh_authorized_keys: Vec<String>,
    /// Lines for sudoers(5), each of which gets the user's name before it.
    pub sudo: Vec<String>,
    /// A password as crypt(3) has it.
    pub password_hash: Option<String>,
    /// Whether nobody can log in by password. Default: yes.
    pub lock_password: bool,
    /// Whether it is a user for a program: a low number, no home.
    pub system: bool,
    /// Whether a home directory is made. Default: yes, except for users of programs.
    pub make_home: bool,
}

impl User {
    /// A user of whom nothing but the name is known.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), lock_password: true, make_home: true, ..Self::default() }
    }

    /// Where the user is at home.
    #[must_use]
    pub fn home_directory(&self) -> String {
        match &self.home {
            Some(home) => home.clone(),
            None if self.name == "root" => "/root".into(),
            None => format!("/home/{}", self.name),
        }
    }
}

/// Whether useradd(8) takes it as a name without being forced to.
pub(crate) fn is_account_name(name: &str) -> bool {
    let body = name.strip_suffix('$').unwrap_or(name);
    let mut bytes = body.bytes();
    name.len() <= 32
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

fn account_name(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    if is_account_name(text) {
        return Some(text.to_owned());
    }
    at.wrong(format_args!("{} is no name of a user or a group", quoted(text)))
}

/// Types of keys of sshd(8), "AUTHORIZED_KEYS FILE FORMAT".
const KEY_TYPES: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Whether a text is one line of authorized_keys: options, a type, a key that says the same type.
pub(crate) fn is_key(text: &str) -> bool {
    if text.contains(|c: char| c.is_control() && c != '\t') || text.starts_with('#') {
        return false;
    }
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.windows(2).any(|pair| match pair {
        [kind, key] if KEY_TYPES.contains(kind) => {
            crate::unpack::base64(key.as_bytes()).is_some_and(|blob| {
                // RFC 4253 section 6.6: the blob begins with the type, after its length.
                let said = blob.get(..4).and_then(|size| <[u8; 4]>::try_from(size).ok());
                let size = said.and_then(|size| usize::try_from(u32::from_be_bytes(size)).ok());
                let name = blob.get(4..).zip(size).and_then(|(rest, size)| rest.get(..size));
                name == Some(kind.as_bytes())
            })
        }
        _ => false,
    })
}

pub(super) fn key(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?.trim();
    if is_key(text) {
        return Some(text.to_owned());
    }
    at.wrong(format_args!(
        "{} is no public key: expected TYPE BASE64 COMMENT on one line",
        quoted(text)
    ))
}

pub(super) fn users(at: &Cursor<'_>) -> Option<Users> {
    let mut default = false;
    let mut seen: Vec<String> = Vec::new();
    let list = at.items()?.into_iter().filter_map(|at| {
        if matches!(&at.node().value, Value::Scalar(_)) {
            let name = account_name(&at)?;
            if name == "default" {
                default = true;
                return None;
            }
            return Some((at, User::named(name)));
        }
        let user = at.whole(user)?;
        Some((at, user))
    });
    let list: Vec<(Cursor<'_>, User)> = list.collect();
    let mut users = Users { default, list: Vec::new() };
    for (at, user) in list {
        if seen.contains(&user.name) {
            at.wrong::<()>(format_args!("the user {} is there twice: the first counts", user.name));
            continue;
        }
        seen.push(user.name.clone());
        users.list.push(user);
    }
    Some(users)
}

fn user(at: &Cursor<'_>) -> Option<User> {
    let mut fields = at.fields()?;
    let name = fields.required("name", account_name);
    let system = fields.get("system", Cursor::bool).unwrap_or_default();
    let no_home = fields.get("no_create_home", Cursor::bool).unwrap_or(system);
    // A password in the field that is not supported would leave a user without one.
    let passwords = [fields.get("passwd", hash), fields.get("hashed_passwd", hash)];
    let user = User {
        name: name.clone().unwrap_or_default(),
        gecos: fields.get("gecos", colon_free).unwrap_or_default(),
        uid: fields.get("uid", uid),
        home: fields.get("homedir", |at| {
            let path = super::files::path(at)?;
            if path.contains([':', '\n']) {
                at.expected("a path without colons")
            } else {
                Some(path)
            }
        }),
        shell: fields.get("shell", |at| {
            let shell = colon_free(at)?;
            if shell.starts_with('/') { Some(shell) } else { at.expected("an absolute path") }
        }),
        primary_group: fields.get("primary_group", account_name),
        groups: fields.get("groups", groups).unwrap_or_default(),
        ssh_authorized_keys: fields
            .field("ssh_authorized_keys")
            // A user with the keys that are sound is better than none.
            .map(|at| at.apart(|at| at.list(key)))
            .unwrap_or_default(),
        sudo: fields.get("sudo", sudo).unwrap_or_default(),
        password_hash: passwords.into_iter().flatten().last(),
        lock_password: fields.get("lock_passwd", Cursor::bool).unwrap_or(true),
        system,
        make_home: !no_home,
    };
    fields.not_supported(&[
        "create_groups",
        "doas",
        "expiredate",
        "inactive",
        "no_log_init",
        "no_user_group",
        "plain_text_passwd",
        "selinux_user",
        "snapuser",
        "ssh_import_id",
        "ssh_redirect_user",
    ]);
    fields.finish();
    name.map(|_| user)
}

fn uid(at: &Cursor<'_>) -> Option<u32> {
    // cloud-init takes it as a text, too.
    match at.parse::<u32>("a number")? {
        u32::MAX => at.wrong("no user can have this number"),
        uid => Some(uid),
    }
}

/// A field of passwd(5).
fn colon_free(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    if text.contains(|c: char| c == ':' || c.is_control()) {
        return at.expected("a text without colons and breaks");
    }
    Some(text.to_owned())
}

fn hash(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    let letters = |byte: u8| byte.is_ascii_graphic() && !b":;*!\\".contains(&byte);
    if text.len() < 13 || !text.bytes().all(letters) {
        // The text itself is not shown: it may well be a password.
        return at.wrong("expected a password's hash, as `openssl passwd -6` makes it");
    }
    Some(text.to_owned())
}

/// A list of groups, or names joined by commas.
fn groups(at: &Cursor<'_>) -> Option<Vec<String>> {
    let Value::Scalar(_) = at.node().value else { return Some(at.list(account_name)) };
    let names = at.text()?.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut found = Vec::new();
    for name in names {
        if !is_account_name(name) {
            return at.wrong(format_args!("{} is no name of a user or a group", quoted(name)));
        }
        found.push(name.to_owned());
    }
    Some(found)
}

/// Rules, one rule, or false for none.
fn sudo(at: &Cursor<'_>) -> Option<Vec<String>> {
    let rule = |at: &Cursor<'_>| {
        let text = at.text()?;
        if text.is_empty() || text.contains(char::is_control) {
            return at.expected("a rule of sudoers on one line");
        }
        Some(text.to_owned())
    };
    match &at.node().value {
        Value::Scalar(scalar) if scalar.meaning() == Meaning::Bool(false) => Some(Vec::new()),
        Value::Scalar(_) => rule(at).map(|rule| vec![rule]),
        _ => Some(at.list(rule)),
    }
}
