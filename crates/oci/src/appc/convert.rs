//! What an image of one format says in the words of the other, and what has no words there.

use std::collections::{BTreeMap, BTreeSet};

use kiln_tree::{Tree, TreePath};

use super::app::{App, MountPoint, Port, is_variable};
use super::container;
use super::image::ImageManifest;
use super::names::{Identifier, Name};
use crate::bundle::Users;
use crate::error::shown;
use crate::image::{Image, Settings};
use crate::{Error, Layer, Result, json};

/// Annotations that have a name in both formats: here, and in annotations.md of the OCI.
const ANNOTATIONS: [(&str, &str); 4] = [
    ("authors", "org.opencontainers.image.authors"),
    ("created", "org.opencontainers.image.created"),
    ("documentation", "org.opencontainers.image.documentation"),
    ("homepage", "org.opencontainers.image.url"),
];
/// What is a label here.
const VERSION: &str = "org.opencontainers.image.version";
/// What is the image's name here.
const TITLE: &str = "org.opencontainers.image.title";

/// Processors by appc's names (aci.md, `arch`) and by Go's, with their variant.
const PROCESSORS: [(&str, &str, &str); 9] = [
    ("amd64", "amd64", ""),
    ("i386", "386", ""),
    ("aarch64", "arm64", ""),
    ("aarch64", "arm64", "v8"),
    ("armv6l", "arm", "v6"),
    ("armv7l", "arm", "v7"),
    ("ppc64", "ppc64", ""),
    ("ppc64le", "ppc64le", ""),
    ("s390x", "s390x", ""),
];

/// The manifest that says what an image of the OCI does, and what it cannot say. `root` is the image's
/// tree, which says what the user's groups are; with the manifest it becomes an image by
/// [`write()`](super::write()).
///
/// # Errors
/// [`Error::Invalid`] for a user that is not in the root, [`Error::Document`] for an `/etc/passwd` of more
/// than 1 MiB.
pub fn from_image(
    image: &Image,
    root: &Tree,
    name: Identifier,
) -> Result<(ImageManifest, Vec<String>)> {
    let mut left = unknown_keys(image)?;
    let run = image.config.config().clone().unwrap_or_default();
    let (entrypoint, cmd) = (run.entrypoint().clone(), run.cmd().clone());
    let (entrypoint, cmd) = (entrypoint.unwrap_or_default(), cmd.unwrap_or_default());
    if !entrypoint.is_empty() && !cmd.is_empty() {
        left.push(
            "config.Cmd: it is one with the entry point, of which nobody replaces a part".into(),
        );
    }
    let mut app = App::new(entrypoint.into_iter().chain(cmd).collect());
    user(run.user().as_deref().unwrap_or_default(), &Users::of_tree(root)?, &mut app)?;
    if let Some(path) = run.working_dir().as_ref().filter(|path| !path.is_empty()) {
        if super::document::path(path).is_ok() {
            app.working_directory = Some(path.clone());
        } else {
            left.push(format!("config.WorkingDir: {}", text(path)));
        }
    }
    for pair in run.env().iter().flatten() {
        match pair.split_once('=') {
            Some((name, value)) if is_variable(name) => {
                app.environment.insert(name.into(), value.into());
            }
            _ => left.push(format!("config.Env: {}", text(pair))),
        }
    }
    // Both are objects in JSON, so their order means nothing.
    let sorted = |list: &Option<Vec<String>>| -> BTreeSet<String> {
        list.iter().flatten().cloned().collect()
    };
    for exposed in &sorted(run.exposed_ports()) {
        match port(exposed) {
            // A port may be there twice, in two ways to write it.
            Some(port) if app.ports.iter().all(|other| other.name != port.name) => {
                app.ports.push(port);
            }
            Some(_) => {}
            None => left.push(format!("config.ExposedPorts: {}", text(exposed))),
        }
    }
    let mut places = BTreeSet::new();
    for volume in &sorted(run.volumes()) {
        match mount_point(volume, &mut places) {
            Some(point) => app.mount_points.push(point),
            None => left.push(format!("config.Volumes: {}", text(volume))),
        }
    }
    if let Some(labels) = run.labels() {
        app.user_labels = labels.clone().into_iter().collect();
    }
    if let Some(signal) = run.stop_signal() {
        left.push(format!("config.StopSignal: {}", text(signal)));
    }
    let mut manifest = ImageManifest::new(name);
    manifest.app = Some(app);
    platform(image, &mut manifest, &mut left);
    annotations(image, &mut manifest, &mut left);
    if image.config.history().as_ref().is_some_and(|history| !history.is_empty()) {
        left.push("history".into());
    }
    Ok((manifest, left))
}

/// An image of the OCI that says what a manifest does, and what it cannot say. `root` is the tree that
/// `layers` make: the image as it is rendered, all that it depends upon with it.
///
/// # Errors
/// [`Error::Manifest`] for a user who is the owner of a file that is not there; as [`Image::build`].
pub fn to_image(
    manifest: &ImageManifest,
    root: &Tree,
    layers: Vec<Layer>,
) -> Result<(Image, Vec<String>)> {
    let (settings, left) = settings(manifest, root)?;
    Ok((Image::build(layers, &settings)?, left))
}

fn settings(manifest: &ImageManifest, root: &Tree) -> Result<(Settings, Vec<String>)> {
    let mut left = Vec::new();
    let mut settings = Settings::default();
    settings.annotations.insert(TITLE.into(), manifest.name.to_string());
    for (name, value) in &manifest.annotations {
        let known = ANNOTATIONS.iter().find(|(own, _)| *own == name.as_str());
        let name = known.map_or(name.as_str(), |(_, other)| other);
        settings.annotations.insert(name.into(), value.clone());
    }
    settings.author = manifest.annotations.get("authors").cloned();
    for (name, value) in &manifest.labels {
        match name.as_str() {
            "os" => settings.os.clone_from(value),
            "arch" => match PROCESSORS.iter().find(|(own, ..)| own == value) {
                Some((_, processor, variant)) => {
                    settings.architecture = (*processor).to_owned();
                    settings.variant = (!variant.is_empty()).then(|| (*variant).to_owned());
                }
                None => left.push(format!("labels: arch={}", text(value))),
            },
            name => {
                let key = if name == "version" { VERSION } else { name };
                if settings.annotations.insert(key.into(), value.clone()).is_some() {
                    left.push(format!("annotations: {key}, for there is a label with its name"));
                }
            }
        }
    }
    if let Some(app) = &manifest.app {
        run(app, root, &manifest.name, &mut settings, &mut left)?;
    }
    Ok((settings, left))
}

fn run(
    app: &App,
    root: &Tree,
    name: &Identifier,
    settings: &mut Settings,
    left: &mut Vec<String>,
) -> Result<()> {
    settings.entrypoint.clone_from(&app.exec);
    settings.env = app.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    settings.working_dir.clone_from(&app.working_directory);
    settings.labels.clone_from(&app.user_labels);
    settings.user = Some(if app.user.starts_with('/') || app.group.starts_with('/') {
        let identity = container::identity(app, root)?.map_err(|problem| Error::Manifest {
            origin: name.to_string(),
            problems: vec![problem],
        })?;
        format!("{}:{}", identity.uid, identity.gid)
    } else {
        format!("{}:{}", app.user, app.group)
    });
    let mut exposed = BTreeSet::new();
    for port in &app.ports {
        let known = matches!(port.protocol.as_str(), "tcp" | "udp" | "sctp");
        if !known || port.socket_activated {
            left.push(format!(
                "app.ports: {} ({}, socketActivated {})",
                port.name,
                text(&port.protocol),
                port.socket_activated
            ));
        }
        if known {
            let last = port.port.saturating_add(port.count.saturating_sub(1));
            exposed.extend((port.port..=last).map(|number| format!("{number}/{}", port.protocol)));
        }
    }
    settings.exposed_ports = exposed.into_iter().collect();
    for point in &app.mount_points {
        settings.volumes.push(point.path.clone());
        if point.read_only {
            left.push(format!("app.mountPoints: {} is readOnly", point.name));
        }
    }
    let is_there = |there: bool, what: &str, left: &mut Vec<String>| {
        if there {
            left.push(format!("app.{what}"));
        }
    };
    is_there(!app.supplementary_gids.is_empty(), "supplementaryGIDs", left);
    is_there(app.pre_start.is_some(), "eventHandlers: pre-start", left);
    is_there(app.post_stop.is_some(), "eventHandlers: post-stop", left);
    is_there(!app.user_annotations.is_empty(), "userAnnotations", left);
    left.extend(app.isolators.iter().map(|isolator| format!("app.isolators: {}", isolator.name())));
    Ok(())
}

fn text(text: &str) -> String {
    shown(text.as_bytes())
}

/// Keys of the configuration that the specification of the OCI does not have, as health checks.
fn unknown_keys(image: &Image) -> Result<Vec<String>> {
    const KNOWN: [&str; 10] = [
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        // Of Windows alone.
        "ArgsEscaped",
    ];
    let document: serde_json::Value = json::parse("configuration", &image.config_bytes)?;
    let run = document.get("config").and_then(serde_json::Value::as_object);
    let keys = run.into_iter().flatten().filter(|(_, value)| match value {
        serde_json::Value::Null => false,
        serde_json::Value::String(text) => !text.is_empty(),
        serde_json::Value::Bool(set) => *set,
        _ => true,
    });
    Ok(keys
        .filter(|(key, _)| !KNOWN.contains(&key.as_str()))
        .map(|(key, _)| format!("config.{}", text(key)))
        .collect())
}

/// What is one text there is a user, a group and further groups here (config.md, "User").
fn user(said: &str, users: &Users, app: &mut App) -> Result<()> {
    let identity = users.identity(said)?;
    let (user, group) = match said.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (said, None),
    };
    // Here it is a number, a name, or the path of a file.
    let is_name = |text: &&str| !text.is_empty() && !text.starts_with('/');
    app.user = Some(user).filter(is_name).map_or_else(|| identity.uid.to_string(), str::to_owned);
    app.group = group.filter(is_name).map_or_else(|| identity.gid.to_string(), str::to_owned);
    app.supplementary_gids = identity.groups;
    Ok(())
}

/// `80`, `53/udp`, `8000-8010/tcp`.
fn port(exposed: &str) -> Option<Port> {
    let (numbers, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    let count = last.checked_sub(first)?.checked_add(1).filter(|_| first > 0)?;
    let protocol = protocol.to_ascii_lowercase();
    let name = Name::new(format!("{first}-{protocol}")).ok()?;
    let mut port = Port::new(name, protocol, first);
    port.count = count;
    Some(port)
}

/// A place for a volume, with a name that is made of its path.
fn mount_point(path: &str, places: &mut BTreeSet<String>) -> Option<MountPoint> {
    let place =
        TreePath::new(path).ok().filter(|place| path.starts_with('/') && !place.is_root())?;
    let words = String::from_utf8_lossy(place.as_bytes()).to_ascii_lowercase();
    let words: Vec<&str> = words
        .split(|letter: char| !letter.is_ascii_lowercase() && !letter.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .collect();
    let stem: String = std::iter::once("volume").chain(words).collect::<Vec<_>>().join("-");
    let stem = stem.get(..200).unwrap_or(&stem).trim_end_matches('-').to_owned();
    let mut name = stem.clone();
    let mut number = 1_usize;
    while !places.insert(name.clone()) {
        number = number.saturating_add(1);
        name = format!("{stem}-{number}");
    }
    Some(MountPoint::new(Name::new(name).ok()?, path))
}

fn platform(image: &Image, manifest: &mut ImageManifest, left: &mut Vec<String>) {
    let (os, processor) = (image.config.os().to_string(), image.config.architecture().to_string());
    let variant = image.config.variant().clone().unwrap_or_default();
    let labels = &mut manifest.labels;
    let mut label = |name: &str, value: &str| {
        if let Ok(name) = Identifier::new(name) {
            labels.insert(name, value.into());
        }
    };
    let known = PROCESSORS.iter().find(|(_, go, other)| *go == processor && *other == variant);
    match (os.as_str(), known) {
        ("linux", Some((own, ..))) => {
            label("os", "linux");
            label("arch", own);
        }
        ("linux", None) => {
            label("os", "linux");
            left.push(format!("architecture: {} {}", text(&processor), text(&variant)));
        }
        _ => left.push(format!("os: {}", text(&os))),
    }
}

fn annotations(image: &Image, manifest: &mut ImageManifest, left: &mut Vec<String>) {
    let mut all: BTreeMap<String, String> =
        image.manifest.annotations().clone().unwrap_or_default().into_iter().collect();
    let own = |key: &str| {
        let (own, _) = ANNOTATIONS.iter().find(|(_, other)| *other == key)?;
        Identifier::new(*own).ok()
    };
    let [authors, created, ..] = ANNOTATIONS.map(|(_, other)| other);
    for (key, value) in [(authors, image.config.author()), (created, image.config.created())] {
        if let Some(value) = value {
            all.entry(key.into()).or_insert_with(|| value.clone());
        }
    }
    for (key, value) in all {
        let is_address = value.starts_with("http://") || value.starts_with("https://");
        let own = own(&key)
            .filter(|own| is_address || !matches!(own.as_str(), "homepage" | "documentation"));
        match own.map_or_else(|| Identifier::new(key.as_str()), Ok) {
            Ok(_) if key == TITLE && value == manifest.name.as_str() => {}
            Ok(_) if key == VERSION => {
                if let Ok(version) = Identifier::new("version") {
                    manifest.labels.insert(version, value);
                }
            }
            Ok(own) => {
                manifest.annotations.insert(own, value);
            }
            Err(_) => left.push(format!("annotations: {}", text(&key))),
        }
    }
}
