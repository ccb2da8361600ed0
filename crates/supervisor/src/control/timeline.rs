//! When services were to start, started, were ready and ended: what blame lists and boot charts are
//! made of. Bounded: of each service the first run and the latest are remembered.

use std::collections::BTreeMap;

use super::protocol::{Run, ServiceTimes, Times};
use crate::vocabulary::{Event, Time};

/// So many runs of a service are remembered.
const RUNS: usize = 8;

/// Listens to events and remembers when they came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeline {
    began_us: u64,
    services: BTreeMap<String, History>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct History {
    queued_us: Option<u64>,
    runs: Vec<Run>,
    /// How its last process ended, or why there was none.
    end: Option<String>,
}

/// A reason longer than this is cut.
const LONGEST_REASON: usize = 300;

pub(crate) fn micros(time: Time) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Timeline {
    pub(crate) fn new(began: Time) -> Self {
        Self { began_us: micros(began), services: BTreeMap::new() }
    }

    /// A service was asked for by name: from now on it waits.
    pub(crate) fn queue(&mut self, name: &str, now: Time) {
        self.services.entry(name.to_owned()).or_default().queued_us = Some(micros(now));
    }

    pub(crate) fn note(&mut self, event: &Event, now: Time) {
        let now = micros(now);
        match event {
            Event::Started { service, .. } => {
                let began = self.began_us;
                let history = self.services.entry(service.to_string()).or_default();
                // what is started first has been waited for since the beginning
                let first = history.runs.is_empty().then_some(began);
                let queued_us = history.queued_us.take().or(first);
                if history.runs.len() >= RUNS {
                    history.runs.remove(1);
                }
                history.runs.push(Run { queued_us, started_us: now, ..Run::default() });
            }
            Event::Ready { service, .. } | Event::Done { service } => {
                if let Some(run) = self.last(service.as_str())
                    && run.ready_us.is_none()
                {
                    run.ready_us = Some(now);
                }
            }
            Event::Exited { service, status, .. } => {
                self.end(service.as_str(), status);
                if let Some(run) = self.last(service.as_str()) {
                    run.ended_us = Some(now);
                }
            }
            Event::SpawnFailed { service, error } => self.end(service.as_str(), error),
            Event::Restarting { service, .. } => {
                self.services.entry(service.to_string()).or_default().queued_us = Some(now);
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, why: &dyn std::fmt::Display) {
        let text = why.to_string().chars().take(LONGEST_REASON).collect();
        self.services.entry(name.to_owned()).or_default().end = Some(text);
    }

    /// How a service's last process ended, or why there was none.
    pub(crate) fn last_end(&self, name: &str) -> Option<&str> {
        self.services.get(name)?.end.as_deref()
    }

    fn last(&mut self, name: &str) -> Option<&mut Run> {
        self.services.get_mut(name)?.runs.last_mut()
    }

    /// What is known of a service.
    pub(crate) fn of(&self, name: &str) -> Option<ServiceTimes> {
        let runs = self.services.get(name)?.runs.clone();
        (!runs.is_empty()).then(|| ServiceTimes { name: name.to_owned(), runs })
    }

    /// When the supervisor began, in microseconds.
    pub(crate) fn began_us(&self) -> u64 {
        self.began_us
    }

    /// All of it, for another process image.
    pub(crate) fn to_times(&self) -> Times {
        let services = self.services.keys().filter_map(|name| self.of(name)).collect();
        Times { began_us: self.began_us, now_us: 0, services }
    }

    /// What another process image knew.
    pub(crate) fn from_times(times: Times) -> Self {
        let services = times.services.into_iter().map(|service| {
            let mut runs = service.runs;
            runs.truncate(RUNS);
            (service.name, History { runs, ..History::default() })
        });
        Self { began_us: times.began_us, services: services.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::vocabulary::{ExitStatus, Name, Pid};

    fn name() -> Name {
        Name(Arc::from("a"))
    }

    fn at(ms: u64) -> Time {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_run_from_queue_to_end() {
        let mut timeline = Timeline::new(at(100));
        timeline.note(&Event::Started { service: name(), pid: Pid(7) }, at(150));
        timeline.note(&Event::Ready { service: name(), after: at(30) }, at(180));
        let status = ExitStatus::Code(1);
        let exited = Event::Exited { service: name(), pid: Pid(7), status, ran: at(40) };
        timeline.note(&exited, at(190));
        let delay = at(200);
        timeline.note(&Event::Restarting { service: name(), delay, attempt: 1 }, at(190));
        timeline.note(&Event::Started { service: name(), pid: Pid(8) }, at(390));
        let runs = timeline.of("a").unwrap().runs;
        assert_eq!(
            runs[0],
            Run {
                queued_us: Some(100_000),
                started_us: 150_000,
                ready_us: Some(180_000),
                ended_us: Some(190_000)
            }
        );
        assert_eq!((runs[1].queued_us, runs[1].started_us), (Some(190_000), 390_000));
        assert_eq!(runs[1].ready_us, None);
        assert_eq!(Timeline::from_times(timeline.to_times()).of("a").unwrap().runs, runs);
    }

    #[test]
    fn a_crash_loop_keeps_the_first_and_the_latest() {
        let mut timeline = Timeline::new(at(0));
        for n in 1..1000 {
            timeline.note(&Event::Started { service: name(), pid: Pid(7) }, at(n));
        }
        let runs = timeline.of("a").unwrap().runs;
        assert_eq!(runs.len(), RUNS);
        assert_eq!(runs[0].started_us, 1000);
        assert_eq!(runs[1].started_us, 993_000);
        assert_eq!(runs[7].started_us, 999_000);
    }
}
