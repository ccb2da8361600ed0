//! What of the machine a pod is given, and who may give it.

use kiln_oci::appc::{self, Isolator, PodManifest};
use kiln_oci::bundle::{self, Capabilities};
use kurma_client::rpc::{DENIED, Fault};

use super::plan::refused;
use super::{Options, Result};
use crate::caller::Caller;

/// Rights over the machine that a pod has by isolators of Kurma's own. Only who asks from the machine itself
/// may give them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rights {
    /// `host/privileged`: all that the machine's root may, its processes seen, its files at `/host`.
    pub(super) privileged: bool,
    /// `host/network`: the machine's own network.
    pub(super) network: bool,
    /// `host/api-access`: the server's sockets.
    pub(super) api: bool,
}

/// The isolators that give rights.
pub(super) const NAMES: [&str; 3] = ["host/privileged", "host/network", "host/api-access"];

fn isolators(manifest: &PodManifest) -> impl Iterator<Item = &Isolator> {
    let apps = manifest.apps.iter().filter_map(|app| app.app.as_ref());
    manifest.isolators.iter().chain(apps.flat_map(|app| &app.isolators))
}

/// What a pod is given of the machine.
pub(super) fn rights(manifest: &PodManifest, caller: &Caller) -> Result<Rights> {
    let mut rights = Rights::default();
    for isolator in isolators(manifest) {
        let Isolator::Other { name, value } = isolator else { continue };
        let right = match name.as_str() {
            "host/privileged" => &mut rights.privileged,
            "host/network" => &mut rights.network,
            "host/api-access" => &mut rights.api,
            _ => continue,
        };
        *right |= value
            .as_bool()
            .ok_or_else(|| refused(format!("{name} is true or false, not {value}")))?;
        if *right && !caller.local {
            return Err(Fault::new(DENIED, format!("{name} is given on the machine itself alone")));
        }
    }
    Ok(rights)
}

/// Sees that directories of the machine are given only to who may have them.
pub(super) fn volumes(manifest: &PodManifest, caller: &Caller, options: &Options) -> Result<()> {
    let own = manifest
        .apps
        .iter()
        .flat_map(|app| &app.mounts)
        .filter_map(|mount| mount.app_volume.as_ref());
    for volume in manifest.volumes.iter().chain(own) {
        let appc::VolumeKind::Host { source, .. } = &volume.kind else { continue };
        // These and not what is in them: what a pod has put there could lead anywhere.
        if !caller.local
            && !options.volumes.iter().any(|allowed| allowed.as_os_str() == source.as_str())
        {
            let what = format!("volume {}: {source} is not for pods from elsewhere", volume.name);
            return Err(Fault::new(DENIED, what));
        }
    }
    Ok(())
}

/// Sees that an app does no more to the machine than whoever asks may have it do.
pub(super) fn bound(options: &mut bundle::Options, local: bool) -> Result<(), String> {
    // Nothing else keeps a container from the machine's disks: there is no filter of devices here.
    let harmless = Capabilities::usual_without(|name| name == "CAP_MKNOD");
    let Capabilities::Only(may) = &harmless else { return Ok(()) };
    match &options.capabilities {
        Capabilities::Usual => options.capabilities = harmless,
        Capabilities::Only(names) if !local => {
            if let Some(name) = names.iter().find(|name| !may.contains(name)) {
                return Err(format!("{name} is given on the machine itself alone"));
            }
        }
        _ => {}
    }
    match options.oom_score_adj {
        Some(score) if score < 0 && !local => {
            Err("an app that is spared when memory is short is started on the machine itself alone"
                .into())
        }
        _ => Ok(()),
    }
}
