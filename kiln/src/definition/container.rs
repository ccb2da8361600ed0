//! What a container of an image is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Placed;
use super::decode::{Notes, Section};

/// What a container of an image is started with, and what the image is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Container {
    /// The name that it gets, with a tag. Default: the definition's name, and its version or `latest`.
    pub reference: Option<Placed<String>>,
    /// The definition of the image that it begins with: what is there too is in that one's layers.
    pub base: Option<Placed<PathBuf>>,
    /// The program, and the first of its arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that whoever starts it may give others for.
    pub command: Vec<String>,
    /// Variables of the environment.
    pub env: BTreeMap<String, Placed<String>>,
    /// The user, by name or number. Default: root.
    pub user: Option<Placed<String>>,
    /// The working directory.
    pub directory: Option<Placed<String>>,
    /// Labels.
    pub labels: BTreeMap<String, Placed<String>>,
    /// Ports that something listens on (`80/tcp`).
    pub ports: Vec<Placed<String>>,
    /// Directories whose content is no part of the image.
    pub volumes: Vec<Placed<String>>,
    /// The signal that ends it. Default: what the runtime sends.
    pub stop_signal: Option<Placed<String>>,
    /// Isolators of appc by their names: what a container may use and do. Other formats have none.
    pub isolators: Option<Placed<Isolators>>,
}

/// Isolators by name, as JSON.
pub type Isolators = BTreeMap<String, serde_json::Value>;

pub(super) fn container(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Container {
    let words = |list: Vec<Placed<String>>| list.into_iter().map(|word| word.value).collect();
    let container = Container {
        reference: section.string(notes, "reference"),
        base: section
            .string(notes, "base")
            .map(|base| Placed { value: base.value.into(), at: base.at }),
        entrypoint: words(section.strings(notes, "entrypoint")),
        command: words(section.strings(notes, "command")),
        env: section.dictionary(notes, "env").into_iter().collect(),
        user: section.string(notes, "user"),
        directory: section.string(notes, "directory"),
        labels: section.dictionary(notes, "labels").into_iter().collect(),
        ports: section.strings(notes, "ports"),
        volumes: section.strings(notes, "volumes"),
        stop_signal: section.string(notes, "stop-signal"),
        isolators: section
            .table(notes, "isolators")
            .and_then(|isolators| isolators.rest(notes, &[])),
    };
    section.finish(notes);
    if let Some(reference) = &container.reference
        && !is_reference(reference)
    {
        let text =
            format!("reference {:?} is not NAME:TAG, as in \"example/web:1\"", reference.value);
        notes.note(reference.at, text);
    }
    for (what, path) in container
        .directory
        .iter()
        .map(|path| ("directory", path))
        .chain(container.volumes.iter().map(|path| ("volume", path)))
    {
        if !path.starts_with('/') {
            notes.note(path.at, format!("{what} {:?} is no absolute path", path.value));
        }
    }
    container
}

/// The name and the tag of Docker's image specification: lower-case parts with separators between them.
fn is_reference(text: &str) -> bool {
    let Some((name, tag)) = text.rsplit_once(':') else { return false };
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/:".contains(&b);
    let is_tag = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let parts = name.split('/').all(|part| {
        let ends = [part.bytes().next(), part.bytes().last()];
        ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
    });
    parts
        && name.bytes().all(is_name)
        && (1..=128).contains(&tag.len())
        && tag.bytes().all(is_tag)
        && !tag.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Definition;

    fn read(text: &str) -> Result<Definition, String> {
        let text = format!("name = \"web\"\n{text}");
        Definition::parse(&text, "image.toml".as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_container_is_read_and_its_image_is_made_by_default() {
        let text = "[container]\nreference = \"example/web:1\"\nentrypoint = [\"/bin/web\", \"-f\"]\n\
                    env = { A = \"1\" }\nvolumes = \"/data\"\n";
        let definition = read(text).unwrap();
        assert_eq!(definition.container.entrypoint, ["/bin/web", "-f"]);
        assert_eq!(definition.container.env["A"].value, "1");
        assert_eq!(definition.formats[0].value.name(), "oci");
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        for (text, expected) in [
            ("reference = \"web\"", "image.toml:3:13: reference \"web\" is not NAME:TAG"),
            ("reference = \"Web:1\"", "image.toml:3:13: reference \"Web:1\" is not NAME:TAG"),
            ("directory = \"data\"", "image.toml:3:13: directory \"data\" is no absolute path"),
            ("entry = \"/a\"", "image.toml:3:1: unknown key \"entry\" [container]"),
        ] {
            let error = read(&format!("[container]\n{text}\n")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn references() {
        for good in ["a:1", "rancher/os-console:v2.0", "localhost:5000/a/b_c:x"] {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["a", "a:", ":1", "/a:1", "a/:1", "A:1", "a:-1", "a b:1"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
