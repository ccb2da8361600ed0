//! From the names of packages to all the packages that they need.
//!
//! Each package is taken in its highest version. What must be, because only one package meets a
//! relation, is taken before anything is chosen; then each relation that is still open takes its
//! first alternative that can be had beside the others. No order but that of the request and of the
//! fields plays a part, so the same archives always give the same packages.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::dependency::{self, Relation};
use crate::index::{Index, Kind, Package};
use crate::{Error, Result, version};

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// Names of packages, each perhaps with a version: `nginx-light`, `podman=4.3.1+ds1-8+b1`.
    pub wanted: Vec<String>,
    /// Whether packages that are only recommended are taken too, where they can be had.
    pub recommends: bool,
    /// Whether the packages that every Debian system has (`Essential: yes`) are taken too.
    pub essential: bool,
    /// Names of packages that are taken without what they depend on: for their files alone, as a
    /// boot loader's or a kernel's.
    pub alone: Vec<String>,
}

impl Request {
    /// These packages with what they depend on, and nothing else.
    pub fn new<T: Into<String>>(wanted: impl IntoIterator<Item = T>) -> Self {
        Self { wanted: wanted.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Whether recommended packages are taken too.
    #[must_use]
    pub fn with_recommends(mut self, recommends: bool) -> Self {
        self.recommends = recommends;
        self
    }

    /// Whether essential packages are taken too.
    #[must_use]
    pub fn with_essential(mut self, essential: bool) -> Self {
        self.essential = essential;
        self
    }
}

/// A package that is needed, and why.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Chosen<'index> {
    /// The package.
    pub package: Package<'index>,
    /// The first package found to need it; `None` for one that was asked for.
    pub needed_by: Option<&'index str>,
    /// The chosen packages that meet its relations, sorted.
    pub depends: Vec<&'index str>,
}

/// Why the packages asked for cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// No archive has a package of this name.
    Unknown {
        /// The name.
        name: String,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// No archive has the package in this version.
    NoVersion {
        /// The name.
        name: String,
        /// The version that was asked for.
        wanted: String,
        /// The versions that there are.
        available: Vec<String>,
    },
    /// A name that only stands for others.
    Virtual {
        /// The name.
        name: String,
        /// The packages that provide it.
        providers: Vec<String>,
    },
    /// A word of the request that is no name of a package.
    Malformed {
        /// The word.
        word: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A relation that no package meets.
    Unmet {
        /// The package that has it, with its version.
        package: String,
        /// `Depends` or `Pre-Depends`.
        field: &'static str,
        /// The relation, with all its alternatives.
        relation: String,
        /// What there is instead.
        reason: String,
    },
    /// Two packages that exclude each other.
    Conflict {
        /// The package that says so, with its version.
        package: String,
        /// `Conflicts` or `Breaks`.
        field: &'static str,
        /// The relation.
        relation: String,
        /// The other package, with its version.
        with: String,
        /// Who needs the other.
        because: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, near } if near.is_empty() => {
                write!(out, "{name}: no archive has a package of this name")
            }
            Self::Unknown { name, near } => write!(
                out,
                "{name}: no archive has a package of this name; did you mean {}?",
                near.join(" or ")
            ),
            Self::NoVersion { name, wanted, available } => write!(
                out,
                "{name}={wanted}: no archive has this version; there is {}",
                available.join(" and ")
            ),
            Self::Virtual { name, providers } => write!(
                out,
                "{name}: several packages provide this; ask for one of them: {}",
                providers.join(", ")
            ),
            Self::Malformed { word, reason } => write!(out, "{word}: {reason}"),
            Self::Unmet { package, field, relation, reason } => {
                write!(out, "{package}: {field}: {relation}: {reason}")
            }
            Self::Conflict { package, field, relation, with, because } => {
                write!(out, "{package}: {field}: {relation}: excludes {with} ({because})")
            }
        }
    }
}

/// Finds all the packages that are needed, sorted by name.
///
/// # Errors
/// [`Error::Unresolvable`] with everything that is wrong.
pub fn resolve<'index>(index: &'index Index, request: &Request) -> Result<Vec<Chosen<'index>>> {
    let mut solver = Solver {
        index,
        recommends: request.recommends,
        chosen: BTreeMap::new(),
        fresh: VecDeque::new(),
        open: VecDeque::new(),
        recommended: VecDeque::new(),
        pinned: BTreeMap::new(),
        problems: Vec::new(),
    };
    solver.ask(request);
    solver.run();
    solver.check_conflicts();
    solver.join();
    solver.ask_alone(request);
    if solver.problems.is_empty() {
        Ok(solver.chosen.into_values().collect())
    } else {
        Err(Error::Unresolvable(solver.problems))
    }
}

/// A relation of a chosen package that is not met yet and leaves a choice.
struct Open<'index> {
    of: Package<'index>,
    group: Vec<Relation<'index>>,
}

struct Solver<'index> {
    index: &'index Index,
    recommends: bool,
    chosen: BTreeMap<&'index str, Chosen<'index>>,
    /// Chosen, and their relations not looked at yet.
    fresh: VecDeque<Package<'index>>,
    open: VecDeque<Open<'index>>,
    recommended: VecDeque<Open<'index>>,
    /// The versions that were asked for.
    pinned: BTreeMap<&'index str, Package<'index>>,
    problems: Vec<Problem>,
}

impl<'index> Solver<'index> {
    fn ask(&mut self, request: &Request) {
        let mut asked = Vec::new();
        for word in &request.wanted {
            let (name, version) = match word.split_once('=') {
                Some((name, version)) => (name, Some(version)),
                None => (word.as_str(), None),
            };
            let malformed = |reason| Problem::Malformed { word: word.clone(), reason };
            if name.contains(':') {
                let reason = "only packages of the archive's own architecture can be asked for, \
                              without a colon";
                self.problems.push(malformed(reason));
            } else if !dependency::is_name(name) {
                self.problems.push(malformed("that is no name of a package"));
            } else {
                match self.find(name, version) {
                    Ok(package) => asked.push((package, version.map(|_| word))),
                    Err(problem) => self.problems.push(problem),
                }
            }
        }
        for (package, exact) in &asked {
            if let Some(word) = exact
                && let Some(other) = self.pinned.insert(package.name(), *package)
                && !other.is(package)
            {
                let reason = "another version of this package was asked for too";
                self.problems.push(Problem::Malformed { word: (*word).clone(), reason });
            }
        }
        if request.essential {
            let mut names: Vec<&str> = self
                .index
                .packages()
                .filter(Package::is_essential)
                .map(|package| package.name())
                .collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                asked.extend(self.index.newest(name).map(|package| (package, None)));
            }
        }
        for (package, ..) in asked {
            let package = self.pinned.get(package.name()).copied().unwrap_or(package);
            self.choose(package, None);
        }
    }

    /// The package that a word of the request means.
    fn find(&self, name: &str, wanted: Option<&str>) -> Result<Package<'index>, Problem> {
        let mut versions: Vec<_> = self.index.versions(name).collect();
        if versions.is_empty() {
            let mut providers: Vec<_> = self.index.providers(name).collect();
            providers.retain(|provider| {
                self.index.newest(provider.name()).is_some_and(|newest| newest.is(provider))
            });
            return match providers.as_slice() {
                [] => Err(Problem::Unknown { name: name.into(), near: self.index.near(name) }),
                [provider] if wanted.is_none() => Ok(*provider),
                _ => {
                    let mut providers: Vec<String> =
                        providers.iter().map(|provider| provider.name().into()).collect();
                    providers.sort_unstable();
                    Err(Problem::Virtual { name: name.into(), providers })
                }
            };
        }
        let Some(wanted) = wanted else {
            return self
                .index
                .newest(name)
                .ok_or_else(|| Problem::Unknown { name: name.into(), near: Vec::new() });
        };
        versions.sort_by(|a, b| version::compare(b.version(), a.version()));
        let found = versions.iter().find(|package| package.version() == wanted);
        found.copied().ok_or_else(|| Problem::NoVersion {
            name: name.into(),
            wanted: wanted.into(),
            available: versions.iter().map(|package| package.version().into()).collect(),
        })
    }

    fn choose(&mut self, package: Package<'index>, needed_by: Option<&'index str>) {
        if !self.chosen.contains_key(package.name()) {
            let chosen = Chosen { package, needed_by, depends: Vec::new() };
            self.chosen.insert(package.name(), chosen);
            self.fresh.push_back(package);
        }
    }

    /// The packages that are taken for their files alone; they disturb nobody.
    fn ask_alone(&mut self, request: &Request) {
        for name in &request.alone {
            match self.find(name, None) {
                Ok(package) => {
                    let alone = Chosen { package, needed_by: None, depends: Vec::new() };
                    self.chosen.entry(package.name()).or_insert(alone);
                }
                Err(problem) => self.problems.push(problem),
            }
        }
    }

    /// Notes of each chosen package which of the others meet its relations.
    fn join(&mut self) {
        let packages: Vec<_> = self.chosen.values().map(|chosen| chosen.package).collect();
        for package in packages {
            let mut depends = Vec::new();
            for kind in [Kind::PreDepends, Kind::Depends, Kind::Recommends] {
                if kind == Kind::Recommends && !self.recommends {
                    continue;
                }
                // What cannot be understood was told when the package was looked at.
                let groups = dependency::parse(package.relations(kind)).unwrap_or_default();
                depends.extend(groups.iter().filter_map(|group| self.met_by(group)));
            }
            depends.retain(|name| *name != package.name());
            depends.sort_unstable();
            depends.dedup();
            if let Some(chosen) = self.chosen.get_mut(package.name()) {
                chosen.depends = depends;
            }
        }
    }

    fn run(&mut self) {
        loop {
            if let Some(package) = self.fresh.pop_front() {
                self.look_at(package);
            } else if let Some(open) = self.open.pop_front() {
                self.settle(&open, true);
            } else if let Some(open) = self.recommended.pop_front() {
                self.settle(&open, false);
            } else {
                return;
            }
        }
    }

    fn look_at(&mut self, package: Package<'index>) {
        for kind in [Kind::PreDepends, Kind::Depends, Kind::Recommends] {
            if kind == Kind::Recommends && !self.recommends {
                continue;
            }
            for group in self.parsed(package, kind) {
                if kind == Kind::Recommends {
                    self.recommended.push_back(Open { of: package, group });
                    continue;
                }
                let options = self.options(&group);
                match options.as_slice() {
                    _ if self.is_met(&group) => {}
                    [] => {
                        let problem = self.unmet(package, kind, &group);
                        self.problems.push(problem);
                    }
                    [only] => self.choose(*only, Some(package.name())),
                    _ => self.open.push_back(Open { of: package, group }),
                }
            }
        }
    }

    fn parsed(&mut self, package: Package<'index>, kind: Kind) -> Vec<Vec<Relation<'index>>> {
        dependency::parse(package.relations(kind)).unwrap_or_else(|reason| {
            self.problems.push(Problem::Unmet {
                package: full_name(&package),
                field: kind.field(),
                relation: "cannot be understood".into(),
                reason,
            });
            Vec::new()
        })
    }

    /// Takes the first alternative that excludes nothing that was chosen. When none is left, the
    /// first is taken all the same if it `must` be, so that the conflict is reported.
    fn settle(&mut self, open: &Open<'index>, must: bool) {
        if self.is_met(&open.group) {
            return;
        }
        let options = self.options(&open.group);
        let harmless = options.iter().find(|option| !self.excludes(option)).copied();
        let choice = harmless.or_else(|| options.first().copied().filter(|_| must));
        if let Some(choice) = choice {
            self.choose(choice, Some(open.of.name()));
        }
    }

    fn is_met(&self, group: &[Relation<'index>]) -> bool {
        self.met_by(group).is_some()
    }

    /// The first chosen package that meets a group.
    fn met_by(&self, group: &[Relation<'index>]) -> Option<&'index str> {
        group.iter().find_map(|relation| {
            let named = self.chosen.get(relation.name);
            let named = named.filter(|chosen| chosen.package.meets(relation));
            let provider = || {
                self.index.providers(relation.name).find(|provider| {
                    self.chosen.get(provider.name()).is_some_and(|chosen| {
                        chosen.package.is(provider) && provider.meets(relation)
                    })
                })
            };
            named.map(|chosen| chosen.package.name()).or_else(|| Some(provider()?.name()))
        })
    }

    /// The packages that meet a group, in the order of preference: by the order of the
    /// alternatives; for each the package of the name before those that provide it; of those the
    /// more important first.
    fn options(&self, group: &[Relation<'index>]) -> Vec<Package<'index>> {
        let mut options: Vec<Package<'index>> = Vec::new();
        for relation in group {
            let mut providers: Vec<_> = self
                .index
                .providers(relation.name)
                .filter(|provider| provider.name() != relation.name)
                .filter(|provider| {
                    self.candidate(provider.name()).is_some_and(|best| best.is(provider))
                })
                .collect();
            providers.sort_by_key(Package::priority);
            for option in self.candidate(relation.name).into_iter().chain(providers) {
                let other_version = self
                    .chosen
                    .get(option.name())
                    .is_some_and(|chosen| !chosen.package.is(&option));
                if option.meets(relation)
                    && !other_version
                    && !options.iter().any(|known| known.is(&option))
                {
                    options.push(option);
                }
            }
        }
        options
    }

    /// The version of a package that may be taken.
    fn candidate(&self, name: &str) -> Option<Package<'index>> {
        self.pinned.get(name).copied().or_else(|| self.index.newest(name))
    }

    fn excludes(&self, option: &Package<'index>) -> bool {
        self.chosen.values().any(|chosen| {
            excluded_by(option, &chosen.package).is_some()
                || excluded_by(&chosen.package, option).is_some()
        })
    }

    fn unmet(&self, package: Package<'_>, kind: Kind, group: &[Relation<'_>]) -> Problem {
        let mut found: Vec<String> = group
            .iter()
            .filter_map(|relation| self.candidate(relation.name))
            .map(|package| full_name(&package))
            .collect();
        for relation in group {
            for provider in self.index.providers(relation.name) {
                let provided = provider.provides().into_iter();
                found.extend(
                    provided
                        .filter(|provided| provided.name == relation.name)
                        .map(|provided| format!("{provided} of {}", full_name(&provider))),
                );
            }
        }
        let relation: Vec<String> = group.iter().map(ToString::to_string).collect();
        Problem::Unmet {
            package: full_name(&package),
            field: kind.field(),
            relation: relation.join(" | "),
            reason: if found.is_empty() {
                "no archive has such a package".into()
            } else {
                format!("there is only {}", found.join(" and "))
            },
        }
    }

    fn check_conflicts(&mut self) {
        let mut problems = Vec::new();
        for chosen in self.chosen.values() {
            for other in self.chosen.values() {
                if let Some((kind, relation)) = excluded_by(&other.package, &chosen.package) {
                    problems.push(Problem::Conflict {
                        package: full_name(&chosen.package),
                        field: kind.field(),
                        relation: relation.to_string(),
                        with: full_name(&other.package),
                        because: match other.needed_by {
                            Some(name) => format!("needed by {name}"),
                            None => "asked for".into(),
                        },
                    });
                }
            }
        }
        self.problems.append(&mut problems);
    }
}

/// The relation by which `other` excludes `package`.
fn excluded_by<'index>(
    package: &Package<'index>,
    other: &Package<'index>,
) -> Option<(Kind, Relation<'index>)> {
    // A package may conflict with what it provides itself: it is the only one to do so then.
    if package.name() == other.name() {
        return None;
    }
    [Kind::Conflicts, Kind::Breaks].into_iter().find_map(|kind| {
        let relations = dependency::parse(other.relations(kind)).unwrap_or_default();
        let found = relations.into_iter().flatten().find(|relation| package.meets(relation));
        found.map(|relation| (kind, relation))
    })
}

fn full_name(package: &Package<'_>) -> String {
    format!("{} {}", package.name(), package.version())
}
