//! What the client knows in each state of RFC 2131 figure 5, one struct per state: what a state does
//! not hold, it cannot get wrong.

use core::net::Ipv4Addr;
use core::time::Duration;

use crate::lease::Lease;

/// INIT and SELECTING: a DISCOVER is due at `next`, or out and unanswered until then.
#[derive(Clone, Debug)]
pub(super) struct Selecting {
    pub(super) xid: u32,
    pub(super) attempt: u32,
    pub(super) next: Duration,
}

/// REQUESTING: the offer was taken, the answer is awaited.
#[derive(Clone, Debug)]
pub(super) struct Requesting {
    pub(super) xid: u32,
    pub(super) attempt: u32,
    pub(super) next: Duration,
    pub(super) first_sent: Duration,
    pub(super) server: Ipv4Addr,
    pub(super) address: Ipv4Addr,
}

/// RENEWING, REBINDING or REBOOTING: which question about a lease that is held is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// To the server that gave it (from T1).
    Renew,
    /// To any server (from T2).
    Rebind,
    /// After the link came back: is this still the same network? (RFC 2131 INIT-REBOOT)
    Reboot,
}

/// A lease is held and a REQUEST about it is out.
#[derive(Clone, Debug)]
pub(super) struct Extending {
    pub(super) how: Extension,
    pub(super) lease: Lease,
    pub(super) xid: u32,
    pub(super) attempt: u32,
    pub(super) sent: Duration,
    pub(super) next: Duration,
    /// secs counts from here.
    pub(super) began: Duration,
}

/// BOUND: nothing to do until `renew_at`.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) lease: Lease,
    pub(super) renew_at: Option<Duration>,
}

/// Where the client stands.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// No carrier; a lease from before is kept until it expires.
    Down(Option<Lease>),
    Selecting(Selecting),
    Requesting(Requesting),
    Bound(Bound),
    Extending(Extending),
    /// Told to end.
    Stopped,
}

impl State {
    pub(super) const fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Down(lease) => lease.as_ref(),
            Self::Bound(bound) => Some(&bound.lease),
            Self::Extending(extending) => Some(&extending.lease),
            Self::Selecting(_) | Self::Requesting(_) | Self::Stopped => None,
        }
    }

    pub(super) fn into_lease(self) -> Option<Lease> {
        match self {
            Self::Down(lease) => lease,
            Self::Bound(bound) => Some(bound.lease),
            Self::Extending(extending) => Some(extending.lease),
            Self::Selecting(_) | Self::Requesting(_) | Self::Stopped => None,
        }
    }
}
