//! Processes beside an app: what the runtime is told, and the terminal that it sends.

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kurma_client::enter::Enter;
use kurma_client::rpc::{Fault, INTERNAL_ERROR};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::Place;
use super::stager::container_id;

/// How long a runtime may take to send a terminal.
const SENT: Duration = Duration::from_secs(20);
/// The most words of a command, and their bytes.
const WORDS: usize = 1024;
const BYTES: usize = 128 << 10;

/// What is to be started beside an app. Its files go with it.
#[derive(Debug)]
pub(crate) struct Entrance {
    directory: tempfile::TempDir,
    state: PathBuf,
    id: String,
    terminal_at: Option<PathBuf>,
    /// Where the terminal comes to, if there is to be one.
    pub(crate) terminal: Option<TerminalSocket>,
}

/// Where a runtime sends a terminal to.
#[derive(Debug)]
pub(crate) struct TerminalSocket(UnixListener);

impl Entrance {
    /// Makes what the runtime reads: the app's own process, but for its command.
    pub(crate) fn new(place: &Place, app: &str, enter: &Enter) -> Result<Self, String> {
        let config = place.bundle(app).join("config.json");
        let text = fs::read(&config).map_err(crate::files::sentence("read", &config))?;
        let mut config: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let mut process = config.get_mut("process").map(Value::take).unwrap_or_default();
        let command = match enter.exec.as_slice() {
            [] => vec!["/bin/sh".to_owned()],
            words
                if words.len() <= WORDS
                    && words.iter().map(String::len).sum::<usize>() <= BYTES =>
            {
                words.to_vec()
            }
            _ => return Err(format!("a command has at most {WORDS} words and {BYTES} bytes")),
        };
        if command.iter().any(|word| word.contains('\0')) {
            return Err("a command has no NUL".to_owned());
        }
        process["args"] = json!(command);
        process["terminal"] = json!(enter.terminal.is_some());
        if let Some(size) = enter.terminal {
            process["consoleSize"] = json!({ "height": size.rows, "width": size.columns });
            set_term(&mut process);
        }
        if let Some(user) = &enter.user {
            process["user"] = user_of(user)?;
        }
        let directory = tempfile::Builder::new().prefix("enter-").tempdir_in(place.runtime());
        let directory = directory.map_err(|error| error.to_string())?;
        let text = serde_json::to_vec(&process).map_err(|error| error.to_string())?;
        let path = directory.path().join("process.json");
        fs::write(&path, text).map_err(crate::files::sentence("write", &path))?;
        let (terminal_at, terminal) = if enter.terminal.is_some() {
            let path = directory.path().join("tty");
            let socket =
                UnixListener::bind(&path).map_err(crate::files::sentence("make", &path))?;
            (Some(path), Some(TerminalSocket(socket)))
        } else {
            (None, None)
        };
        let (state, id) = (place.containers(), container_id(&place.uuid(), app));
        Ok(Self { directory, state, id, terminal_at, terminal })
    }

    /// The runtime's command.
    pub(crate) fn command(&self) -> Result<Command, Fault> {
        let mut command = Command::new("crun");
        command.arg("--cgroup-manager=disabled").arg("--root").arg(&self.state).arg("exec");
        command.arg("--process").arg(self.directory.path().join("process.json"));
        if let Some(socket) = &self.terminal_at {
            if socket.as_os_str().len() > 107 {
                let what = format!("{}: too long for a socket", socket.display());
                return Err(Fault::new(INTERNAL_ERROR, what));
            }
            command.arg("--console-socket").arg(socket);
        }
        command.arg(&self.id).current_dir("/");
        Ok(command)
    }
}

/// Programs that ask for the kind of a terminal are told a usual one, unless the app says another.
fn set_term(process: &mut Value) {
    let Some(env) = process.get_mut("env").and_then(Value::as_array_mut) else { return };
    if !env.iter().any(|one| one.as_str().is_some_and(|one| one.starts_with("TERM="))) {
        env.push(json!("TERM=xterm"));
    }
}

/// `UID` or `UID:GID`.
fn user_of(text: &str) -> Result<Value, String> {
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    let number = |text: &str| text.parse::<u32>().ok();
    match (number(user), number(group)) {
        (Some(uid), Some(gid)) => Ok(json!({ "uid": uid, "gid": gid })),
        _ => {
            let shown: String = text.chars().take(80).collect();
            Err(format!("user {shown:?}: expected a number, or two with a colon between them"))
        }
    }
}

impl TerminalSocket {
    /// Waits for the terminal.
    pub(crate) fn take(self) -> io::Result<File> {
        let slow = || io::Error::new(io::ErrorKind::TimedOut, "the runtime sends no terminal");
        let wait = Timespec::try_from(SENT).ok();
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], wait.as_ref())? == 0 {
            return Err(slow());
        }
        let (stream, _) = self.0.accept()?;
        stream.set_read_timeout(Some(SENT))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 256];
        let buffers = &mut [IoSliceMut::new(&mut name)];
        recvmsg(&stream, buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let fds = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        fds.flatten().next().map(File::from).ok_or_else(slow)
    }
}

/// Both directions of a terminal, read and written without waiting.
pub(crate) fn directions(terminal: &File) -> io::Result<(Receiver, Sender)> {
    let flags = rustix::fs::fcntl_getfl(terminal)?;
    rustix::fs::fcntl_setfl(terminal, flags | rustix::fs::OFlags::NONBLOCK)?;
    let read = Receiver::from_file_unchecked(terminal.try_clone()?)?;
    Ok((read, Sender::from_file_unchecked(terminal.try_clone()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(user_of("7").unwrap(), json!({ "uid": 7, "gid": 0 }));
        assert_eq!(user_of("7:8").unwrap(), json!({ "uid": 7, "gid": 8 }));
        for bad in ["", "root", "1:", "-1", "1:2:3"] {
            user_of(bad).unwrap_err();
        }
    }
}
