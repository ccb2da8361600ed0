//! How each supervisor is told of its services.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Result;

/// A supervisor, and how it is asked to do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisor {
    /// `kiln-supervisor run`
    Kiln,
    /// The same, with a control group for each service
    KilnGroups,
    /// No supervisor: what starting programs costs at least
    Floor,
    /// The same, with a control group for each program
    FloorGroups,
    /// dinit, `restart = true`
    Dinit,
    /// dinit, `smooth-recovery = true`
    DinitSmooth,
    /// s6-svscan and an s6-supervise each
    S6,
    /// runsvdir and a runsv each
    Runit,
}

/// Where a service's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Null,
    /// To files below `/work/logs`, of so many bytes each, three of them kept.
    Files(u64),
}

/// What is supervised.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What the probe is told.
    pub argument: String,
    /// Where its output goes.
    pub output: Output,
}

impl Supervisor {
    /// Its name in the table.
    #[must_use]
    pub const fn who(self) -> &'static str {
        match self {
            Self::Kiln => "kiln-supervisor",
            Self::KilnGroups => "kiln-supervisor, a cgroup each",
            Self::Floor => "vfork and exec alone",
            Self::FloorGroups => "vfork and exec, a cgroup each",
            Self::Dinit => "dinit",
            Self::DinitSmooth => "dinit, smooth recovery",
            Self::S6 => "s6",
            Self::Runit => "runit",
        }
    }

    /// Writes what it reads into `work`, which it sees as `/work`; gives its command.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn prepare(self, work: &Path, services: &[Service]) -> Result<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        fs::create_dir_all(work.join("logs"))?;
        Ok(match self {
            Self::Kiln => {
                fs::write(work.join("services.toml"), toml(services)?)?;
                words(&["/work/kiln-supervisor", "run", "--quiet", "/work/services.toml"])
            }
            Self::KilnGroups => {
                let mut command = Self::Kiln.prepare(work, services)?;
                command.extend(words(&["--cgroup", super::world::GROUPS]));
                command
            }
            Self::Floor | Self::FloorGroups => {
                let first = services.first().ok_or("no services")?;
                let rest = first.argument.strip_prefix("stay:").ok_or("the floor only stays")?;
                let mut argument = format!("floor:{rest}:{}", services.len());
                if self == Self::FloorGroups {
                    argument = format!("{argument}:{}", super::world::GROUPS);
                }
                words(&["/work/probe", &argument])
            }
            Self::Dinit | Self::DinitSmooth => {
                dinit(&work.join("dinit"), services, self == Self::DinitSmooth)?;
                words(&[
                    "/work/dinit-program",
                    "-o",
                    "-q",
                    "-d",
                    "/work/dinit",
                    "-p",
                    "/work/dinitctl",
                    "boot",
                ])
            }
            Self::S6 => {
                directories(&work.join("services"), services, |name, bytes| {
                    format!("s6-log:n3:s{bytes}:/work/logs/{name}")
                })?;
                words(&["s6-svscan", "-c", "3000", "/work/services"])
            }
            Self::Runit => {
                directories(&work.join("services"), services, |name, _| {
                    format!("svlogd:/work/logs/{name}")
                })?;
                words(&["runsvdir", "-P", "/work/services"])
            }
        })
    }
}

fn toml(services: &[Service]) -> Result<String> {
    let mut text = String::new();
    for Service { name, argument, output } in services {
        let log = match output {
            Output::Null => "\"null\"".to_owned(),
            Output::Files(bytes) => format!(
                "{{ file = {{ path = \"/work/logs/{name}\", max-bytes = {bytes}, keep = 3 }} }}"
            ),
        };
        // The peers' pace: their delay does not grow. A run of a second is a healthy one.
        write!(
            text,
            "[[service]]\nname = \"{name}\"\ncommand = [\"/work/probe\", \"{argument}\"]\n\
             log = {log}\nbackoff = {{ initial = \"200ms\", healthy = \"1s\" }}\n\n"
        )?;
    }
    Ok(text)
}

fn dinit(directory: &Path, services: &[Service], smooth: bool) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut boot = "type = internal\n".to_owned();
    for Service { name, argument, output } in services {
        let mut text = format!("type = process\ncommand = /work/probe {argument}\n");
        text += if smooth { "smooth-recovery = true\n" } else { "restart = true\n" };
        // Its limit (3 in 10 s) would end what lives for a second; the delay stays its own.
        text += "restart-limit-count = 1000\n";
        if matches!(output, Output::Files(_)) {
            writeln!(text, "logfile = /work/logs/{name}")?;
        }
        fs::write(directory.join(name), text)?;
        writeln!(boot, "waits-for = {name}")?;
    }
    fs::write(directory.join("boot"), boot)?;
    Ok(())
}

/// A directory each with the script `run`, as s6 and runit read them.
fn directories(
    directory: &Path,
    services: &[Service],
    log: impl Fn(&str, u64) -> String,
) -> Result<()> {
    for Service { name, argument, output } in services {
        let own = directory.join(name);
        fs::create_dir_all(&own)?;
        script(&own.join("run"), argument)?;
        if let Output::Files(bytes) = output {
            fs::create_dir_all(own.join("log"))?;
            fs::create_dir_all(directory.with_file_name("logs").join(name))?;
            script(&own.join("log/run"), &format!("exec:{}", log(name, *bytes)))?;
        }
    }
    Ok(())
}

/// A script for which the probe is the interpreter: no shell has a part in the figures.
fn script(path: &Path, argument: &str) -> Result<()> {
    fs::write(path, format!("#!/work/probe {argument}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
