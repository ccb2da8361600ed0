//! Who asks for what: what is answered here, and what is passed on.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use kurma_client::enroll::{Enroll, Wanted};
use kurma_client::rpc::{self, Fault};
use kurma_client::{Lingering, Role};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bounds::Error;
use crate::door::{Asking, Connection, Door, Who};
use crate::pass;
use crate::register::Register;

/// A body of either.
pub(crate) type Body = BoxBody<Bytes, Error>;

/// Bytes of the longest body that is read here.
const LONGEST: usize = 16 << 10;
const NOBODY: &str = "this server knows its clients by certificates: kurma enroll https://HOST --code CODE, with the code that it shows or that an operator asks for";

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut answer = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// A fault as an answer of HTTP.
pub(crate) fn fault(status: StatusCode, what: &str) -> Response<Body> {
    let code = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => rpc::DENIED,
        StatusCode::NOT_FOUND => rpc::NOT_FOUND,
        _ => i64::from(status.as_u16()),
    };
    json(status, &Fault::new(code, what))
}

fn status(fault: &Fault) -> StatusCode {
    match fault.code {
        rpc::NOT_FOUND => StatusCode::NOT_FOUND,
        rpc::DENIED => StatusCode::FORBIDDEN,
        rpc::CONFLICT => StatusCode::CONFLICT,
        rpc::INVALID_PARAMS | rpc::PARSE_ERROR => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What is answered to a request that came over a connection.
pub(crate) async fn to(
    connection: Arc<Connection>,
    request: Request<Lingering<Incoming>>,
) -> Response<Body> {
    let refuse = |status: StatusCode, name: Option<&str>, why: &str, said: &str| {
        connection.door.log.refused(connection.from, name, why);
        fault(status, said)
    };
    let is_own = request.uri().path() == "/enroll" || request.uri().path().starts_with("/enroll/");
    let asking = match &connection.who {
        Who::Nobody if request.uri().path() == "/enroll" && request.method() == Method::POST => {
            return enroll(&connection, request).await;
        }
        Who::Nobody => {
            return refuse(StatusCode::UNAUTHORIZED, None, "no certificate", NOBODY);
        }
        Who::Plain(asking) if is_own => {
            let said = "who is known is asked and changed over TLS only";
            return refuse(StatusCode::FORBIDDEN, Some(&asking.name), said, said);
        }
        Who::Plain(asking) => asking.clone(),
        Who::Known(own) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let said = if now.as_secs() >= own.until {
                "the certificate has expired"
            } else if connection.door.is_refused(&own.serial) {
                "the certificate has been revoked"
            } else {
                ""
            };
            if !said.is_empty() {
                return refuse(StatusCode::FORBIDDEN, Some(&own.name), said, said);
            }
            Asking { name: own.name.clone(), role: own.role }
        }
    };
    if is_own {
        return access(&connection, &asking, request).await;
    }
    pass::on(&connection, &asking, request).await
}

async fn read<T: DeserializeOwned>(door: &Door, body: Lingering<Incoming>) -> Result<T, Fault> {
    let read = Limited::new(body, LONGEST).collect();
    let bytes = match tokio::time::timeout(door.options.limits.head, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return Err(Fault::new(rpc::PARSE_ERROR, error.to_string())),
        Err(_) => return Err(Fault::new(rpc::PARSE_ERROR, "the request comes too slowly")),
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Fault::new(rpc::INVALID_PARAMS, error.to_string()))
}

/// Does something with the register, beside what serves others: it waits for a disk.
async fn with<T: Send + 'static>(
    door: &Arc<Door>,
    what: impl FnOnce(&mut Register) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let door = Arc::clone(door);
    let done = tokio::task::spawn_blocking(move || {
        let mut register = door.register.lock().unwrap_or_else(PoisonError::into_inner);
        what(&mut register)
    });
    done.await.unwrap_or_else(|error| Err(Fault::new(rpc::INTERNAL_ERROR, error.to_string())))
}

/// Answers what came of something, and writes it down.
fn told<T: Serialize>(
    connection: &Connection,
    caller: Option<&str>,
    did: &str,
    whom: &str,
    done: Result<T, Fault>,
) -> Response<Body> {
    let log = &connection.door.log;
    match done {
        Ok(value) => {
            log.did(connection.from, caller, did, whom);
            json(StatusCode::OK, &value)
        }
        Err(fault) => {
            log.refused(connection.from, caller, &format!("{did} {whom}: {}", fault.message));
            json(status(&fault), &fault)
        }
    }
}

async fn enroll(
    connection: &Arc<Connection>,
    request: Request<Lingering<Incoming>>,
) -> Response<Body> {
    let door = &connection.door;
    let (name, done) = match read::<Enroll>(door, request.into_body()).await {
        Ok(ask) => {
            let name = ask.name.clone();
            (name, with(door, move |register| register.enroll(&ask, SystemTime::now())).await)
        }
        Err(fault) => (String::new(), Err(fault)),
    };
    told(connection, None, "enroll", &name, done)
}

/// What is about who is known.
async fn access(
    connection: &Arc<Connection>,
    asking: &Asking,
    request: Request<Lingering<Incoming>>,
) -> Response<Body> {
    let door = &connection.door;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let caller = Some(asking.name.as_str());
    if method == Method::POST && path == "/enroll" {
        return enroll(connection, request).await;
    }
    if method == Method::GET && path == "/enroll/clients" {
        return match with(door, |register| Ok(register.clients())).await {
            Ok(clients) => json(StatusCode::OK, &clients),
            Err(fault) => json(status(&fault), &fault),
        };
    }
    let whom = path.strip_prefix("/enroll/clients/").map(str::to_owned);
    let is_known = method == Method::POST && path == "/enroll/codes"
        || method == Method::DELETE && whom.is_some();
    if !is_known {
        return fault(StatusCode::NOT_FOUND, "there is nothing here that is asked for so");
    }
    if asking.role != Role::Operator {
        let said = format!("{} may look, and change nothing", asking.name);
        door.log.refused(connection.from, caller, &format!("{method} {path}: {said}"));
        return fault(StatusCode::FORBIDDEN, &said);
    }
    if let Some(name) = whom {
        let asked = name.clone();
        let done = with(door, move |register| register.revoke(&asked)).await;
        door.changed();
        return told(connection, caller, "revoke", &name, done);
    }
    let lasting = door.options.lasting;
    let (role, done) = match read::<Wanted>(door, request.into_body()).await {
        Ok(Wanted { role }) => {
            let now = SystemTime::now();
            (role.as_str(), with(door, move |register| register.code(role, lasting, now)).await)
        }
        Err(fault) => ("", Err(fault)),
    };
    told(connection, caller, "code", role, done)
}
