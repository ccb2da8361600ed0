//! Services of every kind.

use std::time::Duration;

use kiln_supervisor::{Bytes, Kill, Log, Probe, Readiness, Restart, ServiceSpec, Socket, Timer};

/// The service that is spared.
pub(crate) const ROUNDS: &str = "rounds";
/// The service that is started by who connects.
pub(crate) const ON_DEMAND: &str = "on-demand";
pub(crate) const DEMAND_SOCKET: &str = "/run/demand";
/// The longest that a service may be away without having been stopped: its backoff, and for it and for
/// what it requires the times to get ready and to stop; and a host that has other work.
pub(crate) const AWAY: Duration = Duration::from_secs(45);

fn service(name: impl Into<String>, kind: &str) -> ServiceSpec {
    let name = name.into();
    let mut spec = ServiceSpec::daemon(name.clone(), ["/init", "life", name.as_str(), kind]);
    spec.log = Log::Null;
    spec.backoff.initial = Duration::from_millis(200);
    spec.backoff.max = Duration::from_secs(3);
    spec.backoff.healthy = Duration::from_secs(5);
    spec.ready_timeout = Duration::from_secs(10);
    spec.stop_timeout = Duration::from_secs(2);
    spec
}

pub(crate) fn all(seed: &str, seconds: &str) -> Vec<ServiceSpec> {
    let mut specs = Vec::new();
    for number in 0..6 {
        specs.push(service(format!("steady-{number}"), "steady"));
    }
    for number in 0..3 {
        let mut spec = service(format!("notify-{number}"), "notify");
        spec.readiness = Readiness::NotifyFd(3);
        specs.push(spec);
        let mut spec = service(format!("sd-{number}"), "sd-notify");
        spec.readiness = Readiness::SdNotify;
        spec.fd_store = 1;
        specs.push(spec);
        let mut spec = service(format!("stands-{number}"), "steady");
        spec.requires = vec![format!("notify-{number}")];
        spec.wants = vec![format!("sd-{number}")];
        specs.push(spec);
        let mut spec = service(format!("forks-{number}"), "forks");
        spec.log = Log::Auto;
        specs.push(spec);
        specs.push(service(
            format!("crashes-{number}"),
            ["crash-0", "crash-50", "crash-2000"][number],
        ));
    }
    let mut probed = service("probed", "steady");
    let mut probe = Probe::new(["/init", "child", "20"]);
    probe.every = Duration::from_millis(100);
    probed.readiness = Readiness::Probe(probe);
    let deaf = service("deaf", "deaf");
    let mut agent = service("agent", "forks");
    agent.kill = Kill::Process;
    let mut group = service("group", "forks");
    group.kill = Kill::ProcessGroup;
    let mut talks = service("talks", "talks");
    talks.log = Log::Auto;
    let mut bounded = service("bounded", "forks");
    bounded.cgroup.pids_max = Some(20);
    bounded.cgroup.memory_max = Some(Bytes(32 << 20));
    bounded.cgroup.cpu_percent = Some(50);
    let mut missing = service("missing", "steady");
    missing.command = vec!["/no/such/program".into()];
    let mut on_demand = service(ON_DEMAND, "answer");
    let address = format!("unix:{DEMAND_SOCKET}").parse();
    on_demand.sockets = address.into_iter().map(Socket::new).collect();
    on_demand.on_demand = true;
    on_demand.restart = Restart::Always;
    specs.extend([probed, deaf, agent, group, talks, bounded, missing, on_demand]);
    for number in 0..3_u64 {
        let name = format!("timed-{number}");
        let mut spec = ServiceSpec::one_shot(name.clone(), ["/init", "life", &name, "once"]);
        spec.timer = Some(Timer::every(Duration::from_millis(700 + 400 * number)));
        spec.log = Log::Null;
        specs.push(spec);
    }
    let mut shot = ServiceSpec::one_shot("shot", ["/init", "life", "shot", "once"]);
    (shot.restart, shot.log) = (Restart::OnFailure, Log::Null);
    shot.backoff.max = Duration::from_secs(3);
    let mut rounds = ServiceSpec::daemon(ROUNDS, ["/init", "rounds", seed, seconds]);
    (rounds.restart, rounds.log) = (Restart::Never, Log::Inherit);
    specs.extend([shot, rounds]);
    specs
}
