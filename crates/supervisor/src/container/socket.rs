//! A bundle's `config.json` with the service's notification socket in it.

use std::path::Path;

use serde_json::{Value, json};

use super::Error;
use super::bundle::{Bundle, bad};

/// Where the socket is when nothing else offers itself; both runtimes have theirs in that directory.
const USUAL: &str = "/run/notify/socket";
/// Its name in a directory that is empty at the container's start.
const NAME: &str = "notify-socket";
const VARIABLE: &str = "NOTIFY_SOCKET";

/// The text of a bundle's `config.json` with a socket of the host mounted in the container and named by
/// the variable `NOTIFY_SOCKET`, for another directory than the bundle's: what it has relative to that
/// is absolute.
///
/// # Errors
/// As of [`Bundle::judge`]; lists that are none, and paths that are no text.
pub fn with_socket(
    text: &[u8],
    path: &Path,
    bundle: &Bundle,
    socket: &Path,
) -> Result<Vec<u8>, Error> {
    Bundle::judge(text, path)?;
    let mut config: Value = serde_json::from_slice(text)
        .map_err(|source| Error::Json { path: path.to_owned(), source })?;
    let words = |key, what: &Path| {
        let absolute = std::path::absolute(what).ok();
        let text = absolute.and_then(|path| path.into_os_string().into_string().ok());
        text.ok_or_else(|| bad(path, key, format!("{} is not UTF-8", what.display())))
    };
    if let Some(root) = config.pointer_mut("/root/path") {
        *root = words("root.path", &bundle.root)?.into();
    }
    let place = place(&config);
    let mounts = list(&mut config, "", "mounts")
        .ok_or_else(|| bad(path, "mounts", "expected a list".to_owned()))?;
    for mount in mounts.iter_mut().filter(|mount| is_bind(mount)) {
        if let Some(source) = mount.get_mut("source")
            && let Some(relative) = source.as_str().filter(|text| !text.starts_with('/'))
        {
            *source = words("mounts", &bundle.directory.join(relative))?.into();
        }
    }
    mounts.push(json!({
        "destination": place,
        "type": "bind",
        "source": words("mounts", socket)?,
        "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
    }));
    let variables = list(&mut config, "/process", "env")
        .ok_or_else(|| bad(path, "process.env", "expected a list".to_owned()))?;
    let begin = format!("{VARIABLE}=");
    variables.retain(|entry| !entry.as_str().is_some_and(|entry| entry.starts_with(&begin)));
    variables.push((begin + &place).into());
    Ok(config.to_string().into_bytes())
}

/// A list within an object, made where there is none.
fn list<'a>(config: &'a mut Value, object: &str, key: &str) -> Option<&'a mut Vec<Value>> {
    let object = config.pointer_mut(object)?.as_object_mut()?;
    let list = object.entry(key).or_insert(Value::Null);
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut()
}

/// Where in the container: in a file system that is made for it, because what is not there of the way to
/// a mount is made in what is there.
fn place(config: &Value) -> String {
    let mounts = config.get("mounts").and_then(Value::as_array);
    let of = |mount: &Value, key| mount.get(key).and_then(Value::as_str).map(str::to_owned);
    let is_there = |directory: &str| {
        mounts.into_iter().flatten().any(|mount| {
            let there = of(mount, "destination").is_some_and(|it| Path::new(&it) == directory);
            there && of(mount, "type").as_deref() == Some("tmpfs")
        })
    };
    let directory = ["/run", "/dev"].into_iter().find(|directory| is_there(directory));
    directory.map_or_else(|| USUAL.to_owned(), |directory| format!("{directory}/{NAME}"))
}

fn is_bind(mount: &Value) -> bool {
    let options = mount.get("options").and_then(Value::as_array);
    let mut options = options.into_iter().flatten().filter_map(Value::as_str);
    mount.get("type").and_then(Value::as_str) == Some("bind")
        || options.any(|option| option == "bind" || option == "rbind")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(config: &Value) -> Result<Value, String> {
        let bundle = Bundle { directory: "/b".into(), root: "/b/rootfs".into() };
        let (path, socket) = (Path::new("/b/config.json"), Path::new("/run/c/web/notify"));
        let text = with_socket(config.to_string().as_bytes(), path, &bundle, socket);
        let text = text.map_err(|error| error.to_string())?;
        Bundle::judge(&text, path).unwrap();
        Ok(serde_json::from_slice(&text).unwrap())
    }

    fn plain() -> Value {
        json!({
            "ociVersion": "1.0.2",
            "process": { "args": ["/bin/x"], "cwd": "/" },
            "root": { "path": "rootfs", "readonly": true },
        })
    }

    #[test]
    fn a_container_has_the_socket_and_all_that_it_had() {
        let config = changed(&plain()).unwrap();
        let mount = json!({
            "destination": "/run/notify/socket",
            "type": "bind",
            "source": "/run/c/web/notify",
            "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
        });
        let mut expected = plain();
        expected["root"]["path"] = "/b/rootfs".into();
        expected["process"]["env"] = json!(["NOTIFY_SOCKET=/run/notify/socket"]);
        expected["mounts"] = json!([mount]);
        assert_eq!(config, expected);
    }

    #[test]
    fn what_was_relative_to_the_bundle_is_absolute() {
        let mut config = plain();
        config["mounts"] = json!([
            { "destination": "/a", "source": "data", "type": "bind" },
            { "destination": "/b", "source": "../x", "type": "none", "options": ["ro", "rbind"] },
            { "destination": "/c", "source": "/c", "options": ["bind"] },
            { "destination": "/proc", "source": "proc", "type": "proc" },
        ]);
        let config = changed(&config).unwrap();
        let sources: Vec<&str> = config["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["source"].as_str().unwrap())
            .collect();
        assert_eq!(sources, ["/b/data", "/b/../x", "/c", "proc", "/run/c/web/notify"]);
    }

    #[test]
    fn it_is_in_what_is_made_for_the_container() {
        let of = |mounts: Value| {
            let mut config = plain();
            config["mounts"] = mounts;
            let config = changed(&config).unwrap();
            let mount = config["mounts"].as_array().unwrap().last().unwrap();
            let variable = config["process"]["env"][0].as_str().unwrap();
            let place = variable.strip_prefix("NOTIFY_SOCKET=").unwrap().to_owned();
            assert_eq!(mount["destination"], place);
            place
        };
        let tmpfs = |at: &str| json!({ "destination": at, "type": "tmpfs", "source": "tmpfs" });
        assert_eq!(of(json!([tmpfs("/dev")])), "/dev/notify-socket");
        assert_eq!(of(json!([tmpfs("/dev"), tmpfs("/run/")])), "/run/notify-socket");
        let host = json!({ "destination": "/run", "type": "bind", "source": "/run" });
        assert_eq!(of(json!([host, tmpfs("/dev")])), "/dev/notify-socket");
        assert_eq!(of(Value::Null), "/run/notify/socket");
    }

    #[test]
    fn its_own_variable_gives_way() {
        let mut config = plain();
        config["process"]["env"] = json!(["A=1", "NOTIFY_SOCKET=/x", "NOTIFY_SOCKETS=2"]);
        let variables = &changed(&config).unwrap()["process"]["env"];
        let expected = json!(["A=1", "NOTIFY_SOCKETS=2", "NOTIFY_SOCKET=/run/notify/socket"]);
        assert_eq!(*variables, expected);
    }

    #[test]
    fn what_is_no_list_is_named() {
        for (object, key, shown) in [("", "mounts", "mounts"), ("/process", "env", "process.env")] {
            let mut config = plain();
            config.pointer_mut(object).unwrap()[key] = "x".into();
            let complaint = format!("/b/config.json: {shown}: expected a list");
            assert_eq!(changed(&config).unwrap_err(), complaint);
        }
    }
}
