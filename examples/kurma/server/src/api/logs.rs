//! `GET /containers/logs`: what an app has said, and says.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use kurma_client::rpc::{Fault, INTERNAL_ERROR, INVALID_PARAMS};
use serde::Deserialize;

use super::{Api, Refused, Shared, aside};
use crate::tail::Reader;

/// How often a file is looked at that somebody follows.
const PAUSE: Duration = Duration::from_millis(200);

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
