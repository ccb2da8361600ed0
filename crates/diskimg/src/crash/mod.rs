//! What a disk may hold after its power went away in the middle of a change.
//!
//! A change is known by a [`Log`] of what was written and when it was waited for: one of a
//! [`Recorder`], or of QEMU and Linux in the format of dm-log-writes ([`Log::read`]). Between two
//! flushes a disk may have written any of the sectors that it was given, in any order, each one whole.
//! [`Replay`] goes through a log and makes such states.
//!
//! # Example
//! This example shows how to find out what a change can leave behind.
//!
//! ```
//! use std::io::{Seek, SeekFrom, Write};
//! use kiln_diskimg::Device;
//! use kiln_diskimg::crash::{Recorder, Replay};
//!
//! let mut disk = Recorder::new(vec![0; 1024]);
//! disk.write_all(&[1; 512])?;
//! disk.persist()?;
//! disk.write_all(&[2; 512])?;
//! let (base, log) = disk.finish();
//!
//! let mut replay = Replay::new(&log, base);
//! let mut seen = std::collections::BTreeSet::new();
//! loop {
//!     for seed in 0..20 {
//!         seen.insert(replay.crash(seed, |disk| (disk[0], disk[512])));
//!     }
//!     if !replay.advance() {
//!         break;
//!     }
//! }
//! // The second sector is never there without the first.
//! assert_eq!(Vec::from_iter(seen), [(0, 0), (1, 0), (1, 2)]);
//! # Ok::<(), std::io::Error>(())
//! ```

mod log_writes;
mod recorder;

pub use recorder::Recorder;

use std::collections::BTreeMap;

use crate::field::index;

const SECTOR: usize = 512;

/// Something that happened to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Whole sectors were written from a byte on.
    Write {
        /// The byte.
        at: u64,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// Sectors were given up; what they hold from then on is zeroes here.
    Discard {
        /// The first byte.
        at: u64,
        /// How many.
        len: u64,
    },
    /// Everything before it is kept.
    Flush,
    /// Somebody left a note.
    Mark(String),
}

/// What happened to a disk, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// The events.
    pub events: Vec<Event>,
}

impl Log {
    /// The number of stretches between two flushes, of which the first and the last may be empty.
    #[must_use]
    pub fn stretches(&self) -> usize {
        self.events.iter().filter(|event| **event == Event::Flush).count() + 1
    }

    /// The bytes that were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        let lengths = self.events.iter().map(|event| match event {
            Event::Write { bytes, .. } => bytes.len() as u64,
            _ => 0,
        });
        lengths.sum()
    }

    /// What happened to so many bytes of the disk from a byte on, as if they were a disk: a partition's
    /// log. A flush after which nothing else was flushed is none.
    ///
    /// ```
    /// use kiln_diskimg::crash::{Event, Log};
    ///
    /// let mut log = Log::default();
    /// log.events.push(Event::Write { at: 0, bytes: vec![1; 1024] });
    /// log.events.push(Event::Flush);
    /// log.events.push(Event::Write { at: 4096, bytes: vec![2; 512] });
    /// log.events.push(Event::Flush);
    /// let part = log.within(512, 1024);
    /// assert_eq!(part.events, [Event::Write { at: 0, bytes: vec![1; 512] }, Event::Flush]);
    /// ```
    #[must_use]
    pub fn within(&self, start: u64, len: u64) -> Self {
        let end = start.saturating_add(len);
        let mut events = Vec::new();
        for event in &self.events {
            // the part of a range that is within, from the range's first byte on
            let clipped = |at: u64, count: u64| {
                let (first, last) = (at.max(start), at.saturating_add(count).min(end));
                (first < last).then(|| (first, first - at, last - first))
            };
            match event {
                Event::Write { at, bytes } => {
                    let Some((first, skip, count)) = clipped(*at, bytes.len() as u64) else {
                        continue;
                    };
                    let range = index(skip)..index(skip.saturating_add(count));
                    let bytes = bytes.get(range).unwrap_or_default().to_vec();
                    events.push(Event::Write { at: first - start, bytes });
                }
                Event::Discard { at, len } => {
                    let Some((first, _, count)) = clipped(*at, *len) else { continue };
                    events.push(Event::Discard { at: first - start, len: count });
                }
                Event::Flush if matches!(events.last(), None | Some(Event::Flush)) => {}
                Event::Flush | Event::Mark(_) => events.push(event.clone()),
            }
        }
        Self { events }
    }
}

/// A disk that is led through a log.
#[derive(Debug)]
pub struct Replay<'log> {
    log: &'log Log,
    /// The first event after the last flush.
    at: usize,
    /// With all that was flushed.
    disk: Vec<u8>,
}

impl<'log> Replay<'log> {
    /// Begins with what the disk held before the first event.
    #[must_use]
    pub fn new(log: &'log Log, base: Vec<u8>) -> Self {
        Self { log, at: 0, disk: base }
    }

    /// The disk with all that is surely on it.
    #[must_use]
    pub fn disk(&mut self) -> &mut Vec<u8> {
        &mut self.disk
    }

    fn stretch(&self) -> impl Iterator<Item = &'log Event> + use<'log> {
        let events = self.log.events.get(self.at..).unwrap_or_default();
        events.iter().take_while(|event| **event != Event::Flush)
    }

    /// The sectors that are written before the next flush: of each the bytes, in order.
    fn sectors(&self) -> Vec<(usize, &'log [u8])> {
        const ZEROES: &[u8] = &[0; SECTOR];
        let mut sectors = Vec::new();
        for event in self.stretch() {
            match event {
                Event::Write { at, bytes } => {
                    let starts = (index(*at)..).step_by(SECTOR);
                    sectors.extend(starts.zip(bytes.chunks_exact(SECTOR)));
                }
                Event::Discard { at, len } => {
                    let end = index(at.saturating_add(*len));
                    sectors.extend((index(*at)..end).step_by(SECTOR).map(|at| (at, ZEROES)));
                }
                Event::Flush | Event::Mark(_) => {}
            }
        }
        sectors
    }

    /// How many sectors may or may not be there.
    #[must_use]
    pub fn uncertain(&self) -> usize {
        self.sectors().len()
    }

    /// Loses the power before the next flush and looks at what is on the disk. Of the sectors written
    /// since the last one, the seed says how many, and which.
    pub fn crash<T>(&mut self, seed: u64, look: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let sectors = self.sectors();
        let mut random = Random(seed);
        let chosen = Choice::new(&mut random, sectors.len());
        let mut before: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (number, (at, bytes)) in sectors.into_iter().enumerate() {
            let Some(place) = self.disk.get_mut(at..at.saturating_add(SECTOR)) else { continue };
            if chosen.is_there(number, &mut random) {
                before.entry(at).or_insert_with(|| place.to_vec());
                place.copy_from_slice(bytes);
            }
        }
        let seen = look(&mut self.disk);
        for (at, bytes) in before {
            if let Some(place) = self.disk.get_mut(at..at.saturating_add(SECTOR)) {
                place.copy_from_slice(&bytes);
            }
        }
        seen
    }

    /// Goes on behind the next flush; `false` when there is none.
    pub fn advance(&mut self) -> bool {
        let events = self.log.events.get(self.at..).unwrap_or_default();
        let Some(flush) = events.iter().position(|event| *event == Event::Flush) else {
            return false;
        };
        for (at, bytes) in self.sectors() {
            if let Some(place) = self.disk.get_mut(at..at.saturating_add(SECTOR)) {
                place.copy_from_slice(bytes);
            }
        }
        self.at = self.at.saturating_add(flush).saturating_add(1);
        true
    }
}

/// Which of some sectors are there.
enum Choice {
    /// Of 256 so many, by chance.
    Some(u64),
    /// The first ones, and of the next hundred some: a disk that takes them in order.
    First(usize),
    /// All but one.
    Without(usize),
    /// One alone.
    Only(usize),
    All,
    None,
}

impl Choice {
    fn new(random: &mut Random, count: usize) -> Self {
        let count = count.max(1) as u64;
        match random.next() % 8 {
            0 => Self::None,
            1 => Self::All,
            2 => Self::Only(index(random.next() % count)),
            3 => Self::Without(index(random.next() % count)),
            4 | 5 => Self::First(index(random.next() % count)),
            6 => Self::Some(128),
            _ => Self::Some(random.next() % 256),
        }
    }

    fn is_there(&self, number: usize, random: &mut Random) -> bool {
        match self {
            Self::Some(of_256) => random.next() % 256 < *of_256,
            Self::First(count) if number < *count => true,
            Self::First(count) => {
                number < count.saturating_add(100) && random.next().is_multiple_of(2)
            }
            Self::Without(other) => number != *other,
            Self::Only(one) => number == *one,
            Self::All => true,
            Self::None => false,
        }
    }
}

/// Sebastiano Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
