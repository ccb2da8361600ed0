//! What there is to wait for.

use rustix::event::epoll;

use crate::graph::ServiceId;
use crate::vocabulary::Pid;

/// What an epoll event is about, packed into its 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Signal,
    Child(Pid),
    Notify(ServiceId),
    Log(ServiceId),
    Source(u32),
    /// Processes have been started.
    Spawned,
    /// The answer to a connection that is tried.
    Asked(ServiceId),
    /// Somebody turns to a service that listens.
    Socket(ServiceId),
    Conditions,
    /// Output was lost.
    Losses,
    /// Services have been read again.
    Loaded,
    /// Others have drawn on the reserve of memory.
    Memory,
    #[cfg(feature = "control")]
    Control,
}

impl Key {
    pub(super) fn pack(self) -> epoll::EventData {
        let (kind, value) = match self {
            Self::Signal => (0_u64, 0),
            Self::Child(pid) => (1, u32::try_from(pid.0).unwrap_or(0)),
            Self::Notify(id) => (2, id.0),
            Self::Log(id) => (3, id.0),
            Self::Source(index) => (4, index),
            Self::Spawned => (5, 0),
            Self::Asked(id) => (6, id.0),
            Self::Socket(id) => (7, id.0),
            Self::Conditions => (8, 0),
            Self::Losses => (9, 0),
            Self::Loaded => (10, 0),
            Self::Memory => (12, 0),
            #[cfg(feature = "control")]
            Self::Control => (11, 0),
        };
        epoll::EventData::new_u64(kind << 32 | u64::from(value))
    }

    pub(super) fn unpack(data: epoll::EventData) -> Option<Self> {
        let bits = data.u64();
        let value = u32::try_from(bits & 0xffff_ffff).ok()?;
        Some(match bits >> 32 {
            0 => Self::Signal,
            1 => Self::Child(Pid(i32::try_from(value).ok()?)),
            2 => Self::Notify(ServiceId(value)),
            3 => Self::Log(ServiceId(value)),
            4 => Self::Source(value),
            5 => Self::Spawned,
            6 => Self::Asked(ServiceId(value)),
            7 => Self::Socket(ServiceId(value)),
            8 => Self::Conditions,
            9 => Self::Losses,
            10 => Self::Loaded,
            12 => Self::Memory,
            #[cfg(feature = "control")]
            11 => Self::Control,
            _ => return None,
        })
    }
}
