//! A shell from nothing, or from what the process image before has left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll;
use rustix::process::{Resource, Rlimit};

use super::key::Key;
use super::shortage::Shortage;
use super::{Purpose, Shell, reload, unsound, warning};
use crate::machine::Supervisor;
use crate::snapshot::Snapshot;
use crate::spec::ServiceSpec;
use crate::unix::conditions::Conditions;
use crate::unix::image::{self, Estate};
use crate::unix::log::Writer;
use crate::unix::spawner::Spawner;
use crate::unix::{Error, OnPanic, Options, Role, cgroup, priority, reserve};
use crate::vocabulary::{Input, Time};

/// The niceness of PID 1's loop unless something else is asked for.
const INIT_NICE: i32 = -15;

impl Shell {
    pub(super) fn new(specs: Vec<ServiceSpec>, options: Options) -> Result<Self, Error> {
        let now = crate::unix::now();
        let drawn = reserve::supervise().map_err(Error::system("make an eventfd"))?;
        let mut lost = false;
        let mut estate = Estate::taken();
        #[cfg_attr(
            not(feature = "control"),
            expect(unused_mut, reason = "nothing is taken out of it")
        )]
        let mut legacy = match estate.as_mut().map(Estate::read) {
            Some(Some(legacy)) => Some(legacy),
            Some(None) => {
                // returns only if there is no way back
                estate.iter().for_each(Estate::go_back);
                if !rustix::process::getpid().is_init() {
                    let what = "take over the state of the process image before";
                    return Err(Error::system(what)(std::io::Error::from(
                        std::io::ErrorKind::InvalidData,
                    )));
                }
                // whatever runs is nobody's: a second instance beside it would be worse than none
                let all = nix::unistd::Pid::from_raw(-1);
                let _ = nix::sys::signal::kill(all, NixSignal::SIGKILL);
                lost = true;
                None
            }
            None => None,
        };
        // Before what was left is read, which may take what is to be had of memory. Signals are blocked.
        let early = legacy.as_ref().map(|legacy| {
            let _ = priority::original(legacy.nice);
            helpers(true)
        });
        let early = early.transpose()?;
        let mut told = Vec::new();
        #[cfg(feature = "control")]
        let handed = super::specs::specs_handed_on(legacy.as_mut(), &options);
        #[cfg(not(feature = "control"))]
        let handed = None;
        let (specs, target) = match handed {
            Some(handed) => {
                let asked = legacy.as_ref().is_some_and(|legacy| legacy.asked);
                unsound::go_over(handed, specs, asked, &options, &mut told)
            }
            None => {
                let begun = unsound::leave_out(specs, &options, &mut told);
                if legacy.as_ref().is_some_and(|legacy| begun.loses(legacy)) {
                    // returns only if there is no way back
                    estate.iter().for_each(Estate::go_back);
                }
                (begun.sound, None)
            }
        };
        let mut machine = match &legacy {
            Some(legacy) => {
                let resumed = Supervisor::resume(specs, &legacy.snapshot, now);
                if resumed.is_err() {
                    estate.iter().for_each(Estate::go_back);
                }
                resumed?
            }
            None => Supervisor::new(specs, now)?,
        };
        if let Some(target) = target {
            let reloaded = machine.reload(target, now);
            if reloaded.is_err() {
                estate.iter().for_each(Estate::go_back);
            }
            reloaded?;
        }
        let init = match options.role {
            Role::Auto => rustix::process::getpid().is_init(),
            role => role == Role::Init,
        };
        let reaps = options.reap_orphans.unwrap_or(init);
        if reaps && !rustix::process::getpid().is_init() {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(Error::system("become a child subreaper"))?;
        }
        let mut mask = SigSet::empty();
        for signal in [
            NixSignal::SIGCHLD,
            NixSignal::SIGTERM,
            NixSignal::SIGINT,
            NixSignal::SIGHUP,
            NixSignal::SIGUSR1,
            NixSignal::SIGUSR2,
            NixSignal::SIGPWR,
        ] {
            mask.add(signal);
        }
        let old_mask =
            mask.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(Error::system("block signals"))?;
        let mut old_mask = old_mask;
        if legacy.is_some() {
            // blocked by the image before
            for signal in mask.iter() {
                old_mask.remove(signal);
            }
        }
        crate::unix::sys::hear_of_children();
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(Error::system("make a signalfd"))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(Error::system("make an epoll set"))?;
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .or_else(|_| empty_input())
        .map_err(Error::system("open /dev/null"))?;
        let limit = legacy.as_ref().and_then(|legacy| legacy.nofile);
        let nofile = raise_nofile(limit);
        let reset_oom = std::fs::read_to_string("/proc/self/oom_score_adj")
            .is_ok_and(|text| text.trim() != "0");
        let awaited = machine.awaited().into_iter().cloned().collect();
        let cgroups = options.cgroup.as_deref().and_then(|path| match cgroup::Root::take(path) {
            Ok((root, missing)) => {
                if !missing.is_empty() {
                    let missing = missing.join(", ");
                    told.push(warning(format!("control groups without {missing}")));
                }
                Some(Arc::new(root))
            }
            Err(error) => {
                told.push(warning(format!("no control groups in {}: {error}", path.display())));
                None
            }
        });
        let nice = priority::original(legacy.as_ref().and_then(|legacy| legacy.nice));
        let wanted =
            options.nice.or_else(|| rustix::process::getpid().is_init().then_some(INIT_NICE));
        let (spawner, writer) = match early {
            Some(both) => both,
            None => helpers(false)?,
        };
        let loader = reload::Loader::default();
        // after the threads, which have the niceness of before
        let preferred = wanted.map(priority::prefer);
        if let (Some(Err(error)), Some(_)) = (preferred, options.nice) {
            told.push(warning(format!("no other niceness: {error}")));
        }
        let conditions = Conditions::new(awaited).map_err(Error::system("watch conditions"))?;
        // only a panic that is survived asks for it
        let committed = match options.on_panic {
            OnPanic::Unwind => Snapshot::default(),
            OnPanic::Reexec { .. } => machine.snapshot(),
        };
        let mut shell = Self {
            spawner,
            cgroups,
            conditions,
            probes: BTreeMap::new(),
            sockets: BTreeMap::new(),
            stored: BTreeMap::new(),
            doomed: Vec::new(),
            uncommitted: Vec::new(),
            heard_ready: Vec::new(),
            committed,
            machine,
            options,
            panics: 0,
            last_panic: Time::ZERO,
            replace: false,
            told,
            epoll,
            signals,
            old_mask,
            init,
            reaps,
            more_to_reap: true,
            orphans_at: Time::MAX,
            orphans_from: Time::ZERO,
            null: Arc::new(null),
            nofile,
            nice: nice.filter(|_| wanted.is_some()),
            is_nicer: nice.zip(wanted).is_some_and(|(before, now)| before < now),
            reset_oom,
            lingering: BTreeSet::new(),
            children: BTreeMap::new(),
            channels: BTreeMap::new(),
            logs: BTreeMap::new(),
            resting: VecDeque::new(),
            writer,
            loader,
            shortage: Shortage::default(),
            losses_at: Time::MAX,
            #[cfg(feature = "control")]
            control: None,
        };
        shell.watch(shell.signals.as_fd(), Key::Signal).map_err(Error::system("watch signals"))?;
        let spawned = shell.watch(shell.spawner.fd(), Key::Spawned);
        spawned.map_err(Error::system("watch for new processes"))?;
        let losses = shell.watch(shell.writer.fd(), Key::Losses);
        losses.map_err(Error::system("watch logs"))?;
        let memory = shell.watch(drawn, Key::Memory);
        memory.map_err(Error::system("watch memory"))?;
        if let Some(fd) = shell.conditions.fd() {
            let watched = shell.watch(fd, Key::Conditions);
            watched.map_err(Error::system("watch conditions"))?;
        }
        for (source, index) in shell.options.sources.iter().zip(0..) {
            shell
                .watch(source.fd(), Key::Source(index))
                .map_err(Error::system("watch a source"))?;
        }
        let returned = estate.is_some_and(|estate| estate.returned);
        #[cfg(feature = "control")]
        shell.open_control(legacy.as_mut(), returned)?;
        match legacy {
            Some(legacy) => shell.inherit(legacy, returned),
            None => shell.end_those_before(),
        }
        if lost {
            let what = "the state before a panic was lost: all processes were killed";
            shell.told.push(warning(what.to_owned()));
        }
        shell.bounds_without_groups();
        for (condition, holds) in shell.conditions.all() {
            shell.machine.handle(Input::Condition { condition, holds }, now);
        }
        // whoever has read the services had them as trees of text before
        crate::unix::sys::give_memory_back();
        image::note_size();
        Ok(shell)
    }
}

/// The threads without which nothing goes on.
fn helpers(waits: bool) -> Result<(Spawner<Purpose>, Writer), Error> {
    let spawner = thread(waits, Spawner::new).map_err(Error::system("start a thread"))?;
    let writer = thread(waits, Writer::new);
    Ok((spawner, writer.map_err(Error::system("start a thread for logs"))?))
}

/// Starts a thread. With services to look after there is no way back: then it is waited for.
fn thread<T>(waits: bool, start: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
    let mut wait = reserve::Wait::default();
    loop {
        match start() {
            Err(error) if waits && error.raw_os_error() == Some(nix::libc::EAGAIN) => {}
            result => return result,
        }
        // what reading the services has taken, for one
        crate::unix::sys::give_memory_back();
        wait.pause(b"supervisor: no thread is to be had: waits for one\n");
    }
}

/// Something to read nothing from where there is no /dev/null.
fn empty_input() -> rustix::io::Result<OwnedFd> {
    rustix::fs::memfd_create("null", rustix::fs::MemfdFlags::CLOEXEC)
}

/// Raises the soft limit of open files to the hard one; gives the old for services to have, which is
/// known where an image before this one has raised it.
fn raise_nofile(known: Option<u64>) -> Option<Rlimit> {
    let old = rustix::process::getrlimit(Resource::Nofile);
    if known.is_some() {
        return Some(Rlimit { current: known, maximum: old.maximum });
    }
    if old.current == old.maximum {
        return None;
    }
    let new = Rlimit { current: old.maximum, maximum: old.maximum };
    rustix::process::setrlimit(Resource::Nofile, new).ok().map(|()| old)
}
