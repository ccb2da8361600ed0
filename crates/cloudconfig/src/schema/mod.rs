//! What a cloud-config says, as types: strict, and every problem with its file, line and path.
//!
//! What is valid is kept and what is not is told, so that a boot can go on. A list's element that has
//! a fault is left out as a whole: a file whose `permisions` nobody understands is not written with
//! other ones. [`Findings::strict`] makes an error of any finding, for who checks before the boot.

mod commands;
mod files;
mod foreign;
mod mounts;
mod network;
mod power;
mod system;
mod users;

use std::collections::BTreeMap;

pub use commands::Command;
pub use files::{Owner, WriteFile};
pub use mounts::Mount;
pub use network::{Interface, Network, Selector, Subnet};
pub use power::{Power, PowerMode};
pub use system::Module;
pub(crate) use system::is_host_name;
pub use users::{User, Users};
pub(crate) use users::{is_account_name, is_key};

use crate::{Fields, Findings, Limits, Node, Notes};

/// What the sections that are known here say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudConfig {
    /// The machine's name.
    pub hostname: Option<String>,
    /// Keys that the default user may log in with.
    pub ssh_authorized_keys: Vec<String>,
    /// Who there is besides the default user.
    pub users: Users,
    /// Files, in order.
    pub write_files: Vec<WriteFile>,
    /// Commands of each boot, before anything else.
    pub bootcmd: Vec<Command>,
    /// Commands after everything else.
    pub runcmd: Vec<Command>,
    /// File systems.
    pub mounts: Vec<Mount>,
    /// Links.
    pub network: Option<Network>,
    /// Settings of the kernel, by name.
    pub sysctl: BTreeMap<String, String>,
    /// Modules of the kernel, in order.
    pub modules: Vec<Module>,
    /// Services that are to run, or not to.
    pub services: BTreeMap<String, bool>,
    /// What becomes of the machine at the end.
    pub power_state: Option<Power>,
}

/// The sections that are known here.
pub const STANDARD: &[&str] = &[
    "hostname",
    "ssh_authorized_keys",
    "users",
    "write_files",
    "bootcmd",
    "runcmd",
    "mounts",
    "network",
    "sysctl",
    "modules",
    "services",
    "power_state",
];

/// Which of the [`STANDARD`] sections an image does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sections {
    done: Vec<&'static str>,
}

impl Default for Sections {
    fn default() -> Self {
        Self { done: STANDARD.to_vec() }
    }
}

impl Sections {
    /// None of them.
    #[must_use]
    pub fn none() -> Self {
        Self { done: Vec::new() }
    }

    /// These and one more, if it is a standard one.
    #[must_use]
    pub fn with(mut self, name: &str) -> Self {
        let known = STANDARD.iter().find(|known| **known == name);
        self.done.extend(known.filter(|known| !self.done.contains(known)));
        self
    }

    /// These without one. It is told as not supported, unless the image reads it itself.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.done.retain(|done| *done != name);
        self
    }

    fn has(&self, name: &str) -> bool {
        self.done.contains(&name)
    }
}

/// Decodes all standard sections.
///
/// ```
/// use kiln_cloudconfig::{Limits, decode, document};
///
/// let text = b"hostname: node-1\nwrite_files:\n- path: /etc/motd\n  contents: hello\n";
/// let (root, _) = document::read("user-data", text, &Limits::default());
/// let (config, findings) = decode(&root, &Limits::default());
/// assert_eq!(config.hostname.as_deref(), Some("node-1"));
/// assert!(config.write_files.is_empty());
/// assert_eq!(
///     findings.to_string(),
///     "user-data:4: write_files[0]: unknown key \"contents\", did you mean \"content\"?"
/// );
/// ```
#[must_use]
pub fn decode(root: &Node, limits: &Limits) -> (CloudConfig, Findings) {
    let (config, (), findings) = decode_with(root, &Sections::default(), limits, |_| ());
    (config, findings)
}

/// Decodes the standard sections that an image does, and sections of its own.
///
/// ```
/// use kiln_cloudconfig::{Cursor, Limits, Sections, decode_with, document};
///
/// #[derive(Debug, Default)]
/// struct Rancher {
///     debug: bool,
///     disable: Vec<String>,
/// }
///
/// fn rancher(at: &Cursor<'_>) -> Option<Rancher> {
///     let mut fields = at.fields()?;
///     let rancher = Rancher {
///         debug: fields.get("debug", |at| at.bool()).unwrap_or_default(),
///         disable: fields.texts("disable"),
///     };
///     fields.finish();
///     Some(rancher)
/// }
///
/// let text = b"rancher:\n  debug: yes\n  disable: [password, autologin]\nusers: []\n";
/// let (root, _) = document::read("user-data", text, &Limits::default());
/// let sections = Sections::default().without("users");
/// let (_, own, findings) = decode_with(&root, &sections, &Limits::default(), |fields| {
///     fields.get("rancher", rancher).unwrap_or_default()
/// });
/// assert!(own.debug);
/// assert_eq!(own.disable, ["password", "autologin"]);
/// assert_eq!(findings.to_string(), "user-data:4: users: not supported");
/// ```
#[must_use]
pub fn decode_with<T: Default>(
    root: &Node,
    sections: &Sections,
    limits: &Limits,
    own: impl FnOnce(&mut Fields<'_>) -> T,
) -> (CloudConfig, T, Findings) {
    let notes = Notes::new(limits);
    let mut config = CloudConfig::default();
    let mut more = T::default();
    if !root.is_null()
        && let Some(mut fields) = notes.cursor(root).fields()
    {
        more = own(&mut fields);
        standard(&mut config, &mut fields, sections);
        fields.not_supported(foreign::SECTIONS);
        fields.not_supported(STANDARD);
        fields.finish();
    }
    (config, more, notes.finish())
}

fn standard(config: &mut CloudConfig, fields: &mut Fields<'_>, sections: &Sections) {
    if sections.has("hostname") {
        config.hostname = fields.get("hostname", system::hostname);
    }
    if sections.has("ssh_authorized_keys") {
        config.ssh_authorized_keys = fields.list("ssh_authorized_keys", users::key);
    }
    if sections.has("users") {
        config.users = fields.get("users", users::users).unwrap_or_default();
    }
    if sections.has("write_files") {
        config.write_files = fields.list("write_files", files::file);
    }
    if sections.has("bootcmd") {
        config.bootcmd = fields.list("bootcmd", commands::command);
    }
    if sections.has("runcmd") {
        config.runcmd = fields.list("runcmd", commands::command);
    }
    if sections.has("mounts") {
        config.mounts = fields.list("mounts", mounts::mount);
    }
    if sections.has("network") {
        config.network = fields.get("network", network::network);
    }
    if sections.has("sysctl") {
        config.sysctl = fields.get("sysctl", system::sysctl).unwrap_or_default();
    }
    if sections.has("modules") {
        config.modules = fields.list("modules", system::module);
    }
    if sections.has("services") {
        config.services = fields.get("services", system::services).unwrap_or_default();
    }
    if sections.has("power_state") {
        config.power_state = fields.get("power_state", |at| at.whole(power::power));
    }
}
