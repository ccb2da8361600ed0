//! What NomadOS promises to do on any kernel: jobs of every kind, an agent that is killed, an
//! orderly end.

use std::time::Duration;

use anyhow::{Result, ensure};
use kiln::Progress;
use nomados::agent::batch_job;
use nomados::run::{Options, Phase};
use serde_json::json;

use crate::{Server, start};

const LONG: Duration = Duration::from_secs(300);

/// Boots an image and has it do all of it. Gives where the time went.
///
/// # Errors
/// The first thing that is not as promised, with the end of the console.
pub fn all_of(options: &Options) -> Result<Vec<Phase>> {
    let mut guest = start(options)?;
    let done = run(&mut guest);
    done.map_err(|error| error.context(guest.running.vm.console().tail(60)))
}

fn run(guest: &mut crate::Guest) -> Result<Vec<Phase>> {
    let quiet = Progress::quiet();
    guest.running.wait_ready(&quiet)?;
    let exec = batch_job("exec", "exec", "hostname; id -u; test ! -e /usr/local/bin/nomad");
    let said = guest.running.run_job(&exec, &quiet)?;
    ensure!(said == "nomados\n65534\n", "an exec task said {said:?}");
    let phases = guest.running.phases();

    let raw = batch_job("raw", "raw_exec", "cat /proc/1/comm; id -u");
    let said = guest.running.run_job(&raw, &quiet)?;
    ensure!(said == "init\n0\n", "a raw_exec task said {said:?}");

    let server = Server::start("a payload\n")?;
    let mut fetch = batch_job("fetch", "exec", "cat local/payload.txt");
    fetch["TaskGroups"][0]["Tasks"][0]["Artifacts"] = json!([
        { "GetterSource": format!("http://10.0.2.2:{}/payload.txt", server.port), "RelativeDest": "local/" }
    ]);
    let said = guest.running.run_job(&fetch, &quiet)?;
    ensure!(said == "a payload\n", "a task with an artifact said {said:?}");

    // The agent's tasks run the same program; only the agent itself is killed.
    let mut kill =
        batch_job("kill", "raw_exec", "kill -9 $(ps | awk '/[n]omad agent/ {print $1}')");
    kill["Type"] = json!("batch");
    guest.running.agent.submit(&kill)?;
    guest.running.vm.wait_for("killed by SIGKILL", LONG)?;
    guest.running.vm.wait_for("nomad: started as", LONG)?;
    guest.running.wait_ready(&quiet)?;
    let said = guest.running.run_job(&batch_job("after", "exec", "echo still here"), &quiet)?;
    ensure!(said == "still here\n", "a task after the agent's end said {said:?}");

    guest.running.shut_down(&quiet)?;
    let mut from = 0;
    for text in ["shutting down to power off", "nomad: stopped", "network: stopped", "power off"] {
        let at = guest.line(text, from);
        let Some(at) = at else { anyhow::bail!("no line says {text:?} in its turn") };
        from = at;
    }
    Ok(phases)
}
