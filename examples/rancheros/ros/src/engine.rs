//! The command of the user's engine: a function of the configuration.

use crate::schema::Docker;

/// Where it listens in any case: the system waits for it there.
pub(crate) const SOCKET: &str = "unix:///run/docker.sock";

/// The engine's program and arguments.
pub(crate) fn command(docker: &Docker) -> Vec<String> {
    let mut words = vec!["/usr/sbin/dockerd".to_owned()];
    if docker.args.is_empty() {
        let mut option = |name: &str, value: &str| words.push(format!("--{name}={value}"));
        option("host", SOCKET);
        docker.host.iter().for_each(|host| option("host", host));
        option("group", "docker");
        option("data-root", docker.graph.as_deref().unwrap_or("/var/lib/docker"));
        option("exec-root", "/run/docker");
        option("pidfile", "/run/docker.pid");
        let optional = [
            ("bip", &docker.bip),
            ("bridge", &docker.bridge),
            ("log-driver", &docker.log_driver),
            ("storage-driver", &docker.storage_driver),
        ];
        for (name, value) in optional {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                option(name, value);
            }
        }
        for (name, value) in &docker.log_opts {
            option("log-opt", &format!("{name}={value}"));
        }
        docker.insecure_registry.iter().for_each(|it| option("insecure-registry", it));
        docker.registry_mirror.iter().for_each(|it| option("registry-mirror", it));
        if let Some(yes) = docker.userland_proxy {
            option("userland-proxy", if yes { "true" } else { "false" });
        }
        for (given, name) in [(docker.debug, "--debug"), (docker.live_restore, "--live-restore")] {
            if given {
                words.push(name.into());
            }
        }
    }
    words.extend(docker.args.iter().chain(&docker.extra_args).cloned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_follow_from_the_configuration_or_are_given() {
        let mut docker = Docker { storage_driver: Some("overlay2".into()), ..Docker::default() };
        docker.log_opts.insert("max-size".into(), "25m".into());
        docker.extra_args = vec!["--dns=192.0.2.1".into()];
        docker.live_restore = true;
        insta::assert_snapshot!(command(&docker).join("\n"), @r"
        /usr/sbin/dockerd
        --host=unix:///run/docker.sock
        --group=docker
        --data-root=/var/lib/docker
        --exec-root=/run/docker
        --pidfile=/run/docker.pid
        --storage-driver=overlay2
        --log-opt=max-size=25m
        --live-restore
        --dns=192.0.2.1
        ");
        docker.args = vec!["--host=tcp://0.0.0.0:2375".into()];
        let expected = ["/usr/sbin/dockerd", "--host=tcp://0.0.0.0:2375", "--dns=192.0.2.1"];
        assert_eq!(command(&docker), expected);
    }
}
