//! Requests that are passed on, and what is answered to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kurma_client::Lingering;
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;

use crate::answer::{Body, fault};
use crate::bounds::Coming;
use crate::door::{Asking, Connection};

/// What the server is told of who asks. It may not be said by anybody else.
const CALLER: HeaderName = HeaderName::from_static("kurma-caller");
const ROLE: HeaderName = HeaderName::from_static("kurma-role");
/// How long the server may take to take a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Takes out what is for one connection alone (RFC 9110, section 7.6.1), and what only the proxy says.
fn clean(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", CALLER.as_str(), ROLE.as_str()] {
        headers.remove(name);
    }
}

/// What a connection is to be made, if it is.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let is_asked = asked
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| is_asked).cloned()
}

fn set(headers: &mut HeaderMap, kind: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, kind.clone());
}

fn unreachable(problem: impl ToString) -> Response<Body> {
    let what = format!("kurma-server does not answer: {}", problem.to_string());
    fault(StatusCode::BAD_GATEWAY, &what)
}

/// Passes a request on for somebody.
pub(crate) async fn on(
    connection: &Arc<Connection>,
    asking: &Asking,
    mut request: Request<Lingering<Incoming>>,
) -> Response<Body> {
    let options = &connection.door.options;
    if request.method() == Method::CONNECT {
        return fault(StatusCode::METHOD_NOT_ALLOWED, "nothing else is reached from here");
    }
    let path = request.uri().path_and_query().cloned();
    let Some(path) = path.filter(|path| path.as_str().starts_with('/')) else {
        return fault(StatusCode::BAD_REQUEST, "a request has a path");
    };
    let Ok(caller) = HeaderValue::from_str(&asking.name) else {
        return fault(StatusCode::FORBIDDEN, "the certificate's name is none");
    };
    let kind = upgrade(request.headers());
    let ours = kind.is_some().then(|| hyper::upgrade::on(&mut request));
    let (mut head, body) = request.into_parts();
    clean(&mut head.headers);
    head.uri = Uri::from(path);
    head.version = hyper::Version::HTTP_11;
    head.extensions.clear();
    head.headers.insert(HOST, HeaderValue::from_static("localhost"));
    head.headers.insert(CALLER, caller);
    head.headers.insert(ROLE, HeaderValue::from_static(asking.role.as_str()));
    if let Some(kind) = &kind {
        set(&mut head.headers, kind);
    }
    let body = Coming::new(body, options.limits.idle);

    let stream = tokio::time::timeout(CONNECT, UnixStream::connect(&options.server)).await;
    let stream = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return unreachable(error),
        Err(_) => return unreachable("it takes no connection"),
    };
    let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, server) = match made {
        Ok(made) => made,
        Err(error) => return unreachable(error),
    };
    tokio::spawn(server.with_upgrades());
    let mut answer = match sender.send_request(Request::from_parts(head, body)).await {
        Ok(answer) => answer,
        Err(error) => return unreachable(error),
    };
    let theirs = (answer.status() == StatusCode::SWITCHING_PROTOCOLS)
        .then(|| hyper::upgrade::on(&mut answer));
    let (mut head, body) = answer.into_parts();
    clean(&mut head.headers);
    head.extensions.clear();
    match (ours, theirs, kind) {
        (Some(ours), Some(theirs), Some(kind)) => {
            set(&mut head.headers, &kind);
            let connection = Arc::clone(connection);
            connection.tunnel.store(true, Ordering::Relaxed);
            tokio::spawn(async move {
                tokio::select! {
                    () = tunnel(ours, theirs) => {}
                    () = connection.over() => {}
                }
            });
        }
        (_, Some(_), _) => return unreachable("it changes the protocol, which nobody asked for"),
        _ => {}
    }
    Response::from_parts(head, body.map_err(Into::into).boxed())
}

/// Has bytes go both ways until both ends have ended.
async fn tunnel(ours: hyper::upgrade::OnUpgrade, theirs: hyper::upgrade::OnUpgrade) {
    let Ok((ours, theirs)) = tokio::try_join!(ours, theirs) else { return };
    // who breaks off has ended
    let _ = copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Own , kurma-role"),
            ("connection", "Upgrade"),
            ("x-own", "1"),
            ("upgrade", "websocket"),
            ("keep-alive", "1"),
            ("kurma-role", "operator"),
            ("Kurma-Role", "operator"),
            ("KURMA-CALLER", "root"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/plain"),
            ("sec-websocket-key", "x"),
        ] {
            headers
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        assert_eq!(upgrade(&headers).unwrap(), "websocket");
        clean(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "sec-websocket-key"]);
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert_eq!(upgrade(&headers), None);
    }
}
