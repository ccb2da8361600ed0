//! Networks of pods, and pods that are there from the beginning.

use ipnet::IpNet;
use kiln_cloudconfig::{Cursor, Meaning, Node, Value as NodeValue};
use kiln_network::container::BridgeNetwork;
use serde_json::{Map, Value};

/// A network that pods can be on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PodNetwork {
    /// What it is.
    pub network: BridgeNetwork,
    /// Whether pods are on it that ask for none.
    pub default: bool,
}

/// A pod that is made when the machine starts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InitialPod {
    /// What it is called.
    pub name: String,
    /// What `Pods.Create` is asked for.
    pub create: Value,
    /// Whether what its apps say is shown on the console.
    pub show: bool,
}

fn parsed<T: std::str::FromStr>(at: &Cursor<'_>) -> Option<T>
where
    T::Err: std::fmt::Display,
{
    at.text()?.parse().map_or_else(|error| at.wrong(error), Some)
}

fn network(at: &Cursor<'_>) -> Option<PodNetwork> {
    let mut fields = at.fields()?;
    let name = fields.required("name", |at| at.text().map(str::to_owned)).unwrap_or_default();
    let bridge = fields.get("bridge", |at| at.text().map(str::to_owned));
    let mut network = BridgeNetwork::new(&name, bridge.unwrap_or_else(|| format!("{name}0")));
    if let Some(kind) = fields.get("type", |at| at.one_of(&[("bridge", "bridge")])) {
        debug_assert_eq!(kind, "bridge");
    }
    network.masquerade = fields.get("ipMasq", Cursor::bool).unwrap_or(true);
    network.mtu = fields.get("mtu", Cursor::integer);
    network.gateways = fields.list("gateways", parsed::<IpNet>);
    network.nameservers = fields.list("dns", parsed);
    network.gateways.extend(fields.get("ipam", ipam).flatten());
    let default = fields.get("default", Cursor::bool).unwrap_or_default();
    fields.not_supported(&["aci", "containerInterface", "cniVersion", "isGateway"]);
    fields.finish();
    for problem in network.check() {
        at.wrong::<()>(problem);
    }
    network.check().is_empty().then_some(PodNetwork { network, default })
}

/// The machine's address of a network as CNI's host-local has it: the first, where none is said.
fn ipam(at: &Cursor<'_>) -> Option<Option<IpNet>> {
    let mut fields = at.fields()?;
    fields.get("type", |at| at.one_of(&[("host-local", ())]));
    let subnet = fields.get("subnet", parsed::<IpNet>);
    let gateway = fields.get("gateway", parsed::<std::net::IpAddr>);
    fields.not_supported(&["routes", "rangeStart", "rangeEnd"]);
    fields.finish();
    let Some(subnet) = subnet else { return Some(None) };
    let first = gateway.or_else(|| subnet.hosts().next());
    Some(first.and_then(|first| IpNet::new(first, subnet.prefix_len()).ok()))
}

/// Reads `podNetworks`. Of several default ones the last counts; of several of one name too.
pub(super) fn networks(at: &Cursor<'_>) -> Option<Vec<PodNetwork>> {
    let mut all: Vec<PodNetwork> = Vec::new();
    for network in at.list(|at| at.whole(network)) {
        all.retain(|other| other.network.name != network.network.name);
        all.push(network);
    }
    // who asks for none is on the first
    if let Some(last) = all.iter().rposition(|network| network.default) {
        let default = all.remove(last);
        all.insert(0, default);
    }
    Some(all)
}

/// A node as JSON.
pub(super) fn json(node: &Node) -> Value {
    match &node.value {
        NodeValue::List(nodes) => nodes.iter().map(json).collect(),
        NodeValue::Map(map) => {
            let pairs = map.iter().map(|entry| (entry.key.clone(), json(&entry.node)));
            Value::Object(pairs.collect::<Map<String, Value>>())
        }
        NodeValue::Scalar(scalar) => match scalar.meaning() {
            Meaning::Null => Value::Null,
            Meaning::Bool(truth) => truth.into(),
            Meaning::Integer(number) => number.into(),
            Meaning::Float(number) => number.into(),
            Meaning::Text(text) => text.into(),
        },
    }
}

/// A pod: the name of an image, or a name with the apps of a manifest.
pub(super) fn initial(at: &Cursor<'_>) -> Option<InitialPod> {
    if let NodeValue::Scalar(_) = &at.node().value {
        let image = at.text()?;
        let last = image.rsplit('/').next().unwrap_or(image);
        let name = last.split(':').next().unwrap_or(last).to_owned();
        let create = serde_json::json!({ "name": name, "image": image });
        return Some(InitialPod { name, create, show: false });
    }
    let mut fields = at.fields()?;
    let name = fields.required("name", |at| at.text().map(str::to_owned))?;
    let mut create = Map::new();
    create.insert("name".to_owned(), name.clone().into());
    for key in ["image", "networks", "ports"] {
        if let Some(value) = fields.get(key, |at| Some(json(at.node()))) {
            create.insert(key.to_owned(), value);
        }
    }
    let mut pod = Map::new();
    for key in ["apps", "volumes", "isolators", "annotations"] {
        if let Some(value) = fields.get(key, |at| Some(json(at.node()))) {
            pod.insert(key.to_owned(), value);
        }
    }
    let show = fields.get("show", Cursor::bool).unwrap_or_default();
    fields.finish();
    if !pod.is_empty() {
        pod.insert("acKind".to_owned(), "PodManifest".into());
        pod.insert("acVersion".to_owned(), kiln_oci::appc::VERSION.into());
        create.insert("pod".to_owned(), Value::Object(pod));
    }
    Some(InitialPod { name, create: Value::Object(create), show })
}
