//! What the initramfs knows of the root that it leads to.

use std::path::Path;

use kiln_ramroot::Kind;
use serde::Deserialize;

use crate::files;

const SETTINGS: &str = "/etc/kiln/ramroot.toml";
/// The keys that lists are believed by.
pub(super) const KEYS: &str = "/etc/kiln/ramroot.pub";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Whose roots are taken.
    pub(super) system: String,
    /// From which version on.
    pub(super) version: String,
    /// Where they lie, unless the command line says so.
    pub(super) server: Option<String>,
}

impl Settings {
    pub(super) fn read() -> Result<Self, String> {
        let text =
            files::read(Path::new(SETTINGS)).map_err(|error| format!("{SETTINGS}: {error}"))?;
        let text = text.ok_or_else(|| {
            format!(
                "{SETTINGS}: there is none: this initramfs was not made for a root that is fetched"
            )
        })?;
        toml::from_str(&text).map_err(|error| format!("{SETTINGS}: {error}"))
    }

    /// Where the root is.
    pub(super) fn root(&self, wanted: Option<&str>) -> Result<String, String> {
        if let Some(root) = wanted {
            return Ok(root.to_owned());
        }
        let endings = Kind::ALL.map(Kind::ending).into_iter().chain(["xz", "gz", "zst"]);
        let mut inside = endings.map(|ending| format!("/ramroot.{ending}"));
        if let Some(path) = inside.find(|path| Path::new(path).exists()) {
            return Ok(path);
        }
        let server = self.server.as_deref().ok_or(
            "which root? `ramroot=URL` on the command line says so; this initramfs has none and knows no server",
        )?;
        Ok(format!("{}/{}-root.{}", server.trim_end_matches('/'), self.system, Kind::TarXz))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_root_is() {
        let mut settings: Settings =
            toml::from_str("system = \"hashios\"\nversion = \"1\"").unwrap();
        assert_eq!(settings.root(Some("/x.tar")).unwrap(), "/x.tar");
        assert!(settings.root(None).unwrap_err().contains("which root?"));
        settings.server = Some("https://boot.example/".into());
        assert_eq!(settings.root(None).unwrap(), "https://boot.example/hashios-root.tar.xz");
        toml::from_str::<Settings>("system = \"a\"\nversion = \"1\"\nserv = \"\"").unwrap_err();
    }
}
