//! Jobs of the kinds that people have: on a network of their own, and made of a systemd unit.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kiln::Progress;
use kiln_e2e::{Server, get_until, images, start};
use nomados::agent::batch_job;
use nomados::run::Options;
use nomados::unit::{self, Driver, Unit};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(300);
/// Ports of the guest that the host reaches.
const BRIDGED: u16 = 8080;
const CONVERTED: u16 = 8090;

/// A web server in a network of its own, whose page comes from the host when it starts.
fn bridged(from: u16) -> Value {
    let script = format!(
        "mkdir local/www && wget -O local/www/index.html http://10.0.2.2:{from}/page && \
         exec httpd -f -v -p 8000 -h local/www"
    );
    let mut job = batch_job("bridged", "exec", &script);
    job["Type"] = json!("service");
    job["TaskGroups"][0]["ReschedulePolicy"] = json!({ "Attempts": 0, "Unlimited": false });
    job["TaskGroups"][0]["Networks"] = json!([{
        "Mode": "bridge",
        "ReservedPorts": [{ "Label": "http", "Value": BRIDGED, "To": 8000 }],
    }]);
    job
}

/// A unit as a package could have it. Its environment file is given beside it.
const WEB: &str = "\
[Unit]
Description=A web server (%n)
After=network.target

[Service]
Type=exec
Environment=ROOT=/var/lib/web \"GREETING=it is\" PORT=1
EnvironmentFile=-/etc/default/web
StateDirectory=web
ExecStartPre=/bin/sh -c 'echo \"$GREETING converted\" > \"$ROOT/index.html\"'
ExecStartPre=-/bin/false
ExecStart=/bin/httpd -f -p ${PORT} $OPTIONS -h .
WorkingDirectory=/var/lib/web
KillSignal=SIGINT
TimeoutStopSec=5
Restart=always
ProtectSystem=full

[Install]
WantedBy=multi-user.target
";

fn converted() -> Result<Value> {
    let unit = Unit::parse("web.service", WEB.as_bytes())?;
    let mut options = unit::Options::default();
    options.driver = Driver::RawExec;
    let file = format!("PORT={CONVERTED}\nOPTIONS='-v -r x'\n");
    options.environment_files.push(("/etc/default/web".into(), file));
    let converted = unit::convert(&unit, &options)?;
    let lost: Vec<String> = converted.notes.iter().map(ToString::to_string).collect();
    ensure!(lost.iter().any(|note| note.contains("ProtectSystem=full")), "{lost:?}");
    Ok(converted.job.to_json()["Job"].clone())
}

#[test]
fn a_bridged_job_and_a_converted_unit_serve_the_host() -> Result<()> {
    let quiet = Progress::quiet();
    let page = Server::start("a page from the host\n")?;
    let mut options = Options::new(images()?.join("nomados.raw"));
    options.ports = vec![BRIDGED, CONVERTED];
    let mut guest = start(&options)?;
    guest.running.wait_ready(&quiet)?;
    let agent = guest.running.agent.clone();
    let port = |of: u16| guest.running.vm.forwarded(of).context("no port leads there");
    let (bridged_port, converted_port) = (port(BRIDGED)?, port(CONVERTED)?);

    // In through the port mapping, out through the masquerade.
    let id = agent.submit(&bridged(page.port))?;
    let web = agent.wait_for(&id, &["running"], LONG)?;
    ensure!(web.status == "running", "{web:?}");
    let served = get_until(bridged_port, "/index.html", LONG)
        .with_context(|| agent.log(&web.id, "bridged", "stderr").unwrap_or_default())?;
    assert_eq!(served, "a page from the host\n");
    ensure!(page.requests().iter().any(|line| line.starts_with("GET /page")));

    // The rules are CNI's, and the task is not in the node's network.
    let look = batch_job(
        "look",
        "raw_exec",
        "iptables -t nat -S; netstat -ltn 2>/dev/null; ip -o link | cut -d: -f2",
    );
    let seen = guest.running.run_job(&look, &quiet)?;
    ensure!(seen.contains("CNI-HOSTPORT-DNAT") && seen.contains("MASQUERADE"), "{seen}");
    ensure!(seen.contains("nomad") && seen.contains("veth"), "{seen}");

    // A unit of systemd's, as a system job.
    let id = agent.submit(&converted()?)?;
    let web = agent.wait_for(&id, &["running"], LONG)?;
    ensure!(web.status == "running", "{web:?}");
    let served = get_until(converted_port, "/index.html", LONG)
        .with_context(|| agent.log(&web.id, "web", "stderr").unwrap_or_default())?;
    assert_eq!(served, "it is converted\n");

    // Stopped, the bridged one takes its port mapping with it.
    agent.stop("bridged")?;
    agent.wait_for("bridged", &[], LONG)?;
    let gone = batch_job("gone", "raw_exec", "iptables -t nat -S CNI-HOSTPORT-DNAT");
    let left = guest.running.run_job(&gone, &quiet)?;
    ensure!(!left.contains("CNI-DN-"), "{left}");
    guest.running.shut_down(&quiet)?;
    Ok(())
}
