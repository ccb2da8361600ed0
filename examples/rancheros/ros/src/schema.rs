//! `rancher:` of a configuration: what the system does with it, and of the original's other keys that they
//! are known and not done.

use std::collections::BTreeMap;

use kiln_cloudconfig::{Cursor, Fields};

use crate::compose::{self, Service};
use crate::network::{self, Network};
use crate::reach;

/// What the section says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rancher {
    /// Which console there is: the one of the services labelled `io.rancher.os.console` that has this name.
    pub(crate) console: Option<String>,
    /// Whether services say more.
    pub(crate) debug: bool,
    /// What of `password` and `autologin` is not to be had.
    pub(crate) disable: Vec<String>,
    /// The password of the user `rancher`: plain, or as crypt(3) has it.
    pub(crate) password: Option<String>,
    /// Terminals where nobody has to log in.
    pub(crate) autologin: Vec<String>,
    /// Variables of every service's environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Services, by name.
    pub(crate) services: BTreeMap<String, Service>,
    /// Which services are to be there, by name.
    pub(crate) services_include: BTreeMap<String, bool>,
    /// The user's engine.
    pub(crate) docker: Docker,
    /// Modules of the kernel, each with its parameters.
    pub(crate) modules: Vec<Vec<String>>,
    /// Settings of the kernel.
    pub(crate) sysctl: BTreeMap<String, String>,
    /// The ssh server.
    pub(crate) ssh: Ssh,
    /// The disk that is kept.
    pub(crate) state: State,
    /// Where user-data may come from, in order of precedence.
    pub(crate) datasources: Vec<String>,
    /// Certificates of those who vouch for servers that are asked over TLS, as PEM, besides those that
    /// everybody trusts.
    pub(crate) authorities: Vec<String>,
    /// Where new versions are from.
    pub(crate) upgrade: Upgrade,
    /// How long services may take to stop, in seconds.
    pub(crate) shutdown_timeout: Option<u64>,
    /// Links, and what is beside them.
    pub(crate) network: Option<Network>,
}

/// The user's engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Docker {
    /// Which one.
    pub(crate) engine: Option<String>,
    /// Arguments in place of those that follow from the rest.
    pub(crate) args: Vec<String>,
    /// Arguments besides.
    pub(crate) extra_args: Vec<String>,
    /// The bridge's address.
    pub(crate) bip: Option<String>,
    /// Another bridge.
    pub(crate) bridge: Option<String>,
    /// Whether it says more.
    pub(crate) debug: bool,
    /// Variables of its environment.
    pub(crate) environment: Vec<String>,
    /// Where it keeps what it has.
    pub(crate) graph: Option<String>,
    /// Where it listens besides its socket.
    pub(crate) host: Vec<String>,
    /// Registries without TLS.
    pub(crate) insecure_registry: Vec<String>,
    /// Registries to ask first.
    pub(crate) registry_mirror: Vec<String>,
    /// Whether containers go on while it restarts.
    pub(crate) live_restore: bool,
    /// Where logs go.
    pub(crate) log_driver: Option<String>,
    /// And how.
    pub(crate) log_opts: BTreeMap<String, String>,
    /// How layers are stored.
    pub(crate) storage_driver: Option<String>,
    /// Whether it forwards ports by itself beside iptables.
    pub(crate) userland_proxy: Option<bool>,
    /// Whether it is spoken with by TLS, with which arguments then, and its certificates as PEM.
    pub(crate) tls: bool,
    pub(crate) tls_args: Vec<String>,
    pub(crate) ca_cert: Option<String>,
    pub(crate) ca_key: Option<String>,
    pub(crate) server_cert: Option<String>,
    pub(crate) server_key: Option<String>,
}

/// The ssh server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ssh {
    /// Whether there is one.
    pub(crate) daemon: Option<bool>,
    /// Where it listens.
    pub(crate) port: Option<u16>,
    /// At which address.
    pub(crate) listen_address: Option<String>,
    /// The host's keys by kind (`ed25519`, `ecdsa`, each with `-pub`).
    pub(crate) keys: BTreeMap<String, String>,
}

/// The disk that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// `LABEL=…`.
    pub(crate) dev: Option<String>,
    /// Disks that become it when they are blank.
    pub(crate) autoformat: Vec<String>,
    /// Whether the system must not start without it.
    pub(crate) required: bool,
    /// Whether it is waited for.
    pub(crate) wait: bool,
    /// The OEM's partition, and its file system.
    pub(crate) oem_dev: Option<String>,
    pub(crate) oem_fstype: Option<String>,
    /// The directory of it that is used, in place of all.
    pub(crate) directory: Option<String>,
}

/// Where new versions are from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// An address of a list of versions.
    pub(crate) url: Option<String>,
    /// The image's name.
    pub(crate) image: Option<String>,
    /// Services that have to be up before a version that replaced another is believed to work.
    pub(crate) trial: Vec<String>,
    /// Within so many seconds.
    pub(crate) trial_timeout: Option<u64>,
}

fn text(at: &Cursor<'_>) -> Option<String> {
    at.text().map(str::to_owned)
}

/// Names and values; numbers and truth values are what their text is.
pub(crate) fn words(at: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    let entries = at.entries()?.into_iter();
    Some(entries.filter_map(|(name, at)| Some((name.to_owned(), compose::scalar(&at)?))).collect())
}

/// Reads the section.
pub(crate) fn rancher(at: &Cursor<'_>) -> Option<Rancher> {
    let mut fields = at.fields()?;
    let (datasources, authorities) = fields.get("cloud_init", cloud_init).unwrap_or_default();
    let mut rancher = Rancher {
        console: fields.get("console", text),
        debug: fields.get("debug", Cursor::bool).unwrap_or_default(),
        disable: fields.texts("disable"),
        password: fields.get("password", text),
        autologin: fields.texts("autologin"),
        environment: fields.get("environment", words).unwrap_or_default(),
        services: fields.get("services", services).unwrap_or_default(),
        services_include: fields.get("services_include", included).unwrap_or_default(),
        docker: fields.get("docker", docker).unwrap_or_default(),
        modules: fields
            .texts("modules")
            .iter()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect(),
        sysctl: fields.get("sysctl", words).unwrap_or_default(),
        ssh: fields.get("ssh", ssh).unwrap_or_default(),
        state: fields.get("state", state).unwrap_or_default(),
        datasources,
        authorities,
        upgrade: fields.get("upgrade", upgrade).unwrap_or_default(),
        shutdown_timeout: fields.get("shutdown_timeout", Cursor::integer),
        network: fields.get("network", network::network),
    };
    // Proxies are variables of everything that runs; what the environment says itself counts more.
    for (name, value) in rancher.network.iter().flat_map(|network| &network.proxies) {
        rancher.environment.entry(name.clone()).or_insert_with(|| value.clone());
    }
    fields.not_supported(&[
        "bootstrap",
        "bootstrap_docker",
        "cloud_init_services",
        "defaults",
        "force_console_rebuild",
        "http_load_retries",
        "hypervisor_service",
        "log",
        "no_sharedroot",
        "preload_wait",
        "recovery",
        "registry_auths",
        "repositories",
        "resize_device",
        "restart_services",
        "rm_usr",
        "system_docker",
    ]);
    fields.finish();
    Some(rancher)
}

fn services(at: &Cursor<'_>) -> Option<BTreeMap<String, Service>> {
    let entries = at.entries()?.into_iter();
    Some(
        entries
            .filter_map(|(name, at)| {
                // one that is not understood is not there; the others are
                let service = at.whole(|at| compose::service(name, at))?;
                Some((name.to_owned(), service))
            })
            .collect(),
    )
}

fn included(at: &Cursor<'_>) -> Option<BTreeMap<String, bool>> {
    let entries = at.entries()?.into_iter();
    Some(entries.filter_map(|(name, at)| Some((name.to_owned(), at.bool()?))).collect())
}

fn docker(at: &Cursor<'_>) -> Option<Docker> {
    let mut fields = at.fields()?;
    let docker = Docker {
        engine: fields.get("engine", text),
        args: fields.texts("args"),
        extra_args: fields.texts("extra_args"),
        bip: fields.get("bip", text),
        bridge: fields.get("bridge", text),
        debug: fields.get("debug", Cursor::bool).unwrap_or_default(),
        environment: fields.texts("environment"),
        graph: fields.get("graph", text),
        host: fields.texts("host"),
        insecure_registry: fields.texts("insecure_registry"),
        registry_mirror: fields.texts("registry_mirror"),
        live_restore: fields.get("live_restore", Cursor::bool).unwrap_or_default(),
        log_driver: fields.get("log_driver", text),
        log_opts: log_opts(&mut fields),
        storage_driver: fields.get("storage_driver", text),
        userland_proxy: fields.get("userland_proxy", Cursor::bool),
        tls: fields.get("tls", Cursor::bool).unwrap_or_default(),
        tls_args: fields.texts("tls_args"),
        ca_cert: fields.get("ca_cert", pem),
        ca_key: fields.get("ca_key", pem),
        server_cert: fields.get("server_cert", pem),
        server_key: fields.get("server_key", pem),
    };
    fields.not_supported(&[
        "config_file",
        "containerd",
        "exec",
        "exec_root",
        "group",
        "pid_file",
        "selinux_enabled",
        "storage_context",
    ]);
    fields.finish();
    Some(docker)
}

/// RFC 7468; an empty text is none.
fn pem(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    match text.trim() {
        "" => None,
        text if text.starts_with("-----BEGIN ") => Some(format!("{text}\n")),
        _ => at.wrong("expected PEM: -----BEGIN …"),
    }
}

fn log_opts(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    fields.get("log_opts", words).unwrap_or_default()
}

fn ssh(at: &Cursor<'_>) -> Option<Ssh> {
    let mut fields = at.fields()?;
    let ssh = Ssh {
        daemon: fields.get("daemon", Cursor::bool),
        port: fields.get("port", Cursor::integer),
        listen_address: fields.get("listen_address", text),
        keys: fields.get("keys", words).unwrap_or_default(),
    };
    fields.finish();
    Some(ssh)
}

fn state(at: &Cursor<'_>) -> Option<State> {
    let mut fields = at.fields()?;
    let state = State {
        dev: fields.get("dev", text),
        autoformat: fields.texts("autoformat"),
        required: fields.get("required", Cursor::bool).unwrap_or_default(),
        wait: fields.get("wait", Cursor::bool).unwrap_or_default(),
        oem_dev: fields.get("oem_dev", text),
        oem_fstype: fields.get("oem_fstype", text),
        directory: fields.get("directory", directory),
    };
    // The one that is made is this.
    if let Some(at) = fields.field("fstype") {
        let _ = at.one_of(&[("ext4", ()), ("auto", ())]);
    }
    fields.not_supported(&[
        "boot_dev",
        "boot_fstype",
        "cryptsetup",
        "lvm_scan",
        "mdadm_scan",
        "rngd",
        "script",
    ]);
    fields.finish();
    Some(state)
}

/// Sources, and who vouches for them.
fn cloud_init(at: &Cursor<'_>) -> Option<(Vec<String>, Vec<String>)> {
    let mut fields = at.fields()?;
    let sources = fields.texts("datasources");
    let authorities = fields.list("authorities", |at| {
        let text = at.text()?;
        match reach::is_certificate(text) {
            true => Some(text.to_owned()),
            false => at.expected("a certificate as PEM"),
        }
    });
    fields.finish();
    Some((sources, authorities))
}

fn directory(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?.trim_matches('/');
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    match text {
        "" => None,
        text if text.split('/').all(is_plain) => Some(text.to_owned()),
        _ => at.expected("a path below the disk's root without \"..\""),
    }
}

fn upgrade(at: &Cursor<'_>) -> Option<Upgrade> {
    let mut fields = at.fields()?;
    let upgrade = Upgrade {
        url: fields.get("url", text),
        image: fields.get("image", text),
        trial: fields.texts("trial"),
        trial_timeout: fields.get("trial_timeout", Cursor::integer),
    };
    fields.not_supported(&["policy", "rollback"]);
    fields.finish();
    Some(upgrade)
}
