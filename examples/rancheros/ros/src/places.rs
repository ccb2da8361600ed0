//! Where everything is.

/// What is built in.
pub(crate) const BUILT_IN: &str = "/usr/share/ros/os-config.yml";
/// What whoever sells the machine has on a partition of its own.
pub(crate) const OEM: &str = "/usr/share/ros/oem";
/// And says.
pub(crate) const OEM_CONFIG: &str = "/usr/share/ros/oem/oem-config.yml";
/// The images of the system's containers.
pub(crate) const IMAGES: &str = "/usr/share/ros/images.tar";
/// The disk that is kept.
pub(crate) const STATE: &str = "/state";
/// Directories of it, each with its mode: those that links of the image lead to.
pub(crate) const KEPT: &[(&str, u32)] = &[
    ("docker", 0o710),
    ("home", 0o755),
    ("opt", 0o755),
    ("rancher", 0o755),
    ("rancher/conf", 0o700),
    ("rancher/conf/cloud-config.d", 0o700),
    ("rancher/ssh", 0o700),
    ("system", 0o700),
];
/// Where its label stands.
pub(crate) const LABEL: &str = "RANCHER_STATE";
/// What the user has configured.
pub(crate) const CONF: &str = "/var/lib/rancher/conf";
/// The same, as one file.
pub(crate) const CLOUD_CONFIG: &str = "/var/lib/rancher/conf/cloud-config.yml";
/// User-data of a source, as it was seen last.
pub(crate) const USER_DATA: &str = "/var/lib/rancher/conf/cloud-config.d/boot.yml";
/// A script among it.
pub(crate) const SCRIPT: &str = "/var/lib/rancher/conf/cloud-config-script";
/// Archives of images that the system's services are made of.
pub(crate) const SYSTEM_PRELOAD: &str = "/var/lib/rancher/preload/system-docker";
/// What a source says of the machine, as it was seen last.
pub(crate) const META_DATA: &str = "/var/lib/rancher/conf/metadata.yml";
/// Sources of the network that are to be asked yet, a line each.
pub(crate) const OPEN: &str = "/run/ros/datasources";
/// Unpacked images, and what containers have written that is kept.
pub(crate) const UNPACKED: &str = "/state/system/images";
/// What containers have written that is kept.
pub(crate) const WRITTEN: &str = "/state/system/containers";
/// The same of those that begin anew.
pub(crate) const FLEETING: &str = "/run/ros/written";
/// Bundles.
pub(crate) const BUNDLES: &str = "/run/ros/bundles";
/// The bundle of the console that is there now, for services that follow it.
pub(crate) const NOW: &str = "/run/ros";
/// What starts a disk: SYSLINUX and systemd-boot, as in their packages.
pub(crate) const LOADERS: &str = "/usr/share/ros/boot";
/// The system in the installer's image.
pub(crate) const DIST: &str = "/dist";
/// The CD's volume.
pub(crate) const CD: &str = "RANCHEROS";
/// Where an installer's image is unpacked.
pub(crate) const CARRIED: &str = "/var/lib/rancher/carried";
/// Words of the kernel's command line that every version has.
pub(crate) const APPEND: &str = "/var/lib/rancher/conf/append";
