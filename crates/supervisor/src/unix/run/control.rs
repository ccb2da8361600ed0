//! What is asked for on the control socket, done.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::handover::NOT_UNDERSTOOD;
use super::{Key, Purpose, Shell};
use crate::control::protocol::{Effect, RefusalCode, Request, Times};
use crate::control::timeline::Timeline;
use crate::graph::ServiceId;
use crate::reload::Reload;
use crate::spec::{Kill, Readiness, ServiceSpec};
use crate::state::State;
use crate::unix::control::{COMMAND_TIMEOUT, Client, Goal, List, ListKind, Server, Wait};
use crate::unix::fault::point;
use crate::unix::panic::{FdKind, Inherited, Legacy};
use crate::unix::spawner::Job;
use crate::unix::{Error, reap, sys};
use crate::vocabulary::{Event, Input, Outcome, Pid, SpawnError, Time};

/// The name under which descriptors of the supervisor itself are handed on: no service's.
pub(super) const OWN: &str = ".";
/// How long a client waits for services to be read again, if it does not say so.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// More was not written by us.
const JSON_LIMIT: u64 = 64 << 20;

impl Shell {
    /// Opens the control socket, or takes over that of the process image before.
    /// Who has asked for this image, if anybody has, is told so; or that it is the old program again,
    /// if `returned`.
    pub(super) fn open_control(
        &mut self,
        legacy: Option<&mut Legacy>,
        returned: bool,
    ) -> Result<(), Error> {
        let Some(options) = self.options.control.clone() else { return Ok(()) };
        let mut own: BTreeMap<&str, OwnedFd> = BTreeMap::new();
        let mut askers = Vec::new();
        if let Some(legacy) = legacy {
            legacy.fds.retain(|Inherited { service, kind, number, .. }| {
                let kind = match kind {
                    FdKind::ControlSocket => "socket",
                    FdKind::ControlTimes => "times",
                    FdKind::ControlAsker => {
                        askers.extend(sys::adopt_fd(*number));
                        return false;
                    }
                    _ => return true,
                };
                own.extend(sys::adopt_fd(*number).filter(|_| service == OWN).map(|fd| (kind, fd)));
                false
            });
        }
        let timeline = own.remove("times").and_then(read_times);
        let timeline = timeline.unwrap_or_else(|| Timeline::new(crate::unix::now()));
        let path = options.path.display().to_string();
        let opened = Server::open(options, own.remove("socket"), timeline).and_then(|server| {
            self.watch(server.fd(), Key::Control)?;
            Ok(server)
        });
        match opened {
            Ok(mut server) => {
                let process = rustix::process::getpid().as_raw_nonzero();
                let (effect, text) = match returned {
                    true => (Effect::Failed, NOT_UNDERSTOOD.to_owned()),
                    false => (Effect::Done, format!("process {process} goes on as a new image")),
                };
                let now = crate::unix::now();
                for fd in askers {
                    if let Some(client) = server.take_back(fd, now) {
                        server.result(client, effect, text.clone(), now);
                    }
                }
                self.control = Some(server);
            }
            // a machine without its control socket is better than none
            Err(error) if self.init => {
                let what = format!("no control socket at {path}: {error}");
                self.told.push(Event::Warning { what });
            }
            Err(error) => return Err(Error::system("make the control socket")(error)),
        }
        Ok(())
    }

    /// `SIGHUP`: the socket is made anew if its file is gone, or was never there.
    pub(super) fn reopen_control(&mut self, on_event: &mut dyn FnMut(&Event)) {
        if self.control.is_none() {
            // what goes wrong was told, or is by the next turn
            let _ = self.open_control(None, false);
        }
        if let Some(Err(error)) = self.control.as_mut().map(Server::reopen) {
            let what = format!("the control socket cannot be made anew: {error}");
            self.tell(&Event::Warning { what }, on_event);
        }
    }

    /// Something has come on the control socket or from what it watches.
    pub(super) fn on_control(&mut self) {
        let now = crate::unix::now();
        let Some(server) = &mut self.control else { return };
        for pid in server.take(now) {
            if let Some(status) = reap::look(pid) {
                reap::reap(pid);
                server.command_ended(pid, status, now);
            }
        }
    }

    /// Does what clients ask for and sends what there is to say. Comes before the state is
    /// committed, so that a panic later takes nothing back.
    pub(super) fn serve(&mut self, on_event: &mut dyn FnMut(&Event)) {
        let now = crate::unix::now();
        let clients = self.control.as_mut().map(Server::clients).unwrap_or_default();
        for client in clients {
            let mut done = 0_usize;
            while let Some(request) =
                self.control.as_mut().and_then(|server| server.next_request(client, done, now))
            {
                done = done.saturating_add(1);
                point();
                self.grant(client, request, now, on_event);
                point();
            }
        }
        if let Some(server) = &mut self.control {
            server.settle(&self.machine, crate::unix::now());
        }
    }

    pub(super) fn control_due(&self) -> Time {
        self.control.as_ref().map_or(Time::MAX, Server::due)
    }

    fn grant(
        &mut self,
        client: Client,
        request: Request,
        now: Time,
        on_event: &mut dyn FnMut(&Event),
    ) {
        let wait = Duration::from_millis(request.wait_ms());
        let id = match self.subject(&request) {
            Ok(id) => id,
            Err((code, why)) => return self.refuse(client, code, why),
        };
        match (request, id) {
            (Request::Status { .. }, only) => self.list(client, ListKind::Status, only),
            (Request::Tree {}, _) => self.list(client, ListKind::Tree, None),
            (Request::Times {}, _) => self.list(client, ListKind::Times, None),
            (Request::Events { orphans }, _) => {
                if let Some(server) = &mut self.control {
                    server.subscribe(client, orphans);
                }
            }
            (Request::Logs { lines, bytes, follow, .. }, Some(id)) => {
                let log = self.machine.spec(id).and_then(|spec| self.log_file(spec));
                match (log, &mut self.control) {
                    (Some(log), Some(server)) => {
                        server.tail(client, log, (lines, bytes), follow, now);
                    }
                    _ => {
                        let why = "its output is not kept in a file".to_owned();
                        self.refuse(client, RefusalCode::NotSupported, why);
                    }
                }
            }
            (Request::Start { .. }, Some(id)) => {
                let state = self.machine.state(id);
                let down_first = matches!(state, Some(State::Stopping { .. }));
                let goal = Goal::Up { down_first };
                self.change(client, (Input::Start(id), id), goal, wait, on_event);
            }
            (Request::Stop { .. }, Some(id)) => {
                self.change(client, (Input::Stop(id), id), Goal::Down, wait, on_event);
            }
            (Request::Restart { .. }, Some(id)) => {
                // what has ended, or waits, is said to be stopped, too, before it runs again
                let service = self.machine.services.get(id.index());
                let wanted = service.is_some_and(|service| service.wanted);
                let state = self.machine.state(id);
                let down_first =
                    state.is_some_and(|it| it.is_live() || wanted && *it != State::Down);
                let goal = Goal::Up { down_first };
                self.change(client, (Input::Restart(id), id), goal, wait, on_event);
            }
            (Request::Reload { .. }, Some(id)) => self.reload(client, id, wait),
            (Request::Reload { .. }, None) => {
                if let Some(server) = &mut self.control {
                    let until = now.saturating_add(wait.max(RELOAD_TIMEOUT));
                    let service = "services".to_owned();
                    let goal = Goal::Reload;
                    server.wait(client, Wait { service, goal, until, last: None });
                }
                self.reload_services(super::reload::Asker::Client(client), on_event);
            }
            (Request::Shutdown { outcome, force, timeout_ms }, _) => {
                let timeout =
                    timeout_ms.map_or(self.options.shutdown_timeout, Duration::from_millis);
                self.shut_down(client, outcome, force, timeout, on_event);
            }
            (Request::Reexec {}, _) => self.ask_for_reexec(client, now),
            _ => {
                let why = "this supervisor cannot do that".to_owned();
                self.refuse(client, RefusalCode::NotSupported, why);
            }
        }
    }

    /// The service that a request names, if it names one and may name it now.
    fn subject(&self, request: &Request) -> Result<Option<ServiceId>, (RefusalCode, String)> {
        let name = match request {
            Request::Start { service, .. }
            | Request::Stop { service, .. }
            | Request::Restart { service, .. }
            | Request::Logs { service, .. } => service,
            Request::Status { service: Some(service) }
            | Request::Reload { service: Some(service), .. } => service,
            _ => return Ok(None),
        };
        let Some(id) = self.machine.id(name) else {
            let name: String = name.chars().take(64).collect();
            return Err((RefusalCode::UnknownService, format!("there is no service {name:?}")));
        };
        if request.acts() && self.machine.is_leaving(id) {
            let why = format!("{name} has been removed and is being stopped");
            return Err((RefusalCode::UnknownService, why));
        }
        if request.acts() && self.machine.is_shutting_down() {
            return Err((RefusalCode::ShuttingDown, "everything is being stopped".to_owned()));
        }
        Ok(Some(id))
    }

    pub(super) fn refuse(&mut self, client: Client, code: RefusalCode, why: String) {
        if let Some(server) = &mut self.control {
            server.refuse(client, code, why, crate::unix::now());
        }
    }

    pub(super) fn result(&mut self, client: Client, effect: Effect, text: String) {
        if let Some(server) = &mut self.control {
            server.result(client, effect, text, crate::unix::now());
        }
    }

    fn list(&mut self, client: Client, what: ListKind, only: Option<ServiceId>) {
        if let Some(server) = &mut self.control {
            server.list(client, List::new(what, only));
        }
    }

    fn line(&self, id: ServiceId) -> String {
        let name = self.machine.name(id).map(|name| name.to_string()).unwrap_or_default();
        let state = self.machine.state(id).map_or("unknown", State::name);
        format!("{name}: {state}")
    }

    /// Starts, stops or restarts, and has the client wait for it.
    fn change(
        &mut self,
        client: Client,
        (input, id): (Input, ServiceId),
        goal: Goal,
        wait: Duration,
        on_event: &mut dyn FnMut(&Event),
    ) {
        let Some(name) = self.machine.name(id) else { return };
        let up = matches!(self.machine.state(id), Some(State::Up { .. }))
            && self.machine.services.get(id.index()).is_some_and(|service| service.wanted);
        if up && matches!(input, Input::Start(_)) {
            return self.result(client, Effect::Done, format!("{name}: already up"));
        }
        if let Some(server) = &mut self.control {
            if goal != Goal::Down {
                server.timeline.queue(name.as_str(), crate::unix::now());
            }
            // before it happens: what happens is what it waits for
            if !wait.is_zero() {
                let until = crate::unix::now().saturating_add(wait);
                let service = name.to_string();
                server.wait(client, Wait { service, goal, until, last: None });
            }
        }
        self.input(input, on_event);
        let down = matches!(
            self.machine.state(id),
            Some(State::Down | State::Done | State::Failed(_)) | None
        );
        let line = self.line(id);
        let waiting = self.control.as_ref().is_some_and(|server| server.waits(client));
        if goal == Goal::Down && down && (wait.is_zero() || waiting) {
            self.result(client, Effect::Done, line);
        } else if wait.is_zero() {
            self.result(client, Effect::Accepted, line);
        }
    }

    fn shut_down(
        &mut self,
        client: Client,
        outcome: Outcome,
        force: bool,
        timeout: Duration,
        on_event: &mut dyn FnMut(&Event),
    ) {
        // a second request would kill; that has to be said
        if self.machine.is_shutting_down() && !force {
            let why = "a shutdown is under way; with force it kills what is left".to_owned();
            return self.refuse(client, RefusalCode::ShuttingDown, why);
        }
        let first = !self.machine.is_shutting_down();
        self.input(Input::Shutdown { outcome, timeout }, on_event);
        if force && first && self.machine.finished().is_none() {
            self.input(Input::Shutdown { outcome, timeout }, on_event);
        }
        self.result(client, Effect::Accepted, format!("shutting down to {outcome}"));
    }

    /// Has the process replaced at the end of this turn; the client waits until then, and after.
    fn ask_for_reexec(&mut self, client: Client, now: Time) {
        if self.options.reexec.is_none() {
            let why = "this supervisor was not told that it may execute itself again".to_owned();
            return self.refuse(client, RefusalCode::NotSupported, why);
        }
        if self.machine.is_shutting_down() {
            let why = "everything is being stopped".to_owned();
            return self.refuse(client, RefusalCode::ShuttingDown, why);
        }
        if self.control.as_ref().is_some_and(|server| server.has_more(client)) {
            let why = "no request may follow this one before its answer".to_owned();
            return self.refuse(client, RefusalCode::BadRequest, why);
        }
        self.replace = true;
        if let Some(server) = &mut self.control {
            let goal = Goal::Reexec;
            let (service, until) = (String::new(), now.saturating_add(COMMAND_TIMEOUT));
            server.wait(client, Wait { service, goal, until, last: None });
        }
    }

    /// Before the process is replaced: who waits for a service is told that it goes on.
    pub(super) fn say_farewell(&mut self) {
        if let Some(server) = &mut self.control {
            server.say_farewell(crate::unix::now());
        }
    }

    /// The process could not be replaced.
    pub(super) fn refuse_askers(&mut self, why: &str) {
        let now = crate::unix::now();
        if let Some(server) = &mut self.control {
            let askers: Vec<Client> = server.askers().map(|(client, _)| client).collect();
            for client in askers {
                server.result(client, Effect::Failed, why.to_owned(), now);
            }
            server.settle(&self.machine, now);
        }
    }

    /// Reload commands that run.
    pub(super) fn command_pids(&self) -> Vec<Pid> {
        self.control.as_ref().map(Server::command_pids).unwrap_or_default()
    }

    fn reload(&mut self, client: Client, id: ServiceId, wait: Duration) {
        let (Some(spec), Some(state)) = (self.machine.spec(id), self.machine.state(id)) else {
            return;
        };
        let State::Up { pid } = *state else {
            let line = format!("{}, so there is nothing to reload", self.line(id));
            return self.result(client, Effect::Failed, line);
        };
        let name = spec.name.clone();
        match spec.reload.clone() {
            None => {
                let why = format!("{name} has no way to reload: give it one, or restart it");
                self.refuse(client, RefusalCode::NotSupported, why);
            }
            Some(Reload::Signal(signal)) => {
                let (effect, text) = match self.send(id, pid, signal.as_raw(), Kill::Process) {
                    None => (Effect::Done, format!("{name}: {signal} sent to {pid}")),
                    Some(errno) => (Effect::Failed, format!("{name}: no signal sent: {errno}")),
                };
                self.result(client, effect, text);
            }
            Some(Reload::Command(command)) => {
                if let Err((code, why)) = self.run_command(client, id, pid, command, wait) {
                    self.refuse(client, code, format!("{name}: {why}"));
                }
            }
        }
    }

    /// Starts a service's reload command.
    fn run_command(
        &mut self,
        client: Client,
        id: ServiceId,
        main: Pid,
        command: Vec<String>,
        wait: Duration,
    ) -> Result<(), (RefusalCode, String)> {
        let (Some(spec), Some(server)) = (self.machine.spec(id), self.control.as_mut()) else {
            return Ok(());
        };
        if !server.takes_commands() {
            let why = "too many reload commands are running".to_owned();
            return Err((RefusalCode::Unavailable, why));
        }
        let mut spec = ServiceSpec { command, tty: None, ..spec.clone() };
        spec.readiness = Readiness::None;
        spec.env.insert("MAINPID".to_owned(), main.to_string());
        // not the service's own, of which there is one at a time
        spec.sockets.clear();
        let mut gifts = self.bare_gifts(id);
        gifts.cgroup = None;
        let key = Purpose::Reload(client, id, wait);
        self.spawner.post(Job { key, spec: Arc::new(spec), gifts }, crate::unix::now());
        Ok(())
    }

    /// A reload command has been started, or could not be.
    pub(super) fn reload_started(
        &mut self,
        client: Client,
        id: ServiceId,
        wait: Duration,
        result: Result<(Pid, Option<OwnedFd>), SpawnError>,
    ) {
        let (Some(name), Some(server)) = (self.machine.name(id), self.control.as_mut()) else {
            return;
        };
        let now = crate::unix::now();
        let patience = if wait.is_zero() { COMMAND_TIMEOUT } else { wait };
        let started = match result {
            Ok((pid, _)) => match server.command(pid, &name, now.saturating_add(patience)) {
                Ok(()) => Ok(pid),
                Err(error) => {
                    self.send(id, pid, nix::libc::SIGKILL, Kill::ProcessGroup);
                    Err(error.to_string())
                }
            },
            Err(error) => Err(error.to_string()),
        };
        match (started, &mut self.control) {
            (Ok(pid), Some(server)) if wait.is_zero() => {
                let text = format!("{name}: reload command started as {pid}");
                server.result(client, Effect::Accepted, text, now);
            }
            (Ok(pid), Some(server)) => {
                let (service, until) = (name.to_string(), now.saturating_add(wait));
                let goal = Goal::Command(pid);
                server.wait(client, Wait { service, goal, until, last: None });
            }
            (Err(why), _) => {
                self.refuse(client, RefusalCode::Unavailable, format!("{name}: {why}"));
            }
            (Ok(_), None) => {}
        }
    }

    /// Adds what the next process image needs to go on serving; what is returned must stay open
    /// until then.
    pub(super) fn hand_control<'a>(
        &'a self,
        fds: &mut Vec<Inherited>,
        keep: &mut Vec<BorrowedFd<'a>>,
    ) -> Option<OwnedFd> {
        let server = self.control.as_ref()?;
        let own = |kind, fd: BorrowedFd<'_>| Inherited {
            service: OWN.to_owned(),
            kind,
            number: fd.as_raw_fd(),
            name: String::new(),
        };
        fds.push(own(FdKind::ControlSocket, server.listener()));
        keep.push(server.listener());
        for (_, fd) in server.askers() {
            fds.push(own(FdKind::ControlAsker, fd));
            keep.push(fd);
        }
        let times = write_json("kiln-supervisor-times", &server.timeline.to_times()).ok()?;
        fds.push(own(FdKind::ControlTimes, times.as_fd()));
        Some(times)
    }
}

/// A memfd that outlives the execution of another image.
pub(super) fn write_json(name: &str, value: &impl serde::Serialize) -> std::io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::empty();
    let file = std::fs::File::from(rustix::fs::memfd_create(name, flags)?);
    // by and by: of a thousand services it is a MiB, which is not to be had when memory is short
    let mut writer = std::io::BufWriter::new(file);
    serde_json::to_writer(&mut writer, value)?;
    Ok(writer.into_inner().map_err(std::io::IntoInnerError::into_error)?.into())
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(fd: OwnedFd) -> Option<T> {
    let mut file = std::fs::File::from(fd);
    file.rewind().ok()?;
    let mut bytes = Vec::new();
    file.take(JSON_LIMIT).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn read_times(fd: OwnedFd) -> Option<Timeline> {
    read_json::<Times>(fd).map(Timeline::from_times)
}
