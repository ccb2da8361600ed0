//! A download that ends with the right bytes or says why not, as a machine without I/O.
//!
//! | state | input | then |
//! |---|---|---|
//! | asked | an answer from where was asked | receiving |
//! | asked | an answer with all of it | receiving, and what is there already is passed over |
//! | asked | another answer | waiting |
//! | receiving | bytes | chunks that are verified come out; at the last one: done |
//! | receiving | a chunk that is not what the list says | waiting |
//! | receiving | a chunk that takes too long | waiting |
//! | asked, receiving | the end, a failure | waiting |
//! | waiting | time | asked, from the first byte that is not verified |
//! | waiting | no chunk in all the time that there is | given up |
//!
//! What was verified is never asked for again, and what was not is never kept.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ChunkList;

/// How long what may take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Without a verified chunk for so long it is given up.
    pub patience: Duration,
    /// A chunk that takes longer is asked for again.
    pub chunk: Duration,
    /// Before it is asked again, at first; twice as long each time.
    pub pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
    /// What makes machines that start together ask at different times: pauses differ by it.
    pub seed: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(15 * 60),
            chunk: Duration::from_secs(120),
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            seed: 0,
        }
    }
}

/// What a server says before the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// All of the file follows, of so many bytes where it says so.
    Whole(Option<u64>),
    /// What follows begins there, of a file of so many bytes where it says so.
    Part(u64, Option<u64>),
}

/// What happens to a download.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'bytes> {
    /// The server answers.
    Answer(Answer),
    /// Bytes of the file came.
    Bytes(&'bytes [u8]),
    /// There are no more.
    End,
    /// It goes on no more, with the reason.
    Failed(String),
    /// Time has passed.
    Time,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Ask for the file from this byte on; an answer that still comes is of no more use.
    Ask(u64),
    /// A chunk that is what the list says, the next one in order.
    Chunk(Vec<u8>),
    /// Something to tell people.
    Event(Event),
    /// Nothing until something happens; where there is a time, until then.
    Wait(Option<Duration>),
    /// All chunks came out.
    Done,
    /// They do not all come, with the reason.
    GaveUp(String),
}

/// What people want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It failed, and is tried again.
    Again {
        /// Why.
        problem: String,
        /// Bytes that are verified, and stay.
        verified: u64,
        /// When.
        after: Duration,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again { problem, verified, after } => {
                let seconds = after.as_secs_f64();
                write!(out, "{problem}; again from byte {verified} in {seconds:.1} s")
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asked,
    Receiving,
    Waiting(Duration),
    Done,
    GaveUp,
}

/// The machine.
#[derive(Debug)]
pub struct Download {
    list: Arc<ChunkList>,
    policy: Policy,
    state: State,
    /// The first chunk that is not verified.
    next: usize,
    /// What came of it.
    buffer: Vec<u8>,
    /// Bytes still to be passed over, which are verified.
    skip: u64,
    /// When its first byte was waited for.
    begun: Duration,
    /// When the last chunk was verified.
    progress: Duration,
    failures: u32,
    outputs: VecDeque<Output>,
}

impl Download {
    /// A download that begins now.
    #[must_use]
    pub fn new(list: Arc<ChunkList>, policy: Policy, now: Duration) -> Self {
        Self {
            list,
            policy,
            state: State::Asked,
            next: 0,
            buffer: Vec::new(),
            skip: 0,
            begun: now,
            progress: now,
            failures: 0,
            outputs: [Output::Ask(0)].into(),
        }
    }

    /// Bytes that are verified.
    #[must_use]
    pub fn verified(&self) -> u64 {
        self.list.chunk(self.next).map_or_else(|| self.list.size(), |(start, _)| start)
    }

    /// Takes what happened. `now` never goes back.
    pub fn handle(&mut self, input: Input<'_>, now: Duration) {
        match (self.state, input) {
            (State::Waiting(until), Input::Time) if now >= until => self.ask(now),
            (State::Asked, Input::Answer(answer)) => self.answer(answer, now),
            (State::Receiving, Input::Bytes(bytes)) => self.bytes(bytes, now),
            (State::Asked | State::Receiving, Input::Failed(problem)) => self.fail(problem, now),
            (State::Asked | State::Receiving, Input::End) => {
                let came = self.verified() - self.skip.min(self.verified());
                let came = came + self.buffer.len() as u64;
                self.fail(format!("it ends after {came} of {} bytes", self.list.size()), now);
            }
            (State::Receiving, Input::Time) => drop(self.is_slow(now)),
            // what an earlier request brings, or a server beyond the end
            _ => {}
        }
    }

    /// What is to be done next. To be called until it says [`Output::Wait`], `Done` or `GaveUp`.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        match self.state {
            State::Asked | State::Receiving => Output::Wait(None),
            State::Waiting(until) => Output::Wait(Some(until)),
            State::Done => Output::Done,
            State::GaveUp => Output::GaveUp(String::new()),
        }
    }

    fn ask(&mut self, now: Duration) {
        self.state = State::Asked;
        self.begun = now;
        self.outputs.push_back(Output::Ask(self.verified()));
    }

    fn answer(&mut self, answer: Answer, now: Duration) {
        let verified = self.verified();
        let (from, total) = match answer {
            Answer::Whole(total) => (0, total),
            Answer::Part(from, total) => (from, total),
        };
        let size = self.list.size();
        if let Some(other) = total.filter(|total| *total != size) {
            return self.fail(format!("it has {other} bytes there, and should have {size}"), now);
        }
        if from != 0 && from != verified {
            return self.fail(format!("byte {verified} was asked for, and {from} comes"), now);
        }
        self.skip = verified - from;
        self.state = State::Receiving;
        self.begun = now;
    }

    fn bytes(&mut self, mut bytes: &[u8], now: Duration) {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        bytes = bytes.get(skipped..).unwrap_or_default();
        while !bytes.is_empty() {
            let Some((_, len)) = self.list.chunk(self.next) else { return };
            let room = len.saturating_sub(self.buffer.len()).min(bytes.len());
            let (now_here, later) = bytes.split_at(room);
            if self.buffer.capacity() == 0 {
                self.buffer.reserve_exact(len);
            }
            self.buffer.extend_from_slice(now_here);
            bytes = later;
            if self.buffer.len() < len {
                break;
            }
            if !self.list.is_chunk(self.next, &self.buffer) {
                let problem = format!("chunk {} is not what was signed", self.next);
                return self.fail(problem, now);
            }
            self.outputs.push_back(Output::Chunk(std::mem::take(&mut self.buffer)));
            self.next += 1;
            (self.begun, self.progress, self.failures) = (now, now, 0);
            if self.next == self.list.chunks() {
                self.state = State::Done;
                return;
            }
        }
        self.is_slow(now);
    }

    /// Whether the chunk that comes takes too long. Passing over what is there is progress of its own.
    fn is_slow(&mut self, now: Duration) -> bool {
        if self.skip > 0 {
            // as long as the whole patience allows
            if now.saturating_sub(self.progress) >= self.policy.patience {
                self.fail("what is there already comes too slowly".into(), now);
            }
            return false;
        }
        let slow = now.saturating_sub(self.begun) >= self.policy.chunk;
        if slow {
            let seconds = self.policy.chunk.as_secs();
            self.fail(format!("a chunk does not come within {seconds} s"), now);
        }
        slow
    }

    fn fail(&mut self, problem: String, now: Duration) {
        self.buffer.clear();
        self.skip = 0;
        let left = self.policy.patience.saturating_sub(now.saturating_sub(self.progress));
        if left.is_zero() {
            self.state = State::GaveUp;
            self.outputs.push_back(Output::GaveUp(problem));
            return;
        }
        let factor = 1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let pause = self.policy.pause.saturating_mul(factor).min(self.policy.longest_pause);
        // up to a quarter more, another one for each machine and each time
        let mixed = mix(self.policy.seed ^ u64::from(self.failures) << 32 ^ self.next as u64);
        let after = pause + pause.mul_f64((mixed >> 11) as f64 / (1_u64 << 53) as f64 / 4.0);
        // the last try comes before the end of the patience
        let after = after.min(left);
        let event = Event::Again { problem, verified: self.verified(), after };
        self.outputs.push_back(Output::Event(event));
        self.state = State::Waiting(now + after);
    }
}

/// Numbers that look like random ones (splitmix64).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
