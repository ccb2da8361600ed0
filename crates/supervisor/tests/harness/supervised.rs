//! Supervisors with a control socket, and clients of theirs.
#![allow(dead_code, reason = "not every target has a use for all of it")]

#[path = "running.rs"]
pub(crate) mod running;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use kiln_supervisor::control::frame::{Decoder, FrameKind, encode};
use kiln_supervisor::control::{Answer, Client, ControlOptions};
use kiln_supervisor::unix::{self, Options};
use kiln_supervisor::{Log, Outcome, ServiceSpec};
pub(crate) use running::{PATIENCE, until};

pub(crate) fn sh(name: &str, text: &str) -> ServiceSpec {
    let mut spec = ServiceSpec::daemon(name, ["/bin/sh", "-c", text]);
    spec.log = Log::Null;
    spec.backoff.initial = Duration::from_millis(20);
    spec
}

pub(crate) fn socket(dir: &Path) -> PathBuf {
    dir.join("run/s.sock")
}

pub(crate) fn options(dir: &Path) -> Options {
    let mut options = Options::default();
    options.log_timestamps = false;
    options.shutdown_timeout = Duration::from_secs(20);
    options.control = Some(ControlOptions::new(socket(dir)));
    options.log_dir = Some(dir.to_owned());
    options
}

/// Supervises until it is shut down; events go to standard output.
pub(crate) fn supervise(specs: Vec<ServiceSpec>, options: Options) -> Outcome {
    unix::run(specs, options, &mut |event| println!("{event}")).unwrap()
}

/// A case's supervisor, running. Killed when it is dropped.
pub(crate) struct Supervisor {
    child: Child,
    dir: PathBuf,
}

impl Supervisor {
    pub(crate) fn start(name: &str, dir: &Path) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), name, dir)
    }

    pub(crate) fn start_by(mut command: Command, name: &str, dir: &Path) -> Self {
        command.args(["--case", name]).arg(dir).stdin(Stdio::null());
        command.stdout(File::create(dir.join("out")).unwrap());
        command.stderr(File::create(dir.join("err")).unwrap());
        Self { child: command.spawn().unwrap(), dir: dir.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client, as soon as there is a socket.
    pub(crate) fn client(&self) -> Client {
        let path = socket(&self.dir);
        until("a client is served", || Client::connect_within(&path, PATIENCE).ok())
    }

    /// Whether it runs, or something that it is below of does.
    pub(crate) fn is_alive(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    pub(crate) fn out(&self) -> String {
        std::fs::read_to_string(self.dir.join("out")).unwrap()
    }

    /// Shuts it down and waits for its end.
    pub(crate) fn end(mut self) -> String {
        let result = self.client().shutdown(Outcome::Exit, false);
        result.unwrap_or_else(|error| panic!("{error}: {}", self.out()));
        let status = until("the supervisor ends", || self.child.try_wait().unwrap());
        let errors = std::fs::read_to_string(self.dir.join("err")).unwrap();
        assert!(status.success(), "{status} {errors} {}", self.out());
        assert!(!socket(&self.dir).exists(), "the socket's file is left");
        self.out()
    }

    /// A number of its `/proc/PID/status`.
    pub(crate) fn number(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `svc` with the case's socket.
pub(crate) fn svc(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svc"));
    command.arg("--socket").arg(socket(dir)).args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

/// Its exit code and standard output.
pub(crate) fn svc_out(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = svc(dir, arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// A connection that does not keep to the protocol.
pub(crate) struct Raw {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
}

impl Raw {
    pub(crate) fn connect(dir: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket(dir))?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(Self { stream, decoder: Decoder::default() })
    }

    pub(crate) fn greeted(dir: &Path) -> Self {
        let mut raw = Self::connect(dir).unwrap();
        raw.say(r#"{"hello":{"version":1}}"#).unwrap();
        assert!(matches!(raw.hear(), Some(Answer::Hello { .. })));
        raw
    }

    pub(crate) fn say(&mut self, text: &str) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        encode(FrameKind::Message, text.as_bytes(), &mut bytes);
        self.stream.write_all(&bytes)
    }

    /// The next message; `None` when the supervisor has closed.
    pub(crate) fn hear(&mut self) -> Option<Answer> {
        loop {
            if let Some(frame) = self.decoder.frame().unwrap() {
                return Some(serde_json::from_slice(&frame.payload).unwrap());
            }
            let mut buffer = [0_u8; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.decoder.push(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
