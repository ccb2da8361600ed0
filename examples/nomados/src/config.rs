//! Nomad's configuration, looked at before it goes into an image: whether it parses, whether it
//! holds secrets, whether it fits what the image provides.

use serde_json::Value;

/// Where the image keeps Nomad's data: the mount point of a data disk, or a tmpfs.
pub const DATA_DIR: &str = "/var/lib/nomad";

/// The last word of the name of a setting whose value is a secret: `encrypt`, `replication_token`,
/// `http_auth`, but not `token_ttl` or `authoritative_region`.
const SECRETS: &[&str] =
    &["auth", "encrypt", "password", "private_key", "secret", "secret_id", "token"];

/// Everything that is wrong with a configuration, each in a sentence.
#[must_use]
pub fn problems(name: &str, text: &[u8], allow_secrets: bool) -> Vec<String> {
    let config: Value = match serde_json::from_slice(text) {
        Ok(config) => config,
        Err(error) => {
            return vec![format!(
                "{name}:{}:{}: {error}; the file must be JSON",
                error.line(),
                error.column()
            )];
        }
    };
    let Some(settings) = config.as_object() else {
        return vec![format!("{name}: it must be a JSON object")];
    };
    let mut problems = Vec::new();
    if !allow_secrets {
        let mut secrets = Vec::new();
        find_secrets(&config, "", &mut secrets);
        problems.extend(secrets.iter().map(|at| {
            format!(
                "{name}: {at} is a secret, and whoever has the image could read it; set it at run \
                 time, or say --allow-secrets"
            )
        }));
    }
    match settings.get("data_dir").and_then(Value::as_str) {
        Some(path) if path.trim_end_matches('/') == DATA_DIR => {}
        Some(path) => problems.push(format!(
            "{name}: data_dir is {path}, which is no mount point of this image; set it to {DATA_DIR}"
        )),
        None => problems.push(format!("{name}: data_dir is missing; set it to {DATA_DIR}")),
    }
    problems
}

fn find_secrets(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(settings) => {
            for (key, value) in settings {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                let name = key.to_ascii_lowercase();
                let named = |word: &&str| {
                    name.strip_suffix(*word)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
                };
                let secret = SECRETS.iter().any(named)
                    && value.as_str().is_some_and(|text| !text.is_empty());
                if secret {
                    found.push(at);
                } else {
                    find_secrets(value, &at, found);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_secrets(item, &format!("{at}[{index}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_is_fine() {
        assert_eq!(problems("init.json", include_bytes!("../etc/init.json"), false), [""; 0]);
    }

    #[test]
    fn secrets_are_named_by_their_path_and_allowed_on_demand() {
        let text = r#"{"data_dir": "/var/lib/nomad", "server": {"encrypt": "a2V5"},
            "vault": [{"token": "s.x", "enabled": true}], "acl": {"token_ttl": "30s"},
            "authoritative_region": "global", "tls": {"key_file": "/x"}}"#;
        let found = problems("init.json", text.as_bytes(), false);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("server.encrypt") && found[1].contains("vault[0].token"));
        assert!(problems("init.json", text.as_bytes(), true).is_empty());
    }

    #[test]
    fn what_does_not_parse_is_placed() {
        let found = problems("etc/init.json", b"{\n  \"a\": ,\n}", false);
        assert!(found[0].starts_with("etc/init.json:2:8:"), "{found:?}");
        assert_eq!(problems("x", b"[]", false).len(), 1);
        assert!(problems("x", br#"{"data_dir": "/tmp"}"#, false)[0].contains("/var/lib/nomad"));
    }
}
