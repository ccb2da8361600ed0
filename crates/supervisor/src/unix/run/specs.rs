//! What the next process image knows of services that were read while this one ran.

use std::os::fd::{AsRawFd, OwnedFd};

use serde::ser::{Serialize, SerializeTuple, Serializer};

use super::Shell;
use super::control::{OWN, read_json, write_json};
use super::handover::Cause;
use super::reload::SpecsInForce;
use crate::machine::Supervisor;
use crate::spec::ServiceSpec;
use crate::unix::panic::{FdKind, Inherited, Legacy};
use crate::unix::{Options, sys};

impl Shell {
    /// Remembers the specs for the next process image, if they are others than before.
    pub(super) fn commit_specs(&mut self) {
        if self.may_have_others() {
            let generation = self.machine.generation;
            if self.loader.committed.as_ref().is_none_or(|(at, _)| *at != generation) {
                let specs = (self.machine.running_specs(), self.machine.target_specs());
                self.loader.committed = Some((generation, specs));
            }
        }
    }

    /// Adds the specs to what the next process image gets: those of the last commit after a panic, else
    /// those of now. What is returned must stay open until then.
    pub(super) fn hand_specs(
        &self,
        fds: &mut Vec<Inherited>,
        cause: Cause,
    ) -> std::io::Result<Option<OwnedFd>> {
        let name = "kiln-supervisor-specs";
        let fd = match (&self.loader.committed, cause) {
            (Some((_, specs)), Cause::Panic) => write_json(name, specs)?,
            (None, Cause::Panic) => return Ok(None),
            _ if !self.may_have_others() => return Ok(None),
            _ => write_json(name, &InForce(&self.machine))?,
        };
        fds.push(Inherited {
            service: OWN.to_owned(),
            kind: FdKind::Specs,
            number: fd.as_raw_fd(),
            name: String::new(),
        });
        Ok(Some(fd))
    }

    /// Whether services may be others than those that `run` was given.
    fn may_have_others(&self) -> bool {
        self.options.spec_source.is_some() || self.loader.under_way.is_some()
    }
}

/// The specs that processes run by, and those that were read last, as the process image before has
/// handed them on, if it could.
pub(super) fn specs_handed_on(
    legacy: Option<&mut Legacy>,
    options: &Options,
) -> Option<SpecsInForce> {
    let legacy = legacy?;
    let place = legacy.fds.iter().position(|inherited| inherited.kind == FdKind::Specs)?;
    let inherited = legacy.fds.swap_remove(place);
    sys::adopt_fd(inherited.number)
        .filter(|_| options.spec_source.is_some())
        .and_then(read_json::<SpecsInForce>)
}

/// [`SpecsInForce`] of a machine, written without a copy of them all: memory may be short.
struct InForce<'a>(&'a Supervisor);

impl Serialize for InForce<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let targets = || self.0.targets().map(|spec| ServiceSpec::clone(&spec));
        let mut both = serializer.serialize_tuple(2)?;
        both.serialize_element(&OneByOne(|| self.0.running()))?;
        both.serialize_element(&OneByOne(targets))?;
        both.end()
    }
}

/// A list that is made while it is written.
struct OneByOne<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for OneByOne<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}
