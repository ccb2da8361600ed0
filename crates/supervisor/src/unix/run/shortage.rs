//! Memory that the kernel does not give: what the loop does while the program's reserve is drawn on.

use std::path::Path;

use super::handover::Cause;
use super::{OnPanic, Shell};
use crate::unix::image::OWN_PROGRAM;
use crate::unix::reserve::{self, Level};
use crate::vocabulary::{Event, Time};

/// How long the reserve has to be left alone before the kernel is asked whether it gives memory again.
const CALM: Time = Time::from_secs(5);
/// How long after a process image has been left for a new one for want of memory the next may be: where
/// that has not helped, it does not help at once either, and the rest of the reserve is worth more.
const PACE: Time = Time::from_secs(60);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    /// When the reserve was seen to be drawn on last, while memory is short.
    drawn: Option<Time>,
    /// When an image was last left for want of memory; of this process, not of this image alone.
    pub(super) relieved: Option<Time>,
}

impl Shortage {
    /// When the loop looks at it even if nothing comes.
    pub(super) fn due(&self) -> Time {
        self.drawn.map_or(Time::MAX, |at| at.saturating_add(CALM))
    }
}

impl Shell {
    /// Looks, once a turn, whether the reserve was drawn on, and does what can be done.
    pub(super) fn mind_memory(&mut self, on_event: &mut dyn FnMut(&Event)) {
        let drawn = reserve::was_drawn_on();
        if !drawn && self.shortage.drawn.is_none() {
            return;
        }
        let now = crate::unix::now();
        if drawn {
            let is_new = self.shortage.drawn.replace(now).is_none();
            reserve::set_short(true);
            self.shed(now);
            if is_new {
                let Level { used, size } = reserve::level();
                self.tell(&Event::MemoryShort { used, size }, on_event);
            }
        } else if self.shortage.due() <= now {
            self.shortage.drawn = Some(now);
            if reserve::is_given_memory() {
                self.shortage.drawn = None;
                reserve::set_short(false);
                let Level { used, size } = reserve::level();
                self.tell(&Event::MemoryBack { used, size }, on_event);
                return;
            }
        }
        if reserve::level().is_low() {
            self.relieve(now, on_event);
        }
    }

    /// Lets go of what can be done without. What the heap has free stays with us: the kernel might not
    /// give it again.
    fn shed(&mut self, now: Time) {
        self.writer.shed();
        self.losses_at = self.losses_at.min(now);
        #[cfg(feature = "control")]
        if let Some(server) = &mut self.control {
            server.shed(now);
        }
    }

    /// Goes on as a new process image, which begins with a heap as small as can be and a whole reserve.
    /// Where that is not possible, all goes on as before, from what is left of this one.
    fn relieve(&mut self, now: Time, on_event: &mut dyn FnMut(&Event)) {
        let may = self.options.on_panic != OnPanic::Unwind || self.options.reexec.is_some();
        let was = self.shortage.relieved;
        if !may || was.is_some_and(|at| now.saturating_sub(at) < PACE) {
            return;
        }
        self.shortage.relieved = Some(now);
        self.go_over(Path::new(OWN_PROGRAM), Cause::Memory, on_event);
    }
}
