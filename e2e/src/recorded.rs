//! What happened to a part of a disk, and what is left of it when the power goes at any moment of that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use kiln_diskimg::crash::{Log, Replay};
use kiln_diskimg::{ByteLen, Limits, gpt};

use crate::slots::look;

/// What happened to a part of a disk.
#[derive(Debug)]
pub struct Recorded {
    /// What it held at first.
    pub base: Vec<u8>,
    /// What was written since.
    pub log: Log,
}

/// What is found in states of a disk whose power went.
pub type Tally = BTreeMap<String, u64>;

impl Recorded {
    /// What became of the boot partition of a disk that held this at first.
    ///
    /// # Errors
    /// When the log is not there, or broken.
    pub(crate) fn of_boot_partition(first: &Path, log: &Path) -> Result<Self> {
        let (start, len) = boot_partition(first)?;
        let mut base = vec![0; usize::try_from(len)?];
        File::open(first)?.read_exact_at(&mut base, start)?;
        Ok(Self { base, log: read(log)?.within(start, len) })
    }

    /// Loses the power so many times while systems replace each other: what is started is whole, and what
    /// is always started has been seen to work.
    ///
    /// # Errors
    /// The first state that is not sound, by its stretch and seed.
    pub fn upgrade_crashes(&self, states: u64, seed: u64) -> Result<Tally> {
        let len = self.base.len() as u64;
        self.crashes(states, seed, |disk, fsck| {
            let state = look(disk, (0, len), fsck)?;
            let ((bios, bios_else), (uefi, uefi_else)) = (state.bios, state.uefi);
            Ok(format!("a BIOS starts {bios} (else {bios_else}), UEFI {uefi} (else {uefi_else})"))
        })
    }

    /// What is there in the end, with the power kept.
    pub(crate) fn end(&self) -> Vec<u8> {
        let mut replay = Replay::new(&self.log, self.base.clone());
        // an installation ends with a flush
        while replay.advance() {}
        std::mem::take(replay.disk())
    }

    /// Looks at so many states, spread over the stretches between flushes; one of four by fsck too.
    pub(crate) fn crashes(
        &self,
        states: u64,
        seed: u64,
        mut look: impl FnMut(&mut Vec<u8>, bool) -> Result<String>,
    ) -> Result<Tally> {
        let stretches = self.log.stretches() as u64;
        let mut replay = Replay::new(&self.log, self.base.clone());
        let (mut tally, mut done) = (Tally::new(), 0);
        for stretch in 0..stretches {
            // as many before this stretch as its place among all says
            while done < states * (stretch + 1) / stretches {
                let number = seed << 40 | stretch << 20 | done;
                let seen = replay.crash(number, |disk| look(disk, done % 4 == 0));
                let seen = seen.with_context(|| format!("stretch {stretch}, seed {number}"))?;
                *tally.entry(seen).or_default() += 1;
                done += 1;
            }
            replay.advance();
        }
        Ok(tally)
    }
}

/// Reads a log of writes.
pub(crate) fn read(log: &Path) -> Result<Log> {
    let mut limits = Limits::default();
    limits.file_len = ByteLen::gib(8).0;
    Ok(Log::read(BufReader::new(File::open(log)?), &limits)?)
}

/// The first byte of the boot partition, and its length.
pub(crate) fn boot_partition(disk: &Path) -> Result<(u64, u64)> {
    let table = gpt::read_device(&mut File::open(disk)?, &Limits::default())?;
    let (_, entry) = table.entries.first().context("a disk without partitions")?;
    Ok((entry.first * 512, (entry.last - entry.first + 1) * 512))
}
