//! Starting a service's process, and what is cleared away when it has ended.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::process::PidfdFlags;

use super::{Child, Key, Purpose, Shell, credentials, warning};
use crate::graph::ServiceId;
use crate::spec::{Cgroup, Kill, Log, LogFile, Readiness, ServiceSpec};
use crate::unix::fault::point;
use crate::unix::log::{LogPipe, Sink};
use crate::unix::notify::{self, Channel, ChannelKind};
use crate::unix::spawn::{Gifts, unprepared};
use crate::unix::spawner::{Done, Job};
use crate::vocabulary::{Errno, Event, Input, Pid, SpawnError, Token};

impl Shell {
    /// Has a service's process started. What can be said at once is the input to tell.
    pub(super) fn spawn(&mut self, token: Token, id: ServiceId) -> Option<Input> {
        let spec = Arc::clone(self.machine.specs.get(id.index())?);
        if spec.only_if.iter().any(|path| !path.exists()) {
            return Some(Input::Skipped { token });
        }
        match self.gifts(token, id, &spec) {
            Ok(gifts) => {
                let key = Purpose::Service(id, token);
                self.spawner.post(Job { key, spec, gifts }, crate::unix::now());
                None
            }
            Err(error) => Some(Input::SpawnFailed { token, error }),
        }
    }

    /// What a new process of a service gets, with its channels being watched.
    fn gifts(
        &mut self,
        token: Token,
        id: ServiceId,
        spec: &ServiceSpec,
    ) -> Result<Gifts, SpawnError> {
        let bad = |what: &str| {
            let what = what.to_owned();
            move |errno: rustix::io::Errno| unprepared(what, &errno.into())
        };
        self.channels.remove(&id);
        self.redirect_log(id, spec);
        if !self.logs.contains_key(&id)
            && spec.tty.is_none()
            && let Some(sink) = self.sink(id, spec)
        {
            let pipe = LogPipe::new(sink, spec.log.clone()).map_err(bad("log pipe"))?;
            self.keep_log(id, pipe).map_err(bad("log"))?;
        }
        self.open_sockets(id)?;
        let mut gifts = self.bare_gifts(id);
        let groups = self.cgroups.as_ref().filter(|_| spec.kill == Kill::ControlGroup);
        gifts.is_left = groups.is_some_and(|groups| !groups.remove(&spec.name));
        let stays = spec.fd_store > 0;
        let channel = match spec.readiness {
            Readiness::NotifyFd(_) => {
                let (read, write) = notify::pipe().map_err(bad("notification pipe"))?;
                gifts.notify = Some(Arc::new(write));
                Some(Channel { token, fd: read, kind: ChannelKind::Pipe })
            }
            _ if spec.readiness == Readiness::SdNotify || stays => {
                let (fd, name) = self.notification_socket(token, spec)?;
                gifts.socket = Some(name);
                Some(Channel { token, fd, kind: ChannelKind::Socket { stays } })
            }
            _ => None,
        };
        if let Some(channel) = channel {
            self.watch(channel.fd.as_fd(), Key::Notify(id)).map_err(bad("notification"))?;
            self.channels.insert(id, channel);
        }
        gifts.inherited = self.inherited(id);
        Ok(gifts)
    }

    /// The socket that a service says by that it is ready, and its name.
    fn notification_socket(
        &self,
        token: Token,
        spec: &ServiceSpec,
    ) -> Result<(OwnedFd, String), SpawnError> {
        #[cfg(feature = "oci")]
        if spec.container.is_some() {
            let directory = self.options.container_dir.join(&spec.name);
            return notify::socket_in(&directory).map_err(|error| {
                unprepared(format!("notification socket in {}", directory.display()), &error)
            });
        }
        let made = notify::socket(&spec.name, token.0);
        made.map_err(|errno| unprepared("notification socket", &errno.into()))
    }

    /// What any process that is started for a service gets.
    pub(super) fn bare_gifts(&self, id: ServiceId) -> Gifts {
        let log = self.machine.specs.get(id.index()).map(|spec| &spec.log);
        let output = match log {
            Some(Log::Null) => Some(Arc::clone(&self.null)),
            _ => self.logs.get(&id).map(|pipe| Arc::clone(&pipe.write)),
        };
        Gifts {
            null: Arc::clone(&self.null),
            output,
            notify: None,
            socket: None,
            inherited: Vec::new(),
            nofile: self.nofile,
            nice: self.nice,
            loop_is_nicer: self.is_nicer,
            reset_oom: self.reset_oom,
            cgroup: self.cgroups.clone(),
            is_left: false,
            credentials: self.options.credentials_dir.clone(),
            #[cfg(feature = "oci")]
            container_command: self.options.container_command.clone(),
        }
    }

    /// Takes in what the thread has done.
    pub(super) fn on_spawned(&mut self, on_event: &mut dyn FnMut(&Event)) {
        let done = self.spawner.done(crate::unix::now());
        self.take_in(done, on_event);
    }

    /// Takes in what has become of some that were to be started.
    pub(super) fn take_in(
        &mut self,
        mut all: Vec<Done<Purpose>>,
        on_event: &mut dyn FnMut(&Event),
    ) {
        // All processes are known before anything else happens: a panic later must not lose one.
        for done in &mut all {
            if let (Purpose::Service(id, _), Ok((pid, pidfd))) = (&done.key, &mut done.result) {
                self.adopt(*id, *pid, pidfd.take());
            }
        }
        for done in all {
            point();
            self.spawned(done, on_event);
        }
    }

    fn spawned(&mut self, done: Done<Purpose>, on_event: &mut dyn FnMut(&Event)) {
        let input = match (done.key, done.result) {
            (Purpose::Service(_, token), Ok((pid, _))) => Input::Spawned { token, pid },
            (Purpose::Service(id, token), Err(error)) => {
                self.channels.remove(&id);
                self.clear_away(id, self.has_credentials(id));
                Input::SpawnFailed { token, error }
            }
            #[cfg(feature = "control")]
            (Purpose::Reload(client, id, wait), result) => {
                return self.reload_started(client, id, wait, result);
            }
            (Purpose::Probe(id, token), result) => match self.probe_started(id, token, result) {
                Some(input) => input,
                None => return,
            },
        };
        self.input(input, on_event);
    }

    /// Remembers a process before anything else happens, and watches it.
    pub(super) fn adopt(&mut self, service: ServiceId, pid: Pid, pidfd: Option<OwnedFd>) {
        let credentials = self.has_credentials(service);
        self.children.insert(pid, Child { service, pidfd: None, ended: false, credentials });
        let pidfd = pidfd.or_else(|| {
            let pid = rustix::process::Pid::from_raw(pid.0)?;
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
        });
        match pidfd {
            Some(pidfd) if self.watch(pidfd.as_fd(), Key::Child(pid)).is_ok() => {
                if let Some(child) = self.children.get_mut(&pid) {
                    child.pidfd = Some(pidfd);
                }
            }
            // out of descriptors, or gone already: asked for by number in the next turn
            _ => self.more_to_reap = true,
        }
    }

    /// Whether what is started of a service now is given credentials.
    fn has_credentials(&self, id: ServiceId) -> bool {
        self.machine.spec(id).is_some_and(|spec| !spec.isolation.credentials.is_empty())
    }

    /// Where a service's output goes; a file of its own is opened by the writer.
    pub(super) fn sink(&self, id: ServiceId, spec: &ServiceSpec) -> Option<Sink> {
        match &spec.log {
            Log::Console => Some(Sink::Console(format!("{}: ", spec.name), Vec::new())),
            _ => {
                self.writer.open(id, self.log_file(spec)?);
                Some(Sink::File)
            }
        }
    }

    /// Where its spec has been changed, a service's output goes elsewhere: through the same pipe
    /// where there is still need of one, since what it has left running may hold the other end.
    fn redirect_log(&mut self, id: ServiceId, spec: &ServiceSpec) {
        let same = |pipe: &LogPipe| pipe.log == spec.log && spec.tty.is_none();
        if self.logs.get(&id).is_none_or(same) {
            return;
        }
        if let Some(pipe) = self.logs.get_mut(&id) {
            pipe.pump(id, &mut self.writer);
        }
        match self.sink(id, spec).filter(|_| spec.tty.is_none()) {
            Some(sink) => {
                if let Some(pipe) = self.logs.get_mut(&id) {
                    pipe.sink = sink;
                    pipe.log.clone_from(&spec.log);
                }
            }
            None => drop(self.logs.remove(&id)),
        }
    }

    /// The file that a service's output goes to, if it goes to one.
    pub(super) fn log_file(&self, spec: &ServiceSpec) -> Option<LogFile> {
        match &spec.log {
            Log::File(file) => Some(file.clone()),
            Log::Auto => self.options.log_dir.as_ref().map(|dir| LogFile {
                path: dir.join(format!("{}.log", spec.name)),
                max_bytes: self.options.log_max_bytes,
                keep: self.options.log_keep,
                timestamps: self.options.log_timestamps,
            }),
            Log::Console | Log::Inherit | Log::Null => None,
        }
    }

    /// Signals a service's process, or also what belongs to it.
    pub(super) fn send(&self, id: ServiceId, pid: Pid, signal: i32, scope: Kill) -> Option<Errno> {
        use rustix::process::{Signal, kill_process, kill_process_group};
        // a number may not be ours to signal; 1 and less never are
        let target = rustix::process::Pid::from_raw(pid.0).filter(|_| pid.0 > 1)?;
        let signal = Signal::from_named_raw(signal)?;
        let result = match scope {
            Kill::Process => kill_process(target, signal),
            Kill::ProcessGroup | Kill::ControlGroup => kill_process_group(target, signal),
        };
        if let (Kill::ControlGroup, Signal::KILL, Some(groups), Some(spec)) =
            (scope, signal, &self.cgroups, self.machine.specs.get(id.index()))
        {
            groups.kill(&spec.name);
        }
        result.err().map(|error| Errno(error.raw_os_error()))
    }

    /// Ends what a supervisor before this one has left running in the groups of services, for that
    /// one was killed and nobody but us would know of it; a second instance beside it would be worse.
    /// Processes that are no longer their service's affair ([`Kill::Process`]) stay.
    pub(super) fn end_those_before(&mut self) {
        let Some(groups) = &self.cgroups else { return };
        let owned = self.machine.specs.iter().filter(|spec| spec.kill != Kill::Process);
        let names = owned.map(|spec| spec.name.as_str());
        let left: Vec<&str> = names.filter(|name| groups.is_populated(name)).collect();
        groups.kill_left(&left);
        if !left.is_empty() {
            let what = format!("killed what was left of {} from before", left.join(", "));
            self.told.push(warning(what));
        }
    }

    /// What a process that has ended leaves behind.
    pub(super) fn clear_away(&mut self, id: ServiceId, credentials: bool) {
        let Some(spec) = self.machine.specs.get(id.index()) else { return };
        if credentials {
            credentials::withdraw(&self.options.credentials_dir, &spec.name);
        }
        #[cfg(feature = "oci")]
        if spec.container.is_some() {
            notify::forget(&self.options.container_dir.join(&spec.name));
        }
        if let Some(groups) = &self.cgroups
            && !groups.remove(&spec.name)
        {
            self.lingering.insert(id);
        }
    }

    /// Lets go of the groups of ended services whose last processes have died meanwhile.
    pub(super) fn remove_lingering(&mut self) {
        let (Some(groups), machine) = (&self.cgroups, &self.machine) else { return };
        self.lingering.retain(|id| {
            // A successor has the group for its own.
            let lives = machine.state(*id).is_none_or(crate::State::is_live);
            let name = machine.specs.get(id.index()).map(|spec| spec.name.as_str());
            !lives && name.is_some_and(|name| !groups.remove(name))
        });
    }

    /// Says so where bounds are wanted that there are no control groups for.
    pub(super) fn bounds_without_groups(&mut self) {
        if self.cgroups.is_some() {
            return;
        }
        let bound = self.machine.specs.iter().filter(|spec| *spec.cgroup != Cgroup::default());
        let names: Vec<&str> = bound.map(|spec| spec.name.as_str()).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            let what = format!("no control groups, so nothing bounds together: {names}");
            self.told.push(warning(what));
        }
    }
}
