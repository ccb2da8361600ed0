//! Who needs whom: names resolved, cycles refused by name, everything wrong said at once.

#[cfg(feature = "oci")]
mod container;
mod judge;
mod ring;
mod sound;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

#[cfg(any(feature = "toml", feature = "unix"))]
pub(crate) use judge::judge;
pub use sound::{Dangling, Omission, Reason, Sound};

use crate::spec::{Address, Condition, Isolation, Kind, Log, Readiness, ServiceSpec};

/// A service's place in the list that the supervisor was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub(crate) u32);

impl ServiceId {
    /// The place in the list of specs.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One thing that is wrong with a list of specs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A name that is empty, too long, or has a character that names may not have.
    #[error(
        "service {index}: bad name {name:?}, expected 1 to 64 letters, digits and \"._-@\", not starting with a dot"
    )]
    BadName {
        /// Place in the list, from 0.
        index: usize,
        /// The name.
        name: String,
    },
    /// Two services of one name.
    #[error("service {name}: defined twice (services {first} and {second} of the list)")]
    Duplicate {
        /// The name.
        name: String,
        /// Place of the first.
        first: usize,
        /// Place of the second.
        second: usize,
    },
    /// No command.
    #[error("service {name}: no command")]
    NoCommand {
        /// The service.
        name: String,
    },
    /// A NUL byte, or `=` in a variable's name: the kernel's calls cannot carry it.
    #[error("service {name}: {what} has a NUL byte or is empty or malformed")]
    BadText {
        /// The service.
        name: String,
        /// Which text.
        what: &'static str,
    },
    /// A dependency on itself.
    #[error("service {name}: {relation} itself")]
    SelfDependency {
        /// The service.
        name: String,
        /// `requires`, `wants` or `after`.
        relation: &'static str,
    },
    /// A dependency that is not in the list.
    #[error("service {name}: {relation} {unknown:?}, which does not exist")]
    UnknownDependency {
        /// The service.
        name: String,
        /// `requires`, `wants` or `after`.
        relation: &'static str,
        /// What it names.
        unknown: String,
    },
    /// A ring of dependencies; the first is repeated at the end.
    #[error("dependency cycle: {}", sound::Ring(path))]
    Cycle {
        /// The names along the ring.
        path: Vec<String>,
    },
    /// Settings that cannot work, or not together.
    #[error("service {name}: {what}")]
    Senseless {
        /// The service.
        name: String,
        /// Why.
        what: &'static str,
    },
    /// More services than the supervisor takes.
    #[error("{count} services, at most {limit} are taken")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many may be.
        limit: usize,
    },
}

impl Problem {
    /// The names of the services that this problem takes out; what is left may still be sound.
    #[must_use]
    pub fn services(&self) -> Vec<&str> {
        match self {
            Self::BadName { name, .. }
            | Self::Duplicate { name, .. }
            | Self::NoCommand { name }
            | Self::BadText { name, .. }
            | Self::SelfDependency { name, .. }
            | Self::UnknownDependency { name, .. }
            | Self::Senseless { name, .. } => vec![name],
            Self::Cycle { path } => path.iter().map(String::as_str).collect(),
            Self::TooMany { .. } => Vec::new(),
        }
    }
}

/// Everything that is wrong with a list of specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The resolved graph: for each service, by place, what it stands on and what stands on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// Must be up first.
    pub(crate) requires: Vec<Vec<ServiceId>>,
    /// Started along, given the chance to settle first.
    pub(crate) wants: Vec<Vec<ServiceId>>,
    /// Order only.
    pub(crate) after: Vec<Vec<ServiceId>>,
    /// The reverse of `requires`.
    pub(crate) required_by: Vec<Vec<ServiceId>>,
    /// The reverse of all three: these stop first.
    pub(crate) before: Vec<Vec<ServiceId>>,
    order: Vec<ServiceId>,
}

/// More is refused: a bound on memory, far above use.
pub const MAX_SERVICES: usize = 16_384;
/// Rings are told until they have this many names together.
const MOST_IN_RINGS: usize = 65_536;
/// Sockets and stored descriptors of a service.
const MAX_DESCRIPTORS: usize = 512;

impl Graph {
    /// Resolves and checks `specs`.
    ///
    /// # Errors
    /// All problems at once.
    pub fn new<S: Borrow<ServiceSpec>>(specs: &[S]) -> Result<Self, Problems> {
        let specs: Vec<&ServiceSpec> = specs.iter().map(Borrow::borrow).collect();
        Self::checked(&specs)
    }

    fn checked(specs: &[&ServiceSpec]) -> Result<Self, Problems> {
        if specs.len() > MAX_SERVICES {
            let count = specs.len();
            return Err(Problems(vec![Problem::TooMany { count, limit: MAX_SERVICES }]));
        }
        let mut problems = Vec::new();
        check_names(specs, &mut |_, problem| problems.push(problem));
        match Self::link(specs) {
            Ok(graph) if problems.is_empty() => return Ok(graph),
            Ok(_) => {}
            Err(more) => problems.extend(more.0),
        }
        Err(Problems(problems))
    }

    /// Resolves the dependencies of `specs`, and looks at nothing else of them. Of several of one
    /// name the first is meant.
    pub(crate) fn link(specs: &[&ServiceSpec]) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut ids: BTreeMap<&str, ServiceId> = BTreeMap::new();
        for (spec, id) in specs.iter().zip((0..).map(ServiceId)) {
            ids.entry(&spec.name).or_insert(id);
        }
        #[cfg(feature = "oci")]
        container::check_names(specs, &mut |_, problem| problems.push(problem));
        let mut graph = Self::default();
        let empty = || vec![Vec::new(); specs.len()];
        (graph.requires, graph.wants, graph.after) = (empty(), empty(), empty());
        (graph.required_by, graph.before) = (empty(), empty());
        for (spec, id) in specs.iter().zip((0..).map(ServiceId)) {
            let edges = [&mut graph.requires, &mut graph.wants, &mut graph.after];
            for ((relation, names), edges) in relations(spec).into_iter().zip(edges) {
                for unknown in names {
                    match ids.get(unknown.as_str()) {
                        _ if *unknown == spec.name => {
                            let name = spec.name.clone();
                            problems.push(Problem::SelfDependency { name, relation });
                        }
                        Some(other) => push(edges, id, *other),
                        None => problems.push(Problem::UnknownDependency {
                            name: spec.name.clone(),
                            relation,
                            unknown: unknown.clone(),
                        }),
                    }
                }
            }
        }
        for id in (0..).map(ServiceId).take(specs.len()) {
            for other in list(&graph.requires, id) {
                push(&mut graph.required_by, *other, id);
            }
            for edges in [&graph.requires, &graph.wants, &graph.after] {
                for other in list(edges, id) {
                    push(&mut graph.before, *other, id);
                }
            }
        }
        graph.sort(specs, &mut problems);
        if problems.is_empty() { Ok(graph) } else { Err(Problems(problems)) }
    }

    /// The services in an order in which each comes after what it stands on; ties in list order.
    #[must_use]
    pub fn order(&self) -> &[ServiceId] {
        &self.order
    }

    /// A service and all that can be reached from it along some edges, each once.
    pub(crate) fn reached(
        &self,
        from: ServiceId,
        edges: impl Fn(&Self, ServiceId) -> Vec<ServiceId>,
    ) -> Vec<ServiceId> {
        let mut seen = vec![false; self.order.len()];
        let mut found = Vec::new();
        let mut todo = vec![from];
        while let Some(id) = todo.pop() {
            match seen.get_mut(id.index()) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            found.push(id);
            todo.extend(edges(self, id));
        }
        found
    }

    /// Whether a service stands on none and none stands on it.
    pub(crate) fn is_alone(&self, id: ServiceId) -> bool {
        self.edges(id).next().is_none() && list(&self.before, id).is_empty()
    }

    fn edges(&self, id: ServiceId) -> impl Iterator<Item = ServiceId> + '_ {
        [&self.requires, &self.wants, &self.after]
            .into_iter()
            .flat_map(move |e| list(e, id))
            .copied()
    }

    /// Depth-first with an explicit stack (a chain of thousands must not end the process).
    fn sort(&mut self, specs: &[&ServiceSpec], problems: &mut Vec<Problem>) {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Closed,
        }
        let mut marks = vec![Mark::New; specs.len()];
        let mut order = Vec::with_capacity(specs.len());
        let mut told = 0_usize;
        for root in (0..).map(ServiceId).take(specs.len()) {
            if marks.get(root.index()) != Some(&Mark::New) {
                continue;
            }
            let mut stack: Vec<(ServiceId, Vec<ServiceId>)> = Vec::new();
            let mut next = Some(root);
            loop {
                if let Some(id) = next.take() {
                    if let Some(mark) = marks.get_mut(id.index()) {
                        *mark = Mark::Open;
                    }
                    let mut todo: Vec<_> = self.edges(id).collect();
                    todo.reverse();
                    stack.push((id, todo));
                }
                let Some((id, todo)) = stack.last_mut() else { break };
                let Some(other) = todo.pop() else {
                    if let Some(mark) = marks.get_mut(id.index()) {
                        *mark = Mark::Closed;
                    }
                    order.push(*id);
                    stack.pop();
                    continue;
                };
                match marks.get(other.index()) {
                    Some(Mark::New) => next = Some(other),
                    Some(Mark::Open) if told < MOST_IN_RINGS => {
                        let ring = stack.iter().map(|(id, _)| *id).skip_while(|id| *id != other);
                        let mut path: Vec<String> = ring
                            .filter_map(|id| specs.get(id.index()))
                            .map(|spec| spec.name.clone())
                            .collect();
                        path.extend(path.first().cloned());
                        told = told.saturating_add(path.len());
                        problems.push(Problem::Cycle { path });
                    }
                    _ => {}
                }
            }
        }
        self.order = order;
    }
}

/// The services at `id`; empty for an id that is not of this graph.
pub(crate) fn list(edges: &[Vec<ServiceId>], id: ServiceId) -> &[ServiceId] {
    edges.get(id.index()).map_or(&[], Vec::as_slice)
}

fn push(edges: &mut [Vec<ServiceId>], from: ServiceId, to: ServiceId) {
    if let Some(list) = edges.get_mut(from.index())
        && !list.contains(&to)
    {
        list.push(to);
    }
}

/// The services that a service names, by the relation to them.
pub(crate) fn relations(spec: &ServiceSpec) -> [(&'static str, &Vec<String>); 3] {
    [("requires", &spec.requires), ("wants", &spec.wants), ("after", &spec.after)]
}

/// What is wrong with each service, at its place, whatever it depends on.
fn check_names(specs: &[&ServiceSpec], tell: &mut impl FnMut(usize, Problem)) {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut problems = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let name = || spec.name.clone();
        if !is_name(&spec.name) {
            problems.push(Problem::BadName { index, name: name() });
        }
        let first = *places.entry(&spec.name).or_insert(index);
        if first != index {
            problems.push(Problem::Duplicate { name: name(), first, second: index });
        }
        check_texts(spec, &mut problems);
        problems.drain(..).for_each(|problem| tell(index, problem));
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b))
}

fn check_texts(spec: &ServiceSpec, problems: &mut Vec<Problem>) {
    let mut bad = |what| problems.push(Problem::BadText { name: spec.name.clone(), what });
    let nul = |path: &std::path::Path| path.as_os_str().as_encoded_bytes().contains(&0);
    if spec.command.iter().any(|text| text.contains('\0')) {
        bad("command");
    }
    let bad_key = |key: &str| key.is_empty() || key.contains(['\0', '=']);
    if spec.env.iter().any(|(key, value)| bad_key(key) || value.contains('\0')) {
        bad("env");
    }
    if spec.directory.as_deref().is_some_and(nul) {
        bad("directory");
    }
    let Isolation { read_only, writable, hidden, credentials, .. } = &*spec.isolation;
    let paths = spec.env_files.iter().chain(&spec.only_if);
    let mut paths = paths.chain(read_only).chain(writable).chain(hidden);
    if paths.any(|path| nul(path)) {
        bad("a path");
    }
    if credentials.iter().any(|(name, path)| !is_name(name) || nul(path)) {
        bad("a credential");
    }
    let mut names = spec.sockets.iter().map(|socket| &socket.name);
    if names.any(|name| name.is_empty() || name.contains([':', '\0', '\n'])) {
        bad("a socket's name");
    }
    if spec.tty.as_deref().is_some_and(nul) {
        bad("tty");
    }
    if matches!(&spec.log, Log::File(file) if file.path.as_os_str().is_empty() || nul(&file.path)) {
        bad("log path");
    }
    if !is_container(spec) && spec.command.first().is_none_or(String::is_empty) {
        problems.push(Problem::NoCommand { name: spec.name.clone() });
    }
    check_sense(spec, problems);
}

#[cfg(feature = "oci")]
fn is_container(spec: &ServiceSpec) -> bool {
    spec.container.is_some()
}

#[cfg(not(feature = "oci"))]
fn is_container(_: &ServiceSpec) -> bool {
    false
}

/// What cannot work, whatever the machine.
fn check_sense(spec: &ServiceSpec, problems: &mut Vec<Problem>) {
    let mut refuse = |what| problems.push(Problem::Senseless { name: spec.name.clone(), what });
    #[cfg(feature = "oci")]
    container::check(spec, &mut refuse);
    match &spec.readiness {
        Readiness::NotifyFd(fd) if !(3..1024).contains(fd) => {
            refuse("a notification descriptor must be 3 to 1023");
        }
        Readiness::NotifyFd(fd)
            if usize::try_from(*fd).is_ok_and(|fd| fd < spec.sockets.len().saturating_add(3)) =>
        {
            refuse("the notification descriptor is one of those that the sockets take, from 3 on");
        }
        Readiness::Connect(Address::Udp(_)) => {
            refuse("nothing connects by datagrams: readiness by connect is for tcp and unix");
        }
        Readiness::Probe(probe)
            if probe.command.first().is_none_or(String::is_empty)
                || probe.command.iter().any(|text| text.contains('\0')) =>
        {
            refuse("a probe needs a command");
        }
        Readiness::None => {}
        _ if spec.kind == Kind::OneShot => {
            refuse("a one-shot is ready when it has exited with 0, it takes no readiness protocol");
        }
        _ => {}
    }
    if spec.timer.is_some() && spec.kind == Kind::Daemon {
        refuse("a timer is for one-shots; a daemon runs all the time");
    }
    if spec.timer.is_some_and(|timer| timer.every.is_zero()) {
        refuse("a timer of no time would run without end");
    }
    if spec.on_demand && spec.sockets.is_empty() {
        refuse("it is started on demand and has no socket on which there could be any");
    }
    if spec.on_demand && spec.kind == Kind::OneShot {
        refuse("a one-shot is not started on demand: what it is asked would never be answered");
    }
    if spec.sockets.len().saturating_add(spec.fd_store as usize) > MAX_DESCRIPTORS {
        refuse("more sockets and stored descriptors than a service may have (512)");
    }
    if spec.waits_for.iter().any(|c| matches!(c, Condition::Path(path) if !path.is_absolute())) {
        refuse("a path that is waited for must be absolute");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, requires: &[&str]) -> ServiceSpec {
        let requires = requires.iter().map(ToString::to_string).collect();
        ServiceSpec { requires, ..ServiceSpec::daemon(name, ["/bin/true"]) }
    }

    fn texts(specs: &[ServiceSpec]) -> Vec<String> {
        match Graph::new(specs) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let mut specs = vec![
            spec("a", &["b"]),
            spec("b", &["c"]),
            spec("c", &["a"]),
            spec("self", &["self"]),
            spec("lost", &["nowhere"]),
            spec("a", &[]),
            spec("sp ace", &[]),
            ServiceSpec::daemon("empty", Vec::<String>::new()),
            ServiceSpec::daemon("nul", ["/bin/a\0b"]),
        ];
        specs.push(ServiceSpec {
            readiness: Readiness::NotifyFd(1),
            ..ServiceSpec::daemon("fd", ["/x"])
        });
        assert_eq!(
            texts(&specs),
            [
                "service a: defined twice (services 0 and 5 of the list)",
                "service 6: bad name \"sp ace\", expected 1 to 64 letters, digits and \"._-@\", \
                 not starting with a dot",
                "service empty: no command",
                "service nul: command has a NUL byte or is empty or malformed",
                "service fd: a notification descriptor must be 3 to 1023",
                "service self: requires itself",
                "service lost: requires \"nowhere\", which does not exist",
                "dependency cycle: a -> b -> c -> a",
            ]
        );
    }

    #[test]
    fn cycles_are_found_through_every_relation() {
        let mut a = spec("a", &[]);
        a.after = vec!["b".into()];
        let mut b = spec("b", &[]);
        b.wants = vec!["a".into()];
        assert_eq!(texts(&[a, b]), ["dependency cycle: a -> b -> a"]);
    }

    #[test]
    fn order_puts_what_is_needed_first() {
        let specs =
            [spec("nomad", &["network"]), spec("network", &["modules"]), spec("modules", &[])];
        let order: Vec<_> = Graph::new(&specs).unwrap().order().iter().map(|i| i.index()).collect();
        assert_eq!(order, [2, 1, 0]);
    }

    #[test]
    fn a_chain_of_thousands_is_no_recursion() {
        let mut specs = vec![spec("s0", &[])];
        for n in 1..10_000 {
            specs.push(spec(&format!("s{n}"), &[&format!("s{}", n - 1)]));
        }
        specs.reverse();
        assert_eq!(Graph::new(&specs).unwrap().order().len(), 10_000);
    }

    #[test]
    fn thousands_of_rings_are_no_flood() {
        // each is on a ring with all before it
        let all = (0..MAX_SERVICES).map(|n| {
            let mut it = spec(&format!("s{n}"), &[]);
            it.wants = vec![format!("s{}", (n + 1) % MAX_SERVICES), "s0".into()];
            it.wants.truncate(if n == 0 { 1 } else { 2 });
            it
        });
        let Problems(problems) = Graph::new(&all.collect::<Vec<_>>()).unwrap_err();
        let path = |problem: &Problem| match problem {
            Problem::Cycle { path } => path.len(),
            _ => 0,
        };
        let names: usize = problems.iter().map(path).sum();
        assert!(names < 2 * MOST_IN_RINGS && problems.len() > 1, "{names}");
        assert!(problems.iter().all(|problem| problem.to_string().len() < 200));
    }
}
