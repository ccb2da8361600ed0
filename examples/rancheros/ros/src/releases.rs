//! A list of versions to choose from (`rancher.upgrade.url`), as the original's: `available`, images of
//! installers, and `current`, the one that people should have.

use kiln_cloudconfig::datasource::http::{self, Bounds};
use kiln_cloudconfig::{Cursor, Limits, Notes, document};

use crate::files;
use crate::reach::Reach;
use crate::schema::Rancher;

/// No list is longer.
const LARGEST: usize = 1 << 20;

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Releases {
    pub(crate) current: Option<String>,
    pub(crate) available: Vec<String>,
}

/// The list of a configuration; none where it names none.
///
/// # Errors
/// A sentence: it cannot be had, or it is wrong.
pub(crate) fn of(rancher: &Rancher) -> Result<Option<Releases>, String> {
    let Some(url) = &rancher.upgrade.url else { return Ok(None) };
    let bytes = match url.strip_prefix("file://") {
        Some(path) => files::read(path).map_err(|error| format!("{url}: {error}"))?,
        None => {
            let reach = Reach { authorities: rancher.authorities.clone() };
            let found = http::get(url, LARGEST, &Bounds::default(), Some(&reach));
            found.map_err(|error| error.to_string())?
        }
    };
    let bytes = bytes.ok_or_else(|| format!("{url}: there is no such list"))?;
    parse(url, &bytes).map(Some)
}

/// Reads a list. One that is wrong anywhere is nothing to install from.
fn parse(url: &str, bytes: &[u8]) -> Result<Releases, String> {
    let limits = Limits::default();
    let (root, mut findings) = document::read(url, bytes, &limits);
    let notes = Notes::new(&limits);
    let found = list(&notes.cursor(&root)).unwrap_or_default();
    findings.append(notes.finish());
    if findings.is_empty() { Ok(found) } else { Err(findings.to_string().trim_end().to_owned()) }
}

fn list(at: &Cursor<'_>) -> Option<Releases> {
    let mut fields = at.fields()?;
    let image = |at: &Cursor<'_>| match at.text()? {
        // it becomes a word of a command
        text if !text.is_empty()
            && !text.starts_with('-')
            && !text.contains(char::is_whitespace) =>
        {
            Some(text.to_owned())
        }
        _ => at.expected("the name of an image"),
    };
    let releases = Releases {
        current: fields.get("current", image),
        available: fields.list("available", image),
    };
    fields.finish();
    Some(releases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_from_a_file_and_refused_if_it_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("releases.yml");
        let mut rancher = Rancher::default();
        assert_eq!(of(&rancher), Ok(None));
        let url = format!("file://{}", path.display());
        rancher.upgrade.url = Some(url.clone());
        assert_eq!(of(&rancher), Err(format!("{url}: there is no such list")));
        // as the original's documentation has it
        let text =
            "current: rancher/os:v1.0.0\navailable:\n- rancher/os:v1.0.0\n- rancher/os:v0.9.2\n";
        std::fs::write(&path, text).unwrap();
        let name = |version: &str| format!("rancher/os:{version}");
        let expected = Releases {
            current: Some(name("v1.0.0")),
            available: vec![name("v1.0.0"), name("v0.9.2")],
        };
        assert_eq!(of(&rancher), Ok(Some(expected)));
        for (text, why) in [
            ("current: --privileged\n", ":1: current: expected the name of an image"),
            ("available: [a, {b: c}]\n", ":1: available[1]: expected"),
            ("<html>", ":1: expected"),
        ] {
            let said = parse("list", text.as_bytes()).unwrap_err();
            assert!(said.starts_with(&format!("list{why}")), "{said}");
        }
    }
}
