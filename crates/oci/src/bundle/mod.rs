//! Bundles of the OCI runtime specification: what an image's configuration and its user's wishes mean
//! to a runtime, as `config.json`.

mod capabilities;
#[cfg(feature = "host")]
mod make;
mod resources;
mod seccomp;
mod users;

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

pub use capabilities::Capabilities;
#[cfg(feature = "appc")]
pub(crate) use capabilities::is_capability;
#[cfg(feature = "host")]
pub use make::{Bundle, Packaged, make};
pub use resources::Resources;
pub use seccomp::{Calls, Seccomp};
pub use users::{Identity, Users};

use crate::{Error, Result, json as document};

/// What a container is to be besides what its image says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The root's path, absolute or in the bundle. Default: `rootfs`.
    pub root: String,
    /// Whether the root is read-only. Default: no.
    pub readonly: bool,
    /// In place of the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's arguments, which go too where the entry point is given.
    pub args: Option<Vec<String>>,
    /// `NAME=value`, over the image's.
    pub env: Vec<String>,
    /// In place of the image's user.
    pub user: Option<String>,
    /// In place of the image's working directory.
    pub cwd: Option<String>,
    /// The host name, in a name space of its own. Without, the container has the host's.
    pub hostname: Option<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Mounts besides the usual; one at the place of a usual one replaces it.
    pub mounts: Vec<Mount>,
    /// What it may do. Default: what Docker's containers may.
    pub capabilities: Capabilities,
    /// Whether programs may gain rights by set-id bits. Default: no.
    pub new_privileges: bool,
    /// Which network it is in. Default: an own one, with nothing in it.
    pub network: Network,
    /// Whether it sees the host's processes.
    pub host_pid: bool,
    /// Whether it shares memory with the host's processes.
    pub host_ipc: bool,
    /// Its control group, as the runtime takes it.
    pub cgroup: Option<String>,
    /// A service of the system in the clothes of a container: all capabilities, the host's devices,
    /// nothing hidden or read-only. It can do whatever the host's root can.
    pub privileged: bool,
    /// Whether what is mounted in it can be seen outside, and the other way round, below mounts whose
    /// options say so (`rshared`). Default: no.
    pub shared_mounts: bool,
    /// Annotations for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// What it may use.
    pub resources: Resources,
    /// How soon it is ended when memory is short: from -1000, which is never, to 1000.
    pub oom_score_adj: Option<i16>,
    /// Which system calls it may do. Default: all.
    pub seccomp: Option<Seccomp>,
    /// Name spaces to join, by kind (`pid`, `ipc`, `uts`, `cgroup`) and path: those of another
    /// container of its pod. With `uts` it has that one's host name.
    pub join: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: "rootfs".into(),
            readonly: false,
            entrypoint: None,
            args: None,
            env: Vec::new(),
            user: None,
            cwd: None,
            hostname: None,
            terminal: false,
            mounts: Vec::new(),
            capabilities: Capabilities::default(),
            new_privileges: false,
            network: Network::default(),
            host_pid: false,
            host_ipc: false,
            cgroup: None,
            privileged: false,
            shared_mounts: false,
            annotations: BTreeMap::new(),
            resources: Resources::default(),
            oom_score_adj: None,
            seccomp: None,
            join: BTreeMap::new(),
        }
    }
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Mount {
    /// Where, absolute.
    pub destination: String,
    /// What: a path for `bind`.
    pub source: String,
    /// The file system, or `bind`.
    pub kind: String,
    /// mount(8)'s words.
    pub options: Vec<String>,
}

impl Mount {
    /// The same, where what is mounted there later is seen on the other side too.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.options.push("rshared".into());
        self
    }

    /// A file or directory of the host, with all that is mounted in it.
    #[must_use]
    pub fn bind(source: impl Into<String>, destination: impl Into<String>, readonly: bool) -> Self {
        Self {
            destination: destination.into(),
            source: source.into(),
            kind: "bind".into(),
            options: vec!["rbind".into(), if readonly { "ro" } else { "rw" }.into()],
        }
    }
}

/// Which network a container is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Network {
    /// A new one.
    #[default]
    Own,
    /// The host's.
    Host,
    /// One that is there, by the path of its name space.
    Path(String),
}

/// What hides or tells of the host (`/proc` and `/sys` as Docker's containers see them).
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The bundle's `config.json` as a value and as the bytes to write: the same arguments give the same.
///
/// # Errors
/// [`Error::Invalid`] for a user that is not in the image, a container without a command, paths that
/// are not absolute, and capabilities that do not exist.
pub fn spec(
    image: &ImageConfiguration,
    users: &Users,
    options: &Options,
) -> Result<(Spec, Vec<u8>)> {
    let user = image.config().as_ref().and_then(|config| config.user().as_deref());
    let user = options.user.as_deref().or(user).unwrap_or_default();
    spec_for(image, &users.identity(user)?, options)
}

/// The same for a user who is known by number.
///
/// # Errors
/// As [`spec`].
pub fn spec_for(
    image: &ImageConfiguration,
    identity: &Identity,
    options: &Options,
) -> Result<(Spec, Vec<u8>)> {
    let config = image.config().clone().unwrap_or_default();
    let args = args(&config, options)?;
    let cwd =
        options.cwd.as_deref().or_else(|| config.working_dir().as_deref()).unwrap_or_default();
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    let mounts = mounts(options);
    let places = mounts.iter().map(|mount| mount.destination.as_str()).chain([cwd]);
    if let Some(bad) = places.into_iter().find(|path| !path.starts_with('/')) {
        return Err(Error::invalid(bad, "paths in a container are absolute"));
    }
    let capabilities = if options.privileged { &Capabilities::All } else { &options.capabilities };
    let capabilities = capabilities.names()?;
    // A user other than root has what it is allowed only through programs that have it.
    let own = if identity.uid == 0 { capabilities.clone() } else { Vec::new() };
    let mounts: Vec<Value> = mounts
        .iter()
        .map(|mount| {
            json!({
                "destination": mount.destination,
                "source": mount.source,
                "type": mount.kind,
                "options": mount.options,
            })
        })
        .collect();
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "root": { "path": options.root, "readonly": options.readonly },
        "mounts": mounts,
        "process": {
            "terminal": options.terminal,
            "args": args,
            "env": env(&config, options, identity)?,
            "cwd": cwd,
            "noNewPrivileges": !options.new_privileges && !options.privileged,
            "user": { "uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups },
            "capabilities": { "bounding": capabilities, "effective": own, "permitted": own },
        },
        "linux": {
            "namespaces": namespaces(options)?,
            "resources": options.resources.value(options.privileged)?,
            "maskedPaths": if options.privileged { Vec::new() } else { MASKED.to_vec() },
            "readonlyPaths": if options.privileged { Vec::new() } else { READ_ONLY.to_vec() },
        },
    });
    let put = |spec: &mut Value, place: &str, key: &str, value: Value| {
        if let Some(map) = spec.pointer_mut(place).and_then(Value::as_object_mut) {
            map.insert(key.into(), value);
        }
    };
    if let Some(hostname) = options.hostname.as_ref().filter(|_| !options.join.contains_key("uts"))
    {
        put(&mut spec, "", "hostname", json!(hostname));
    }
    if !options.annotations.is_empty() {
        put(&mut spec, "", "annotations", json!(options.annotations));
    }
    if options.shared_mounts {
        put(&mut spec, "/linux", "rootfsPropagation", json!("rshared"));
    }
    if let Some(cgroup) = &options.cgroup {
        put(&mut spec, "/linux", "cgroupsPath", json!(cgroup));
    }
    if let Some(score) = options.oom_score_adj {
        put(&mut spec, "/process", "oomScoreAdj", json!(score));
    }
    if let Some(seccomp) = &options.seccomp {
        put(&mut spec, "/linux", "seccomp", seccomp.value());
    }
    let typed = serde_json::from_value(spec.clone())
        .map_err(|error| Error::document("config.json", error))?;
    Ok((typed, document::write(&spec)?))
}

fn args(config: &oci_spec::image::Config, options: &Options) -> Result<Vec<String>> {
    let entrypoint = options.entrypoint.clone().or_else(|| config.entrypoint().clone());
    let cmd = match (&options.args, &options.entrypoint) {
        (Some(args), _) => args.clone(),
        // Arguments of another program would mean something else.
        (None, Some(_)) => Vec::new(),
        (None, None) => config.cmd().clone().unwrap_or_default(),
    };
    let args: Vec<String> = entrypoint.unwrap_or_default().into_iter().chain(cmd).collect();
    if args.is_empty() {
        return Err(Error::invalid("command", "neither the image nor the options name a program"));
    }
    if let Some(bad) = args.iter().find(|arg| arg.contains('\0')) {
        return Err(Error::invalid(bad.escape_default(), "an argument has a NUL"));
    }
    Ok(args)
}

/// The image's variables, then ours; the last value of a name counts, at the place of the first.
fn env(
    config: &oci_spec::image::Config,
    options: &Options,
    identity: &Identity,
) -> Result<Vec<String>> {
    let mut defaults = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOME={}", identity.home.as_deref().unwrap_or("/")),
    ];
    if options.terminal {
        defaults.push("TERM=xterm".into());
    }
    if let Some(hostname) = &options.hostname {
        defaults.push(format!("HOSTNAME={hostname}"));
    }
    let mut found: Vec<(String, String)> = Vec::new();
    for pair in defaults.iter().chain(config.env().iter().flatten()).chain(&options.env) {
        let Some((name, _)) = pair.split_once('=').filter(|_| !pair.contains('\0')) else {
            return Err(Error::invalid(
                pair.escape_default(),
                "an environment variable is NAME=value",
            ));
        };
        match found.iter_mut().find(|(known, _)| known == name) {
            Some((_, value)) => value.clone_from(pair),
            None => found.push((name.to_owned(), pair.clone())),
        }
    }
    Ok(found.into_iter().map(|(_, pair)| pair).collect())
}

/// Kinds of name spaces that can be joined; the network's is an option of its own.
const JOINED: [&str; 4] = ["cgroup", "ipc", "pid", "uts"];

fn namespaces(options: &Options) -> Result<Vec<Value>> {
    let mut own = vec!["mount"];
    if !options.host_pid {
        own.push("pid");
    }
    if !options.host_ipc {
        own.push("ipc");
    }
    if options.hostname.is_some() {
        own.push("uts");
    }
    if !options.privileged {
        own.push("cgroup");
    }
    own.retain(|kind| !options.join.contains_key(*kind));
    let mut namespaces: Vec<Value> = own.iter().map(|kind| json!({ "type": kind })).collect();
    for (kind, path) in &options.join {
        if !JOINED.contains(&kind.as_str()) {
            let reason = format!("a container can join {}", JOINED.join(", "));
            return Err(Error::invalid(kind.escape_default(), reason));
        }
        if !path.starts_with('/') {
            return Err(Error::invalid(path.escape_default(), "paths of name spaces are absolute"));
        }
        namespaces.push(json!({ "type": kind, "path": path }));
    }
    match &options.network {
        Network::Own => namespaces.push(json!({ "type": "network" })),
        Network::Path(path) => namespaces.push(json!({ "type": "network", "path": path })),
        Network::Host => {}
    }
    Ok(namespaces)
}

fn mounts(options: &Options) -> Vec<Mount> {
    let usual = |destination: &str, kind: &str, source: &str, words: &str| Mount {
        destination: destination.into(),
        source: source.into(),
        kind: kind.into(),
        options: words.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
    };
    let mut mounts = vec![usual("/proc", "proc", "proc", "nosuid,noexec,nodev")];
    if options.privileged {
        mounts.push(Mount::bind("/dev", "/dev", false));
        mounts.push(Mount::bind("/sys", "/sys", false));
    } else {
        mounts.extend([
            usual("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            usual(
                "/dev/pts",
                "devpts",
                "devpts",
                "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            ),
            usual("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
            usual("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
            usual("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
            usual("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
        ]);
    }
    mounts.retain(|mount| !options.mounts.iter().any(|own| own.destination == mount.destination));
    mounts.extend(options.mounts.iter().cloned());
    mounts
}

#[cfg(test)]
mod tests {
    use oci_spec::image::Config;

    use super::*;

    fn image() -> ImageConfiguration {
        let mut config = Config::default();
        config.set_entrypoint(Some(vec!["/bin/server".into()]));
        config.set_cmd(Some(vec!["--port".into(), "80".into()]));
        config.set_env(Some(vec!["A=1".into(), "PATH=/bin".into()]));
        config.set_user(Some("web".into()));
        let mut image = ImageConfiguration::default();
        image.set_config(Some(config));
        image
    }

    fn users() -> Users {
        Users { passwd: "web:x:33:34::/srv:\n".into(), group: "adm:x:4:web\n".into() }
    }

    fn made(options: &Options) -> Value {
        let (_, bytes) = spec(&image(), &users(), options).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn the_image_says_what_runs_and_options_say_otherwise() {
        let spec = made(&Options::default());
        let process = &spec["process"];
        assert_eq!(process["args"], json!(["/bin/server", "--port", "80"]));
        assert_eq!(process["env"], json!(["PATH=/bin", "HOME=/srv", "A=1"]));
        assert_eq!(process["user"], json!({"uid": 33, "gid": 34, "additionalGids": [4]}));
        assert_eq!(process["capabilities"]["effective"], json!([]));
        assert_eq!(process["capabilities"]["bounding"].as_array().unwrap().len(), 14);
        assert_eq!((&process["cwd"], &process["noNewPrivileges"]), (&json!("/"), &json!(true)));

        let options = Options {
            args: Some(vec!["--help".into()]),
            env: vec!["A=2".into(), "B=3".into()],
            user: Some("0:0".into()),
            cwd: Some("/srv".into()),
            mounts: vec![Mount::bind("/data", "/dev/shm", true)],
            network: Network::Path("/run/netns/x".into()),
            hostname: Some("web-1".into()),
            cgroup: Some("/services/web".into()),
            ..Options::default()
        };
        let spec = made(&options);
        let process = &spec["process"];
        assert_eq!(process["args"], json!(["/bin/server", "--help"]));
        let env = json!(["PATH=/bin", "HOME=/", "HOSTNAME=web-1", "A=2", "B=3"]);
        assert_eq!(process["env"], env);
        assert_eq!(process["capabilities"]["effective"], process["capabilities"]["bounding"]);
        assert_eq!(spec["linux"]["cgroupsPath"], "/services/web");
        assert_eq!((&spec["hostname"], &process["cwd"]), (&json!("web-1"), &json!("/srv")));
        let mounts = spec["mounts"].as_array().unwrap();
        let shm: Vec<&Value> =
            mounts.iter().filter(|mount| mount["destination"] == "/dev/shm").collect();
        assert_eq!(shm.len(), 1);
        assert_eq!(shm[0]["options"], json!(["rbind", "ro"]));
        let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
        assert!(namespaces.contains(&json!({"type": "network", "path": "/run/netns/x"})));
    }

    #[test]
    fn a_service_of_the_system_has_what_the_host_has() {
        let options = Options {
            privileged: true,
            network: Network::Host,
            host_pid: true,
            host_ipc: true,
            entrypoint: Some(vec!["/sbin/init".into()]),
            ..Options::default()
        };
        let spec = made(&options);
        assert_eq!(spec["process"]["args"], json!(["/sbin/init"]));
        assert_eq!(spec["linux"]["namespaces"], json!([{"type": "mount"}]));
        assert_eq!(spec["linux"]["maskedPaths"], json!([]));
        assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], true);
        assert_eq!(spec["process"]["noNewPrivileges"], false);
        assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
    }

    #[test]
    fn a_container_of_a_pod_joins_the_others_and_has_its_part() {
        let mut options = Options {
            hostname: Some("pod-1".into()),
            oom_score_adj: Some(-5),
            seccomp: Some(Seccomp::new(Calls::AllBut(["reboot".to_owned()].into()), Some(1))),
            ..Options::default()
        };
        (options.resources.memory, options.resources.pids) = (Some(1 << 20), Some(9));
        for kind in ["pid", "uts", "ipc"] {
            options.join.insert(kind.into(), format!("/proc/7/ns/{kind}"));
        }
        let spec = made(&options);
        assert_eq!(
            spec["linux"]["namespaces"],
            json!([
                {"type": "mount"},
                {"type": "cgroup"},
                {"type": "ipc", "path": "/proc/7/ns/ipc"},
                {"type": "pid", "path": "/proc/7/ns/pid"},
                {"type": "uts", "path": "/proc/7/ns/uts"},
                {"type": "network"},
            ])
        );
        // A runtime that sets the name would set it for all.
        assert_eq!(spec["hostname"], Value::Null);
        assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 1 << 20);
        assert_eq!(spec["linux"]["resources"]["pids"]["limit"], 9);
        assert_eq!(spec["linux"]["seccomp"]["syscalls"][0]["errnoRet"], 1);
        assert_eq!(spec["process"]["oomScoreAdj"], -5);
    }

    #[test]
    fn what_cannot_be_is_said_before_a_runtime_says_it() {
        let refused = |change: &dyn Fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            spec(&image(), &users(), &options).unwrap_err().to_string()
        };
        let error = refused(&|options| options.user = Some("nobody".into()));
        assert!(error.contains("nobody is not in the image's /etc/passwd"), "{error}");
        let error = refused(&|options| options.cwd = Some("srv".into()));
        assert_eq!(error, "srv: paths in a container are absolute");
        let error = refused(&|options| options.env = vec!["A".into()]);
        assert_eq!(error, "A: an environment variable is NAME=value");
        let error = refused(&|options| options.entrypoint = Some(Vec::new()));
        assert_eq!(error, "command: neither the image nor the options name a program");
        let error = refused(&|options| {
            options.capabilities = Capabilities::Only(vec!["CAP_FLY".into()]);
        });
        assert_eq!(error, "CAP_FLY: there is no such capability");
        let error = refused(&|options| {
            options.join.insert("user".into(), "/proc/7/ns/user".into());
        });
        assert_eq!(error, "user: a container can join cgroup, ipc, pid, uts");
        let error = refused(&|options| options.resources.cpu_shares = Some(1));
        assert_eq!(error, "cpu shares 1: it goes from 2 to 262144");
    }
}
