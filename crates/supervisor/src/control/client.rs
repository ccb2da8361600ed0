//! A client that blocks: one connection, one request at a time, every wait bounded.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::frame::{Decoder, FrameError, FrameKind};
use super::protocol::{
    ActionResult, Answer, EventLine, Refusal, Request, ServiceStatus, Times, TreeNode, VERSION,
    encode,
};
use super::{DEFAULT_SOCKET, SOCKET_VARIABLE};
use crate::vocabulary::Outcome;

/// How long a request may take beyond the wait that it asks for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a connection that was displaced before it was greeted is tried again.
const TRIES: u32 = 20;

/// Why a client got no answer. `Display` says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no socket of this name.
    #[error(
        "{}: there is no control socket; is the supervisor running and told to make one? Another \
         place is named with --socket or {SOCKET_VARIABLE}", .0.display()
    )]
    NoSocket(PathBuf),
    /// The socket is there and nobody listens.
    #[error("{}: nobody listens; the supervisor that made this socket has ended", .0.display())]
    NobodyListens(PathBuf),
    /// The file's mode keeps this user out.
    #[error("{}: permission denied; ask as root, or as a user whom the socket's mode lets in", .0.display())]
    Denied(PathBuf),
    /// No answer in time.
    #[error(
        "no answer within {0:?}; the supervisor is busy or stopped (its kernel log or console tells)"
    )]
    TimedOut(Duration),
    /// The connection was closed before the answer had come.
    #[error(
        "the supervisor closed the connection: it is restarting itself, was asked by too many, or \
         this client was too slow; try again"
    )]
    Closed,
    /// The supervisor said no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Bytes that are no frame.
    #[error("not the protocol of a supervisor: {0}")]
    Frame(#[from] FrameError),
    /// A message that makes no sense here.
    #[error("not the protocol of a supervisor: {0}")]
    Message(String),
    /// The kernel said no.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    pid: i32,
    may_act: bool,
    patience: Duration,
}

/// Where the control socket is: [`SOCKET_VARIABLE`] if it is set, else [`DEFAULT_SOCKET`].
#[must_use]
pub fn socket_path() -> PathBuf {
    std::env::var_os(SOCKET_VARIABLE).map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from)
}

impl Client {
    /// Connects and greets, within 10 s.
    ///
    /// # Errors
    /// There is no supervisor, or it does not want to talk.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        Self::connect_within(path.as_ref(), PATIENCE)
    }

    /// Connects and greets; `patience` also bounds each later request (beyond its own wait).
    ///
    /// # Errors
    /// There is no supervisor, or it does not want to talk.
    pub fn connect_within(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let deadline = Instant::now().checked_add(patience);
        let mut pause = Duration::from_millis(1);
        for _ in 0..TRIES {
            match Self::greet(path, patience) {
                // displaced by a crowd before it could speak
                Err(ClientError::Closed) if deadline.is_none_or(|at| Instant::now() < at) => {
                    std::thread::sleep(pause);
                    pause = pause.saturating_mul(2).min(Duration::from_millis(100));
                }
                other => return other,
            }
        }
        Err(ClientError::Closed)
    }

    fn greet(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let stream = dial(path, patience)?;
        let decoder = Decoder::default();
        let mut client = Self { stream, decoder, pid: 0, may_act: false, patience };
        match client.ask(&Request::Hello { version: VERSION })? {
            Answer::Hello { version: VERSION, pid, may_act, .. } => {
                (client.pid, client.may_act) = (pid, may_act);
                Ok(client)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The supervisor's process.
    #[must_use]
    pub fn supervisor(&self) -> i32 {
        self.pid
    }

    /// Whether it lets us start and stop things.
    #[must_use]
    pub fn may_act(&self) -> bool {
        self.may_act
    }

    /// How all services are, or one.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn status(&mut self, service: Option<&str>) -> Result<Vec<ServiceStatus>, ClientError> {
        let request = Request::Status { service: service.map(str::to_owned) };
        self.collect(&request, |answer| match answer {
            Answer::Services(list) => Ok(list),
            other => Err(other),
        })
    }

    /// Who stands on whom.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn tree(&mut self) -> Result<Vec<TreeNode>, ClientError> {
        let parts = self.collect(&Request::Tree {}, |answer| match answer {
            Answer::Tree(list) => Ok(list),
            other => Err(other),
        })?;
        let mut nodes: Vec<TreeNode> = Vec::new();
        for part in parts {
            match nodes.last_mut() {
                Some(node) if node.name == part.name => {
                    node.requires.extend(part.requires);
                    node.wants.extend(part.wants);
                    node.after.extend(part.after);
                }
                _ => nodes.push(part),
            }
        }
        Ok(nodes)
    }

    /// When services were started and ready.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn times(&mut self) -> Result<Times, ClientError> {
        let mut all = Times::default();
        let parts = self.collect(&Request::Times {}, |answer| match answer {
            Answer::Times(part) => Ok(vec![part]),
            other => Err(other),
        })?;
        for part in parts {
            (all.began_us, all.now_us) = (part.began_us, part.now_us);
            all.services.extend(part.services);
        }
        Ok(all)
    }

    /// Asks for a change: [`Request::Start`] and the like.
    ///
    /// # Errors
    /// No answer, or a refusal. That it failed is no error here but in the result.
    pub fn act(&mut self, request: &Request) -> Result<ActionResult, ClientError> {
        match self.ask(request)? {
            Answer::Result(result) => Ok(result),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a service and waits at most `wait` for it to be up (zero: not at all).
    ///
    /// # Errors
    /// As [`act`](Self::act).
    pub fn start(&mut self, service: &str, wait: Duration) -> Result<ActionResult, ClientError> {
        self.act(&Request::Start { service: service.to_owned(), wait_ms: millis(wait) })
    }

    /// Stops a service and waits at most `wait` for it to be down.
    ///
    /// # Errors
    /// As [`act`](Self::act).
    pub fn stop(&mut self, service: &str, wait: Duration) -> Result<ActionResult, ClientError> {
        self.act(&Request::Stop { service: service.to_owned(), wait_ms: millis(wait) })
    }

    /// Restarts a service and waits at most `wait` for it to be up again.
    ///
    /// # Errors
    /// As [`act`](Self::act).
    pub fn restart(&mut self, service: &str, wait: Duration) -> Result<ActionResult, ClientError> {
        self.act(&Request::Restart { service: service.to_owned(), wait_ms: millis(wait) })
    }

    /// Stops everything.
    ///
    /// # Errors
    /// As [`act`](Self::act).
    pub fn shutdown(&mut self, outcome: Outcome, force: bool) -> Result<ActionResult, ClientError> {
        self.act(&Request::Shutdown { outcome, force, timeout_ms: None })
    }

    /// Has the supervisor go on as a new process image, and waits until that serves.
    ///
    /// # Errors
    /// As [`act`](Self::act).
    pub fn reexec(&mut self) -> Result<ActionResult, ClientError> {
        self.act(&Request::Reexec {})
    }

    /// Sends [`Request::Logs`] and hands on what comes; [`None`] says that output was lost to a
    /// rotation. `take` ends it by breaking; a request that does not follow ends by itself.
    ///
    /// # Errors
    /// No answer, a refusal, or the connection has ended.
    pub fn logs(
        &mut self,
        request: &Request,
        take: &mut dyn FnMut(Option<&[u8]>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let follow = matches!(request, Request::Logs { follow: true, .. });
        self.send(request)?;
        let patience = (!follow).then_some(self.patience);
        loop {
            let flow = match self.receive(patience)? {
                Received::Data(bytes) => take(Some(&bytes)),
                Received::Answer(Answer::Gap {}) => take(None),
                Received::Answer(Answer::End {}) => return Ok(()),
                Received::Answer(Answer::Refused(refusal)) => return Err(refusal.into()),
                Received::Answer(other) => return Err(unexpected(&other)),
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    /// Has the supervisor tell what happens from now on, to be taken with
    /// [`next_event`](Self::next_event); `orphans` includes those that are reaped. The connection is
    /// for nothing else then.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn subscribe(&mut self, orphans: bool) -> Result<(), ClientError> {
        match self.ask(&Request::Events { orphans })? {
            Answer::Listening {} => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for the next event, `patience` long if it is given.
    ///
    /// # Errors
    /// None came in time, or the connection has ended.
    pub fn next_event(&mut self, patience: Option<Duration>) -> Result<EventLine, ClientError> {
        match self.receive(patience)? {
            Received::Answer(Answer::Event(event)) => Ok(event),
            Received::Answer(other) => Err(unexpected(&other)),
            Received::Data(_) => Err(ClientError::Message("data".to_owned())),
        }
    }

    fn collect<T>(
        &mut self,
        request: &Request,
        part: impl Fn(Answer) -> Result<Vec<T>, Answer>,
    ) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        let mut answer = self.ask(request)?;
        loop {
            match part(answer) {
                Ok(list) => all.extend(list),
                Err(Answer::End {}) => return Ok(all),
                Err(other) => return Err(unexpected(&other)),
            }
            answer = self.answer(self.patience)?;
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        self.send(request)?;
        let wait = Duration::from_millis(request.wait_ms());
        self.answer(self.patience.saturating_add(wait))
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        if !encode(request, &mut bytes) {
            return Err(ClientError::Message("the request is too long".to_owned()));
        }
        let result = self
            .stream
            .set_write_timeout(Some(self.patience))
            .and_then(|()| self.stream.write_all(&bytes));
        result.map_err(|error| self.failed("send a request", error))
    }

    fn answer(&mut self, patience: Duration) -> Result<Answer, ClientError> {
        match self.receive(Some(patience))? {
            Received::Answer(Answer::Refused(refusal)) => Err(refusal.into()),
            Received::Answer(answer) => Ok(answer),
            Received::Data(_) => Err(ClientError::Message("data".to_owned())),
        }
    }

    fn receive(&mut self, patience: Option<Duration>) -> Result<Received, ClientError> {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            if let Some(frame) = self.decoder.frame()? {
                return match frame.kind {
                    FrameKind::Data => Ok(Received::Data(frame.payload)),
                    FrameKind::Message => serde_json::from_slice(&frame.payload)
                        .map(Received::Answer)
                        .map_err(|error| ClientError::Message(error.to_string())),
                };
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ClientError::TimedOut(patience.unwrap_or_default()));
            }
            let mut buffer = [0_u8; 16 << 10];
            let room = self.decoder.room().min(buffer.len());
            let read = self
                .stream
                .set_read_timeout(left)
                .and_then(|()| self.stream.read(buffer.get_mut(..room).unwrap_or_default()));
            match read {
                Ok(0) => return Err(ClientError::Closed),
                Ok(length) => self.decoder.push(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.failed("read an answer", error)),
            }
        }
    }

    fn failed(&self, what: &'static str, source: std::io::Error) -> ClientError {
        match source.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => {
                ClientError::Closed
            }
            std::io::ErrorKind::WouldBlock => ClientError::TimedOut(self.patience),
            _ => ClientError::System { what, source },
        }
    }
}

enum Received {
    Answer(Answer),
    Data(Vec<u8>),
}

fn unexpected(answer: &Answer) -> ClientError {
    match answer {
        Answer::Refused(refusal) => ClientError::Refused(refusal.clone()),
        other => {
            let text: String = format!("{other:?}").chars().take(80).collect();
            ClientError::Message(format!("unexpected answer {text}"))
        }
    }
}

fn millis(wait: Duration) -> Option<u64> {
    (!wait.is_zero()).then(|| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// Connects. std has no bound for this; a socket's send timeout is one (unix(7), socket(7)).
fn dial(path: &Path, patience: Duration) -> Result<UnixStream, ClientError> {
    let system =
        |what| move |error: rustix::io::Errno| ClientError::System { what, source: error.into() };
    let address = SocketAddrUnix::new(path).map_err(system("name the control socket"))?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(system("make a socket"))?;
    set_socket_timeout(&socket, Timeout::Send, Some(patience))
        .map_err(system("bound the connecting"))?;
    loop {
        return match rustix::net::connect(&socket, &address) {
            Ok(()) => Ok(socket.into()),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
                Err(ClientError::NoSocket(path.to_owned()))
            }
            Err(rustix::io::Errno::CONNREFUSED) => Err(ClientError::NobodyListens(path.to_owned())),
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
                Err(ClientError::Denied(path.to_owned()))
            }
            Err(rustix::io::Errno::AGAIN) => Err(ClientError::TimedOut(patience)),
            Err(error) => Err(system("connect to the control socket")(error)),
        };
    }
}
