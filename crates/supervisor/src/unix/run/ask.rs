//! Asking services whether they are ready: a connection, or a command.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll};

use super::{Key, Purpose, Shell};
use crate::graph::ServiceId;
use crate::spec::{Kill, Readiness, ServiceSpec};
use crate::unix::socket;
use crate::unix::spawner::Job;
use crate::vocabulary::{Event, ExitStatus, Input, Pid, SpawnError, Time, Token};

/// A question under way.
#[derive(Debug)]
pub(super) struct Probe {
    token: Token,
    /// When it is answered with no.
    until: Time,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Connection(OwnedFd),
    /// A command; being started when there is no number yet.
    Command {
        pid: Option<Pid>,
        #[expect(dead_code, reason = "it is watched for as long as it is open")]
        pidfd: Option<OwnedFd>,
    },
}

impl Shell {
    /// Begins to ask. What can be said at once is the input to tell.
    pub(super) fn ask(&mut self, token: Token, id: ServiceId, timeout: Duration) -> Option<Input> {
        let spec = Arc::clone(self.machine.specs.get(id.index())?);
        let until = crate::unix::now().saturating_add(timeout);
        let no = Some(Input::Probed { token, ready: false });
        let kind = match &spec.readiness {
            Readiness::Connect(address) => match socket::connect(address) {
                Ok((_, true)) => return Some(Input::Probed { token, ready: true }),
                Ok((fd, false)) => {
                    let key = Key::Asked(id).pack();
                    if epoll::add(&self.epoll, &fd, key, epoll::EventFlags::OUT).is_err() {
                        return no;
                    }
                    Kind::Connection(fd)
                }
                Err(_) => return no,
            },
            Readiness::Probe(probe) => {
                let mut asking = ServiceSpec::one_shot(&spec.name, &probe.command);
                asking.env.clone_from(&spec.env);
                asking.env_files.clone_from(&spec.env_files);
                asking.inherit_env = spec.inherit_env;
                asking.directory.clone_from(&spec.directory);
                let mut gifts = self.bare_gifts(id);
                gifts.cgroup = None;
                let key = Purpose::Probe(id, token);
                let job = Job { key, spec: Arc::new(asking), gifts };
                self.spawner.post(job, crate::unix::now());
                Kind::Command { pid: None, pidfd: None }
            }
            _ => return no,
        };
        self.probes.insert(id, Probe { token, until, kind });
        None
    }

    /// A probe's command has been started, or could not be.
    pub(super) fn probe_started(
        &mut self,
        id: ServiceId,
        token: Token,
        result: Result<(Pid, Option<OwnedFd>), SpawnError>,
    ) -> Option<Input> {
        let current = self.probes.get_mut(&id).filter(|probe| probe.token == token);
        match (result, current) {
            (Ok((pid, pidfd)), Some(probe)) => {
                if let Some(pidfd) = &pidfd {
                    let key = Key::Child(pid).pack();
                    let _ = epoll::add(&self.epoll, pidfd, key, epoll::EventFlags::IN);
                }
                // it may have ended before it was watched
                self.more_to_reap = true;
                probe.kind = Kind::Command { pid: Some(pid), pidfd };
                None
            }
            // nobody wants to know any more; it is reaped as an orphan
            (Ok((pid, _)), None) => {
                self.send(id, pid, 9, Kill::ProcessGroup);
                None
            }
            (Err(_), Some(_)) => {
                self.probes.remove(&id);
                Some(Input::Probed { token, ready: false })
            }
            (Err(_), None) => None,
        }
    }

    fn probe_of(&self, pid: Pid) -> Option<ServiceId> {
        let of = |probe: &Probe| matches!(probe.kind, Kind::Command { pid: Some(known), .. } if known == pid);
        self.probes.iter().find(|(_, probe)| of(probe)).map(|(id, _)| *id)
    }

    /// Whether a process is the command of a probe.
    pub(super) fn is_probe(&self, pid: Pid) -> bool {
        self.probe_of(pid).is_some()
    }

    /// The commands of probes.
    pub(super) fn probe_pids(&self) -> Vec<Pid> {
        let pid = |probe: &Probe| match probe.kind {
            Kind::Command { pid, .. } => pid,
            Kind::Connection(_) => None,
        };
        self.probes.values().filter_map(pid).collect()
    }

    pub(super) fn probe_ended(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        on_event: &mut dyn FnMut(&Event),
    ) {
        if let Some(probe) = self.probe_of(pid).and_then(|id| self.probes.remove(&id)) {
            let ready = status.success();
            self.input(Input::Probed { token: probe.token, ready }, on_event);
        }
    }

    /// A connection has been made, or refused.
    pub(super) fn on_asked(&mut self, id: ServiceId, on_event: &mut dyn FnMut(&Event)) {
        let Some(probe) = self.probes.remove(&id) else { return };
        let Kind::Connection(fd) = &probe.kind else {
            self.probes.insert(id, probe);
            return;
        };
        let ready = matches!(rustix::net::sockopt::socket_error(fd), Ok(Ok(()))) && writable(fd);
        self.input(Input::Probed { token: probe.token, ready }, on_event);
    }

    /// When the first question has to be answered.
    pub(super) fn probes_due(&self) -> Time {
        self.probes.values().map(|probe| probe.until).min().unwrap_or(Time::MAX)
    }

    /// Answers with no what has taken too long.
    pub(super) fn late_probes(&mut self, now: Time, on_event: &mut dyn FnMut(&Event)) {
        let late = self.probes.iter().filter(|(_, probe)| probe.until <= now);
        let late: Vec<Token> = late.map(|(_, probe)| probe.token).collect();
        for token in late {
            self.end_probe(token);
            self.input(Input::Probed { token, ready: false }, on_event);
        }
    }

    pub(super) fn end_probe(&mut self, token: Token) {
        let found = self.probes.iter().find(|(_, probe)| probe.token == token);
        let Some(id) = found.map(|(id, _)| *id) else { return };
        if let Some(Probe { kind: Kind::Command { pid: Some(pid), .. }, .. }) =
            self.probes.remove(&id)
        {
            self.send(id, pid, 9, Kill::ProcessGroup);
            // without the right to adopt orphans nobody else asks for it
            self.doomed.push(pid);
            self.more_to_reap = true;
        }
    }
}

fn writable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..))
}
