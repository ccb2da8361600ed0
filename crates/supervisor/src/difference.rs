//! What is different between the services that were and those that are to be.

use std::collections::BTreeMap;
use std::fmt;

use crate::spec::ServiceSpec;

/// What a reload has to do, by names; each is in exactly one list. Made by
/// [`Difference::between`], carried out by [`Supervisor::reload`](crate::Supervisor::reload).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// New: started if they are enabled.
    pub added: Vec<String>,
    /// No longer there: stopped in order and then forgotten.
    pub removed: Vec<String>,
    /// Changed in what a process is started with: stopped and started again, if they are to run.
    pub restarted: Vec<String>,
    /// Changed in what counts from the next event on: their processes notice nothing.
    pub updated: Vec<String>,
    /// As they were.
    pub unchanged: Vec<String>,
}

impl Difference {
    /// Compares two lists of services, matched by their names, in the order of `new`, the removed
    /// ones in that of `old`.
    #[must_use]
    pub fn between<'a>(
        old: impl IntoIterator<Item = &'a ServiceSpec>,
        new: &[ServiceSpec],
    ) -> Self {
        let old: Vec<&ServiceSpec> = old.into_iter().collect();
        let mut known: BTreeMap<&str, &ServiceSpec> =
            old.iter().map(|spec| (spec.name.as_str(), *spec)).collect();
        let mut difference = Self::default();
        for spec in new {
            let list = match known.remove(spec.name.as_str()) {
                None => &mut difference.added,
                Some(before) if before == spec => &mut difference.unchanged,
                Some(before) if needs_restart(before, spec) => &mut difference.restarted,
                Some(_) => &mut difference.updated,
            };
            list.push(spec.name.clone());
        }
        let removed = old.iter().filter(|spec| known.contains_key(spec.name.as_str()));
        difference.removed = removed.map(|spec| spec.name.clone()).collect();
        difference
    }

    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { added, removed, restarted, updated, unchanged: _ } = self;
        [added, removed, restarted, updated].into_iter().all(Vec::is_empty)
    }
}

impl fmt::Display for Difference {
    /// `2 added (a, b), 1 restarted (c), 3 unchanged`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More names than this are counted.
        const SHOWN: usize = 8;
        let named = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("restarted", &self.restarted),
            ("updated", &self.updated),
        ];
        for (word, names) in named.into_iter().filter(|(_, names)| !names.is_empty()) {
            let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
            let more = if names.len() > SHOWN { ", …" } else { "" };
            write!(f, "{} {word} ({}{more}), ", names.len(), shown.join(", "))?;
        }
        write!(f, "{} unchanged", self.unchanged.len())
    }
}

/// Whether a running process has something of `old` that it would not have of `new`. What is not
/// compared is looked at when it matters: at the next start, stop, end or timeout.
pub(crate) fn needs_restart(old: &ServiceSpec, new: &ServiceSpec) -> bool {
    let started_with = |spec: &ServiceSpec| {
        let other = ServiceSpec::default();
        ServiceSpec {
            requires: other.requires,
            wants: other.wants,
            after: other.after,
            waits_for: other.waits_for,
            only_if: other.only_if,
            enabled: other.enabled,
            restart: other.restart,
            backoff: other.backoff,
            ready_timeout: other.ready_timeout,
            run_timeout: other.run_timeout,
            stop_signal: other.stop_signal,
            stop_timeout: other.stop_timeout,
            reload: other.reload,
            kill: other.kill,
            // a service that has begun or ceased to be run by a timer begins anew
            timer: spec.timer.map(|_| crate::spec::Timer::every(std::time::Duration::from_secs(1))),
            ..spec.clone()
        }
    };
    started_with(old) != started_with(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Restart, Timer};
    use std::time::Duration;

    fn spec(name: &str) -> ServiceSpec {
        ServiceSpec::one_shot(name, ["/bin/x"])
    }

    #[test]
    fn each_service_is_in_one_list() {
        let old = [spec("gone"), spec("same"), spec("command"), spec("policy"), spec("timed")];
        let mut new = [spec("new"), spec("timed"), spec("policy"), spec("command"), spec("same")];
        new[1].timer = Some(Timer::every(Duration::from_secs(5)));
        new[2].restart = Restart::OnFailure;
        new[2].requires = vec!["same".into()];
        new[3].command.push("--more".into());
        let difference = Difference::between(&old, &new);
        let text = "1 added (new), 1 removed (gone), 2 restarted (timed, command), 1 updated (policy), \
                    1 unchanged";
        assert_eq!(difference.to_string(), text);
        assert!(!difference.is_empty());
        assert!(Difference::between(&new, &new).is_empty());
        let mut slower = new.clone();
        slower[1].timer = Some(Timer::every(Duration::from_secs(6)));
        assert_eq!(Difference::between(&new, &slower).updated, ["timed"]);
    }
}
