//! Going over to other services: they are read by a thread, and what is different is done.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use rustix::event::EventfdFlags;

use super::{Key, Shell, epoll, warning};
use crate::graph::ServiceId;
use crate::spec::{Condition, ServiceSpec};
use crate::unix::conditions::Conditions;
use crate::unix::{SpecSource, reserve, sys};
use crate::vocabulary::{Event, Input};

/// More lines of what is wrong are not told.
pub(super) const LINES: usize = 40;
/// Bytes of the thread's stack: a parser recurses.
const STACK: usize = 1 << 20;
/// What the kernel must give before anything is read: what services take as text and as values goes far
/// beyond the reserve.
const ENOUGH: usize = 8 << 20;

/// Who wants to know what came of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// Nobody in particular: a signal, or a source's request.
    Machine,
    #[cfg(feature = "control")]
    Client(crate::unix::control::Client),
}

type Loaded = (Box<dyn SpecSource>, Result<Vec<ServiceSpec>, String>);

/// Where reading stands.
#[derive(Debug, Default)]
pub(super) struct Loader {
    pub(super) under_way: Option<(mpsc::Receiver<Loaded>, OwnedFd)>,
    /// Who asked for what is being read.
    askers: Vec<Asker>,
    /// Who asked since then: files may have changed meanwhile, so they are read once more.
    later: Vec<Asker>,
    /// The specs at the machine's last commit, and of which of its generations they are.
    #[cfg(feature = "control")]
    pub(super) committed: Option<(u64, SpecsInForce)>,
}

/// What processes run by, and what was read last.
pub(super) type SpecsInForce = (Vec<ServiceSpec>, Vec<ServiceSpec>);

impl Shell {
    /// Reads the services again, and goes over to them.
    pub(super) fn reload_services(&mut self, asker: Asker, on_event: &mut dyn FnMut(&Event)) {
        if self.loader.under_way.is_some() {
            // a storm of signals is one more reading
            if !(asker == Asker::Machine && self.loader.later.contains(&asker)) {
                self.loader.later.push(asker);
            }
            return;
        }
        let Some(source) = self.options.spec_source.take() else {
            // a signal has other meanings too
            if asker != Asker::Machine {
                let why = "this supervisor has no files to read its services from again";
                self.tell_asker(asker, Err((true, why.to_owned())), on_event);
            }
            return;
        };
        if reserve::is_short() || !sys::is_given(ENOUGH) {
            self.options.spec_source = Some(source);
            let why = "there is no memory to read the services again";
            return self.tell_asker(asker, Err((false, why.to_owned())), on_event);
        }
        let (send, receive) = mpsc::sync_channel::<Loaded>(1);
        let start = || -> std::io::Result<_> {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let wake = rustix::event::eventfd(0, flags)?;
            let theirs = wake.try_clone()?;
            self.watch(wake.as_fd(), Key::Loaded)?;
            let builder = std::thread::Builder::new().name("services".into()).stack_size(STACK);
            // the source goes along once there is a thread to take it
            let (give, take) = mpsc::sync_channel::<Box<dyn SpecSource>>(1);
            builder.spawn(move || {
                let _ = nix::sys::signal::SigSet::all().thread_block();
                let Ok(mut source) = take.recv() else { return };
                let read = catch_unwind(AssertUnwindSafe(|| source.load()));
                let read = read.unwrap_or_else(|_| Err("reading the services panicked".into()));
                let _ = send.send((source, read));
                let _ = rustix::io::write(&theirs, &1_u64.to_ne_bytes());
            })?;
            Ok((wake, give))
        };
        match start() {
            Ok((wake, give)) => {
                let _ = give.send(source);
                self.loader.under_way = Some((receive, wake));
                self.loader.askers.push(asker);
            }
            Err(error) => {
                self.options.spec_source = Some(source);
                let why = format!("cannot read the services again: {error}");
                self.tell_asker(asker, Err((false, why)), on_event);
            }
        }
    }

    /// The services have been read again.
    pub(super) fn on_loaded(&mut self, on_event: &mut dyn FnMut(&Event)) {
        let Some((receive, wake)) = self.loader.under_way.take() else { return };
        let Ok((source, read)) = receive.try_recv() else {
            self.loader.under_way = Some((receive, wake));
            return;
        };
        let _ = epoll::delete(&self.epoll, &wake);
        self.options.spec_source = Some(source);
        let told = match read {
            _ if self.machine.is_shutting_down() => Err("everything is being stopped".to_owned()),
            Ok(specs) => {
                let now = crate::unix::now();
                self.machine.reload(specs, now).map_err(|problems| problems.to_string())
            }
            Err(why) => Err(why),
        };
        if told.is_ok() {
            self.await_other_conditions(on_event);
            self.bounds_without_groups();
        }
        sys::give_memory_back();
        self.drain(on_event);
        let told = told.map(|difference| difference.to_string()).map_err(|why| (false, why));
        for asker in std::mem::take(&mut self.loader.askers) {
            self.tell_asker(asker, told.clone(), on_event);
        }
        let mut later = std::mem::take(&mut self.loader.later).into_iter();
        if let Some(first) = later.next() {
            self.reload_services(first, on_event);
            self.loader.askers.extend(later);
        }
    }

    /// What came of it: a line, or why not, and whether that is for ever.
    fn tell_asker(
        &mut self,
        asker: Asker,
        told: Result<String, (bool, String)>,
        on_event: &mut dyn FnMut(&Event),
    ) {
        match asker {
            Asker::Machine => {
                if let Err((_, why)) = told {
                    self.tell(&warning("the services were not reloaded:".to_owned()), on_event);
                    for line in why.lines().take(LINES) {
                        self.tell(&warning(line.to_owned()), on_event);
                    }
                }
            }
            #[cfg(feature = "control")]
            Asker::Client(client) => {
                use crate::control::protocol::{Effect, RefusalCode};
                // who was told that it takes too long has had an answer
                if !self.control.as_ref().is_some_and(|server| server.waits_for_reload(client)) {
                    return;
                }
                match told {
                    Ok(text) => self.result(client, Effect::Done, text),
                    Err((true, why)) => self.refuse(client, RefusalCode::NotSupported, why),
                    Err((false, why)) => {
                        let lines: Vec<String> = why
                            .lines()
                            .take(LINES)
                            .map(|line| line.chars().take(300).collect())
                            .collect();
                        let text = format!("nothing has changed:\n{}", lines.join("\n"));
                        self.result(client, Effect::Failed, text);
                    }
                }
            }
        }
    }

    /// Watches what services wait for now.
    fn await_other_conditions(&mut self, on_event: &mut dyn FnMut(&Event)) {
        let awaited: std::collections::BTreeSet<Condition> =
            self.machine.awaited().into_iter().cloned().collect();
        if self.conditions.are(&awaited) {
            return;
        }
        let was_set = self.conditions.was_set();
        match Conditions::new(awaited) {
            Ok(conditions) => self.conditions = conditions,
            Err(error) => {
                let what = format!("cannot watch what services wait for: {error}");
                return self.tell(&warning(what), on_event);
            }
        }
        if was_set {
            self.conditions.time_was_set();
        }
        if let Some(fd) = self.conditions.fd()
            && let Err(error) = self.watch(fd, Key::Conditions)
        {
            let what = format!("cannot watch what services wait for: {error}");
            self.tell(&warning(what), on_event);
        }
        for (condition, holds) in self.conditions.all() {
            self.input(Input::Condition { condition, holds }, on_event);
        }
    }

    /// Lets go of what is kept for a service that is removed and down.
    pub(super) fn forget(&mut self, id: ServiceId) {
        self.close_sockets(id);
        self.stored.remove(&id);
        self.channels.remove(&id);
        self.probes.remove(&id);
        if let Some(mut pipe) = self.logs.remove(&id) {
            pipe.drain(id, &mut self.writer);
        }
        self.writer.close(id);
    }
}
