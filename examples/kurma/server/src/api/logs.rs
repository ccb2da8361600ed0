//! `GET /containers/logs`: what an app has said, and says.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use kurma_client::rpc::{Fault, INTERNAL_ERROR, INVALID_PARAMS};
use serde::Deserialize;

use super::{Api, Refused, Shared, aside};

/// How often a file is looked at that somebody follows.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a piece.
const PIECE: usize = 64 << 10;
/// Bytes from the end in which the last lines are looked for.
const WINDOW: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pod: String,
    app: Option<String>,
    lines: Option<u64>,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn answer(
    State(api): Shared,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(error) => {
            return Refused(Fault::new(INVALID_PARAMS, error.body_text())).into_response();
        }
    };
    let follow = asked.follow;
    let shared = Arc::clone(&api);
    let begun = aside(move || {
        let (place, pod, app) = shared.pods.app(&asked.pod, asked.app.as_deref())?;
        let reader = Reader::new(place.log(&app), asked.lines);
        let reader =
            reader.map_err(|error| Fault::new(INTERNAL_ERROR, format!("logs: {error}")))?;
        Ok((reader, pod.uuid))
    });
    match begun.await {
        Ok((reader, uuid)) => {
            let state = (reader, api, uuid, follow);
            let pieces =
                futures_util::stream::try_unfold(state, |(reader, api, uuid, follow)| async move {
                    let next = next(reader, &api, &uuid, follow).await?;
                    io::Result::Ok(next.map(|(bytes, reader)| (bytes, (reader, api, uuid, follow))))
                });
            ([("content-type", "text/plain; charset=utf-8")], Body::from_stream(pieces))
                .into_response()
        }
        Err(fault) => Refused(fault).into_response(),
    }
}

/// The next piece; none at the end, which whoever follows reaches with the pod's.
async fn next(
    mut reader: Reader,
    api: &Arc<Api>,
    uuid: &str,
    follow: bool,
) -> io::Result<Option<(Bytes, Reader)>> {
    loop {
        let pods = Arc::clone(&api.pods);
        let uuid = uuid.to_owned();
        let (back, read, live) = tokio::task::spawn_blocking(move || {
            // asked before: what it says until then is read
            let live = follow && pods.get(&uuid).is_ok_and(|pod| pod.state.is_live());
            let read = reader.read();
            (reader, read, live)
        })
        .await
        .map_err(io::Error::other)?;
        reader = back;
        let bytes = read?;
        if !bytes.is_empty() {
            return Ok(Some((bytes.into(), reader)));
        }
        if !live {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A file that grows, and may be replaced by a new one.
#[derive(Debug)]
struct Reader {
    path: PathBuf,
    file: Option<File>,
}

impl Reader {
    fn new(path: PathBuf, lines: Option<u64>) -> io::Result<Self> {
        let mut file = open(&path)?;
        if let (Some(file), Some(lines)) = (&mut file, lines) {
            let begin = last(file, lines)?;
            file.seek(SeekFrom::Start(begin))?;
        }
        Ok(Self { path, file })
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            self.file = open(&self.path)?;
        }
        loop {
            let Some(file) = &mut self.file else { return Ok(Vec::new()) };
            let mut piece = vec![0; PIECE];
            let count = file.read(&mut piece)?;
            piece.truncate(count);
            if count > 0 {
                return Ok(piece);
            }
            let number = |about: Metadata| (about.dev(), about.ino());
            let own = number(file.metadata()?);
            match open(&self.path)? {
                Some(new) if number(new.metadata()?) != own => self.file = Some(new),
                _ => return Ok(Vec::new()),
            }
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last lines of a file begin.
fn last(file: &mut File, lines: u64) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(WINDOW);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
    let ends =
        bytes.iter().enumerate().rev().filter(|(at, byte)| **byte == b'\n' && at + 1 < bytes.len());
    let count = usize::try_from(lines).unwrap_or(usize::MAX);
    let begin = match count.checked_sub(1) {
        None => bytes.len(),
        Some(before) => ends.map(|(at, _)| at + 1).nth(before).unwrap_or_default(),
    };
    Ok(from.saturating_add(begin as u64))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_lines_begin() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\ntwo\nthree\n").unwrap();
        for (lines, begin) in [(0, 14), (1, 8), (2, 4), (3, 0), (9, 0)] {
            assert_eq!(last(&mut file, lines).unwrap(), begin, "{lines}");
        }
    }

    #[test]
    fn a_new_file_is_read_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.log");
        let mut reader = Reader::new(path.clone(), None).unwrap();
        assert_eq!(reader.read().unwrap(), b"");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(reader.read().unwrap(), b"one\n");
        std::fs::rename(&path, directory.path().join("app.log.1")).unwrap();
        assert_eq!(reader.read().unwrap(), b"");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(reader.read().unwrap(), b"two\n");
    }
}
