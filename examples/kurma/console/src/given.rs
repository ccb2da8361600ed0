//! Who may log in.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use kiln_guest::login;

/// No file of this kind is longer.
const LARGEST: u64 = 1 << 20;

/// What the configuration says of people.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// The hash of the password.
    pub(crate) password: Option<String>,
    /// Keys of ssh, as they are listed.
    keys: usize,
    /// What cannot be read or used.
    pub(crate) problems: Vec<String>,
}

impl Given {
    /// Reads `password` and `authorized_keys`. What is not there is said of nobody.
    pub(crate) fn read(directory: &Path) -> Self {
        let mut given = Self::default();
        let mut text = |name: &str| match read(&directory.join(name)) {
            Ok(text) => text,
            Err(error) => {
                given.problems.push(format!("{name}: {error}"));
                String::new()
            }
        };
        let (password, keys) = (text("password"), text("authorized_keys"));
        given.keys = keys.lines().filter(|line| is_key(line)).count();
        if !password.trim().is_empty() {
            match login::hashed(password.trim()) {
                Ok(hash) => given.password = Some(hash),
                Err(error) => given.problems.push(format!("the password: {error}")),
            }
        }
        given
    }

    /// Whether anybody may come in over ssh.
    pub(crate) fn anybody(&self) -> bool {
        self.password.is_some() || self.keys > 0
    }

    /// What a terminal shows before it asks for a name.
    pub(crate) fn issue(&self) -> String {
        let mut text = "\nKurma-like, \\n \\l\n".to_owned();
        if self.password.is_none() {
            text += "Nobody can log in here: no password is configured (console.password).\n";
        }
        text += match (self.password.is_some(), self.keys > 0) {
            (false, false) => {
                "Nor over ssh: no keys are configured either (console.sshKeys), and there is no server.\n"
            }
            (false, true) => "Over ssh: root, with a key of console.sshKeys.\n",
            (true, false) => "Over ssh: root, with the same password.\n",
            (true, true) => "Over ssh: root, with a key of console.sshKeys or the same password.\n",
        };
        text + "\n"
    }

    /// What of the ssh server's settings depends on it.
    pub(crate) fn sshd(&self) -> &'static str {
        match self.password {
            Some(_) => "PermitRootLogin yes\nPasswordAuthentication yes\n",
            None => "PermitRootLogin prohibit-password\nPasswordAuthentication no\n",
        }
    }
}

fn is_key(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

fn read(path: &Path) -> io::Result<String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    let len = file.take(LARGEST + 1).read_to_string(&mut text)?;
    match len as u64 > LARGEST {
        true => Err(io::Error::other("longer than a megabyte")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn given(password: &str, keys: &str) -> Given {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("password"), password).unwrap();
        fs::write(place.path().join("authorized_keys"), keys).unwrap();
        Given::read(place.path())
    }

    #[test]
    fn without_password_and_keys_nobody_is_let_in() {
        let place = tempfile::tempdir().unwrap();
        for given in [Given::read(place.path()), given("", ""), given("\n", "# none\n\n")] {
            assert!(!given.anybody() && given.problems.is_empty(), "{given:?}");
            assert!(
                given.issue().contains("Nobody can log in here")
                    && given.issue().contains("no server")
            );
            assert!(given.sshd().contains("PasswordAuthentication no"));
        }
    }

    #[test]
    fn a_key_alone_lets_nobody_in_by_password() {
        let given = given("", "ssh-ed25519 AAAA one\nssh-ed25519 AAAB two");
        assert!(given.anybody() && given.password.is_none());
        assert_eq!(given.sshd(), "PermitRootLogin prohibit-password\nPasswordAuthentication no\n");
        assert!(
            given.issue().contains("Nobody can log in here")
                && given.issue().contains("with a key")
        );
    }

    #[test]
    fn a_password_counts_at_terminals_and_over_ssh() {
        let given = given("$6$salt$hash\n", "");
        assert_eq!(given.password.as_deref(), Some("$6$salt$hash"));
        assert_eq!(given.sshd(), "PermitRootLogin yes\nPasswordAuthentication yes\n");
        assert!(!given.issue().contains("Nobody") && !given.issue().contains("a key"));
    }

    #[test]
    fn what_cannot_be_a_password_is_told_and_lets_nobody_in() {
        let given = given("$6$a:b", "");
        assert!(!given.anybody());
        assert_eq!(given.problems.len(), 1);
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("authorized_keys"), vec![b'a'; 2 << 20]).unwrap();
        let given = Given::read(place.path());
        assert!(!given.anybody());
        assert_eq!(given.problems, ["authorized_keys: longer than a megabyte"]);
    }
}
