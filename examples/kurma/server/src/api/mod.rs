//! What the server is asked, and by whom.

mod audit;
mod enter;
mod info;
mod logs;
mod rpc;
mod schema;
mod serve;
mod upgrade;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kurma_client::rpc::{self as codes, Fault};
use tokio::sync::Semaphore;

use crate::caller::{Caller, Role};
use crate::images::Images;
use crate::pods::Pods;
use audit::Audit;

pub use serve::{Bound, Listener, bind, serve};

/// How requests are taken.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where it is written down who did what. Default: /var/kurma/audit.log.
    pub audit: PathBuf,
    /// Bytes of the longest image. Default: 8 GiB.
    pub image: u64,
    /// Images that are taken in at once. Default: 4.
    pub uploads: usize,
    /// Connections at once; who comes then waits. Default: 512.
    pub connections: usize,
    /// How long nothing may come of what was begun. Default: 30 seconds.
    pub patience: Duration,
    /// Whether what is written down is said as well. Default: no.
    pub debug: bool,
    /// The program that replaces the machine's system. It is called with `upgrade`, options and `-`, which is
    /// the archive at its standard input, and with `restart`. Default: none, the system is not replaced from here.
    pub upgrades: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            audit: "/var/kurma/audit.log".into(),
            image: 8 << 30,
            uploads: 4,
            connections: 512,
            patience: Duration::from_secs(30),
            debug: false,
            upgrades: None,
        }
    }
}

/// Bytes of the longest call.
const CALL: usize = 1 << 20;

/// What all requests have in common.
#[derive(Debug)]
struct Api {
    pods: Arc<Pods>,
    images: Arc<Images>,
    audit: Audit,
    uploads: Semaphore,
    /// Held while the machine's system is replaced.
    upgrade: Semaphore,
    options: Options,
}

type Shared = State<Arc<Api>>;
type Asking = Extension<Caller>;

/// A fault as an answer of HTTP.
#[derive(Debug)]
struct Refused(Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            codes::NOT_FOUND => StatusCode::NOT_FOUND,
            codes::DENIED => StatusCode::FORBIDDEN,
            codes::CONFLICT => StatusCode::CONFLICT,
            codes::INVALID_PARAMS | codes::INVALID_REQUEST | codes::PARSE_ERROR => {
                StatusCode::BAD_REQUEST
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, json(&self.0)).into_response()
    }
}

/// A value as a body.
fn json<T: serde::Serialize>(value: &T) -> impl IntoResponse + use<T> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    ([("content-type", "application/json")], text)
}

/// Does what takes long, or waits for a disk, beside what serves others.
async fn aside<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(what).await;
    done.unwrap_or_else(|error| Err(Fault::new(codes::INTERNAL_ERROR, error.to_string())))
}

/// Sees that somebody may change something.
fn operator(caller: &Caller) -> Result<(), Fault> {
    match caller.role {
        Role::Operator => Ok(()),
        _ => {
            let what = format!("{} may look, and change nothing", caller.name);
            Err(Fault::new(codes::DENIED, what))
        }
    }
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/rpc", post(rpc::answer))
        .route("/info", get(|| async { json(&info::read()) }))
        .route("/schema", get(|| async { ([("content-type", "application/json")], schema::TEXT) }))
        .route("/images/create", post(upload::take))
        .route("/system/upgrade", post(upgrade::take))
        .route("/containers/logs", get(logs::answer))
        .route("/containers/enter", get(enter::answer))
        .fallback(|| async {
            refused(StatusCode::NOT_FOUND, "there is nothing here; /schema says what is")
        })
        .method_not_allowed_fallback(|| async {
            refused(StatusCode::METHOD_NOT_ALLOWED, "this is not asked for so; /schema says how")
        })
        // what comes is counted where it is taken
        .layer(DefaultBodyLimit::disable())
        // who is refused before it has sent all reads why
        .layer(axum::middleware::map_request(|request: axum::extract::Request| async {
            request.map(|body| axum::body::Body::new(kurma_client::Lingering::new(body)))
        }))
        .with_state(api)
}

fn refused(status: StatusCode, what: &str) -> Response {
    (status, json(&Fault::new(i64::from(status.as_u16()), what))).into_response()
}
