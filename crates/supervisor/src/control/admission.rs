//! Who may do what on the control socket, and who has to go when it is crowded.

use std::cmp::Reverse;

/// What the kernel says of the process at the other end, as it was when it connected
/// (`SO_PEERCRED` and `SO_PEERGROUPS`, unix(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its number, 0 if it lives outside of our PID namespace.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group, and its supplementary ones.
    pub gids: Vec<u32>,
}

/// A set of users and groups. The default is nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// Everybody who can open the socket.
    pub everybody: bool,
    /// These users.
    pub uids: Vec<u32>,
    /// Members of these groups.
    pub gids: Vec<u32>,
}

impl Access {
    /// Everybody who can open the socket.
    #[must_use]
    pub fn everybody() -> Self {
        Self { everybody: true, ..Self::default() }
    }

    /// These users.
    #[must_use]
    pub fn users(uids: impl Into<Vec<u32>>) -> Self {
        Self { uids: uids.into(), ..Self::default() }
    }

    /// Whether `peer` is one of them.
    #[must_use]
    pub fn allows(&self, peer: &Peer) -> bool {
        self.everybody
            || self.uids.contains(&peer.uid)
            || self.gids.iter().any(|gid| peer.gids.contains(gid))
    }
}

/// What counts about a connection when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) key: u32,
    /// The process that opened it.
    pub(crate) pid: i32,
    /// Whether it may change things.
    pub(crate) may_act: bool,
    /// Whether nothing is being done for it.
    pub(crate) idle: bool,
    /// Whether it has not greeted, or has begun a request and not ended it.
    pub(crate) half: bool,
    /// When it last did something; any unit.
    pub(crate) since: u128,
}

/// Whose connection makes place for a new one: among those of the process that has the most, one
/// that has said nothing whole yet, else the one that has been idle for longest. So a process that opens thousands takes its own
/// places away and nobody else's. Where all are busy, a newcomer that may act displaces one that
/// may not; otherwise there is no place.
pub(crate) fn displaced(seats: &[Seat], newcomer_may_act: bool) -> Option<u32> {
    let count = |pid: i32| seats.iter().filter(|seat| seat.pid == pid).count();
    let oldest = |wanted: &dyn Fn(&Seat) -> bool| {
        seats
            .iter()
            .filter(|seat| wanted(seat))
            .min_by_key(|seat| (Reverse(count(seat.pid)), !seat.half, seat.since))
            .map(|seat| seat.key)
    };
    oldest(&|seat| seat.idle)
        .or_else(|| newcomer_may_act.then(|| oldest(&|seat| !seat.may_act)).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(key: u32, pid: i32, idle: bool, since: u128) -> Seat {
        Seat { key, pid, may_act: false, idle, half: false, since }
    }

    #[test]
    fn a_crowd_displaces_itself() {
        let mut seats = vec![seat(0, 10, true, 1)];
        seats.extend((1..9).map(|n| seat(n, 20, true, u128::from(n) + 5)));
        assert_eq!(displaced(&seats, true), Some(1));
        seats[5].half = true;
        assert_eq!(displaced(&seats, true), Some(5));
        // alone, the oldest goes
        assert_eq!(displaced(&[seat(3, 1, true, 9), seat(4, 2, true, 8)], false), Some(4));
    }

    #[test]
    fn the_busy_stay_unless_somebody_more_important_comes() {
        let mut seats: Vec<_> = (0..4).map(|n| seat(n, 20, false, u128::from(n))).collect();
        assert_eq!(displaced(&seats, false), None);
        assert_eq!(displaced(&seats, true), Some(0));
        for seat in &mut seats {
            seat.may_act = true;
        }
        assert_eq!(displaced(&seats, true), None);
        assert_eq!(displaced(&[], true), None);
    }

    #[test]
    fn users_and_groups() {
        let peer = Peer { pid: 7, uid: 1000, gids: vec![1000, 27] };
        assert!(!Access::default().allows(&peer));
        assert!(Access::everybody().allows(&peer));
        assert!(Access::users([0, 1000]).allows(&peer));
        let mut group = Access::users([0]);
        assert!(!group.allows(&peer));
        group.gids.push(27);
        assert!(group.allows(&peer));
    }
}
