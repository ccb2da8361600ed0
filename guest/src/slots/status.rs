//! What is in the slots, as people ask.

use kiln_diskimg::slots::{Firmware, Found, Record, Slot};

/// What is in the slots, and what is started.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The slot that this system was started from.
    pub running: Option<Slot>,
    /// What is in slot a and slot b, where something whole is.
    pub slots: [Option<Record>; 2],
    /// For each firmware that can start the disk: what is always started, and what before that, once.
    pub starts: Vec<(Firmware, Option<Slot>, Option<Slot>)>,
}

impl Status {
    pub(super) fn of(found: &Found, running: Option<Slot>) -> Self {
        let starts = found.firmware().into_iter();
        let starts = starts.map(|it| (it, found.default_of(it), found.once(it))).collect();
        Self { running, slots: found.records.clone(), starts }
    }

    /// What is in a slot.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> Option<&Record> {
        let [a, b] = &self.slots;
        match slot {
            Slot::A => a.as_ref(),
            Slot::B => b.as_ref(),
        }
    }

    /// Whether a slot is to be started once, by some firmware.
    #[must_use]
    pub fn is_tried_next(&self, slot: Slot) -> bool {
        self.starts.iter().any(|(_, _, once)| *once == Some(slot))
    }

    /// Whether a slot was tried, and another one runs since: it has not said that it is healthy, and
    /// is not to be tried any more.
    #[must_use]
    pub fn failed(&self, slot: Slot) -> bool {
        self.running.is_some_and(|running| running != slot)
            && self.slot(slot).is_some_and(|record| !record.good)
            && !self.is_tried_next(slot)
    }
}
