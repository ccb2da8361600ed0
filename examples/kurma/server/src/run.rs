//! A server from its beginning to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_network::container::BridgeNetwork;
use kiln_oci::Limits;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::{self, Listener, serve};
use crate::begin::{self, Begin};
use crate::configuration::Configuration;
use crate::images::Images;
use crate::pods::{self, Pods};

/// A whole server.
#[derive(Debug)]
#[non_exhaustive]
pub struct Server {
    /// How pods are made.
    pub pods: pods::Options,
    /// How requests are taken.
    pub api: api::Options,
    /// Where they are taken.
    pub listeners: Vec<Listener>,
    /// What is done first.
    pub begin: Begin,
}

impl Default for Server {
    /// One with the sockets of its pods' options.
    fn default() -> Self {
        Self::new(pods::Options::default())
    }
}

impl Server {
    /// One that keeps everything where its pods' options say.
    #[must_use]
    pub fn new(pods: pods::Options) -> Self {
        let audit = pods.directory.join("audit.log");
        let api = api::Options { audit, ..api::Options::default() };
        let listeners = vec![
            Listener::local(pods.runtime.join("kurma.sock")),
            Listener::remote(pods.sockets.join("kurma.sock")),
        ];
        Self { pods, api, listeners, begin: Begin::default() }
    }

    /// One as a machine is told to have it.
    #[must_use]
    pub fn of(mut pods: pods::Options, configuration: &Configuration) -> Self {
        let group = configuration.parent_cgroup.as_deref().unwrap_or("kurma");
        pods.cgroup = Some(Path::new("/sys/fs/cgroup").join(group));
        pods.networks = configuration.pod_networks.iter().map(|one| one.network.clone()).collect();
        if pods.networks.is_empty() {
            pods.networks = vec![usual_network()];
        }
        let mut server = Self::new(pods);
        server.begin.images = configuration.prefetch.iter().map(PathBuf::from).collect();
        server.begin.pods =
            configuration.initial_pods.iter().map(|pod| pod.create.clone()).collect();
        let shown = configuration.initial_pods.iter().filter(|pod| pod.show);
        server.begin.shown = shown.map(|pod| pod.name.clone()).collect();
        server.api.debug = configuration.debug;
        server
    }

    /// Finds pods again, takes requests, and does what is done first, until `SIGTERM`. `ready` is told when the
    /// sockets are there; pods go on when it has ended.
    ///
    /// # Errors
    /// A sentence.
    pub fn run(self, ready: impl FnOnce()) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it takes root to run pods".to_owned());
        }
        let images = Images::open(self.pods.directory.join("images"), Limits::default())?;
        let images = Arc::new(images);
        let noted = self.pods.directory.join("prefetched.json");
        let pods = Pods::open(self.pods, Arc::clone(&images))?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| format!("start threads: {error}"))?;
        let done = runtime.block_on(async {
            let (end, ending) = watch::channel(false);
            let asked = |kind| signal(kind).map_err(|error| format!("take signals: {error}"));
            let (mut term, mut int) =
                (asked(SignalKind::terminate())?, asked(SignalKind::interrupt())?);
            tokio::spawn(async move {
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
                let _ = end.send(true);
            });
            let bound = api::bind(&self.listeners)?;
            ready();
            let (first, stock, begin) = (Arc::clone(&pods), Arc::clone(&images), self.begin);
            // others are served meanwhile
            tokio::task::spawn_blocking(move || begin::begin(&first, &stock, &begin, &noted));
            serve(pods, images, bound, self.api, ending).await
        });
        // who waits for a pod's end waits no longer
        runtime.shutdown_background();
        done
    }
}

/// The network of pods where none is configured.
fn usual_network() -> BridgeNetwork {
    let mut network = BridgeNetwork::new("default", "kurma0");
    let gateways = ["10.220.0.1/16", "fd00:6b75:726d:61::1/64"];
    network.gateways = gateways.iter().filter_map(|gateway| gateway.parse().ok()).collect();
    network
}
