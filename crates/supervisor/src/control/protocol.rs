//! The messages, as values. Each is one frame of JSON: `{"start":{"service":"web"}}`.
//!
//! Requests are strict: a field that is not known is refused, because ignoring it could mean doing
//! something else than was asked for. Answers are lenient: a client ignores fields that it does not
//! know.

use serde::{Deserialize, Serialize};

use super::frame::{self, FrameKind};
use crate::vocabulary::Outcome;

/// The version of this protocol. A server refuses any other in [`Request::Hello`].
pub const VERSION: u32 = 1;
/// The longest wait that can be asked for, in milliseconds: an hour.
pub const MAX_WAIT_MS: u64 = 3_600_000;

/// What a client asks for. A connection carries one request at a time: the next is read when the
/// one before is answered. The first is [`Request::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// Must come first. Answer: [`Answer::Hello`].
    Hello {
        /// [`VERSION`].
        version: u32,
    },
    /// How services are. Answers: [`Answer::Services`], then [`Answer::End`].
    Status {
        /// Only this one.
        #[serde(default)]
        service: Option<String>,
    },
    /// Start a service and what it requires. Answer: [`Answer::Result`].
    Start {
        /// Which.
        service: String,
        /// How long to wait for it to be up, in milliseconds (default: not at all).
        #[serde(default)]
        wait_ms: Option<u64>,
    },
    /// Stop a service, and before it those that require it. Answer: [`Answer::Result`].
    Stop {
        /// Which.
        service: String,
        /// How long to wait for it to be down.
        #[serde(default)]
        wait_ms: Option<u64>,
    },
    /// Stop a service and start it again. Answer: [`Answer::Result`].
    Restart {
        /// Which.
        service: String,
        /// How long to wait for it to be up again.
        #[serde(default)]
        wait_ms: Option<u64>,
    },
    /// Have a service read its own configuration again, in the way of
    /// [`ServiceSpec::reload`](crate::ServiceSpec). Answer: [`Answer::Result`].
    Reload {
        /// Which; absent: the supervisor's own configuration.
        #[serde(default)]
        service: Option<String>,
        /// How long to wait for a reload command to end.
        #[serde(default)]
        wait_ms: Option<u64>,
    },
    /// Stop everything in order. Answer: [`Answer::Result`], before it is done.
    Shutdown {
        /// What for.
        outcome: Outcome,
        /// Kill what runs at once instead.
        #[serde(default)]
        force: bool,
        /// How long it may take (default: as the supervisor was told at its start).
        #[serde(default)]
        timeout_ms: Option<u64>,
    },
    /// Go on as a new process image, with everything that runs
    /// ([`Options::reexec`](crate::unix::Options)). Answer: [`Answer::Result`] by the new image; by
    /// the old one if it stays. Other connections are closed; who waits for a service is told
    /// [`Effect::TimedOut`] first.
    Reexec {},
    /// Who stands on whom. Answers: [`Answer::Tree`], then [`Answer::End`].
    Tree {},
    /// When services were started and ready. Answers: [`Answer::Times`], then [`Answer::End`].
    Times {},
    /// What a service has written. Answers: frames of data, [`Answer::Gap`] among them, then
    /// [`Answer::End`]; none when following.
    Logs {
        /// Which.
        service: String,
        /// So many lines from the end, as far as they lie within the last MiB (default 10).
        #[serde(default)]
        lines: Option<u64>,
        /// So many bytes from the end, instead of lines.
        #[serde(default)]
        bytes: Option<u64>,
        /// Whether to go on with what is written from now on, rotations included.
        #[serde(default)]
        follow: bool,
    },
    /// Everything that happens from now on. Answers: [`Answer::Listening`], then [`Answer::Event`]
    /// without end. A client that takes too little is cut off.
    Events {
        /// Also orphans that are reaped.
        #[serde(default)]
        orphans: bool,
    },
}

impl Request {
    /// Whether it changes something.
    #[must_use]
    pub fn acts(&self) -> bool {
        match self {
            Self::Start { .. }
            | Self::Stop { .. }
            | Self::Restart { .. }
            | Self::Reload { .. }
            | Self::Reexec {}
            | Self::Shutdown { .. } => true,
            Self::Hello { .. }
            | Self::Status { .. }
            | Self::Tree {}
            | Self::Times {}
            | Self::Logs { .. }
            | Self::Events { .. } => false,
        }
    }

    /// How long it may wait before its answer comes, in milliseconds.
    #[must_use]
    pub fn wait_ms(&self) -> u64 {
        match self {
            Self::Start { wait_ms, .. }
            | Self::Stop { wait_ms, .. }
            | Self::Restart { wait_ms, .. }
            | Self::Reload { wait_ms, .. } => wait_ms.unwrap_or(0).min(MAX_WAIT_MS),
            _ => 0,
        }
    }
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[non_exhaustive]
pub enum Answer {
    /// To [`Request::Hello`].
    Hello {
        /// The version spoken.
        version: u32,
        /// The supervisor's process.
        pid: i32,
        /// Whether this client may read.
        may_read: bool,
        /// Whether this client may start and stop things.
        may_act: bool,
    },
    /// Some services' status, in list order.
    Services(Vec<ServiceStatus>),
    /// Some services' dependencies; what is too long for one frame is continued in the next
    /// element of the same service.
    Tree(Vec<TreeNode>),
    /// Some services' times.
    Times(Times),
    /// From now on events are told.
    Listening {},
    /// Something has happened.
    Event(EventLine),
    /// The client took output more slowly than it was rotated away: some may be missing here.
    Gap {},
    /// What came of a request that changes something.
    Result(ActionResult),
    /// It was not done.
    Refused(Refusal),
    /// There is no more to this answer.
    End {},
}

/// How a service is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its state, one word: [`State::name`](crate::State::name).
    pub state: String,
    /// Whether it ends by itself.
    pub one_shot: bool,
    /// Whether it is to run.
    pub wanted: bool,
    /// Its main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// How long its process has been running, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_ms: Option<u64>,
    /// How often it was started again.
    pub restarts: u32,
    /// In how many milliseconds its state changes by itself: a restart, a timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<u64>,
    /// More about its state: why it failed, how it last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a service stands on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct TreeNode {
    /// Its name.
    pub name: String,
    /// Its state, one word.
    pub state: String,
    /// What must be up first.
    pub requires: Vec<String>,
    /// What is given the chance to come up first.
    pub wants: Vec<String>,
    /// Pure order.
    pub after: Vec<String>,
}

/// When things happened: microseconds on `CLOCK_MONOTONIC`, which is 0 when the kernel starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Times {
    /// When the supervisor began.
    pub began_us: u64,
    /// When this was asked for.
    pub now_us: u64,
    /// Each service that has run or tried to.
    pub services: Vec<ServiceTimes>,
}

/// One service's runs: the first, and the latest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ServiceTimes {
    /// Its name.
    pub name: String,
    /// Oldest first.
    pub runs: Vec<Run>,
}

/// One run of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Run {
    /// From when on it was to start and waited: for others, or out of patience with itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_us: Option<u64>,
    /// When its process began.
    pub started_us: u64,
    /// When it was up; a one-shot: done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_us: Option<u64>,
    /// When its process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_us: Option<u64>,
}

/// Something that has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct EventLine {
    /// When: microseconds on `CLOCK_MONOTONIC`.
    pub at_us: u64,
    /// To whom; absent for what concerns the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether it is worth a person's attention.
    pub problem: bool,
    /// In a line.
    pub text: String,
}

/// What came of a request that changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ActionResult {
    /// What came of it.
    pub effect: Effect,
    /// In a line, for people.
    pub text: String,
}

impl ActionResult {
    /// A result and its line.
    #[must_use]
    pub fn new(effect: Effect, text: impl Into<String>) -> Self {
        Self { effect, text: text.into() }
    }
}

/// See [`ActionResult`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Effect {
    /// It is under way; nobody waited for it.
    Accepted,
    /// It has come about.
    Done,
    /// It has not: the text says why.
    Failed,
    /// It had not by the end of the wait; it goes on.
    TimedOut,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[error("{message}")]
#[non_exhaustive]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal with its reason.
    #[must_use]
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// See [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefusalCode {
    /// Not a request. The connection ends.
    BadRequest,
    /// Another version of the protocol. The connection ends.
    Version,
    /// This client may not.
    Forbidden,
    /// There is no such service.
    UnknownService,
    /// The supervisor cannot do this, or not for this service.
    NotSupported,
    /// Everything is being stopped.
    ShuttingDown,
    /// The kernel said no: out of descriptors, a log that cannot be read.
    Unavailable,
}

/// Appends a message as a frame. Gives whether it fits into one.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> bool {
    match serde_json::to_vec(message) {
        Ok(json) if json.len() <= frame::MAX_PAYLOAD => {
            frame::encode(FrameKind::Message, &json, out);
            true
        }
        _ => false,
    }
}

/// Reads a request.
///
/// # Errors
/// What is wrong with it, as a refusal.
pub fn decode_request(frame: &frame::Frame) -> Result<Request, Refusal> {
    let bad = |why: String| Refusal::new(RefusalCode::BadRequest, why);
    if frame.kind != FrameKind::Message {
        return Err(bad("a frame of data where a request was expected".to_owned()));
    }
    serde_json::from_slice(&frame.payload).map_err(|error| bad(format!("not a request: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(text: &str) -> Result<Request, Refusal> {
        decode_request(&frame::Frame {
            kind: FrameKind::Message,
            payload: text.as_bytes().to_vec(),
        })
    }

    #[test]
    fn golden_texts() {
        let start = Request::Start { service: "web".into(), wait_ms: Some(5000) };
        let text = r#"{"start":{"service":"web","wait-ms":5000}}"#;
        assert_eq!(serde_json::to_string(&start).unwrap(), text);
        assert_eq!(request(text), Ok(start));
        assert_eq!(request(r#"{"tree":{}}"#), Ok(Request::Tree {}));
        let shutdown = r#"{"shutdown":{"outcome":"power-off"}}"#;
        let expected =
            Request::Shutdown { outcome: Outcome::PowerOff, force: false, timeout_ms: None };
        assert_eq!(request(shutdown), Ok(expected));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            "\"start\"",
            r#"{"start":{}}"#,
            r#"{"start":{"service":"a","when":"later"}}"#,
            r#"{"explode":{}}"#,
            r#"{"start":{"service":"a"},"stop":{"service":"a"}}"#,
            &"[".repeat(60_000),
        ] {
            let error = request(text).unwrap_err();
            assert_eq!(error.code, RefusalCode::BadRequest, "{text:.40}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let frame = frame::Frame { kind: FrameKind::Message, payload: bytes };
            let _ = decode_request(&frame);
        }

        /// What is said is what is heard, whatever the names.
        #[test]
        fn requests_come_back(service in ".{0,40}", wait in any::<Option<u64>>(), follow in any::<bool>()) {
            for message in [
                Request::Restart { service: service.clone(), wait_ms: wait },
                Request::Logs { service: service.clone(), lines: wait, bytes: None, follow },
                Request::Status { service: Some(service.clone()) },
            ] {
                let mut bytes = Vec::new();
                prop_assert!(encode(&message, &mut bytes));
                let mut decoder = frame::Decoder::default();
                decoder.push(&bytes);
                let frame = decoder.frame().unwrap().unwrap();
                prop_assert_eq!(decode_request(&frame), Ok(message));
            }
        }
    }
}
