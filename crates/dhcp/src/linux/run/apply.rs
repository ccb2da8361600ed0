//! A lease on the interface: its address, routes, MTU and name servers, put there and taken away.

use super::super::netlink::{Address, RouteTo};
use super::super::{Error, Result, now, sys};
use super::{Notice, Shell};
use crate::lease::{Lease, Route};
use crate::wire::udp::CLIENT_PORT;

impl Shell<'_> {
    /// Address first: it is what everything else and everybody waits for.
    pub(super) fn apply(&mut self, lease: &Lease) -> Result<()> {
        if !self.options.apply {
            return Ok(());
        }
        let left = lease.expires_at().map(|end| end.saturating_sub(now()));
        self.netlink
            .set_address(self.index, &Address::of(lease, left))
            .map_err(self.failed("set address"))?;
        let before = self.applied.replace(lease.clone());
        self.add_routes(lease);
        if let Some(before) = before {
            self.remove_what_changed(&before, lease);
        }
        self.set_mtu(lease);
        if let Some(resolv_conf) = &mut self.resolv_conf
            && let Err(source) = resolv_conf.write(lease)
        {
            let error = Error::ResolvConf { path: resolv_conf.path().to_owned(), source };
            self.tell(&Notice::Problem(&error));
        }
        if self.udp.is_none() && !self.options.once {
            match sys::udp_socket(self.name, CLIENT_PORT) {
                Ok(socket) => self.udp = Some(socket),
                // Another client may hold the port: frames still work.
                Err(error) => self.problem("open UDP port 68", error),
            }
        }
        Ok(())
    }

    pub(super) fn add_routes(&mut self, lease: &Lease) {
        for route in &lease.routes {
            let route = RouteTo::of(route, lease.address, self.options.metric);
            let added = self.netlink.add_route(self.index, &route);
            if let Err(error) = added {
                self.problem("add route", error);
            }
        }
    }

    fn remove_what_changed(&mut self, before: &Lease, lease: &Lease) {
        let moved = (before.address, before.prefix_len) != (lease.address, lease.prefix_len);
        let gone = |route: &&Route| moved || !lease.routes.contains(route);
        for route in before.routes.iter().filter(gone) {
            // Missing is as good as removed.
            let route = RouteTo::of(route, before.address, self.options.metric);
            let _ = self.netlink.remove_route(self.index, &route);
        }
        if moved
            && let Err(error) = self.netlink.remove_address(self.index, &Address::of(before, None))
        {
            self.problem("remove address", error);
        }
    }

    /// Never above what the driver takes; where it does not say, never above what it has.
    fn set_mtu(&mut self, lease: &Lease) {
        let most =
            if self.max_mtu > 0 { self.max_mtu } else { self.mtu_before.unwrap_or(self.mtu) };
        let wanted = lease.mtu.map(u32::from).filter(|mtu| self.options.mtu && *mtu <= most);
        let wanted = wanted.or(self.mtu_before);
        if let Some(mtu) = wanted
            && mtu != self.mtu
        {
            match self.netlink.set_mtu(self.index, mtu) {
                Ok(()) => {
                    self.mtu_before = self.mtu_before.or(Some(self.mtu));
                    self.mtu = mtu;
                }
                Err(error) => self.problem("set MTU", error),
            }
        }
    }

    /// Takes off the interface what the lease had put on it, and only that.
    pub(super) fn withdraw(&mut self) {
        self.udp = None;
        let Some(lease) = self.applied.take() else { return };
        for route in lease.routes.iter().rev() {
            // Missing is as good as removed, here and below.
            let route = RouteTo::of(route, lease.address, self.options.metric);
            let _ = self.netlink.remove_route(self.index, &route);
        }
        if let Err(error) = self.netlink.remove_address(self.index, &Address::of(&lease, None))
            && error.raw_os_error() != Some(libc::EADDRNOTAVAIL)
        {
            self.problem("remove address", error);
        }
        if let Some(mtu) = self.mtu_before.take() {
            match self.netlink.set_mtu(self.index, mtu) {
                Ok(()) => self.mtu = mtu,
                Err(error) => self.problem("restore MTU", error),
            }
        }
        if let Some(resolv_conf) = &mut self.resolv_conf
            && let Err(source) = resolv_conf.restore()
        {
            let error = Error::ResolvConf { path: resolv_conf.path().to_owned(), source };
            self.tell(&Notice::Problem(&error));
        }
    }
}
