//! Downloads in virtual time, from servers that do everything wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use kiln_ramroot::{Answer, ChunkList, Chunker, Download, Event, Input, Kind, Output, Policy};
use proptest::prelude::*;

const CHUNK: u32 = 4096;

fn list(bytes: &[u8]) -> Arc<ChunkList> {
    let mut chunker = Chunker::new(Vec::new(), CHUNK);
    chunker.write_all(bytes).unwrap();
    Arc::new(chunker.finish(("a", "1"), ("root", Kind::Tar), 0).unwrap().1)
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251).to_le_bytes()[0]).collect()
}

/// What a server does with a request.
#[derive(Debug, Clone)]
enum Act {
    /// All that is asked for.
    Serve,
    /// All of it, whatever was asked for.
    Whole,
    /// Nothing but this after so many bytes: an end.
    Cut(usize),
    /// A failure after so many bytes.
    Reset(usize),
    /// A byte that is another one.
    Flip(usize, u8),
    /// Another file.
    Other,
    /// A file that is longer, with a length that says so or not.
    Longer(bool),
    /// From elsewhere.
    Elsewhere(u64),
    /// A byte now and then.
    Drip,
    /// No answer.
    Refuse,
}

struct World {
    now: Duration,
    file: Vec<u8>,
    acts: Vec<Act>,
    asked: Vec<u64>,
}

enum End {
    Done(Vec<u8>),
    GaveUp(String, Vec<u8>),
}

impl World {
    fn new(file: Vec<u8>, mut acts: Vec<Act>) -> Self {
        acts.reverse();
        Self { now: Duration::from_secs(100), file, acts, asked: Vec::new() }
    }

    /// Runs until it ends, which it does. When no act is left, the last one goes on.
    fn run(&mut self, policy: Policy) -> End {
        let mut download = Download::new(list(&self.file), policy, self.now);
        let mut out = Vec::new();
        for _ in 0..100_000 {
            match download.poll() {
                Output::Chunk(bytes) => out.extend(bytes),
                Output::Event(Event::Again { after, .. }) => {
                    assert!(after <= Duration::from_secs(38))
                }
                Output::Done => return End::Done(out),
                Output::GaveUp(why) => return End::GaveUp(why, out),
                Output::Ask(from) => self.serve(&mut download, from),
                Output::Wait(Some(until)) => {
                    assert!(until >= self.now);
                    self.now = until;
                    download.handle(Input::Time, self.now);
                }
                Output::Wait(None) => panic!("it waits for what does not come"),
                other => panic!("{other:?}"),
            }
        }
        panic!("it does not end");
    }

    fn serve(&mut self, download: &mut Download, from: u64) {
        self.asked.push(from);
        let act = if self.acts.len() > 1 { self.acts.pop().unwrap() } else { self.acts[0].clone() };
        let total = self.file.len() as u64;
        let start = usize::try_from(from).unwrap();
        let mut send = |answer: Answer, bytes: &[u8], end: Input<'_>, now: Duration| {
            download.handle(Input::Answer(answer), now);
            for piece in bytes.chunks(1500) {
                download.handle(Input::Bytes(piece), now);
            }
            download.handle(end, now);
        };
        let part = Answer::Part(from, Some(total));
        let rest = &self.file[start..];
        let now = self.now;
        match act {
            Act::Serve => send(part, rest, Input::End, now),
            Act::Whole => send(Answer::Whole(None), &self.file, Input::End, now),
            Act::Cut(len) => send(part, &rest[..len.min(rest.len())], Input::End, now),
            Act::Reset(len) => {
                send(part, &rest[..len.min(rest.len())], Input::Failed("reset".into()), now);
            }
            Act::Flip(at, with) => {
                let mut bytes = rest.to_vec();
                let at = at % bytes.len();
                bytes[at] ^= with.max(1);
                send(part, &bytes, Input::End, now);
            }
            Act::Other => {
                send(part, &vec![0x55; rest.len()], Input::End, now);
            }
            Act::Longer(said) => {
                let bytes = [rest, &[9; 5000]].concat();
                let total = said.then_some(total + 5000);
                send(Answer::Part(from, total), &bytes, Input::End, now);
            }
            Act::Elsewhere(where_) => send(Answer::Part(where_, None), rest, Input::End, now),
            Act::Drip => {
                download.handle(Input::Answer(part), now);
                for byte in rest.chunks(1).take(24) {
                    self.now += Duration::from_secs(5);
                    download.handle(Input::Bytes(byte), self.now);
                }
                download.handle(Input::Failed("the test is over".into()), self.now);
            }
            Act::Refuse => download.handle(Input::Failed("refused".into()), now),
        }
    }
}

fn gave_up(file: Vec<u8>, acts: Vec<Act>) -> (String, usize) {
    match World::new(file, acts).run(Policy::default()) {
        End::GaveUp(why, out) => (why, out.len()),
        End::Done(_) => panic!("it is done"),
    }
}

#[test]
fn it_goes_on_from_the_first_byte_that_is_not_verified() {
    let file = content(20_000);
    let acts = vec![Act::Cut(5000), Act::Reset(0), Act::Whole];
    let mut world = World::new(file.clone(), acts);
    let End::Done(out) = world.run(Policy::default()) else { panic!("it is given up") };
    assert_eq!((out, world.asked), (file, vec![0, 4096, 4096]));
}

#[test]
fn what_stays_wrong_is_given_up_with_the_reason() {
    let file = content(20_000);
    let told = |acts| gave_up(file.clone(), acts);
    assert_eq!(told(vec![Act::Other]), ("chunk 0 is not what was signed".into(), 0));
    assert_eq!(told(vec![Act::Refuse]), ("refused".into(), 0));
    assert_eq!(told(vec![Act::Cut(0)]), ("it ends after 0 of 20000 bytes".into(), 0));
    assert_eq!(told(vec![Act::Elsewhere(7)]), ("byte 0 was asked for, and 7 comes".into(), 0));
    let longer = "it has 25000 bytes there, and should have 20000";
    assert_eq!(told(vec![Act::Longer(true)]), (longer.into(), 0));
    assert_eq!(told(vec![Act::Drip]), ("a chunk does not come within 120 s".into(), 0));
    // what is there stays there
    let (why, came) = told(vec![Act::Cut(9000), Act::Cut(100)]);
    assert_eq!((why.as_str(), came), ("it ends after 8292 of 20000 bytes", 8192));
}

#[test]
fn what_follows_the_last_byte_is_nobodys() {
    let file = content(8192);
    let mut world = World::new(file.clone(), vec![Act::Longer(false)]);
    let End::Done(out) = world.run(Policy::default()) else { panic!("it is given up") };
    assert_eq!(out, file);
}

#[test]
fn machines_that_start_together_ask_at_different_times() {
    let first = |seed| {
        let mut policy = Policy::default();
        policy.seed = seed;
        let mut download = Download::new(list(&content(10)), policy, Duration::ZERO);
        download.handle(Input::Failed("refused".into()), Duration::ZERO);
        let all = [download.poll(), download.poll(), download.poll()];
        let [.., Output::Wait(Some(until))] = all else { panic!("{all:?}") };
        until
    };
    let times: std::collections::BTreeSet<_> = (0..100).map(first).collect();
    assert!(times.len() > 90);
    assert!(times.first() >= Some(&Duration::from_secs(1)));
    assert!(times.last() <= Some(&Duration::from_millis(1250)));
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Serve),
        Just(Act::Whole),
        (0_usize..30_000).prop_map(Act::Cut),
        (0_usize..30_000).prop_map(Act::Reset),
        (any::<usize>(), any::<u8>()).prop_map(|(at, with)| Act::Flip(at, with)),
        Just(Act::Other),
        any::<bool>().prop_map(Act::Longer),
        any::<u64>().prop_map(Act::Elsewhere),
        Just(Act::Drip),
        Just(Act::Refuse),
    ]
}

proptest! {
    /// Whatever servers do: what comes out is the beginning of the file, or all of it, and it ends.
    #[test]
    fn never_a_wrong_byte_and_always_an_end(
        len in 1_usize..40_000,
        acts in prop::collection::vec(act(), 1..12),
    ) {
        let file = content(len);
        match World::new(file.clone(), acts).run(Policy::default()) {
            End::Done(out) => prop_assert_eq!(out, file),
            End::GaveUp(_, out) => prop_assert_eq!(&out, &file[..out.len()]),
        }
    }
}
