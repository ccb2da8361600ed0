//! `POST /images/create`: an image comes in as a stream, of bounded length.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use kurma_client::Image;
use kurma_client::rpc::{CONFLICT, Fault, INTERNAL_ERROR, INVALID_REQUEST};
use tokio::io::AsyncWriteExt as _;

use super::{Api, Asking, Refused, Shared, aside, operator, refused};

/// Why an image was not taken in.
enum Problem {
    Fault(Fault),
    Slow,
    Long,
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(super) async fn take(
    State(api): Shared,
    Extension(caller): Asking,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let promised = headers.get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse().ok());
    let taken = match operator(&caller) {
        Ok(()) => receive(&api, promised, body).await,
        Err(fault) => Err(Problem::Fault(fault)),
    };
    let taken = taken.map_err(|problem| match problem {
        Problem::Fault(fault) => (None, fault),
        Problem::Slow => {
            let what = format!("nothing came for {} s", api.options.patience.as_secs());
            (Some(StatusCode::REQUEST_TIMEOUT), Fault::new(INVALID_REQUEST, what))
        }
        Problem::Long => {
            let what = format!("an image has at most {} bytes", api.options.image);
            (Some(StatusCode::PAYLOAD_TOO_LARGE), Fault::new(INVALID_REQUEST, what))
        }
    });
    let whom = taken.as_ref().map(|image| format!("{} {}", image.name(), image.hash));
    let told = taken.as_ref().map_err(|(_, fault)| fault);
    api.audit.write(&caller, "Images.Create", whom.as_deref().unwrap_or_default(), told);
    match taken {
        Ok(image) => (StatusCode::CREATED, super::json(&image)).into_response(),
        Err((Some(status), fault)) => refused(status, &fault.message),
        Err((None, fault)) => Refused(fault).into_response(),
    }
}

async fn receive(api: &Arc<Api>, promised: Option<u64>, body: Body) -> Result<Image, Problem> {
    if promised.is_some_and(|bytes| bytes > api.options.image) {
        return Err(Problem::Long);
    }
    let Ok(_turn) = api.uploads.try_acquire() else {
        let what = "as many images come in as may; try again later";
        return Err(Fault::new(CONFLICT, what).into());
    };
    let failed =
        |error: std::io::Error| Fault::new(INTERNAL_ERROR, format!("keep what comes: {error}"));
    let images = Arc::clone(&api.images);
    let spool = aside(move || images.spool().map_err(failed)).await?;
    write(spool.as_file(), body, api.options.image, api.options.patience).await?;
    let images = Arc::clone(&api.images);
    Ok(aside(move || images.import(spool)).await?)
}

/// Writes what comes to a file.
async fn write(
    file: &std::fs::File,
    body: Body,
    most: u64,
    patience: Duration,
) -> Result<(), Problem> {
    let failed =
        |error: std::io::Error| Fault::new(INTERNAL_ERROR, format!("keep what comes: {error}"));
    let mut file = tokio::fs::File::from_std(file.try_clone().map_err(failed)?);
    let (mut body, mut count) = (body, 0_u64);
    loop {
        let frame =
            tokio::time::timeout(patience, body.frame()).await.map_err(|_| Problem::Slow)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Fault::new(INVALID_REQUEST, format!("the image does not come to its end: {error}"))
        })?;
        let Ok(bytes) = frame.into_data() else { continue };
        count = count.saturating_add(bytes.len() as u64);
        if count > most {
            return Err(Problem::Long);
        }
        file.write_all(&bytes).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(())
}
