//! Nomad's configuration, looked at before it goes into an image: whether it parses, whether it
//! holds secrets, whether it fits what the image provides.

use serde_json::Value;

/// Where the image keeps Nomad's data: the mount point of a data disk, or a tmpfs.
pub const DATA_DIR: &str = "/var/lib/nomad";

/// Words in the name of a setting whose value is a secret.
const SECRET_WORDS: &[&str] = &["token", "encrypt", "secret", "password", "private_key", "auth"];
/// Settings that contain such a word and hold none.
const HARMLESS: &[&str] =
    &["encrypt_verify_incoming", "encrypt_verify_outgoing", "token_ttl", "token_role_ttl"];

/// Everything that is wrong with a configuration, each in a sentence.
#[must_use]
pub fn problems(name: &str, text: &str, allow_secrets: bool) -> Vec<String> {
    let config: Value = match serde_json::from_str(text) {
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
        Some(path) if path == DATA_DIR || path.starts_with(&format!("{DATA_DIR}/")) => {}
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
                let secret = SECRET_WORDS.iter().any(|word| name.contains(word))
                    && !HARMLESS.contains(&name.as_str())
                    && !name.ends_with("_file")
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
        assert_eq!(problems("init.json", include_str!("../etc/init.json"), false), [""; 0]);
    }

    #[test]
    fn secrets_are_named_by_their_path_and_allowed_on_demand() {
        let text = r#"{"data_dir": "/var/lib/nomad", "server": {"encrypt": "a2V5"},
            "vault": [{"token": "s.x", "enabled": true}], "acl": {"token_ttl": "30s"},
            "tls": {"key_file": "/x"}}"#;
        let found = problems("init.json", text, false);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("server.encrypt") && found[1].contains("vault[0].token"));
        assert!(problems("init.json", text, true).is_empty());
    }

    #[test]
    fn what_does_not_parse_is_placed() {
        let found = problems("etc/init.json", "{\n  \"a\": ,\n}", false);
        assert!(found[0].starts_with("etc/init.json:2:8:"), "{found:?}");
        assert_eq!(problems("x", "[]", false).len(), 1);
        assert!(problems("x", r#"{"data_dir": "/tmp"}"#, false)[0].contains("/var/lib/nomad"));
    }
}
