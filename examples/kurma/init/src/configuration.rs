//! The machine's configuration, with the layers that a booted one has.

use std::path::Path;

use kurma_server::configuration::{Configuration, Layers, Loaded, Usage, own_file};

use crate::places;

fn below_oem() -> Layers {
    let mut layers = Layers::new();
    layers.file(Path::new(places::BUILT_IN));
    layers.file(&own_file());
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    layers.command_line(line.trim_end());
    layers
}

/// What counts before any disk is mounted.
pub(crate) fn early() -> Configuration {
    below_oem().load().configuration
}

/// What counts once the OEM's partition is there, if there is one.
pub(crate) fn load() -> Loaded {
    let path = early().oem.path.unwrap_or_default();
    let mut layers = below_oem();
    let path = path.trim_start_matches('/');
    if !path.is_empty() && !Path::new(path).components().any(|part| part.as_os_str() == "..") {
        layers.file(&Path::new(places::OEM).join(path));
    }
    layers.load()
}

/// The label of the disk that pods are kept on, or what they are made of.
pub(crate) fn data_label(configuration: &Configuration) -> String {
    let of = |usage| configuration.disks.iter().find(|disk| disk.usage.contains(&usage));
    let disk = of(Usage::Pods).or_else(|| of(Usage::Images));
    let label = disk.and_then(|disk| disk.device.split_once("LABEL=")).map(|(_, label)| label);
    label.unwrap_or("ROOT").to_owned()
}
