//! Whether what services wait for holds: a path, a way to everywhere, a clock that is right.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::epoll;
use rustix::fs::inotify;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::sys;
use crate::spec::Condition;

/// Watches without polling: the kernel says when it is worth looking again.
#[derive(Debug)]
pub(super) struct Conditions {
    awaited: BTreeSet<Condition>,
    /// What was told last.
    holding: BTreeMap<Condition, bool>,
    /// Joins what follows; absent when nothing is awaited.
    epoll: Option<OwnedFd>,
    paths: Option<OwnedFd>,
    routes: Option<OwnedFd>,
    clock: Option<OwnedFd>,
    time_was_set: bool,
}

impl Conditions {
    pub(super) fn new(awaited: BTreeSet<Condition>) -> std::io::Result<Self> {
        let mut conditions = Self {
            awaited,
            holding: BTreeMap::new(),
            epoll: None,
            paths: None,
            routes: None,
            clock: None,
            time_was_set: false,
        };
        if conditions.awaited.is_empty() {
            return Ok(conditions);
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = |fd: &OwnedFd| {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
        };
        let any = |kind: fn(&Condition) -> bool| conditions.awaited.iter().any(kind);
        if any(|condition| matches!(condition, Condition::Path(_))) {
            let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
            let fd = inotify::init(flags)?;
            watch(&fd)?;
            conditions.paths = Some(fd);
        }
        if any(|condition| *condition == Condition::Network) {
            let fd = route_changes()?;
            watch(&fd)?;
            conditions.routes = Some(fd);
        }
        if any(|condition| *condition == Condition::TimeSet) {
            let fd = clock_changes()?;
            watch(&fd)?;
            conditions.clock = Some(fd);
        }
        conditions.epoll = Some(epoll);
        Ok(conditions)
    }

    /// Whether just these are awaited.
    pub(super) fn are(&self, awaited: &BTreeSet<Condition>) -> bool {
        self.awaited == *awaited
    }

    /// Becomes readable when something may have changed.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.epoll.as_ref().map(AsFd::as_fd)
    }

    /// Whether the clock has been set while this was watching.
    pub(super) fn was_set(&self) -> bool {
        self.time_was_set
    }

    /// It has, before.
    pub(super) fn time_was_set(&mut self) {
        self.time_was_set = true;
    }

    /// All of them, as they are now.
    pub(super) fn all(&mut self) -> Vec<(Condition, bool)> {
        self.holding.clear();
        self.changed()
    }

    /// Those that have changed since they were last told.
    pub(super) fn changed(&mut self) -> Vec<(Condition, bool)> {
        self.take_in();
        let mut changed = Vec::new();
        for condition in &self.awaited {
            let holds = match condition {
                Condition::Path(path) => self.path(path),
                Condition::Network => has_default_route(),
                Condition::TimeSet => self.time_was_set || sys::clock_is_synchronised(),
            };
            if self.holding.insert(condition.clone(), holds) != Some(holds) {
                changed.push((condition.clone(), holds));
            }
        }
        changed
    }

    /// Empties what has become readable.
    fn take_in(&mut self) {
        let mut buffer = [0_u8; 4096];
        for fd in [&self.paths, &self.routes].into_iter().flatten() {
            // bounded: what comes meanwhile is looked at in the next turn
            for _ in 0..64 {
                if !matches!(rustix::io::read(fd, &mut buffer), Ok(1..)) {
                    break;
                }
            }
        }
        if let Some(fd) = &self.clock
            && rustix::io::read(fd, &mut buffer) == Err(rustix::io::Errno::CANCELED)
        {
            self.time_was_set = true;
        }
    }

    /// Whether a path is there. If not, the nearest directory above that is there is watched first,
    /// so that nothing is missed between looking and watching.
    fn path(&self, path: &Path) -> bool {
        use inotify::WatchFlags as W;
        let flags = W::CREATE
            | W::MOVED_TO
            | W::DELETE
            | W::MOVED_FROM
            | W::DELETE_SELF
            | W::MOVE_SELF
            | W::ONLYDIR;
        if let Some(fd) = &self.paths {
            let above = path.ancestors().skip(1);
            for directory in above {
                let watched = inotify::add_watch(fd, directory, flags);
                if watched.is_ok() {
                    break;
                }
            }
        }
        // a mount over a directory makes no event of it, but those of a mount are few and at boot:
        // whoever waits for a path in one is looked after with the next event
        path.exists()
    }
}

/// A socket on which the kernel announces links, addresses and routes (rtnetlink(7)).
fn route_changes() -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    // RTMGRP_IPV4_ROUTE and RTMGRP_IPV6_ROUTE
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0x40 | 0x400))?;
    let mut buffer = [0_u8; 64];
    let _ = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT);
    Ok(socket)
}

/// Whether IPv4 or IPv6 has a route to everywhere (proc_pid_net(5), `route` and `ipv6_route`).
fn has_default_route() -> bool {
    let read = |name: &str| std::fs::read_to_string(PathBuf::from("/proc/net").join(name));
    read("route").is_ok_and(|text| default_in_route(&text))
        || read("ipv6_route").is_ok_and(|text| default_in_ipv6_route(&text))
}

/// Interface, destination, gateway, flags and more, numbers in base 16.
fn default_in_route(text: &str) -> bool {
    text.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = fields.get(3).and_then(|field| u32::from_str_radix(field, 16).ok());
        let mask = fields.get(7).copied();
        // RTF_UP, and not RTF_REJECT
        fields.get(1) == Some(&"00000000")
            && mask == Some("00000000")
            && flags.is_some_and(|flags| flags & 1 != 0 && flags & 0x200 == 0)
    })
}

/// Destination, its prefix length, ..., flags, interface.
fn default_in_ipv6_route(text: &str) -> bool {
    text.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = fields.get(8).and_then(|field| u32::from_str_radix(field, 16).ok());
        fields.first().is_some_and(|field| field.bytes().all(|byte| byte == b'0'))
            && fields.get(1) == Some(&"00")
            && fields.get(9) != Some(&"lo")
            && flags.is_some_and(|flags| flags & 1 != 0 && flags & 0x200 == 0)
    })
}

/// A timer that never comes, and is cancelled when the clock is set (timerfd_create(2)).
fn clock_changes() -> std::io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let fd = rustix::time::timerfd_create(TimerfdClockId::Realtime, flags)?;
    let never = Timespec { tv_sec: i64::MAX / 2_000_000_000, tv_nsec: 0 };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    let how = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    rustix::time::timerfd_settime(&fd, how, &once)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n";
        let route = |line: &str| default_in_route(&format!("{head}{line}\n"));
        assert!(route("eth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0"));
        assert!(!route("eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0"));
        assert!(!route("*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0"));
        assert!(!default_in_route("") && !default_in_route(head));
        let none = "00000000000000000000000000000000";
        let six = |flags: &str, name: &str| {
            default_in_ipv6_route(&format!(
                "{none} 00 {none} 00 {none} 00000400 1 0 {flags} {name}\n"
            ))
        };
        assert!(six("00000003", "eth0"));
        assert!(!six("00200200", "lo"));
        assert!(!default_in_ipv6_route(&format!("{none} 80 {none} 00 {none} 0 1 0 80200001 eth0")));
    }

    #[test]
    fn a_path_is_seen_to_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let awaited = Condition::Path(path.clone());
        let mut conditions = Conditions::new([awaited.clone()].into()).unwrap();
        let readable = |conditions: &Conditions| {
            let mut events = Vec::with_capacity(1);
            let wait = Timespec { tv_sec: 10, tv_nsec: 0 };
            let fd = conditions.fd().unwrap();
            epoll::wait(fd, rustix::buffer::spare_capacity(&mut events), Some(&wait)).unwrap() > 0
        };
        assert_eq!(conditions.all(), [(awaited.clone(), false)]);
        std::fs::create_dir(dir.path().join("a")).unwrap();
        assert!(readable(&conditions));
        assert_eq!(conditions.changed(), []);
        std::fs::write(&path, "").unwrap();
        assert!(readable(&conditions));
        assert_eq!(conditions.changed(), [(awaited.clone(), true)]);
        std::fs::remove_file(&path).unwrap();
        assert!(readable(&conditions));
        assert_eq!(conditions.changed(), [(awaited, false)]);
    }
}
