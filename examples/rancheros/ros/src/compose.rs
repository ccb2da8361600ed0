//! Services as Compose's first version has them: what RancherOS's system services, and its users' own,
//! are written in.

use std::collections::BTreeMap;

use kiln_cloudconfig::{Cursor, Kind, Value};

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name.
    pub(crate) name: String,
    /// Its image, with a tag.
    pub(crate) image: String,
    /// Arguments in place of the image's.
    pub(crate) command: Option<Vec<String>>,
    /// The program in place of the image's.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// `NAME=value`, or `NAME` for a value of the system's configuration.
    pub(crate) environment: Vec<String>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// What is mounted.
    pub(crate) volumes: Vec<Volume>,
    /// Services whose volumes it has too.
    pub(crate) volumes_from: Vec<String>,
    /// Which network it is in.
    pub(crate) net: Net,
    /// Whether it sees the processes, the shared memory, the name of the host.
    pub(crate) host_pid: bool,
    pub(crate) host_ipc: bool,
    pub(crate) host_uts: bool,
    /// Whether it may do everything.
    pub(crate) privileged: bool,
    /// What happens when it ends.
    pub(crate) restart: Restart,
    /// As whom it runs.
    pub(crate) user: Option<String>,
    /// Where.
    pub(crate) working_dir: Option<String>,
    /// Its host's name.
    pub(crate) hostname: Option<String>,
    /// Capabilities besides the usual ones.
    pub(crate) cap_add: Vec<String>,
    /// Whether its root is read-only.
    pub(crate) read_only: bool,
    /// Directories in memory.
    pub(crate) tmpfs: Vec<String>,
    /// Published ports, as `docker run -p` has them.
    pub(crate) ports: Vec<String>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    /// The host's path.
    pub(crate) source: String,
    /// The container's.
    pub(crate) target: String,
    /// Whether it is only read.
    pub(crate) read_only: bool,
    /// Whether mounts below it are shared with the host.
    pub(crate) shared: bool,
}

/// Which network a service is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Net {
    /// One of its own, bridged by the engine.
    #[default]
    Bridge,
    /// The host's.
    Host,
    /// One of its own with nothing in it.
    None,
}

/// What happens when a service ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Nothing.
    #[default]
    No,
    /// It is started again.
    Always,
    /// It is started again if it failed.
    OnFailure,
}

/// A text, or what a number or a truth value was written as.
pub(crate) fn scalar(at: &Cursor<'_>) -> Option<String> {
    match &at.node().value {
        Value::Scalar(scalar) => Some(scalar.text.clone()),
        _ => at.expected("a text"),
    }
}

/// Reads a service.
pub(crate) fn service(name: &str, at: &Cursor<'_>) -> Option<Service> {
    // Names are those of containers and of process 1's services.
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !name.bytes().all(is_name)
        || name.is_empty()
        || name.len() > 60
        || name.starts_with(['.', '-'])
    {
        return at.wrong("a service's name is letters, digits, dots, underscores and hyphens");
    }
    let mut fields = at.fields()?;
    let text = |at: &Cursor<'_>| at.text().map(str::to_owned);
    let host = |at: &Cursor<'_>| at.one_of(&[("host", true)]);
    let service = Service {
        name: name.to_owned(),
        image: fields.required("image", image).unwrap_or_default(),
        command: fields.get("command", words),
        entrypoint: fields.get("entrypoint", words),
        environment: fields.get("environment", pairs).unwrap_or_default(),
        labels: fields
            .get("labels", pairs)
            .unwrap_or_default()
            .into_iter()
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
                (name.to_owned(), value.to_owned())
            })
            .collect(),
        volumes: fields.list("volumes", volume),
        volumes_from: fields.texts("volumes_from"),
        net: ["net", "network_mode"]
            .into_iter()
            .find_map(|key| fields.get(key, net))
            .unwrap_or_default(),
        host_pid: fields.get("pid", host).unwrap_or_default(),
        host_ipc: fields.get("ipc", host).unwrap_or_default(),
        host_uts: fields.get("uts", host).unwrap_or_default(),
        privileged: fields.get("privileged", Cursor::bool).unwrap_or_default(),
        restart: fields.get("restart", restart).unwrap_or_default(),
        user: fields.get("user", scalar),
        working_dir: fields.get("working_dir", text),
        hostname: fields.get("hostname", text),
        cap_add: fields.texts("cap_add"),
        read_only: fields.get("read_only", Cursor::bool).unwrap_or_default(),
        tmpfs: fields.texts("tmpfs"),
        ports: fields.list("ports", scalar),
    };
    // What people have in such files and what makes no difference here.
    for key in ["log_driver", "log_opt", "stdin_open", "tty"] {
        if let Some(at) = fields.field(key) {
            at.note(Kind::NotSupported, "not supported");
        }
    }
    fields.not_supported(&[
        "build",
        "cap_drop",
        "cgroup_parent",
        "container_name",
        "cpu_shares",
        "cpuset",
        "devices",
        "dns",
        "dns_search",
        "env_file",
        "expose",
        "extends",
        "external_links",
        "extra_hosts",
        "links",
        "mem_limit",
        "memswap_limit",
        "security_opt",
        "shm_size",
        "stop_signal",
        "ulimits",
        "volume_driver",
    ]);
    // A service of a newer version of Compose runs as far as it is understood.
    fields.finish();
    Some(service)
}

fn image(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    let last = text.rsplit('/').next().unwrap_or(text);
    if text.is_empty() || text.starts_with('/') || text.contains(char::is_whitespace) {
        return at.expected("the name of an image");
    }
    Some(if last.contains(':') { text.to_owned() } else { format!("{text}:latest") })
}

/// A list of words, or a text in which blanks separate them and quotes keep them together.
fn words(at: &Cursor<'_>) -> Option<Vec<String>> {
    if matches!(at.node().value, Value::List(_)) {
        return Some(at.list(scalar));
    }
    let text = at.text()?;
    match split(text) {
        Some(words) => Some(words),
        None => at.wrong("a quote has no end"),
    }
}

/// Words of a command as a shell would split them, without anything else that a shell does.
fn split(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// `NAME=value` as a list, or as a map.
fn pairs(at: &Cursor<'_>) -> Option<Vec<String>> {
    if matches!(at.node().value, Value::List(_)) {
        return Some(at.list(scalar));
    }
    let entries = at.entries()?.into_iter();
    Some(
        entries
            .filter_map(|(name, at)| {
                let null = at.node().is_null();
                Some(if null { name.to_owned() } else { format!("{name}={}", scalar(&at)?) })
            })
            .collect(),
    )
}

fn volume(at: &Cursor<'_>) -> Option<Volume> {
    let text = at.text()?;
    let mut parts = text.split(':');
    let source = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or(source);
    let options = parts.next().unwrap_or("rw");
    let is_plain = |path: &str| path.starts_with('/') && !path.split('/').any(|part| part == "..");
    if !is_plain(source) || !is_plain(target) || parts.next().is_some() {
        return at.expected("/HOST:/CONTAINER[:ro], absolute paths without \"..\"");
    }
    let mut volume =
        Volume { source: source.into(), target: target.into(), read_only: false, shared: false };
    for option in options.split(',') {
        match option {
            "ro" => volume.read_only = true,
            "shared" | "rshared" => volume.shared = true,
            "rw" | "private" | "rprivate" | "slave" | "rslave" | "z" | "Z" => {}
            _ => return at.wrong(format_args!("unknown option {option:?} of a volume")),
        }
    }
    Some(volume)
}

fn net(at: &Cursor<'_>) -> Option<Net> {
    at.one_of(&[("bridge", Net::Bridge), ("host", Net::Host), ("none", Net::None)])
}

fn restart(at: &Cursor<'_>) -> Option<Restart> {
    // YAML takes the word `no` for a truth value, and people write it.
    if let Value::Scalar(scalar) = &at.node().value {
        match scalar.text.split(':').next() {
            Some("no" | "false") => return Some(Restart::No),
            Some("on-failure") => return Some(Restart::OnFailure),
            Some("always" | "unless-stopped") => return Some(Restart::Always),
            _ => {}
        }
    }
    at.expected("no, always, unless-stopped or on-failure")
}

#[cfg(test)]
mod tests {
    use kiln_cloudconfig::{Limits, Notes, document};

    use super::*;

    fn read(text: &str) -> (Option<Service>, String) {
        let limits = Limits::default();
        let (root, findings) = document::read("c.yml", text.as_bytes(), &limits);
        assert!(findings.is_empty(), "{findings}");
        let notes = Notes::new(&limits);
        let found = notes.cursor(&root).whole(|at| service("web", at));
        (found, notes.finish().to_string())
    }

    #[test]
    fn both_ways_of_writing_lists_are_read() {
        let (one, said) = read(
            "image: nginx\ncommand: nginx -g 'daemon off;'\nenvironment: {A: 1, B: null}\nlabels: [x=1]\n\
             volumes: ['/a', '/b:/c:ro']\nrestart: no\nports: [80, '443:443']\n",
        );
        assert_eq!(said, "");
        let one = one.unwrap();
        assert_eq!(one.image, "nginx:latest");
        assert_eq!(one.command.unwrap(), ["nginx", "-g", "daemon off;"]);
        assert_eq!(one.environment, ["A=1", "B"]);
        assert_eq!(one.labels["x"], "1");
        assert_eq!((one.volumes[0].target.as_str(), one.volumes[1].read_only), ("/a", true));
        assert_eq!((one.restart, one.ports), (Restart::No, vec!["80".into(), "443:443".into()]));
    }

    #[test]
    fn what_is_wrong_is_told_and_what_is_not_supported_does_no_harm() {
        let (found, said) = read("image: a:1\nlinks: [b]\ntty: true\n");
        assert!(found.is_some());
        assert_eq!(said, "c.yml:2: links: not supported\nc.yml:3: tty: not supported");
        for (text, expected) in [
            ("command: a\n", "c.yml:1: image is missing"),
            ("image: a\nvolumes: [../a:/b]\n", "c.yml:2: volumes[0]: expected /HOST:/CONTAINER"),
            (
                "image: a\nnet: hots\n",
                "c.yml:2: net: unknown value \"hots\", did you mean \"host\"?",
            ),
            ("image: a\ncommand: \"a 'b\"\n", "c.yml:2: command: a quote has no end"),
            ("image: a\nimages: b\n", "c.yml:2: unknown key \"images\", did you mean \"image\"?"),
        ] {
            let (found, said) = read(text);
            assert!(found.is_none() && said.starts_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let split = |text| super::split(text);
        assert_eq!(
            split(r#"a "b \" c" 'd\e' f\ g """#).unwrap(),
            ["a", "b \" c", "d\\e", "f g", ""]
        );
        assert_eq!(split("a 'b"), None);
        assert_eq!(split(" "), Some(Vec::new()));
    }
}
