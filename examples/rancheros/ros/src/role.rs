//! What there is one of, and several to choose from: the console, and the user's engine. Whichever is chosen
//! runs by the role's name, so that everything else finds it there.

use std::path::{Path, PathBuf};

use crate::compose::Service;
use crate::schema::Rancher;
use crate::{places, units};

/// What there is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Where people log in.
    Console,
    /// What runs the user's containers.
    Engine,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Console, Self::Engine];

    /// What it is called among people.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Engine => "engine",
        }
    }

    /// The label whose value is the name of the choice.
    fn label(self) -> &'static str {
        match self {
            Self::Console => "io.rancher.os.console",
            Self::Engine => "io.kiln.engine",
        }
    }

    /// The service of process 1 that the chosen one is.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Console => crate::console::NAME,
            Self::Engine => units::ENGINE,
        }
    }

    /// The key that chooses.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Console => "rancher.console",
            Self::Engine => "rancher.docker.engine",
        }
    }

    /// The one that the system brings.
    pub(crate) fn default(self) -> &'static str {
        match self {
            Self::Console => "default",
            Self::Engine => "docker",
        }
    }

    /// What says which one there is.
    pub(crate) fn note(self) -> PathBuf {
        Path::new(places::NOW).join(format!("chosen-{}", self.noun()))
    }

    /// The role of a service, and which choice of it that is.
    pub(crate) fn of(service: &Service) -> Option<(Self, &str)> {
        let found = |role: Self| Some((role, service.labels.get(role.label())?.as_str()));
        Self::ALL.into_iter().find_map(found)
    }

    /// All that may be chosen, each with its service.
    pub(crate) fn choices(self, rancher: &Rancher) -> Vec<(&str, &Service)> {
        let all = rancher.services.values().filter_map(|service| {
            let (role, name) = Self::of(service)?;
            (role == self).then_some((name, service))
        });
        all.collect()
    }

    /// What the configuration chooses.
    pub(crate) fn wanted(self, rancher: &Rancher) -> &str {
        let wanted = match self {
            Self::Console => rancher.console.as_deref(),
            Self::Engine => rancher.docker.engine.as_deref(),
        };
        wanted.unwrap_or_else(|| self.default())
    }

    /// What there is: the choice, or the default where nobody knows the choice.
    pub(crate) fn chosen(self, rancher: &Rancher) -> &str {
        let wanted = self.wanted(rancher);
        match self.choices(rancher).iter().any(|(name, _)| *name == wanted) {
            true => wanted,
            false => self.default(),
        }
    }

    /// Makes the default the choice.
    pub(crate) fn choose_default(self, rancher: &mut Rancher) {
        let choice = match self {
            Self::Console => &mut rancher.console,
            Self::Engine => &mut rancher.docker.engine,
        };
        *choice = Some(self.default().to_owned());
    }
}
