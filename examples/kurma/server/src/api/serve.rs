//! Sockets, and who is at their other ends.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tower_service::Service as _;

use super::audit::Audit;
use super::{Api, Options, router};
use crate::caller::{Caller, Role};
use crate::images::Images;
use crate::pods::Pods;

/// How long the head of a request may take, and nothing may come between two.
const HEAD: Duration = Duration::from_secs(15);
/// What the proxy of the remote interface says of who asks.
const CALLER: &str = "kurma-caller";
const ROLE: &str = "kurma-role";
/// How long is waited after the system had no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that is listened at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// Where it is.
    pub path: PathBuf,
    /// Whether who asks there asks from the machine itself, as who it is by its user: root may do everything,
    /// others may look. Else it is asked on behalf of somebody elsewhere.
    pub local: bool,
    /// The permission bits.
    pub mode: u32,
}

impl Listener {
    /// The machine's own socket.
    #[must_use]
    pub fn local(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), local: true, mode: 0o660 }
    }

    /// The socket for who asks on behalf of others.
    #[must_use]
    pub fn remote(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), local: false, mode: 0o600 }
    }

    fn bind(&self) -> io::Result<UnixListener> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        // made beside: nobody connects before it has its bits
        let beside = self.path.with_extension("new");
        let _ = fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(self.mode))?;
        fs::rename(&beside, &self.path)?;
        Ok(listener)
    }
}

/// A socket that is there.
#[derive(Debug)]
pub struct Bound {
    socket: UnixListener,
    local: bool,
}

/// Makes sockets. A runtime of tokio has to be there.
///
/// # Errors
/// A sentence: one cannot be made.
pub fn bind(listeners: &[Listener]) -> Result<Vec<Bound>, String> {
    let bind = |listener: &Listener| {
        let socket = listener.bind();
        let socket =
            socket.map_err(|error| format!("listen at {}: {error}", listener.path.display()))?;
        Ok(Bound { socket, local: listener.local })
    };
    listeners.iter().map(bind).collect()
}

/// Takes requests until `end` says so.
///
/// # Errors
/// A sentence: the audit's file cannot be opened.
pub async fn serve(
    pods: Arc<Pods>,
    images: Arc<Images>,
    listeners: Vec<Bound>,
    options: Options,
    end: watch::Receiver<bool>,
) -> Result<(), String> {
    let audit = Audit::new(&options.audit, options.debug)
        .map_err(|error| format!("open {}: {error}", options.audit.display()))?;
    let connections = Arc::new(Semaphore::new(options.connections));
    let (uploads, upgrade) = (Semaphore::new(options.uploads), Semaphore::new(1));
    let router = router(Arc::new(Api { pods, images, audit, uploads, upgrade, options }));
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        let (router, connections) = (router.clone(), Arc::clone(&connections));
        tasks.spawn(accept(listener.socket, listener.local, router, connections, end.clone()));
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn accept(
    socket: UnixListener,
    local: bool,
    router: Router,
    connections: Arc<Semaphore>,
    mut end: watch::Receiver<bool>,
) {
    loop {
        let Ok(turn) = Arc::clone(&connections).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = end.wait_for(|end| *end) => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let router = router.clone();
        tokio::spawn(async move {
            answer(stream, local, router).await;
            drop(turn);
        });
    }
}

/// Who is at the other end of the machine's own socket.
fn peer(stream: &UnixStream) -> Caller {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 => Caller::local("uid 0", Role::Operator),
        Ok(peer) => Caller::local(format!("uid {}", peer.uid()), Role::ReadOnly),
        Err(_) => Caller::local("nobody", Role::ReadOnly),
    }
}

/// On whose behalf something is asked. Without a word about it, it is a pod that was given the right to ask.
fn behalf(request: &Request<hyper::body::Incoming>) -> Caller {
    let said = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    match (said(CALLER), said(ROLE)) {
        (None, None) => Caller::remote("a pod", Role::Operator),
        (name, role) => {
            let role = role.and_then(Role::of).unwrap_or(Role::ReadOnly);
            Caller::remote(name.unwrap_or("somebody"), role)
        }
    }
}

async fn answer(stream: UnixStream, local: bool, router: Router) {
    let own = local.then(|| peer(&stream));
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let caller = own.clone().unwrap_or_else(|| behalf(&request));
        request.extensions_mut().insert(caller);
        let mut router = router.clone();
        async move { router.call(request.map(Body::new)).await }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // who sends garbage is told so by hyper, and gone
    let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}
