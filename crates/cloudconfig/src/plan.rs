//! What is to be done, in order, as values: to be shown, compared and carried out.

use std::fmt;

use crate::CloudConfig;
use crate::schema::{Command, Module, Mount, Network, Power, User, WriteFile};

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Run a command and wait for it.
    Run(Command),
    /// Load a module of the kernel.
    LoadModule(Module),
    /// Set a setting of the kernel.
    SetSysctl {
        /// Its name, with dots or slashes.
        name: String,
        /// Its value.
        value: String,
    },
    /// Name the machine.
    SetHostname(String),
    /// Configure links.
    ConfigureNetwork(Network),
    /// Make a user, or change one that is there: groups, password.
    AddUser(User),
    /// Let keys log in as a user, besides those that can.
    AddKeys {
        /// The user.
        user: String,
        /// The keys.
        keys: Vec<String>,
    },
    /// Let a user run commands as others.
    AllowSudo {
        /// The user.
        user: String,
        /// Lines of sudoers(5) without the name.
        rules: Vec<String>,
    },
    /// Mount a file system.
    Mount(Mount),
    /// Write a file.
    WriteFile(WriteFile),
    /// Have a service run, or not.
    SetService {
        /// Its name.
        name: String,
        /// Whether it is to run.
        runs: bool,
    },
    /// End.
    Power(Power),
}

/// What an image brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Who `default` is in `users`, and who `ssh_authorized_keys` are for.
    pub default_user: Option<User>,
}

impl Options {
    /// An image with a default user.
    #[must_use]
    pub fn with_user(user: User) -> Self {
        Self { default_user: Some(user) }
    }
}

/// All of it, in order. `Display` shows a line for each action, without what is secret in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The actions.
    pub actions: Vec<Action>,
    /// What cannot be done, in words.
    pub problems: Vec<String>,
}

/// What follows from a config. The order: `bootcmd`, modules, settings, name, network, users with their
/// keys, mounts, files (which may belong to these users and lie on these mounts), services,
/// `runcmd`, the end.
///
/// ```
/// use kiln_cloudconfig::{Limits, decode, document, plan};
///
/// let text = b"runcmd: [[touch, /run/x]]\nhostname: node-1\nwrite_files: [{path: /etc/motd, content: Hi}]\n";
/// let (root, _) = document::read("user-data", text, &Limits::default());
/// let (config, _) = decode(&root, &Limits::default());
/// assert_eq!(
///     plan::plan(&config, &plan::Options::default()).to_string(),
///     "hostname node-1\nwrite /etc/motd: 2 bytes, 0644, root:root\nrun touch /run/x\n"
/// );
/// ```
#[must_use]
pub fn plan(config: &CloudConfig, options: &Options) -> Plan {
    let mut plan = Plan::default();
    let run = |commands: &[Command]| commands.iter().cloned().map(Action::Run).collect::<Vec<_>>();
    plan.actions.extend(run(&config.bootcmd));
    plan.actions.extend(config.modules.iter().cloned().map(Action::LoadModule));
    let setting = |(name, value): (&String, &String)| Action::SetSysctl {
        name: name.clone(),
        value: value.clone(),
    };
    plan.actions.extend(config.sysctl.iter().map(setting));
    plan.actions.extend(config.hostname.iter().cloned().map(Action::SetHostname));
    plan.actions.extend(config.network.iter().cloned().map(Action::ConfigureNetwork));
    users(config, options, &mut plan);
    plan.actions.extend(config.mounts.iter().cloned().map(Action::Mount));
    plan.actions.extend(config.write_files.iter().cloned().map(Action::WriteFile));
    let service =
        |(name, runs): (&String, &bool)| Action::SetService { name: name.clone(), runs: *runs };
    plan.actions.extend(config.services.iter().map(service));
    plan.actions.extend(run(&config.runcmd));
    plan.actions.extend(config.power_state.iter().cloned().map(Action::Power));
    plan
}

fn users(config: &CloudConfig, options: &Options, plan: &mut Plan) {
    let default = options.default_user.as_ref().filter(|_| config.users.default);
    // One who is named like the default user is that user, with what is said here.
    let named = |user: &User| config.users.list.iter().any(|other| other.name == user.name);
    let mut all: Vec<User> = default.filter(|user| !named(user)).into_iter().cloned().collect();
    all.extend(config.users.list.iter().cloned());
    if !config.ssh_authorized_keys.is_empty() {
        let owner = default.map(|user| &user.name);
        match all.iter_mut().find(|user| Some(&user.name) == owner) {
            Some(user) => {
                user.ssh_authorized_keys.extend(config.ssh_authorized_keys.iter().cloned())
            }
            None => plan.problems.push(
                "ssh_authorized_keys: there is no default user whom they could be for".into(),
            ),
        }
    }
    for mut user in all {
        let name = user.name.clone();
        let (keys, rules) =
            (std::mem::take(&mut user.ssh_authorized_keys), std::mem::take(&mut user.sudo));
        plan.actions.push(Action::AddUser(user));
        if !keys.is_empty() {
            plan.actions.push(Action::AddKeys { user: name.clone(), keys });
        }
        if !rules.is_empty() {
            plan.actions.push(Action::AllowSudo { user: name, rules });
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(command) => write!(f, "run {command}"),
            Self::LoadModule(module) => {
                write!(f, "modprobe {}", module.name)?;
                module.parameters.iter().try_for_each(|word| write!(f, " {word}"))
            }
            Self::SetSysctl { name, value } => write!(f, "sysctl {name}={value}"),
            Self::SetHostname(name) => write!(f, "hostname {name}"),
            Self::ConfigureNetwork(network) => {
                write!(f, "network")?;
                for interface in &network.interfaces {
                    write!(f, " {}", interface.selector)?;
                    if interface.dhcp {
                        write!(f, " dhcp")?;
                    }
                    interface.addresses.iter().try_for_each(|address| write!(f, " {address}"))?;
                    write!(f, ";")?;
                }
                Ok(())
            }
            Self::AddUser(user) => {
                write!(f, "user {}", user.name)?;
                if let Some(uid) = user.uid {
                    write!(f, " uid {uid}")?;
                }
                if !user.groups.is_empty() {
                    write!(f, " groups {}", user.groups.join(","))?;
                }
                if user.password_hash.is_some() { write!(f, " with a password") } else { Ok(()) }
            }
            Self::AddKeys { user, keys } => {
                write!(f, "keys of {user}:")?;
                // The comment says whose a key is; the key itself is long.
                keys.iter().try_for_each(|key| {
                    let last = key.split_ascii_whitespace().next_back().unwrap_or_default();
                    let shown: String = last.chars().take(40).collect();
                    write!(f, " {shown}")
                })
            }
            Self::AllowSudo { user, rules } => write!(f, "sudo of {user}: {}", rules.join("; ")),
            Self::Mount(mount) => {
                write!(
                    f,
                    "mount {} on {} ({}, {})",
                    mount.what, mount.target, mount.fstype, mount.options
                )
            }
            Self::WriteFile(file) => {
                let how = if file.append { "append to" } else { "write" };
                write!(f, "{how} {:?}", Bare(&file.path))?;
                if let Some(container) = &file.container {
                    write!(f, " in {container}")?;
                }
                let (size, mode, owner) = (file.content.len(), file.mode, &file.owner);
                write!(f, ": {size} bytes, {mode:04o}, {owner}")
            }
            Self::SetService { name, runs } => {
                write!(f, "{} {name}", if *runs { "enable" } else { "disable" })
            }
            Self::Power(power) => write!(f, "{} in {} s", power.mode.name(), power.delay.as_secs()),
        }
    }
}

/// A path without quotes, and control characters escaped.
struct Bare<'p>(&'p str);

impl fmt::Debug for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") }
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            // One line each, whatever a document has in its texts.
            let line = action.to_string().replace(char::is_control, " ");
            writeln!(f, "{line}")?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "cannot: {problem}"))
    }
}
