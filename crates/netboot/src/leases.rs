//! Which addresses are whose.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use kiln_dhcp_wire::HardwareAddr;

/// How long an address is kept for somebody who has been offered it (RFC 2131 section 3.1 leaves it open).
const OFFERED: Duration = Duration::from_secs(60);
/// How long an address is left alone of which somebody has said that another has it.
const DECLINED: Duration = Duration::from_secs(600);

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Somebody has been offered it.
    Offered,
    /// Somebody has it.
    Leased,
    /// It is in use by somebody who did not get it here.
    Declined,
}

/// What somebody has, or had.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Who.
    pub mac: HardwareAddr,
    /// What.
    pub state: State,
    /// Until when. It stays known after that, so that the same machine gets the same address again.
    pub until: Duration,
}

/// A range of addresses, and who has them. It never knows more than there are addresses.
#[derive(Debug, Clone)]
pub struct Leases {
    first: u32,
    last: u32,
    fixed: BTreeMap<HardwareAddr, Ipv4Addr>,
    given: BTreeMap<u32, Lease>,
}

impl Leases {
    /// Nobody has anything of the addresses from `first` to `last`, and machines of `fixed` have theirs, inside
    /// the range or outside.
    #[must_use]
    pub fn new(first: Ipv4Addr, last: Ipv4Addr, fixed: BTreeMap<HardwareAddr, Ipv4Addr>) -> Self {
        Self { first: first.into(), last: last.into(), fixed, given: BTreeMap::new() }
    }

    /// All that is known, with the addresses in order.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Lease)> {
        self.given.iter().map(|(address, lease)| ((*address).into(), lease))
    }

    fn fixed_of(&self, mac: HardwareAddr) -> Option<u32> {
        self.fixed.get(&mac).map(|address| u32::from(*address))
    }

    /// The address that somebody has, or had last.
    #[must_use]
    pub fn of(&self, mac: HardwareAddr) -> Option<Ipv4Addr> {
        let known = || {
            let mut all = self.given.iter();
            all.find(|(_, lease)| lease.mac == mac && lease.state != State::Declined)
                .map(|(address, _)| *address)
        };
        self.fixed_of(mac).or_else(known).map(Ipv4Addr::from)
    }

    /// Whether somebody may have an address.
    fn may(&self, mac: HardwareAddr, address: u32, now: Duration) -> bool {
        let others = |fixed: &u32| *fixed == address;
        let is_fixed =
            self.fixed.values().map(|fixed| u32::from(*fixed)).any(|fixed| others(&fixed));
        if is_fixed || self.fixed.contains_key(&mac) {
            return self.fixed_of(mac) == Some(address)
                && !self.given.get(&address).is_some_and(|it| it.is_declined(now));
        }
        (self.first..=self.last).contains(&address)
            && self.given.get(&address).is_none_or(|lease| match lease.state {
                State::Declined => lease.until <= now,
                _ => lease.mac == mac || lease.until <= now,
            })
    }

    /// Finds an address for somebody, and keeps it for a while: the one that it has or had, the one that it asks
    /// for, one that nobody had, the one that has been free for the longest time. `None` when all are taken.
    pub fn offer(
        &mut self,
        mac: HardwareAddr,
        asked: Option<Ipv4Addr>,
        now: Duration,
    ) -> Option<Ipv4Addr> {
        let own = self.of(mac).map(u32::from).filter(|it| self.may(mac, *it, now));
        let asked = || asked.map(u32::from).filter(|it| self.may(mac, *it, now));
        let never = || {
            (self.first..=self.last)
                .find(|it| !self.given.contains_key(it) && self.may(mac, *it, now))
        };
        let longest = || {
            let free = self.given.iter().filter(|(address, _)| self.may(mac, **address, now));
            free.min_by_key(|(_, lease)| lease.until).map(|(address, _)| *address)
        };
        let address = own.or_else(asked).or_else(never).or_else(longest)?;
        // who has it already keeps it for as long
        let has = self.given.get(&address).filter(|it| it.mac == mac && it.state == State::Leased);
        if has.is_none_or(|lease| lease.until < now + OFFERED) {
            let state = has.map_or(State::Offered, |lease| lease.state);
            self.given.insert(address, Lease { mac, state, until: now + OFFERED });
        }
        Some(address.into())
    }

    /// Gives somebody an address until a time. Says whether it may have it: nobody has two.
    pub fn give(
        &mut self,
        mac: HardwareAddr,
        address: Ipv4Addr,
        until: Duration,
        now: Duration,
    ) -> bool {
        let address = u32::from(address);
        let is_other = |(other, lease): (&u32, &Lease)| {
            *other != address
                && lease.mac == mac
                && lease.state == State::Leased
                && lease.until > now
        };
        if !self.may(mac, address, now) || self.given.iter().any(is_other) {
            return false;
        }
        // what it was offered or had besides is free
        self.given.retain(|other, lease| {
            *other == address || lease.mac != mac || lease.state == State::Declined
        });
        self.given.insert(address, Lease { mac, state: State::Leased, until });
        true
    }

    /// Whether somebody has an address now, or is offered it.
    #[must_use]
    pub fn has(&self, mac: HardwareAddr, address: Ipv4Addr, now: Duration) -> bool {
        let lease = self.given.get(&u32::from(address));
        lease.is_some_and(|it| it.mac == mac && it.state != State::Declined && it.until > now)
    }

    /// Takes an address back that somebody needs no more.
    pub fn release(&mut self, mac: HardwareAddr, address: Ipv4Addr, now: Duration) {
        let lease = self.given.get_mut(&u32::from(address));
        if let Some(lease) = lease.filter(|it| it.mac == mac && it.state != State::Declined) {
            lease.until = now;
        }
    }

    /// Leaves an address alone for a while, of which the one who got it says that somebody else has it.
    pub fn decline(&mut self, mac: HardwareAddr, address: Ipv4Addr, now: Duration) {
        if self.has(mac, address, now) {
            let lease = Lease { mac, state: State::Declined, until: now + DECLINED };
            self.given.insert(address.into(), lease);
        }
    }
}

impl Lease {
    fn is_declined(&self, now: Duration) -> bool {
        self.state == State::Declined && self.until > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn mac(last: u8) -> HardwareAddr {
        HardwareAddr([2, 0, 0, 0, 0, last])
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    fn leases() -> Leases {
        let fixed = [(mac(200), address(11)), (mac(201), address(99))];
        Leases::new(address(10), address(13), fixed.into())
    }

    #[test]
    fn each_has_its_own_and_gets_it_again() {
        let mut leases = leases();
        let now = Duration::ZERO;
        assert_eq!(leases.offer(mac(1), None, now), Some(address(10)));
        assert_eq!(leases.offer(mac(1), None, now), Some(address(10)));
        // 11 is fixed for another
        assert_eq!(leases.offer(mac(2), Some(address(11)), now), Some(address(12)));
        assert_eq!(leases.offer(mac(200), Some(address(13)), now), Some(address(11)));
        assert_eq!(leases.offer(mac(201), None, now), Some(address(99)));
        assert_eq!(leases.offer(mac(3), Some(address(13)), now), Some(address(13)));
        assert_eq!(leases.offer(mac(4), None, now), None);
        assert!(leases.give(mac(1), address(10), HOUR, now));
        assert!(!leases.give(mac(2), address(10), HOUR, now));
        // offers that nobody took are free again, what is leased is not
        let later = now + OFFERED;
        assert_eq!(leases.offer(mac(4), None, later), Some(address(12)));
        assert_eq!(leases.offer(mac(5), None, later), Some(address(13)));
        assert_eq!(leases.offer(mac(6), None, later), None);
        leases.release(mac(2), address(10), later);
        assert_eq!(leases.offer(mac(6), None, later), None, "it is not its own");
        leases.release(mac(1), address(10), later);
        assert_eq!(leases.offer(mac(6), None, later), Some(address(10)));
    }

    #[test]
    fn what_is_declined_is_left_alone_for_a_while() {
        let mut leases = leases();
        let now = Duration::ZERO;
        leases.decline(mac(1), address(10), now);
        assert_eq!(leases.iter().count(), 0, "whoever has nothing declines nothing");
        leases.offer(mac(1), None, now);
        leases.decline(mac(1), address(10), now);
        assert_eq!(leases.offer(mac(1), Some(address(10)), now), Some(address(12)));
        assert!(!leases.give(mac(1), address(10), HOUR, now));
        assert!(leases.give(mac(1), address(10), HOUR, DECLINED));
    }

    proptest! {
        /// Whatever happens, no two have one address, and no more is known than there are addresses.
        #[test]
        fn no_two_have_one(steps in prop::collection::vec((0..6_u8, 1..9_u8, 8..16_u8, 0..200_u64), 1..200)) {
            let mut leases = leases();
            let mut now = Duration::ZERO;
            let mut held: BTreeMap<Ipv4Addr, (HardwareAddr, Duration)> = BTreeMap::new();
            for (what, who, which, wait) in steps {
                let (who, which) = (if who == 8 { mac(200) } else { mac(who) }, address(which));
                match what {
                    0 | 1 => drop(leases.offer(who, (what == 1).then_some(which), now)),
                    2 | 3 => {
                        let until = now + Duration::from_secs(100);
                        if leases.give(who, which, until, now) {
                            let before = held.insert(which, (who, until));
                            prop_assert!(before.is_none_or(|(mac, end)| mac == who || end <= now));
                        }
                    }
                    4 => {
                        leases.release(who, which, now);
                        held.retain(|address, (mac, _)| *address != which || *mac != who);
                    }
                    _ => {
                        if leases.has(who, which, now) {
                            held.remove(&which);
                        }
                        leases.decline(who, which, now);
                    }
                }
                now += Duration::from_secs(wait);
                prop_assert!(leases.iter().count() <= 5);
            }
        }
    }
}
