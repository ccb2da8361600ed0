//! NomadOS from its raw disk: jobs of every kind, an agent that is killed, an orderly end.

use std::time::Duration;

use kiln::Progress;
use kiln_e2e::{Guest, Server, images, start};
use nomados::agent::batch_job;
use nomados::run::Options;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(300);

#[test]
fn jobs_run_a_killed_agent_comes_back_and_the_power_button_stops_in_order() {
    let quiet = Progress::quiet();
    let mut guest = start(&Options::new(images().unwrap().join("nomados.raw"))).unwrap();
    guest.running.wait_ready(&quiet).unwrap();

    let exec = batch_job("exec", "exec", "hostname; id -u; test ! -e /usr/local/bin/nomad");
    assert_eq!(guest.running.run_job(&exec, &quiet).unwrap(), "nomados\n65534\n");
    let raw = batch_job("raw", "raw_exec", "cat /proc/1/comm; id -u");
    assert_eq!(guest.running.run_job(&raw, &quiet).unwrap(), "init\n0\n");

    let server = Server::start("a payload\n").unwrap();
    let mut fetch = batch_job("fetch", "exec", "cat local/payload.txt");
    fetch["TaskGroups"][0]["Tasks"][0]["Artifacts"] = json!([
        { "GetterSource": format!("http://10.0.2.2:{}/payload.txt", server.port), "RelativeDest": "local/" }
    ]);
    assert_eq!(guest.running.run_job(&fetch, &quiet).unwrap(), "a payload\n");
    assert!(server.requests().iter().any(|line| line.starts_with("GET /payload.txt")));

    let ask = |guest: &mut Guest, name: &str, command: &str| {
        guest.running.run_job(&batch_job(name, "raw_exec", command), &quiet).unwrap()
    };
    let status = ask(&mut guest, "status", "/usr/bin/svc status --json");
    let mut status = status.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(status.any(|service| service["name"] == "nomad"));
    // The task's processes are Nomad's, the agent's are the service's.
    let groups = ask(
        &mut guest,
        "groups",
        "cat /proc/self/cgroup; for pid in $(cat /sys/fs/cgroup/services/nomad.service/cgroup.procs); \
         do cat /proc/$pid/comm; done | sort -u",
    );
    assert!(groups.starts_with("0::/nomad.slice/"), "{groups}");
    assert!(groups.lines().any(|line| line == "nomad"), "{groups}");
    let chart = ask(&mut guest, "chart", "/usr/bin/svc plot");
    assert!(chart.starts_with("<svg") && chart.contains(">nomad<"), "{chart}");
    std::fs::write(images().unwrap().join("boot.svg"), chart).unwrap();

    // A service more, and another image of process 1: Nomad and its tasks do not notice.
    let more = ask(
        &mut guest,
        "more",
        "pid() { /usr/bin/svc status nomad --json | sed 's/.*\"pid\"://; s/,.*//'; }; \
         before=$(pid); file=/etc/kiln/services.toml; \
         printf '[[service]]\\nname = \"more\"\\ncommand = [\"/bin/sleep\", \"1000\"]\\n' >> $file; \
         /usr/bin/svc reload; /usr/bin/svc reexec >&2; /usr/bin/svc status more >/dev/null && echo up; \
         test \"$before\" = \"$(pid)\" && echo same",
    );
    assert!(more.starts_with("1 added (more)") && more.ends_with("\nup\nsame\n"), "{more}");
    guest.running.vm.wait_for("goes on as a new process image", LONG).unwrap();

    // The agent's tasks run the same program; only the agent itself is killed.
    let mut kill =
        batch_job("kill", "raw_exec", "kill -9 $(ps | awk '/[n]omad agent/ {print $1}')");
    kill["Type"] = json!("batch");
    guest.running.agent.submit(&kill).unwrap();
    guest.running.vm.wait_for("killed by SIGKILL", LONG).unwrap();
    guest.running.vm.wait_for("nomad: started as", LONG).unwrap();
    guest.running.wait_ready(&quiet).unwrap();
    let after = batch_job("after", "exec", "echo still here");
    assert_eq!(guest.running.run_job(&after, &quiet).unwrap(), "still here\n");

    let phases = guest.running.phases();
    let names: Vec<&str> = phases.iter().map(|phase| phase.name.as_str()).collect();
    let first = ["firmware and loader", "kernel", "init", "DHCP", "Nomad ready", "job done"];
    assert_eq!(names.get(..6), Some(&first[..]), "{names:?}");

    guest.running.shut_down(&quiet).unwrap();
    let at = |text: &str| guest.line(text, 0).unwrap_or_else(|| panic!("no line says {text:?}"));
    assert!(at("shutting down to power off") < at("nomad: stopped"));
    assert!(at("nomad: stopped") < at("network: stopping"));
    assert!(at("network: stopped") < at("all services stopped: power off"));
}

#[test]
fn without_a_dhcp_server_it_says_so_keeps_trying_and_can_be_stopped() {
    let mut options = Options::new(images().unwrap().join("nomados.raw"));
    options.network = false;
    let mut guest = start(&options).unwrap();
    guest.running.vm.wait_for("no DHCP server: still trying", LONG).unwrap();
    guest.running.vm.wait_for("no DHCP server: still trying", LONG).unwrap();
    assert!(guest.line("nomad: started", 0).is_none(), "Nomad was started without a network");
    guest.running.shut_down(&Progress::quiet()).unwrap();
}
