//! What is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use super::contender::{Output, Service, Supervisor};
use super::programs::Programs;
use super::world::{Process, Site, World, context_switches, kilobytes};
use crate::Result;

/// How long anything may take that should take seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A supervisor with many services.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// From its `exec` to the last service's `main`, in seconds.
    pub wall: f64,
    /// Of the supervisor and whatever helps it, in MiB: shared memory by its share.
    pub pss: f64,
    /// How many processes those are.
    pub processes: usize,
}

/// Starts a supervisor with so many services.
///
/// # Errors
/// They do not come up.
pub fn start(
    programs: &Programs,
    supervisor: Supervisor,
    number: u32,
    output: Output,
) -> Result<Start> {
    let services: Vec<Service> = (0..number)
        .map(|index| Service {
            name: format!("s{index:04}"),
            argument: "stay:/work/notes:up".into(),
            output,
        })
        .collect();
    let mut world = world(programs, supervisor, &services)?;
    world.wait_for_notes(u64::from(number) + 1, PATIENCE)?;
    let notes = world.notes();
    let launch = first(&notes, "launch")?;
    let last = notes.iter().filter(|(word, _)| word == "up").map(|(_, at)| *at).max();
    let own = supervisors(&world);
    let pss: u64 = own.iter().map(|process| kilobytes(process, "smaps_rollup", "Pss")).sum();
    Ok(Start {
        wall: seconds(last.unwrap_or(launch).saturating_sub(launch)),
        pss: pss as f64 / 1024.0,
        processes: own.len(),
    })
}

/// From the end of a service's life to the next one's `main`, in seconds, sorted: eight services that
/// live for 1.2 to 1.8 s.
///
/// # Errors
/// They do not come up.
pub fn restarts(
    programs: &Programs,
    supervisor: Supervisor,
    duration: Duration,
) -> Result<Vec<f64>> {
    let services: Vec<Service> = (0..8)
        .map(|index| Service {
            name: format!("s{index}"),
            argument: format!("live:/work/notes:s{index}:1200:1800"),
            output: Output::Null,
        })
        .collect();
    let mut world = world(programs, supervisor, &services)?;
    world.wait_for_notes(9, PATIENCE)?;
    std::thread::sleep(duration);
    let mut ended: BTreeMap<String, u64> = BTreeMap::new();
    let mut took = Vec::new();
    for (word, at) in world.notes() {
        match word.strip_suffix("/end") {
            Some(name) => drop(ended.insert(name.to_owned(), at)),
            None => took.extend(ended.remove(&word).map(|end| seconds(at.saturating_sub(end)))),
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// When a service that fails at once was started, in seconds from its first start.
///
/// # Errors
/// It is never started.
pub fn crashes(
    programs: &Programs,
    supervisor: Supervisor,
    duration: Duration,
) -> Result<Vec<f64>> {
    let service = Service {
        name: "crash".into(),
        argument: "crash:/work/notes:crash".into(),
        output: Output::Null,
    };
    let mut world = world(programs, supervisor, &[service])?;
    world.wait_for_notes(2, PATIENCE)?;
    std::thread::sleep(duration);
    let notes = world.notes();
    let begin = first(&notes, "crash")?;
    let starts = notes.iter().filter(|(word, _)| word == "crash");
    Ok(starts.map(|(_, at)| seconds(at.saturating_sub(begin))).collect())
}

/// A supervisor that has nothing to do.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// How often its threads were switched to and from.
    pub switches: f64,
    /// Resident, in MiB.
    pub rss: f64,
}

/// Leaves a supervisor alone with ten services.
///
/// # Errors
/// They do not come up.
pub fn idle(programs: &Programs, supervisor: Supervisor, duration: Duration) -> Result<Idle> {
    let services: Vec<Service> = (0..10)
        .map(|index| Service {
            name: format!("s{index}"),
            argument: "stay:/work/notes:up".into(),
            output: Output::Null,
        })
        .collect();
    let mut world = world(programs, supervisor, &services)?;
    world.wait_for_notes(11, PATIENCE)?;
    // What it does last when all are up.
    std::thread::sleep(Duration::from_secs(1));
    let own = supervisors(&world);
    let count = || own.iter().map(context_switches).sum::<u64>();
    let before = count();
    std::thread::sleep(duration);
    let rss: u64 = own.iter().map(|process| kilobytes(process, "status", "VmRSS")).sum();
    Ok(Idle { switches: (count() - before) as f64, rss: rss as f64 / 1024.0 })
}

/// What became of many orphans.
#[derive(Debug, Clone, Copy)]
pub struct Orphans {
    /// From their release to the last one reaped, in seconds.
    pub wall: f64,
    /// How many were left after a second.
    pub left: u64,
}

/// Who reaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaper {
    /// A container's init, by its command.
    Init(&'static [&'static str]),
    /// A supervisor, whose only service makes the orphans.
    Supervisor(Supervisor),
}

/// Lets so many processes lose their parent, and then end all at once.
///
/// # Errors
/// They cannot be made, or are never reaped.
pub fn orphans(programs: &Programs, reaper: Reaper, number: u32) -> Result<Orphans> {
    let argument = format!("orphans:/work/notes:{number}");
    let mut world = match reaper {
        Reaper::Init(command) => {
            let mut command: Vec<String> = command.iter().map(|&word| word.into()).collect();
            command.extend(["/work/probe".into(), argument]);
            Site::new(programs)?.start(programs, &command)?
        }
        Reaper::Supervisor(supervisor) => {
            let service = Service { name: "orphans".into(), argument, output: Output::Null };
            world(programs, supervisor, &[service])?
        }
    };
    world.wait_for_notes(4, PATIENCE)?;
    let notes = world.notes();
    let took = first(&notes, "reaped")?.saturating_sub(first(&notes, "released")?);
    Ok(Orphans { wall: seconds(took), left: first(&notes, "left")? })
}

/// How long a supervisor takes to take so many MiB of a service's output, in seconds; files of 1 MiB,
/// three kept, in memory.
///
/// # Errors
/// It does not take them.
pub fn log_throughput(programs: &Programs, supervisor: Supervisor, mebibytes: u32) -> Result<f64> {
    let service = Service {
        name: "writer".into(),
        argument: format!("write:/work/notes:{mebibytes}"),
        output: Output::Files(1 << 20),
    };
    let mut site = Site::new(programs)?;
    site.disk = Some("64m".into());
    let mut world = on(site, programs, supervisor, &[service])?;
    world.wait_for_notes(3, PATIENCE)?;
    let notes = world.notes();
    Ok(seconds(first(&notes, "taken")?.saturating_sub(first(&notes, "begun")?)))
}

/// What a line costs the service that writes it, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Lag {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The longest.
    pub most: f64,
    /// How many lines were taken.
    pub lines: u64,
    /// What the supervisor and whatever helps it hold then, resident, in MiB.
    pub rss: f64,
}

/// Writes lines at a steady pace to a log on a file system of this size.
///
/// # Errors
/// The service does not come to an end.
pub fn log_lag(
    programs: &Programs,
    supervisor: Supervisor,
    disk: &str,
    duration: Duration,
) -> Result<Lag> {
    let service = Service {
        name: "writer".into(),
        argument: format!("lag:/work/notes:{}", duration.as_millis()),
        output: Output::Files(1 << 27),
    };
    let mut site = Site::new(programs)?;
    site.disk = Some(disk.into());
    let mut world = on(site, programs, supervisor, &[service])?;
    world.wait_for_notes(5, duration + PATIENCE)?;
    let notes = world.notes();
    let figure = |word: &str| first(&notes, word).map(seconds);
    let own = supervisors(&world);
    let rss: u64 = own.iter().map(|process| kilobytes(process, "status", "VmRSS")).sum();
    Ok(Lag {
        p50: figure("p50")?,
        p99: figure("p99")?,
        most: figure("most")?,
        lines: first(&notes, "lines")?,
        rss: rss as f64 / 1024.0,
    })
}

/// The value below which so much of 1 of the sorted values lie; not a number for none.
#[must_use]
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the length"
    )]
    let index = (last as f64 * part.clamp(0.0, 1.0)).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

fn world(programs: &Programs, supervisor: Supervisor, services: &[Service]) -> Result<World> {
    on(Site::new(programs)?, programs, supervisor, services)
}

fn on(
    site: Site,
    programs: &Programs,
    supervisor: Supervisor,
    services: &[Service],
) -> Result<World> {
    let command = supervisor.prepare(&site.work(), services)?;
    site.start(programs, &command)
}

/// All processes that are not what is supervised.
fn supervisors(world: &World) -> Vec<Process> {
    let mut all = world.processes();
    // The floor is a probe itself: the first is the supervisor, whatever its program.
    let first = all.first().cloned();
    all.retain(|process| !process.is_probe);
    if all.is_empty() { first.into_iter().collect() } else { all }
}

fn first(notes: &[(String, u64)], word: &str) -> Result<u64> {
    let found = notes.iter().find(|(known, _)| known == word).map(|(_, number)| *number);
    found.ok_or_else(|| format!("no {word} was noted: {notes:?}").into())
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let values: Vec<f64> = (0..=100_u32).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 50.0);
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values, 1.0), 100.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
