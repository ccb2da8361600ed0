//! Units of real packages as jobs, judged by a real Nomad.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kiln::{Cache, Progress, debian, go};
use nomados::unit::{self, Driver, Unit};
use serde_json::{Value, json};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(300);
/// Their units are of every kind: daemons of all types, templates, one-shots with many commands.
const PACKAGES: &[&str] =
    &["nginx-common", "chrony", "docker.io", "openssh-server", "cron", "dbus", "rsync", "systemd"];
/// Keys that have a counterpart, and so need no note.
const CARRIED: &[&str] = &[
    "CPUQuota",
    "CacheDirectory",
    "CacheDirectoryMode",
    "ConfigurationDirectory",
    "Description",
    "Documentation",
    "Environment",
    "EnvironmentFile",
    "ExecStart",
    "ExecStartPost",
    "ExecStartPre",
    "ExecStop",
    "ExecStopPost",
    "KillMode",
    "KillSignal",
    "LimitMEMLOCK",
    "LimitNOFILE",
    "LogsDirectory",
    "LogsDirectoryMode",
    "MemoryMax",
    "PIDFile",
    "RequiredBy",
    "Restart",
    "RestartSec",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "StartLimitBurst",
    "StartLimitInterval",
    "StartLimitIntervalSec",
    "StateDirectory",
    "StateDirectoryMode",
    "TimeoutSec",
    "TimeoutStopSec",
    "Type",
    "UMask",
    "User",
    "WantedBy",
    "WorkingDirectory",
];

/// A Nomad that only judges: a server without clients, on free ports of loopback.
struct Judge {
    child: Child,
    base: String,
    client: ureq::Agent,
    _directory: TempDir,
}

impl Judge {
    fn start() -> Result<Self> {
        let nomad = go::build(&Cache::of_workspace(), &go::NOMAD, &Progress::quiet())?;
        let directory = tempfile::tempdir()?;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(std::net::TcpListener::bind("127.0.0.1:0")?);
        }
        let ports: Vec<u16> =
            held.iter().map(|port| Ok(port.local_addr()?.port())).collect::<Result<_>>()?;
        drop(held);
        let own = "127.0.0.1";
        let config = json!({
            "data_dir": directory.path(),
            "bind_addr": own,
            "advertise": { "http": own, "rpc": own, "serf": own },
            "ports": { "http": ports[0], "rpc": ports[1], "serf": ports[2] },
            "server": { "enabled": true, "bootstrap_expect": 1 },
            "disable_update_check": true,
        });
        let path = directory.path().join("judge.json");
        std::fs::write(&path, config.to_string())?;
        let child = Command::new(nomad)
            .arg("agent")
            .arg(format!("-config={}", path.display()))
            .stdout(Stdio::null())
            .spawn()?;
        let client: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build()
            .into();
        let base = format!("http://{own}:{}/v1", ports[0]);
        let mut judge = Self { child, base, client, _directory: directory };
        let deadline = Instant::now() + LONG;
        while !judge.get("/status/leader").is_ok_and(|leader| leader.contains(own)) {
            ensure!(Instant::now() < deadline, "Nomad has no leader");
            ensure!(judge.child.try_wait()?.is_none(), "Nomad has ended");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(judge)
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut answer = self.client.get(format!("{}{path}", self.base)).call()?;
        Ok(answer.body_mut().read_to_string()?)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut answer = self.client.post(format!("{}{path}", self.base)).send(body.to_string())?;
        let text = answer.body_mut().read_to_string()?;
        if !answer.status().is_success() {
            bail!("{path}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("parse {text}"))
    }

    /// Nomad takes the job, and its job file says the same.
    fn judge(&self, job: &unit::Job) -> Result<()> {
        let ours = job.to_json();
        let verdict = self.post("/validate/job", &ours)?;
        let well = verdict["Error"].as_str().unwrap_or_default().is_empty()
            && verdict["ValidationErrors"].as_array().is_none_or(Vec::is_empty);
        ensure!(well, "{verdict}");
        let parsed =
            self.post("/jobs/parse", &json!({ "JobHCL": job.to_hcl(), "Canonicalize": true }))?;
        same(&ours["Job"], &parsed, "Job")
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether all that `ours` says stands in `theirs`, which may say more.
fn same(ours: &Value, theirs: &Value, at: &str) -> Result<()> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => ours.iter().try_for_each(|(key, ours)| {
            same(ours, theirs.get(key).unwrap_or(&Value::Null), &format!("{at}.{key}"))
        }),
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            ours.iter().zip(theirs).enumerate().try_for_each(|(index, (ours, theirs))| {
                same(ours, theirs, &format!("{at}[{index}]"))
            })
        }
        (Value::Object(ours), Value::Null) if ours.is_empty() => Ok(()),
        (ours, theirs) => {
            ensure!(ours == theirs, "{at}: {ours} in JSON, {theirs} in HCL");
            Ok(())
        }
    }
}

/// The service units below a directory.
fn units(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in ["usr/lib/systemd/system", "lib/systemd/system"] {
        let Ok(entries) = std::fs::read_dir(root.join(directory)) else { continue };
        for entry in entries {
            let path = entry?.path();
            // Links are other names, or /dev/null.
            let is_unit = path.extension().is_some_and(|extension| extension == "service");
            if is_unit && !path.is_symlink() {
                found.push(path);
            }
        }
    }
    found.sort();
    found.dedup_by_key(|path| path.file_name().map(ToOwned::to_owned));
    Ok(found)
}

#[test]
fn units_of_debian_packages_are_jobs_and_nothing_is_lost_in_silence() -> Result<()> {
    let judge = Judge::start()?;
    let root = debian::sysroot(&Cache::of_workspace(), PACKAGES)?;
    let paths = units(&root)?;
    ensure!(paths.len() > 40, "only {} units", paths.len());
    let mut lost = 0;
    for path in &paths {
        let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
        let unit = Unit::parse(name, &std::fs::read(path)?)?;
        ensure!(unit.ignored.is_empty(), "{name}: {:?}", unit.ignored);
        for driver in [Driver::Exec, Driver::RawExec] {
            let mut options = unit::Options::default();
            options.driver = driver;
            options.instance = Some("one".into());
            options.read_environment_files(&unit, &root);
            let converted = unit::convert(&unit, &options);
            if !unit.assignments.iter().any(|found| found.key == "ExecStart") {
                // systemd has some that only stand for an action.
                ensure!(converted.is_err(), "{name} runs nothing and was converted");
                continue;
            }
            let converted = converted.with_context(|| format!("convert {name}"))?;
            judge.judge(&converted.job).with_context(|| format!("{name}: {:?}", converted.job))?;
            for assignment in &unit.assignments {
                let noted = converted.notes.iter().any(|note| note.line == assignment.line);
                let carried = CARRIED.contains(&assignment.key.as_str());
                ensure!(noted || carried || assignment.value.is_empty(), "{name}: {assignment:?}");
            }
            lost += converted.notes.iter().filter(|note| !note.converted).count();
        }
    }
    println!("{} units, {lost} directives not converted by two drivers", paths.len());
    Ok(())
}

const CASES: &[(&str, &str)] = &[
    ("quoting", "ExecStart=/bin/sh -c 'echo \"$${x} %% $A ${B} {{ %n\\t\"' \"two words\" it\\'s"),
    ("templates", "ExecStart=:/bin/echo ${A} %{x} ${attr.cpu.arch} \\u00e4\\x01"),
    ("known", "Environment=\"A=1 2\" B=${b}\nExecStart=/bin/echo $A ${A} ${C}"),
    ("file", "EnvironmentFile=/e\nEnvironment=F=unit\nExecStart=/bin/echo $F ${G}"),
    ("absent", "EnvironmentFile=-/absent\nExecStart=-/bin/echo $F ${G}x"),
    (
        "oneshot",
        "Type=oneshot\nExecStart=-/bin/false\nExecStart=/bin/true ; /bin/date\nRestart=on-failure",
    ),
    (
        "limits",
        "ExecStart=/x\nLimitNOFILE=1024:4096\nLimitMEMLOCK=infinity\nMemoryMax=1G\nCPUQuota=150%\nUMask=0027",
    ),
    (
        "often",
        "ExecStart=/x\nRestart=always\nRestartSec=200ms\nStartLimitInterval=1min\nStartLimitBurst=3",
    ),
    ("slow", "ExecStart=/x\nRestart=always\nRestartSec=1h"),
    (
        "stop",
        "ExecStart=/x\nExecStop=/bin/kill -s QUIT $MAINPID\nExecStopPost=/bin/rm -f /y\nTimeoutStopSec=1min 30s",
    ),
    ("forking", "Type=forking\nPIDFile=/run/x.pid\nExecStart=/usr/sbin/x -d\nKillSignal=SIGQUIT"),
    ("user", "User=daemon\nExecStartPre=+/bin/mkdir /run/x\nExecStartPre=/bin/true\nExecStart=/x"),
];

#[test]
fn odd_units_are_jobs_too() -> Result<()> {
    let judge = Judge::start()?;
    for (name, service) in CASES {
        let text = format!("[Service]\n{service}\n");
        let unit = Unit::parse(&format!("{name}.service"), text.as_bytes())?;
        for driver in [Driver::Exec, Driver::RawExec] {
            let mut options = unit::Options::default();
            options.driver = driver;
            let file = "# comment\nF='a {{ \"b\"'\nG=c\\\nd\n";
            options.environment_files = vec![("/e".into(), file.into())];
            let converted = unit::convert(&unit, &options).with_context(|| (*name).to_owned())?;
            judge
                .judge(&converted.job)
                .with_context(|| format!("{name}: {}", converted.job.to_hcl()))?;
        }
    }
    Ok(())
}
