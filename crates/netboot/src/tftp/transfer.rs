//! One file that goes to one client.

use std::collections::VecDeque;
use std::time::Duration;

use super::{ErrorCode, Packet, Request};

/// The block size without the option (RFC 1350 section 2).
const BLOCK: u16 = 512;
/// The least and the largest that may be asked for (RFC 2348).
const BLOCKS: (u64, u64) = (8, 65464);
/// The longest wait that is waited for, whatever was asked for.
const LONGEST: Duration = Duration::from_secs(8);

/// What a server agrees to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the largest block. Default: 1468, which is what fits into a frame of Ethernet; larger ones come in
    /// fragments, of which each that is lost loses the block.
    pub block: u16,
    /// Blocks of the largest window. Default: 32.
    pub window: u16,
    /// How long the client may take to answer before something is sent again; twice as long each time, up to 8 s.
    /// Default: 1 second.
    pub timeout: Duration,
    /// How many times something is sent again before the client counts as gone. Default: 5.
    pub retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { block: 1468, window: 32, timeout: Duration::from_secs(1), retries: 5 }
    }
}

/// How a transfer has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The client has all of it.
    Whole,
    /// The client wants no more. Firmware does so when it has seen how large the file is.
    Refused {
        /// The number of its error.
        code: u16,
        /// What it says.
        message: String,
    },
    /// The client does not answer.
    Silent,
    /// Whoever sends gave up.
    Aborted,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A datagram is to be sent to the client.
    Send(Vec<u8>),
    /// A piece of the file is to be sent: a [`Packet::Data`] with these bytes of it.
    Block {
        /// The number of the block.
        number: u16,
        /// Where in the file it begins, in bytes.
        offset: u64,
        /// Its length in bytes, which may be 0.
        len: usize,
    },
    /// Nothing, until something comes or it is as late as this.
    Wait(Duration),
    /// Nothing any more.
    Ended(Ended),
}

/// Sends one file to one client. Feed it ([`Transfer::handle`], [`Transfer::late`]), then drain
/// [`Transfer::poll`] until it waits or has ended. Times are those of any clock that does not go back.
#[derive(Debug)]
pub struct Transfer {
    len: u64,
    block: u64,
    window: u64,
    timeout: Duration,
    retries: u32,
    /// Blocks that the client has; with options, none before it has taken them.
    acked: u64,
    /// Blocks that have been sent, of which some may be sent again.
    sent: u64,
    /// What options are taken, until the client says that it has read so.
    options: Option<Vec<u8>>,
    /// What is to be sent before any block.
    queue: VecDeque<Vec<u8>>,
    /// How many times something was sent again without an answer.
    tries: u32,
    /// Whether a window has been sent again because its beginning was lost.
    again: bool,
    deadline: Duration,
    ended: Option<Ended>,
}

impl Transfer {
    /// Begins to send a file of `len` bytes to who has asked for it.
    #[must_use]
    pub fn new(request: &Request, len: u64, limits: &Limits, now: Duration) -> Self {
        let mut transfer = Self {
            len,
            block: BLOCK.into(),
            window: 1,
            timeout: limits.timeout,
            retries: limits.retries,
            acked: 0,
            sent: 0,
            options: None,
            queue: VecDeque::new(),
            tries: 0,
            again: false,
            deadline: now + limits.timeout,
            ended: None,
        };
        let mut taken = Vec::new();
        for (name, _) in &request.options {
            let Some(asked) = request.option(name) else { continue };
            // each once: what is said again does not count
            let value = match name.as_str() {
                _ if taken.iter().any(|(option, _)| option == name) => continue,
                "blksize" if asked >= BLOCKS.0 => {
                    transfer.block = asked.min(BLOCKS.1).min(limits.block.into()).max(BLOCKS.0);
                    transfer.block
                }
                "windowsize" if (1..=u64::from(u16::MAX)).contains(&asked) => {
                    transfer.window = asked.min(limits.window.into()).max(1);
                    transfer.window
                }
                "timeout" if (1..=255).contains(&asked) => {
                    transfer.timeout = Duration::from_secs(asked).min(LONGEST);
                    transfer.deadline = now + transfer.timeout;
                    asked
                }
                "tsize" => len,
                _ => continue,
            };
            taken.push((name.clone(), value.to_string()));
        }
        if !taken.is_empty() {
            let bytes = Packet::OptionAck(taken).encode();
            transfer.queue.push_back(bytes.clone());
            transfer.options = Some(bytes);
        }
        transfer
    }

    /// Blocks of the file: the last one is shorter than the others, so that its end is known.
    const fn blocks(&self) -> u64 {
        self.len / self.block + 1
    }

    /// Bytes of each block but the last, as agreed.
    #[must_use]
    pub fn block_size(&self) -> u16 {
        u16::try_from(self.block).unwrap_or(BLOCK)
    }

    /// How many bytes the client is known to have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.acked.saturating_mul(self.block).min(self.len)
    }

    /// Takes a datagram of the client's. What makes no sense is ignored.
    pub fn handle(&mut self, datagram: &[u8], now: Duration) {
        if self.ended.is_some() {
            return;
        }
        match Packet::decode(datagram) {
            Ok(Packet::Ack(number)) => self.acknowledged(number, now),
            Ok(Packet::Error { code, message }) => {
                self.ended = Some(Ended::Refused { code, message });
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, number: u16, now: Duration) {
        if self.options.is_some() {
            if number == 0 {
                self.options = None;
                self.progress(now);
            }
            return;
        }
        // the one block with this number that has been sent and is not known to be there
        let ahead = u64::from(number.wrapping_sub(low(self.acked)));
        if ahead == 0 {
            // A window whose beginning was lost. With windows of one block this would double everything
            // from the first answer that comes late (RFC 1123 section 4.2.3.1).
            if self.window > 1 && self.sent > self.acked && !self.again {
                self.again = true;
                self.sent = self.acked;
            }
            return;
        }
        // beyond the window nothing has been sent; within it an answer may be to what was sent before
        if self.acked + ahead > self.reached() {
            return;
        }
        self.acked += ahead;
        // what was lost of the window is sent again, and what follows
        self.sent = self.acked;
        self.progress(now);
        if self.acked == self.blocks() {
            self.ended = Some(Ended::Whole);
        }
    }

    /// Blocks that may have been sent: those of the window.
    fn reached(&self) -> u64 {
        (self.acked + self.window).min(self.blocks())
    }

    fn progress(&mut self, now: Duration) {
        self.tries = 0;
        self.again = false;
        self.deadline = now + self.timeout;
    }

    /// It has become as late as [`Output::Wait`] said, or later.
    pub fn late(&mut self, now: Duration) {
        if self.ended.is_some() || now < self.deadline {
            return;
        }
        if self.tries >= self.retries {
            self.ended = Some(Ended::Silent);
            return;
        }
        self.tries += 1;
        self.deadline = now + (self.timeout * 2_u32.saturating_pow(self.tries)).min(LONGEST);
        self.again = false;
        match &self.options {
            Some(bytes) => self.queue.push_back(bytes.clone()),
            None => self.sent = self.acked,
        }
    }

    /// Ends it, and tells the client why.
    pub fn abort(&mut self, message: &str) {
        if self.ended.is_none() {
            self.queue.clear();
            self.queue.push_back(Packet::error(ErrorCode::Undefined, message).encode());
            self.ended = Some(Ended::Aborted);
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Output {
        if let Some(bytes) = self.queue.pop_front() {
            return Output::Send(bytes);
        }
        if let Some(ended) = &self.ended {
            return Output::Ended(ended.clone());
        }
        if self.options.is_none() && self.sent < self.reached() {
            let offset = self.sent * self.block;
            let len = self.len.saturating_sub(offset).min(self.block);
            self.sent += 1;
            let len = usize::try_from(len).unwrap_or_default();
            return Output::Block { number: low(self.sent), offset, len };
        }
        Output::Wait(self.deadline)
    }
}

/// The number of a block on the wire.
fn low(number: u64) -> u16 {
    let [.., a, b] = number.to_be_bytes();
    u16::from_be_bytes([a, b])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::Mode;

    fn request(options: &[(&str, &str)]) -> Request {
        let options =
            options.iter().map(|(name, value)| (String::from(*name), String::from(*value)));
        Request { file: "f".into(), mode: Mode::Octet, options: options.collect() }
    }

    fn begun(options: &[(&str, &str)], len: u64) -> Transfer {
        Transfer::new(&request(options), len, &Limits::default(), Duration::ZERO)
    }

    fn numbers(transfer: &mut Transfer) -> Vec<u16> {
        let mut numbers = Vec::new();
        while let Output::Block { number, .. } = transfer.poll() {
            numbers.push(number);
        }
        numbers
    }

    fn ack(transfer: &mut Transfer, number: u16) {
        transfer.handle(&Packet::Ack(number).encode(), Duration::ZERO);
    }

    #[test]
    fn without_options_each_block_waits_for_its_answer() {
        let mut transfer = begun(&[], 1024);
        assert_eq!(transfer.poll(), Output::Block { number: 1, offset: 0, len: 512 });
        assert_eq!(transfer.poll(), Output::Wait(Duration::from_secs(1)));
        ack(&mut transfer, 1);
        assert_eq!(transfer.poll(), Output::Block { number: 2, offset: 512, len: 512 });
        // an answer that comes again sends nothing again
        ack(&mut transfer, 1);
        assert!(matches!(transfer.poll(), Output::Wait(_)));
        ack(&mut transfer, 2);
        // a whole number of blocks has an empty one behind it
        assert_eq!(transfer.poll(), Output::Block { number: 3, offset: 1024, len: 0 });
        ack(&mut transfer, 3);
        assert_eq!(transfer.poll(), Output::Ended(Ended::Whole));
    }

    #[test]
    fn options_are_taken_up_to_the_limits() {
        let asked = [
            ("tsize", "0"),
            ("blksize", "9000"),
            ("windowsize", "64"),
            ("timeout", "3"),
            ("x", "1"),
        ];
        let mut transfer = begun(&asked, 5000);
        let Output::Send(bytes) = transfer.poll() else { panic!("no answer to the options") };
        let taken =
            [("tsize", "5000"), ("blksize", "1468"), ("windowsize", "32"), ("timeout", "3")];
        let taken = taken.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(Packet::decode(&bytes), Ok(Packet::OptionAck(taken.to_vec())));
        assert_eq!(transfer.poll(), Output::Wait(Duration::from_secs(3)));
        ack(&mut transfer, 0);
        assert_eq!(numbers(&mut transfer), [1, 2, 3, 4]);
        ack(&mut transfer, 4);
        assert_eq!(transfer.poll(), Output::Ended(Ended::Whole));
        // what cannot be is not taken
        let mut none = begun(&[("blksize", "7"), ("windowsize", "0"), ("timeout", "a")], 10);
        assert!(matches!(none.poll(), Output::Block { number: 1, len: 10, .. }));
    }

    #[test]
    fn a_window_goes_on_after_what_came_of_it() {
        let mut transfer = begun(&[("windowsize", "4")], 512 * 20);
        transfer.poll();
        ack(&mut transfer, 0);
        assert_eq!(numbers(&mut transfer), [1, 2, 3, 4]);
        ack(&mut transfer, 2);
        assert_eq!(numbers(&mut transfer), [3, 4, 5, 6]);
        // its beginning was lost: once at once, then after the timeout
        ack(&mut transfer, 2);
        assert_eq!(numbers(&mut transfer), [3, 4, 5, 6]);
        ack(&mut transfer, 2);
        assert_eq!(numbers(&mut transfer), [0; 0]);
        transfer.late(Duration::from_secs(1));
        assert_eq!(numbers(&mut transfer), [3, 4, 5, 6]);
        // nobody has what was not sent
        ack(&mut transfer, 7);
        ack(&mut transfer, 60000);
        assert_eq!((numbers(&mut transfer).len(), transfer.bytes()), (0, 1024));
    }

    #[test]
    fn numbers_begin_anew_after_65535() {
        let blocks = 70_000_u64;
        let mut transfer = begun(&[("windowsize", "32")], 512 * blocks);
        transfer.poll();
        ack(&mut transfer, 0);
        let mut sent = 0;
        loop {
            match transfer.poll() {
                Output::Block { number, offset, .. } => {
                    assert_eq!(offset, sent * 512);
                    sent += 1;
                    assert_eq!(number, low(sent));
                }
                Output::Wait(_) => ack(&mut transfer, low(sent)),
                Output::Ended(ended) => break assert_eq!(ended, Ended::Whole),
                Output::Send(_) => panic!("nothing else is to be said"),
            }
        }
        assert_eq!(sent, blocks + 1);
    }

    #[test]
    fn who_is_silent_is_given_up() {
        let mut transfer = begun(&[("tsize", "0")], 10);
        let mut sent = Vec::new();
        loop {
            match transfer.poll() {
                Output::Send(_) => sent.push(0),
                Output::Wait(at) => {
                    // too early changes nothing
                    transfer.late(at - Duration::from_millis(1));
                    assert_eq!(transfer.poll(), Output::Wait(at));
                    sent.push(at.as_secs());
                    transfer.late(at);
                }
                Output::Ended(ended) => break assert_eq!(ended, Ended::Silent),
                Output::Block { .. } => panic!("its options are not answered"),
            }
        }
        assert_eq!(sent, [0, 1, 0, 3, 0, 7, 0, 15, 0, 23, 0, 31]);
    }

    #[test]
    fn both_may_break_off() {
        let mut transfer = begun(&[("tsize", "0")], 10);
        transfer.handle(&Packet::error(ErrorCode::BadOptions, "seen").encode(), Duration::ZERO);
        transfer.poll();
        let seen = Ended::Refused { code: 8, message: "seen".into() };
        assert_eq!(transfer.poll(), Output::Ended(seen));
        let mut transfer = begun(&[], 10);
        transfer.abort("the disk");
        let Output::Send(bytes) = transfer.poll() else { panic!("it is not told") };
        assert_eq!(Packet::decode(&bytes), Ok(Packet::error(ErrorCode::Undefined, "the disk")));
        assert_eq!(transfer.poll(), Output::Ended(Ended::Aborted));
    }
}
