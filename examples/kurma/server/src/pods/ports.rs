//! Ports of the machine that lead to a pod.

use kiln_network::container::{Forward, Transport};
use kiln_oci::appc::PodManifest;
use kurma_client::Create;

use super::Result;
use crate::images::Found;

/// Ports of the machine: those that are asked for, and those of the manifest.
pub(super) fn forwards(
    create: &Create,
    manifest: &PodManifest,
    found: &[Result<Found>],
    problems: &mut Vec<String>,
) -> Vec<Forward> {
    let mut forwards = Vec::new();
    for text in &create.ports {
        match text.parse::<Forward>() {
            Ok(forward) => forwards.push(forward),
            Err(error) => problems.push(format!("port {error}")),
        }
    }
    for exposed in &manifest.ports {
        let port = manifest.apps.iter().zip(found).find_map(|(app, found)| {
            let of_image = || found.as_ref().ok()?.manifest.app.as_ref();
            let app = app.app.as_ref().or_else(of_image)?;
            app.ports.iter().find(|port| port.name == exposed.name)
        });
        let Some(port) = exposed.pod_port.as_ref().or(port) else {
            problems.push(format!("port {}: no app has one of this name", exposed.name));
            continue;
        };
        let transport = match port.protocol.as_str() {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            other => {
                problems.push(format!(
                    "port {}: protocol {other:?} is neither tcp nor udp",
                    exposed.name
                ));
                continue;
            }
        };
        for at in 0..port.count {
            let ends = (exposed.host_port.checked_add(at), port.port.checked_add(at));
            let (Some(host), Some(own)) = ends else {
                problems.push(format!("port {}: there are not that many ports", exposed.name));
                break;
            };
            let mut forward = Forward::new(transport, host, own);
            forward.address = exposed.host_ip.map(Into::into);
            forwards.push(forward);
        }
    }
    forwards
}
