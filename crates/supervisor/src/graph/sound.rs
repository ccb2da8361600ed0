//! What of a list of specs can start although something in it is not sound, and what is said of the rest.

use std::fmt;
use std::sync::Arc;

use super::judge::judge;
use super::{Problem, is_name};
use crate::spec::ServiceSpec;

/// So many names of a chain or a ring are told; one of thousands is not told thousands of times.
pub(super) const SHOWN: usize = 8;

/// What of a list of specs can start, and what is left out of it: in this order,
///
/// 1. a service with which something is wrong, whatever the others are: what [`Graph::new`] says of
///    it, a requirement that does not exist or is itself among that; of two of one name, the second;
/// 2. what requires something that is left out;
/// 3. of what remains, all services of each ring of dependencies, and what requires these.
///
/// What is only wanted, or only comes first, holds nobody up: such a dependency on something that is
/// left out or does not exist is dropped, and so is one on itself, which asks for nothing. A ring is
/// one whatever it is made of: nothing says which of its dependencies is the wrong one.
///
/// Nobody else is left out: a service with no problem of its own that is on no such ring and whose
/// requirements all start, starts.
///
/// [`Graph::new`]: super::Graph::new
///
/// ```
/// use kiln_supervisor::{ServiceSpec, Sound};
/// let mut web = ServiceSpec::daemon("web", ["/bin/web"]);
/// web.requires = vec!["database".into()];
/// web.after = vec!["log".into()];
/// let mut log = ServiceSpec::daemon("log", ["/bin/log"]);
/// log.wants = vec!["disk".into()];
/// let sound = Sound::of(vec![web, log]);
/// assert_eq!(sound.specs[0].name, "log");
/// let told: Vec<String> = sound.omissions.iter().map(ToString::to_string).collect();
/// assert_eq!(
///     told,
///     [
///         "left out: service web: requires \"database\", which does not exist",
///         "dropped: service log: wants \"disk\", which does not exist",
///     ]
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sound {
    /// The services that can start, in the order of the list; [`Graph::new`](super::Graph::new) takes
    /// them.
    pub specs: Vec<ServiceSpec>,
    /// Where each of them was in the list.
    pub places: Vec<usize>,
    /// What is left out, in the order of the list; nothing, of a list that is sound.
    pub omissions: Vec<Omission>,
}

/// Something that is left out. `Display` gives a line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Omission {
    /// A service: it does not start.
    Service {
        /// Its place in the list.
        index: usize,
        /// Its name.
        name: String,
        /// Why.
        why: Reason,
    },
    /// A dependency: the service starts without it.
    Dependency {
        /// The service's place in the list.
        index: usize,
        /// Its name.
        name: String,
        /// `wants` or `after`.
        relation: &'static str,
        /// The service that it names.
        to: String,
        /// Why.
        why: Dangling,
    },
}

/// Why a service is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Something is wrong with it: at least one of these problems is enough.
    Problems(Vec<Problem>),
    /// Not all that a file says of it is understood, which is told elsewhere; and what else is wrong.
    NotUnderstood(Vec<Problem>),
    /// It requires something that is left out.
    Requirement {
        /// What it requires, what that requires, and so on to what is left out for another reason: the
        /// first names, and the last.
        chain: Vec<String>,
        /// How many names the chain has.
        length: usize,
    },
    /// It depends on itself through others.
    Cycle {
        /// Its step along a ring: `requires`, `wants` or `after`.
        relation: &'static str,
        /// To this service.
        next: String,
        /// A ring of these services, the first repeated at the end. Where there are several rings with
        /// services in common, it is one of them.
        path: Arc<[String]>,
    },
}

/// Why a dependency is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dangling {
    /// There is no such service.
    Unknown,
    /// That service is left out.
    LeftOut,
    /// It is one on itself.
    Itself,
}

impl Sound {
    /// What of `specs` can start. Takes little longer for services that are not sound than for others.
    /// Of more than [`MAX_SERVICES`](super::MAX_SERVICES) those behind are left out.
    #[must_use]
    pub fn of(specs: Vec<ServiceSpec>) -> Self {
        let judgement = judge(&specs.iter().collect::<Vec<_>>(), |_| false);
        let (places, specs) = judgement.keep(specs, 0, |spec| spec);
        Self { specs, places, omissions: judgement.omissions }
    }
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { name, why, .. } => {
                f.write_str("left out: ")?;
                why.tell(name, f)
            }
            Self::Dependency { name, relation, to, why, .. } => {
                write!(f, "dropped: service {name}: {relation} ")?;
                match why {
                    Dangling::Unknown => write!(f, "{to:?}, which does not exist"),
                    Dangling::LeftOut => write!(f, "{}, which is left out", Shown(to)),
                    Dangling::Itself => f.write_str("itself"),
                }
            }
        }
    }
}

impl Reason {
    fn tell(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Shown(name);
        match self {
            Self::Problems(problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    match problem {
                        // of all of them together
                        Problem::TooMany { .. } => {
                            write!(f, "{separator}service {name}: {problem}")?;
                        }
                        _ => write!(f, "{separator}{problem}")?,
                    }
                }
                Ok(())
            }
            Self::NotUnderstood(_) => {
                write!(f, "service {name}: not all that is said of it is understood")
            }
            Self::Requirement { chain, length } => {
                write!(f, "service {name}: ")?;
                for (index, other) in chain.iter().enumerate() {
                    let last = index.saturating_add(1) == chain.len();
                    let gap = if last && chain.len() < *length { "…, which " } else { "" };
                    write!(f, "{gap}requires {}, which ", Shown(other))?;
                }
                f.write_str("is left out")
            }
            Self::Cycle { relation, next, path } => {
                let next = Shown(next);
                write!(f, "service {name}: {relation} {next}, which depends on {name}: ")?;
                write!(f, "dependency cycle: {}", Ring(path))
            }
        }
    }
}

/// A ring, the first name repeated at the end.
pub(super) struct Ring<'a>(pub(super) &'a [String]);

impl fmt::Display for Ring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0;
        let most = if path.len() > SHOWN.saturating_add(1) { SHOWN } else { path.len() };
        for (index, name) in path.iter().take(most).enumerate() {
            let separator = if index == 0 { "" } else { " -> " };
            write!(f, "{separator}{}", Shown(name))?;
        }
        match path.last() {
            Some(last) if most < path.len() => {
                let count = path.len().saturating_sub(1);
                write!(f, " -> … -> {} ({count} services)", Shown(last))
            }
            _ => Ok(()),
        }
    }
}

/// A name; one that is none is escaped, and cut.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(64) {
            _ if is_name(self.0) => f.write_str(self.0),
            Some((end, _)) => write!(f, "{:?}…", self.0.get(..end).unwrap_or_default()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests;
