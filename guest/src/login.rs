//! Where people log in: terminals, the ssh server's keys, passwords.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use kiln_supervisor::{Log, ServiceSpec};

use crate::files;

/// Kinds of keys that the ssh server has.
pub const HOST_KEYS: [&str; 2] = ["ed25519", "ecdsa"];

/// Terminals that the kernel writes to, as its command line says, the first screen in place of the one that
/// is shown: those that `dev` has.
#[must_use]
pub fn terminals(command_line: &str, dev: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let words = command_line.split_whitespace();
    for console in words.filter_map(|word| word.strip_prefix("console=")) {
        let name = console.split(',').next().unwrap_or(console);
        let name = if name == "tty0" { "tty1" } else { name };
        let is_name = !name.is_empty() && !name.contains(['/', '.']);
        let is_known = found.iter().any(|known| known == name);
        if is_name && !is_known && dev.join(name).exists() {
            found.push(name.to_owned());
        }
    }
    found
}

/// What asks for a name at a terminal, or has this program let people in who need none.
#[must_use]
pub fn getty(tty: &str, free: Option<&str>) -> ServiceSpec {
    let mut words = vec!["/usr/sbin/getty"];
    if let Some(program) = free {
        words.extend(["-n", "-l", program]);
    }
    words.extend(["-L", "115200", tty, if tty.starts_with("ttyS") { "vt100" } else { "linux" }]);
    let mut spec = ServiceSpec::daemon(format!("getty-{tty}"), words);
    spec.log = Log::Inherit;
    // Whoever logs out gets a prompt again at once.
    spec.backoff.initial = Duration::from_millis(200);
    spec.backoff.healthy = Duration::from_secs(1);
    spec
}

/// The ssh server, in the foreground.
#[must_use]
pub fn sshd() -> ServiceSpec {
    let mut spec = ServiceSpec::daemon("sshd", ["/usr/sbin/sshd", "-D", "-e"]);
    spec.log = Log::Inherit;
    spec
}

/// The file of the ssh server's key of a kind.
#[must_use]
pub fn host_key(directory: &Path, kind: &str) -> PathBuf {
    directory.join(format!("ssh_host_{kind}_key"))
}

/// Makes the ssh server's key of a kind, unless it is there.
///
/// # Errors
/// It cannot be made or kept; then it is not there.
pub fn make_host_key(directory: &Path, kind: &str) -> io::Result<()> {
    let path = host_key(directory, kind);
    if path.exists() {
        return Ok(());
    }
    // Beside its place: a key that is half there would keep the server from starting for ever.
    let beside = path.with_extension("new");
    let public = path.with_extension("new.pub");
    for left in [&beside, &public] {
        let _ = fs::remove_file(left);
    }
    let mut make = Command::new("/usr/bin/ssh-keygen");
    make.args(["-q", "-N", "", "-C", "", "-t", kind, "-f"]).arg(&beside).stdin(Stdio::null());
    well("ssh-keygen", make.status()?)?;
    fs::rename(&public, path.with_extension("pub"))?;
    File::open(&beside)?.sync_all()?;
    fs::rename(&beside, &path)
}

fn well(program: &str, status: ExitStatus) -> io::Result<()> {
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{program}: {status}"))),
    }
}

/// What of a password is kept: what crypt(5) has as its hash, else such a hash of it.
///
/// # Errors
/// It cannot be a password, or nothing makes the hash.
pub fn hashed(password: &str) -> io::Result<String> {
    if password.contains(['\n', '\r', '\0']) {
        return Err(io::Error::other("it has more than one line"));
    }
    // what begins so is no plain password
    let hash = match password.starts_with(['$', '_']) {
        true => password.to_owned(),
        false => sha512(password)?,
    };
    match hash.contains(':') || hash.is_empty() {
        true => Err(io::Error::other("its hash has a colon, or nothing")),
        false => Ok(hash),
    }
}

/// With a salt of its own. The password goes by standard input, where nobody else sees it.
fn sha512(password: &str) -> io::Result<String> {
    let mut command = Command::new("/bin/busybox");
    command.args(["mkpasswd", "-m", "sha512", "-P", "0"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let told =
        child.stdin.take().map(|mut input| input.write_all(format!("{password}\n").as_bytes()));
    let output = child.wait_with_output()?;
    told.transpose()?;
    well("mkpasswd", output.status)?;
    let text = String::from_utf8(output.stdout).map_err(io::Error::other)?;
    Ok(text.trim().to_owned())
}

/// Gives a user a password by its hash.
///
/// # Errors
/// The file cannot be read or replaced; it is as it was.
pub fn set_password(shadow: &Path, user: &str, hash: &str) -> io::Result<()> {
    let text = files::read(shadow)?.unwrap_or_default();
    files::replace(shadow, with_password(&text, user, hash).as_bytes(), 0o600, false)
}

fn with_password(shadow: &str, user: &str, hash: &str) -> String {
    let start = format!("{user}:");
    let others = shadow.lines().filter(|line| !line.starts_with(&start));
    let mut text: String = others.map(|line| format!("{line}\n")).collect();
    text += &format!("{user}:{hash}:19000:0:99999:7:::\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_those_that_are_there() {
        let dev = tempfile::tempdir().unwrap();
        for name in ["tty1", "ttyS0", "ttyS1"] {
            fs::write(dev.path().join(name), "").unwrap();
        }
        let of = |line| terminals(line, dev.path());
        assert_eq!(of("quiet console=tty0 console=ttyS0,115200 console=ttyS0"), ["tty1", "ttyS0"]);
        assert_eq!(of("console=ttyS9 console=hvc0 console= console=../etc"), [""; 0]);
        assert_eq!(of(""), [""; 0]);
    }

    #[test]
    fn a_password_is_kept_as_a_hash() {
        if !Path::new("/bin/busybox").exists() {
            println!("skipped: /bin/busybox");
            return;
        }
        let hash = hashed("pass word").unwrap();
        let parts: Vec<&str> = hash.split('$').collect();
        let ["", "6", salt, _] = parts[..] else { panic!("{hash}") };
        assert_ne!(hash, hashed("pass word").unwrap(), "a salt of its own");
        // what others make of the same
        let mut openssl = Command::new("openssl");
        openssl.args(["passwd", "-6", "-salt", salt, "pass word"]);
        match openssl.output() {
            Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), hash),
            Err(_) => println!("skipped: openssl"),
        }
        for kept in ["$6$salt$hash", "$y$j9T$salt$hash", "_J9..salthash"] {
            assert_eq!(hashed(kept).unwrap(), kept);
        }
        for bad in ["$6$a:b", "a\nb", "a\r", "a\0"] {
            hashed(bad).unwrap_err();
        }
    }

    #[test]
    fn one_line_of_a_shadow_file_is_replaced() {
        let shadow = "root:*:19000:0:99999:7:::\nroots:*:19000:0:99999:7:::\n";
        let with = with_password(shadow, "root", "$6$x");
        assert_eq!(with, "roots:*:19000:0:99999:7:::\nroot:$6$x:19000:0:99999:7:::\n");
        assert_eq!(with_password(&with, "root", "$6$x"), with);
        assert_eq!(with_password("", "new", "$6$x"), "new:$6$x:19000:0:99999:7:::\n");
    }

    #[test]
    fn a_key_is_made_once_whatever_a_crash_has_left() {
        if Command::new("/usr/bin/ssh-keygen").arg("-?").output().is_err() {
            println!("skipped: ssh-keygen");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let key = host_key(place.path(), "ed25519");
        fs::write(key.with_extension("new"), "half").unwrap();
        make_host_key(place.path(), "ed25519").unwrap();
        let made = fs::read(&key).unwrap();
        assert!(made.starts_with(b"-----BEGIN OPENSSH PRIVATE KEY-----"));
        make_host_key(place.path(), "ed25519").unwrap();
        assert_eq!(fs::read(&key).unwrap(), made);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }
}
