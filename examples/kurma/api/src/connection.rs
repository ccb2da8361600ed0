//! Connections: taken, made secure, served.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kurma_client::Lingering;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::answer;
use crate::authority::Certified;
use crate::bounds::Taken;
use crate::door::{Connection, Door, Who};
use crate::unknown::Ticket;

/// How long is waited after the system had no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
/// How long who was refused may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// After how long without a word it is asked whether the other end is still there, how often and how many times.
const ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// The first byte of TLS: a record of a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"code\":400,\"message\":\"this is TLS: https://\"}";

pub(crate) async fn accept(
    door: Arc<Door>,
    socket: TcpListener,
    is_secure: bool,
    goes_on: mpsc::Sender<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = door.ends() => return,
        };
        let Ok((stream, from)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (door, goes_on) = (Arc::clone(&door), goes_on.clone());
        // here, in the order in which they have come: who came last is not the one that makes room
        let ticket = is_secure.then(|| door.unknown.enter());
        tokio::spawn(async move {
            // what cannot be set is not missed
            let _ = stream.set_nodelay(true);
            let _ = keep(&stream);
            if let Some(ticket) = ticket {
                secure(door, stream, from, ticket, goes_on).await;
            } else {
                let who = Who::plain(from.ip());
                known(door, stream, from, who, goes_on).await;
            }
        });
    }
}

fn keep(stream: &TcpStream) -> rustix::io::Result<()> {
    let (after, every, times) = ALIVE;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, after)?;
    sockopt::set_tcp_keepintvl(stream, every)?;
    sockopt::set_tcp_keepcnt(stream, times)
}

/// Sees who is there, as long as there is room for those of whom it is not known.
async fn secure(
    door: Arc<Door>,
    stream: TcpStream,
    from: SocketAddr,
    mut ticket: Ticket,
    goes_on: mpsc::Sender<()>,
) {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(door.options.limits.handshake, shake(&door, stream)) => shaken,
        () = ticket.room() => return door.log.refused(from, None, "too many others shake hands"),
        () = door.ends() => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return door.log.refused(from, None, &why),
        Err(_) => return door.log.refused(from, None, "no handshake for too long"),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    match shown.map(|certificate| Certified::read(certificate)) {
        Some(Ok(own)) => {
            drop(ticket);
            known(door, stream, from, Who::Known(own), goes_on).await;
        }
        Some(Err(why)) => door.log.refused(from, None, &why),
        None => {
            let visit = door.options.limits.visit;
            let log = Arc::clone(&door);
            tokio::select! {
                _ = tokio::time::timeout(visit, serve(door, stream, from, Who::Nobody, goes_on)) => {}
                () = ticket.room() => log.log.refused(from, None, "too many others are unknown"),
            }
        }
    }
}

/// Serves somebody who is known, if there is room.
async fn known<S>(door: Arc<Door>, stream: S, from: SocketAddr, who: Who, goes_on: mpsc::Sender<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Ok(_turn) = Arc::clone(&door.known).try_acquire_owned() else {
        let name = match &who {
            Who::Nobody => None,
            Who::Known(own) => Some(own.name.as_str()),
            Who::Plain(asking) => Some(asking.name.as_str()),
        };
        return door.log.refused(from, name, "too many connections");
    };
    serve(door, stream, from, who, goes_on).await;
}

/// Shakes hands; else says why not, to both.
async fn shake(door: &Door, mut stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first == [HANDSHAKE] => {}
        Ok(0) => return Err("no word".to_owned()),
        Ok(_) => {
            if first.first().is_some_and(u8::is_ascii_uppercase) {
                let _ = stream.write_all(NO_TLS).await;
            }
            linger(stream).await;
            return Err("no TLS".to_owned());
        }
        Err(error) => return Err(error.to_string()),
    }
    let shaken = TlsAcceptor::from(door.tls()).accept(stream).into_fallible().await;
    match shaken {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            linger(stream).await;
            Err(reason(&error))
        }
    }
}

/// Why hands were not shaken.
fn reason(error: &io::Error) -> String {
    use rustls::{CertificateError as Wrong, Error};

    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(Wrong::UnknownIssuer | Wrong::BadSignature)) => {
            "a certificate of another authority".to_owned()
        }
        Some(Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. })) => {
            "an expired certificate".to_owned()
        }
        Some(Error::InvalidCertificate(other)) => format!("a bad certificate: {other}"),
        Some(other) => format!("no handshake: {other}"),
        None => format!("no handshake: {error}"),
    }
}

/// Lets the other end read what it was told, before it hears that nobody listens.
async fn linger(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut bytes = [0; 1 << 10];
    let read = async { while matches!(stream.read(&mut bytes).await, Ok(1..)) {} };
    let _ = tokio::time::timeout(LINGER, read).await;
}

async fn serve<S>(door: Arc<Door>, stream: S, from: SocketAddr, who: Who, goes_on: mpsc::Sender<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = door.options.limits;
    let tunnel = Arc::new(AtomicBool::new(false));
    let stream = Taken::new(stream, limits.idle, Arc::clone(&tunnel));
    let changes = door.changes();
    let connection = Connection { door, from, who, tunnel, changes, _goes_on: goes_on };
    let connection = Arc::new(connection);
    let own = Arc::clone(&connection);
    let service = service_fn(move |request| {
        let own = Arc::clone(&own);
        async move {
            Ok::<_, std::convert::Infallible>(answer::to(own, request.map(Lingering::new)).await)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        // who sends garbage is told so by hyper, and gone
        _ = served.as_mut() => return,
        () = connection.over() => served.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(limits.end, served).await;
}
