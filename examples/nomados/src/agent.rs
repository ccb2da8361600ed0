//! Nomad's HTTP API, as much of it as running a job and looking at its result takes
//! (the "HTTP API" chapters of Nomad's documentation: nodes, jobs, allocations, client).

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// How long one answer may take. A guest without acceleration is slow when it is busy.
const ANSWER: Duration = Duration::from_secs(10);
/// How often the agent is asked about something that is to happen.
const AGAIN: Duration = Duration::from_millis(40);

/// An agent that is (or soon will be) reached at an address.
#[derive(Debug, Clone)]
pub struct Agent {
    base: String,
    client: ureq::Agent,
    interrupt: Option<Arc<AtomicBool>>,
}

/// How an agent is spoken to over mutual TLS, all as PEM.
#[derive(Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// The authority that certified the agent.
    pub ca: Vec<u8>,
    /// Our certificate and key; without, we do not say who we are.
    pub own: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials").field("own", &self.own.is_some()).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Those of the operator, from the directory of a cluster.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read(&path).with_context(|| format!("read {}", path.display()))
        };
        let own = Some((read("operator.pem")?, read("operator-key.pem")?));
        Ok(Self { ca: read("ca.pem")?, own })
    }

    fn tls(&self) -> Result<TlsConfig> {
        let certificate = |pem: &[u8]| Certificate::from_pem(pem).context("read a certificate");
        let own = match &self.own {
            None => None,
            Some((pem, key)) => {
                let key = PrivateKey::from_pem(key).context("read a key")?;
                Some(ClientCert::new_with_certs(&[certificate(pem)?], key))
            }
        };
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[certificate(&self.ca)?]))
            .client_cert(own)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build())
    }
}

/// A job's allocation, as far as we look.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Allocation {
    /// Its id.
    pub id: String,
    /// `pending`, `running`, `complete`, `failed`, `lost`.
    pub status: String,
    /// The name of the node that it is on.
    pub node: String,
    /// What happened to its tasks, in order, for people.
    pub events: Vec<String>,
}

impl Allocation {
    /// Whether nothing more will happen to it.
    #[must_use]
    pub fn ended(&self) -> bool {
        ["complete", "failed", "lost"].contains(&self.status.as_str())
    }
}

impl Agent {
    /// The agent at this port of 127.0.0.1.
    #[must_use]
    pub fn at_port(port: u16) -> Self {
        let client = ureq::Agent::config_builder().timeout_global(Some(ANSWER)).build().into();
        Self { base: format!("http://127.0.0.1:{port}/v1"), client, interrupt: None }
    }

    /// The agent at this port of 127.0.0.1, over TLS: its certificate must be for that address.
    ///
    /// # Errors
    /// When the credentials are no PEM.
    pub fn over_tls(port: u16, credentials: &Credentials) -> Result<Self> {
        let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER));
        let client = config.tls_config(credentials.tls()?).build().into();
        Ok(Self { base: format!("https://127.0.0.1:{port}/v1"), client, interrupt: None })
    }

    /// The same, whose waits end when this becomes true.
    #[must_use]
    pub fn interrupted_by(mut self, interrupt: Option<Arc<AtomicBool>>) -> Self {
        self.interrupt = interrupt;
        self
    }

    fn get_text(&self, path: &str) -> Result<String> {
        let mut response = self
            .client
            .get(format!("{}{path}", self.base))
            .call()
            .with_context(|| format!("GET {path}"))?;
        response.body_mut().read_to_string().with_context(|| format!("read the answer to {path}"))
    }

    fn get(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.get_text(path)?).with_context(|| format!("parse {path}"))
    }

    /// Whether a leader is elected and a node is ready for work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let Ok(nodes) = self.get("/nodes") else { return false };
        let ready =
            |node: &Value| node["Status"] == "ready" && node["SchedulingEligibility"] == "eligible";
        nodes.as_array().is_some_and(|nodes| nodes.iter().any(ready))
    }

    /// The agent's own description.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn describe(&self) -> Result<Value> {
        self.get("/agent/self")
    }

    /// The nodes, as the agent lists them.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn nodes(&self) -> Result<Value> {
        self.get("/nodes")
    }

    /// Submits a job given as the object under `Job`, and gives its id.
    ///
    /// # Errors
    /// When the agent refuses it, with the reason.
    pub fn submit(&self, job: &Value) -> Result<String> {
        let id = job["ID"].as_str().context("the job has no ID")?.to_owned();
        let body = json!({ "Job": job }).to_string();
        let mut response = self
            .client
            .post(format!("{}/jobs", self.base))
            .config()
            .http_status_as_error(false)
            .build()
            .send(body)
            .context("POST /jobs")?;
        let answer = response.body_mut().read_to_string().context("read the answer to /jobs")?;
        if !response.status().is_success() {
            bail!("the job {id} was refused: {}", answer.trim());
        }
        Ok(id)
    }

    /// Stops a job.
    ///
    /// # Errors
    /// When the agent does not answer or does not know it.
    pub fn stop(&self, job: &str) -> Result<()> {
        let path = format!("/job/{job}");
        let call = self.client.delete(format!("{}{path}", self.base)).call();
        call.map(drop).with_context(|| format!("DELETE {path}"))
    }

    /// The newest allocation of a job, if there is one yet.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn allocation(&self, job: &str) -> Result<Option<Allocation>> {
        Ok(self.allocations(job)?.pop())
    }

    /// All allocations of a job, the newest last.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn allocations(&self, job: &str) -> Result<Vec<Allocation>> {
        let answer = self.get(&format!("/job/{job}/allocations"))?;
        let mut all: Vec<&Value> = answer.as_array().into_iter().flatten().collect();
        all.sort_by_key(|allocation| allocation["CreateIndex"].as_u64());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(all
            .into_iter()
            .map(|allocation| Allocation {
                id: text(&allocation["ID"]),
                status: text(&allocation["ClientStatus"]),
                node: text(&allocation["NodeName"]),
                events: events(&allocation["TaskStates"]),
            })
            .collect())
    }

    /// Waits until a job's allocation is in one of these states or has ended.
    ///
    /// # Errors
    /// After `limit`, with what is known of the job.
    pub fn wait_for(&self, job: &str, states: &[&str], limit: Duration) -> Result<Allocation> {
        let deadline = Instant::now() + limit;
        let mut last = None;
        loop {
            // An answer that does not come is as good as "not yet" until the time is over.
            match self.allocation(job) {
                Ok(Some(found)) if found.ended() || states.contains(&found.status.as_str()) => {
                    return Ok(found);
                }
                Ok(found) => last = found.or(last),
                Err(_) => {}
            }
            if self.interrupt.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Err(kiln::Error::Interrupted.into());
            }
            if Instant::now() > deadline {
                match last {
                    Some(found) => bail!(
                        "job {job} is still {} after {} s: {}",
                        found.status,
                        limit.as_secs(),
                        found.events.join("; ")
                    ),
                    None => bail!(
                        "job {job} was not placed within {} s: {}",
                        limit.as_secs(),
                        self.why_not_placed(job).unwrap_or_default()
                    ),
                }
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// Runs a job to its end and gives its allocation; a job that failed is an error with its
    /// events and what it wrote to standard error.
    ///
    /// # Errors
    /// As [`Agent::submit`] and [`Agent::wait_for`].
    pub fn run(&self, job: &Value, limit: Duration) -> Result<Allocation> {
        let id = self.submit(job)?;
        let allocation = self.wait_for(&id, &[], limit)?;
        if allocation.status != "complete" {
            let task = job["TaskGroups"][0]["Tasks"][0]["Name"].as_str().unwrap_or_default();
            bail!(
                "job {id} ended as {}: {}\n{}",
                allocation.status,
                allocation.events.join("; "),
                self.log(&allocation.id, task, "stderr").unwrap_or_default()
            );
        }
        Ok(allocation)
    }

    /// What a task wrote: `stream` is `stdout` or `stderr`.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn log(&self, allocation: &str, task: &str, stream: &str) -> Result<String> {
        self.get_text(&format!("/client/fs/logs/{allocation}?task={task}&type={stream}&plain=true"))
    }

    fn why_not_placed(&self, job: &str) -> Result<String> {
        let evaluations = self.get(&format!("/job/{job}/evaluations"))?;
        let newest = evaluations.as_array().and_then(|all| all.first()).cloned();
        let metrics = newest.map(|evaluation| evaluation["FailedTGAllocs"].to_string());
        Ok(metrics.unwrap_or_else(|| "there is no evaluation".into()))
    }
}

fn events(states: &Value) -> Vec<String> {
    states
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(_, state)| state["Events"].as_array().cloned().unwrap_or_default())
        .filter_map(|event| event["DisplayMessage"].as_str().map(str::to_owned))
        .collect()
}

/// A batch job with one task, run once and never again, whatever comes of it.
#[must_use]
pub fn batch_job(id: &str, driver: &str, script: &str) -> Value {
    json!({
        "ID": id,
        "Name": id,
        "Type": "batch",
        "Datacenters": ["*"],
        "TaskGroups": [{
            "Name": id,
            "Count": 1,
            "RestartPolicy": { "Attempts": 0, "Mode": "fail" },
            "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
            "EphemeralDisk": { "SizeMB": 30 },
            "Tasks": [{
                "Name": id,
                "Driver": driver,
                "Config": { "command": "/bin/sh", "args": ["-c", script] },
                // `exec` starts a Nomad of its own inside the task's memory limit, which 16 MB
                // does not hold.
                "Resources": { "CPU": 100, "MemoryMB": 128 },
                "LogConfig": { "MaxFiles": 1, "MaxFileSizeMB": 5 },
            }],
        }],
    })
}
