//! Which services a process image begins with, where not all that it is given are sound.

use super::reload::{LINES, SpecsInForce};
use super::warning;
use crate::graph::{self, Omission, Sound};
use crate::spec::ServiceSpec;
use crate::unix::panic::Legacy;
use crate::unix::{Options, Unsound};
use crate::vocabulary::Event;

/// More characters of a line are not told: it may quote anything.
const WIDTH: usize = 1000;

/// What is begun with.
pub(super) struct Begun {
    pub(super) sound: Vec<ServiceSpec>,
    omissions: Vec<Omission>,
}

impl Begun {
    /// Whether one that runs would be stopped because it is left out, where there is another program
    /// to go on with all of them.
    pub(super) fn loses(&self, legacy: &Legacy) -> bool {
        let stays = |name: &str| self.sound.iter().any(|spec| spec.name == name);
        let left_out = |running: &str| {
            self.omissions.iter().any(
                |it| matches!(it, Omission::Service { name, .. } if name == running && !stays(name)),
            )
        };
        legacy.asked && legacy.snapshot.processes().any(|(name, _)| left_out(name))
    }
}

/// What of services can start, with a warning for each that cannot; all of them where unsound ones are
/// to be refused.
pub(super) fn leave_out(
    given: Vec<ServiceSpec>,
    options: &Options,
    told: &mut Vec<Event>,
) -> Begun {
    match options.unsound {
        Unsound::Refuse => Begun { sound: given, omissions: Vec::new() },
        Unsound::LeaveOut => {
            let Sound { specs, omissions, .. } = Sound::of(given);
            told.extend(omissions.iter().map(|omission| warning(line(omission))));
            Begun { sound: specs, omissions }
        }
    }
}

/// The specs that processes run by, and others that are to be gone over to: after a panic as they were
/// read last; who asks for a new image wants what that one says, unless it is not all sound.
pub(super) fn go_over(
    (running, target): SpecsInForce,
    given: Vec<ServiceSpec>,
    asked: bool,
    options: &Options,
    told: &mut Vec<Event>,
) -> (Vec<ServiceSpec>, Option<Vec<ServiceSpec>>) {
    let omissions = match options.unsound {
        Unsound::LeaveOut if asked => {
            graph::judge(&given.iter().collect::<Vec<_>>(), |_| false).omissions
        }
        _ => Vec::new(),
    };
    let stays = asked && (options.incomplete || !omissions.is_empty());
    if stays {
        let what = "not all services that are given now are sound: those of before go on";
        told.push(warning(what.to_owned()));
        let lines = omissions.iter().take(LINES).map(line);
        // nothing is left out
        let plain = |line: String| line.split_once(": ").map(|(_, rest)| rest.to_owned());
        told.extend(lines.filter_map(plain).map(warning));
    }
    // none are given where they could not be read
    let target = if asked && !stays && !given.is_empty() { given } else { target };
    let others = (running != target).then_some(target);
    (running, others)
}

fn line(omission: &Omission) -> String {
    let text = omission.to_string();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WIDTH).collect()
}
