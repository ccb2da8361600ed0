//! Where things are.

/// The built-in configuration.
pub(crate) const BUILT_IN: &str = "/usr/share/kurma/kurma.yml";
/// Images that the system brings.
pub(crate) const IMAGES: &str = "/usr/share/kurma/images";
/// Where the OEM's partition is mounted.
pub(crate) const OEM: &str = "/oem";
/// What is kept: images, pods, volumes.
pub(crate) const KEPT: &str = "/var/kurma";
/// Where other disks are mounted that have a part of it.
pub(crate) const DISKS: &str = "/mnt";
/// What the network is started with.
pub(crate) const NETWORK: &str = "/etc/kiln/network.toml";
/// Whom to believe that something is a version of this system.
pub(crate) const KEYS: &str = "/usr/share/kurma/release.pub";
/// Where another version is unpacked before it is judged.
pub(crate) const INCOMING: &str = "/var/kurma/upgrade";
