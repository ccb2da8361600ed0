//! Which links are members of which, and what stands on what, among the links that are there.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Config, Link, Problem};

/// Who belongs to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// The master of each member.
    pub(crate) masters: BTreeMap<String, String>,
    /// The parent of each VLAN.
    pub(crate) parents: BTreeMap<String, String>,
    /// What cannot be done as it was said.
    pub(crate) problems: Vec<Problem>,
    /// Selectors of members and parents that fit no link.
    pub(crate) unmatched: Vec<String>,
}

impl Members {
    /// `links` are those that are there and those that will be made.
    pub(crate) fn of(config: &Config, links: &[Link]) -> Self {
        let mut found = Self::default();
        // A tunnel carries no Ethernet frames.
        let is_tunnel = |link: &Link| config.wireguards.iter().any(|one| one.name == link.name);
        let links: Vec<&Link> = links.iter().filter(|link| !is_tunnel(link)).collect();
        for vlan in &config.vlans {
            let is_meant = |link: &&&Link| vlan.parent.matches(link) && link.name != vlan.name;
            match links.iter().find(is_meant) {
                Some(link) => {
                    found.parents.insert(vlan.name.clone(), link.name.clone());
                }
                None => found.unmatched.push(format!("vlan {}: parent {}", vlan.name, vlan.parent)),
            }
        }
        let bonds = config.bonds.iter().map(|bond| ("bond", &bond.name, &bond.members));
        let bridges = config.bridges.iter().map(|one| ("bridge", &one.name, &one.members));
        for (kind, name, members) in bonds.chain(bridges) {
            for selector in members {
                let mut matched = false;
                for link in links.iter().filter(|link| selector.matches(link)) {
                    // A pattern may fit the master itself and what stands on it.
                    if link.name == *name || link.name == "lo" || found.stands_on(&link.name, name)
                    {
                        continue;
                    }
                    matched = true;
                    let before = found.masters.get(&link.name).filter(|before| *before != name);
                    if let Some(before) = before {
                        let what = format!("{} is a member of {before} already", link.name);
                        found.problems.push(Problem::new(format_args!("{kind} {name}"), what));
                    } else {
                        found.masters.insert(link.name.clone(), name.clone());
                    }
                }
                if !matched {
                    found.unmatched.push(format!("{kind} {name}: member {selector}"));
                }
            }
        }
        found
    }

    /// Whether a link cannot be without another one.
    fn stands_on(&self, link: &str, other: &str) -> bool {
        let mut open = vec![link];
        let mut seen = BTreeSet::new();
        while let Some(next) = open.pop() {
            if !seen.insert(next) {
                continue;
            }
            let members = self.masters.iter().filter(|(_, master)| *master == next);
            let below = members.map(|(member, _)| member).chain(self.parents.get(next));
            for name in below.map(String::as_str) {
                if name == other {
                    return true;
                }
                open.push(name);
            }
        }
        false
    }

    /// The link that has the addresses of this one: its master, or the master of that.
    pub(crate) fn top<'a>(&'a self, link: &'a str) -> &'a str {
        let mut top = link;
        // No circle: none was let in.
        for _ in 0..=self.masters.len() {
            match self.masters.get(top) {
                Some(master) => top = master,
                None => break,
            }
        }
        top
    }

    /// Names so that what a link needs to be made comes before it: masters before members, parents
    /// before VLANs.
    pub(crate) fn order(&self, names: &[&str]) -> Vec<String> {
        let mut ordered: Vec<String> = Vec::new();
        let mut open: Vec<&str> = names.to_vec();
        while !open.is_empty() {
            let waits = |name: &&str| {
                let needs = [self.masters.get(*name), self.parents.get(*name)];
                needs.into_iter().flatten().any(|need| open.contains(&need.as_str()))
            };
            let (later, now): (Vec<&str>, Vec<&str>) = open.iter().partition(|name| waits(name));
            // In a circle nothing can be first.
            let stuck = now.is_empty();
            ordered.extend(now.into_iter().map(str::to_owned));
            if stuck {
                ordered.extend(later.iter().map(|name| (*name).to_owned()));
                break;
            }
            open = later;
        }
        ordered
    }
}
