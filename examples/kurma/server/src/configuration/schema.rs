//! What keys there are.

use kiln_cloudconfig::{Cursor, Findings, Limits, Node, Notes};
use kiln_network::Config;
use serde_json::Value;

use super::disks::{self, Disk};
use super::network;
use super::pods::{self, InitialPod, PodNetwork};

/// What a machine is told of itself.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Configuration {
    /// Whether more is said.
    pub debug: bool,
    /// The OEM's partition.
    pub oem: Oem,
    /// The machine's name.
    pub hostname: Option<String>,
    /// Modules of the kernel, each with its parameters.
    pub modules: Vec<Vec<String>>,
    /// The control group that those of pods are in, below the root of all.
    pub parent_cgroup: Option<String>,
    /// Archives of images that are taken in when the machine starts.
    pub prefetch: Vec<String>,
    /// Links, if anything is said of them.
    pub network: Option<Config>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// The terminals of the machine.
    pub console: Console,
    /// Networks of pods, the default one first.
    pub pod_networks: Vec<PodNetwork>,
    /// Pods that are made when the machine starts.
    pub initial_pods: Vec<InitialPod>,
    /// The clock.
    pub ntp: Ntp,
    /// The interface over the network.
    pub api: Api,
    /// Which slot was started: `PARTLABEL=KURMA-A`.
    pub booted: Option<String>,
}

/// The OEM's partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Oem {
    /// Where it is: `LABEL=OEM`.
    pub device: Option<String>,
    /// Its file, from its root.
    pub path: Option<String>,
}

/// The terminals of the machine.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Console {
    /// Whether there are any. Default: yes.
    pub enabled: Option<bool>,
    /// The image of the console's pod.
    pub aci: Option<String>,
    /// Or the whole pod.
    pub pod: Option<Value>,
    /// The password of root there; none: nobody logs in with one.
    pub password: Option<String>,
    /// Keys of ssh.
    pub ssh_keys: Vec<String>,
}

/// The clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ntp {
    /// Servers, by address.
    pub servers: Vec<std::net::IpAddr>,
}

/// The interface over the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Api {
    /// Whether it is there. Default: yes.
    pub enabled: Option<bool>,
    /// An address at which nothing protects it: who chooses this trusts everybody who reaches it.
    pub plain: Option<String>,
    /// Names that its certificate has besides the machine's own.
    pub names: Vec<String>,
}

fn text(at: &Cursor<'_>) -> Option<String> {
    at.text().map(str::to_owned)
}

fn hostname(at: &Cursor<'_>) -> Option<String> {
    let name = at.text()?;
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = [bytes.first(), bytes.last()]
            .iter()
            .all(|end| end.is_some_and(u8::is_ascii_alphanumeric));
        ends && bytes.len() <= 63
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    match name.len() <= 64 && name.split('.').all(label) {
        true => Some(name.to_owned()),
        false => at.expected("a host name (RFC 1123)"),
    }
}

/// Modules: `[a, b]` or `a,b`, each with parameters behind it.
fn modules(lines: &[String]) -> Vec<Vec<String>> {
    let each = lines.iter().flat_map(|line| line.split(','));
    let words = each.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.filter(|words| !words.is_empty()).collect()
}

fn oem(at: &Cursor<'_>) -> Option<Oem> {
    let mut fields = at.fields()?;
    let oem = Oem { device: fields.get("device", text), path: fields.get("configPath", text) };
    fields.finish();
    Some(oem)
}

fn console(at: &Cursor<'_>) -> Option<Console> {
    let mut fields = at.fields()?;
    let console = Console {
        enabled: fields.get("enabled", Cursor::bool),
        aci: fields.get("aci", text),
        pod: fields.get("podManifest", |at| Some(pods::json(at.node()))),
        password: fields.get("password", text),
        ssh_keys: fields.texts("sshKeys"),
    };
    fields.finish();
    Some(console)
}

fn ntp(at: &Cursor<'_>) -> Option<Ntp> {
    let mut fields = at.fields()?;
    let servers = fields.list("servers", |at| at.parse("an address"));
    fields.not_supported(&["interval", "enabled", "aci"]);
    fields.finish();
    Some(Ntp { servers })
}

/// `services`, as it was in 2015.
fn services(at: &Cursor<'_>) -> Option<(Option<Ntp>, Option<Console>)> {
    let mut fields = at.fields()?;
    let found = (fields.get("ntp", ntp), fields.get("console", console));
    fields.not_supported(&["udev"]);
    fields.finish();
    Some(found)
}

fn api(at: &Cursor<'_>) -> Option<Api> {
    let mut fields = at.fields()?;
    let api = Api {
        enabled: fields.get("enabled", Cursor::bool),
        plain: fields.get("plain", |at| {
            let address: Option<std::net::SocketAddr> = at.parse("ADDRESS:PORT");
            address.map(|address| address.to_string())
        }),
        names: fields.texts("names"),
    };
    fields.finish();
    Some(api)
}

/// Understands a document.
pub(super) fn decode(root: &Node) -> (Configuration, Findings) {
    let notes = Notes::new(&Limits::default());
    let mut found = Configuration::default();
    if !root.is_null()
        && let Some(mut fields) = notes.cursor(root).fields()
    {
        let (ntp, console_of_2015) = fields.get("services", services).unwrap_or_default();
        found = Configuration {
            debug: fields.get("debug", Cursor::bool).unwrap_or_default(),
            oem: fields.get("oemConfig", oem).unwrap_or_default(),
            hostname: fields.get("hostname", hostname),
            modules: modules(&fields.texts("modules")),
            parent_cgroup: fields.get("parentCgroupName", |at| {
                let name = at.text()?;
                let plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
                if plain { Some(name.to_owned()) } else { at.expected("a name without a slash") }
            }),
            prefetch: fields.texts("prefetchImages"),
            network: fields.get("networkConfig", network::network),
            disks: fields.get("disks", disks::disks).unwrap_or_default(),
            console: fields.get("console", console).or(console_of_2015).unwrap_or_default(),
            pod_networks: fields.get("podNetworks", pods::networks).unwrap_or_default(),
            initial_pods: fields.list("initialPods", pods::initial),
            ntp: ntp.unwrap_or_default(),
            api: fields.get("api", api).unwrap_or_default(),
            booted: fields.get("booted", text),
        };
        // a stager is a part of the server here; sources were never read by anybody
        fields.not_supported(&["datasources", "defaultStagerImage", "requiredNamespaces"]);
        fields.finish();
    }
    (found, notes.finish())
}
