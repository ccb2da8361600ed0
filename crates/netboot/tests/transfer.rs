//! A file arrives whole, whatever is lost, doubled or late; and whatever comes, sending ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers of blocks begin anew, and lengths are small"
)]

use std::collections::VecDeque;
use std::time::Duration;

use kiln_netboot::tftp::{Ended, Limits, Mode, Output, Packet, Request, Transfer};
use proptest::prelude::*;

fn request(options: &[(&str, u64)]) -> Request {
    let mut bytes = b"\0\x01f\0octet\0".to_vec();
    for (name, value) in options {
        bytes.extend(format!("{name}\0{value}\0").bytes());
    }
    let Ok(Packet::Read(request)) = Packet::decode(&bytes) else { panic!("no request") };
    assert_eq!(request.mode, Mode::Octet);
    request
}

/// A client, as RFC 7440 describes it: it answers to the last block of a window, and to one that is missing.
struct Receiver {
    block: usize,
    window: u64,
    has: Vec<u8>,
    /// Blocks that have come in order.
    blocks: u64,
    /// Those since the last answer.
    fresh: u64,
    done: bool,
}

impl Receiver {
    fn take(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        match Packet::decode(datagram).unwrap() {
            Packet::OptionAck(taken) => {
                for (name, value) in taken {
                    match name.as_str() {
                        "blksize" => self.block = value.parse().unwrap(),
                        "windowsize" => self.window = value.parse().unwrap(),
                        _ => {}
                    }
                }
                Some(Packet::Ack(0).encode())
            }
            Packet::Data { block, data } => {
                let expected = (self.blocks + 1) as u16;
                if block != expected || self.done {
                    self.fresh = 0;
                    return Some(Packet::Ack(self.blocks as u16).encode());
                }
                self.has.extend_from_slice(data);
                self.blocks += 1;
                self.fresh += 1;
                self.done = data.len() < self.block;
                if self.done || self.fresh == self.window {
                    self.fresh = 0;
                    return Some(Packet::Ack(block).encode());
                }
                None
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What happens to a datagram.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives,
    Lost,
    Twice,
    /// After as many others.
    Late(u8),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        12 => Just(Fate::Arrives),
        2 => Just(Fate::Lost),
        1 => Just(Fate::Twice),
        1 => (1..6_u8).prop_map(Fate::Late),
    ];
    prop::collection::vec(fate, 1..400)
}

proptest! {
    #[test]
    fn a_file_arrives_whole(
        len in 0..40_000_usize,
        block in prop::sample::select(vec![8_u64, 100, 512, 1468]),
        window in 1..40_u64,
        fates in fates(),
    ) {
        let file: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut limits = Limits::default();
        // losses come in any row
        limits.retries = 1000;
        let asked = request(&[("blksize", block), ("windowsize", window)]);
        let mut transfer = Transfer::new(&asked, len as u64, &limits, Duration::ZERO);
        let mut receiver =
            Receiver { block: 512, window: 1, has: vec![], blocks: 0, fresh: 0, done: false };
        let mut now = Duration::ZERO;
        // the first is lost as often as not, and none for ever
        let mut fates = fates.into_iter().chain(std::iter::repeat(Fate::Arrives));
        let mut wire: VecDeque<(u8, Vec<u8>)> = VecDeque::new();
        let mut steps = 0;
        let ended = loop {
            steps += 1;
            prop_assert!(steps < 200_000, "it does not end");
            let sent = match transfer.poll() {
                Output::Send(datagram) => datagram,
                Output::Block { number, offset, len } => {
                    let offset = offset as usize;
                    Packet::Data { block: number, data: &file[offset..offset + len] }.encode()
                }
                Output::Wait(at) => {
                    if wire.is_empty() {
                        now = at;
                        transfer.late(now);
                    } else {
                        let due = wire.iter().map(|(late, _)| *late).min().unwrap();
                        let at = wire.iter().position(|(late, _)| *late == due).unwrap();
                        let (_, datagram) = wire.remove(at).unwrap();
                        wire.iter_mut().for_each(|(late, _)| *late = late.saturating_sub(1));
                        if let Some(answer) = receiver.take(&datagram) {
                            match fates.next().unwrap() {
                                Fate::Lost => {}
                                Fate::Twice => {
                                    transfer.handle(&answer, now);
                                    transfer.handle(&answer, now);
                                }
                                _ => transfer.handle(&answer, now),
                            }
                        }
                    }
                    continue;
                }
                Output::Ended(ended) => break ended,
            };
            match fates.next().unwrap() {
                Fate::Arrives => wire.push_back((0, sent)),
                Fate::Lost => {}
                Fate::Twice => wire.extend([(0, sent.clone()), (0, sent)]),
                Fate::Late(by) => wire.push_back((by, sent)),
            }
        };
        prop_assert_eq!(ended, Ended::Whole);
        prop_assert!(receiver.done);
        prop_assert!(receiver.has == file, "{} of {} bytes", receiver.has.len(), len);
    }

    /// No datagram makes it panic, send for ever, or send what is not in the file.
    #[test]
    fn noise_ends_too(
        len in 0..5000_u64,
        window in 1..40_u64,
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..60),
        acks in prop::collection::vec(any::<u16>(), 0..60),
    ) {
        let asked = request(&[("windowsize", window)]);
        let mut transfer = Transfer::new(&asked, len, &Limits::default(), Duration::ZERO);
        let mut noise = noise.into_iter().chain(acks.iter().map(|ack| Packet::Ack(*ack).encode()));
        let mut steps = 0;
        loop {
            steps += 1;
            prop_assert!(steps < 20_000, "it does not end");
            match transfer.poll() {
                Output::Block { offset, len: piece, .. } => {
                    prop_assert!(offset + piece as u64 <= len);
                }
                Output::Send(_) => {}
                Output::Wait(at) => match noise.next() {
                    Some(datagram) => transfer.handle(&datagram, at / 2),
                    None => transfer.late(at),
                },
                Output::Ended(_) => break,
            }
        }
    }

    #[test]
    fn packets_come_back(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(packet) = Packet::decode(&bytes) {
            let written = packet.encode();
            prop_assert_eq!(Packet::decode(&written), Ok(packet));
        }
    }
}
