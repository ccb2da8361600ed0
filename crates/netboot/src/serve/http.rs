//! Files, with ranges, and scripts over HTTP and HTTPS.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path as Part;
use axum::http::{Request, StatusCode, header::CONTENT_TYPE};
use axum::response::IntoResponse as _;
use axum::routing::get;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kiln_dhcp_wire::HardwareAddr;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower_http::services::ServeDir;
use tower_service::Service as _;

use super::plain::{self, After};
use super::{End, Error, Event, Files, GLANCE, Sink};

/// How long the head of a request may take, and nothing may come between two; shaking hands as well.
pub(super) const HEAD: Duration = Duration::from_secs(15);
/// How long what was sent may stay without an answer of the other end's kernel.
const UNANSWERED: u32 = 60_000;
/// Bytes that are read of a file at once.
const PIECE: usize = 256 << 10;
/// Connections at once; who comes then waits.
const CONNECTIONS: usize = 512;

/// The script of a machine; `None` where there is none for it.
type Scripts = Arc<dyn Fn(HardwareAddr) -> Option<String> + Send + Sync>;

/// What a server shows of itself.
#[derive(Clone)]
pub struct Tls(Arc<rustls::ServerConfig>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads certificates and their key, in PEM.
    ///
    /// # Errors
    /// [`Error::Tls`].
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, Error> {
        let fail = |path: &Path, problem: String| Error::Tls { path: path.to_owned(), problem };
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect);
        let chain = chain.map_err(|error| fail(certificates, error.to_string()))?;
        let own =
            PrivateKeyDer::from_pem_file(key).map_err(|error| fail(key, error.to_string()))?;
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config
            .with_single_cert(chain, own)
            .map_err(|error| fail(certificates, error.to_string()))?;
        Ok(Self(Arc::new(config)))
    }
}

/// A server of files and scripts.
pub struct Http {
    listener: TcpListener,
    files: Files,
    scripts: Scripts,
    tls: Option<Tls>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Http {
    /// Listens at an address. `scripts` says what `/boot/MAC.ipxe` is for a machine, where no file of that name
    /// is there.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn bind(
        address: SocketAddr,
        files: Files,
        scripts: impl Fn(HardwareAddr) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let listener = TcpListener::bind(address);
        let listener = listener.and_then(|it| it.set_nonblocking(true).map(|()| it));
        let listener =
            listener.map_err(|source| Error::Listen { address, interface: None, source })?;
        Ok(Self { listener, files, scripts: Arc::new(scripts), tls: None })
    }

    /// Serves over TLS alone.
    #[must_use]
    pub fn secured(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr().map_err(|source| Error::Socket { what: "HTTP", source })
    }

    /// Serves until the end is asked for.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn serve(self, end: &End, sink: &Sink) -> Result<(), Error> {
        let fail = |source| Error::Socket { what: "HTTP", source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(fail)?;
        runtime.block_on(self.accept(end, sink)).map_err(fail)
    }

    async fn accept(self, end: &End, sink: &Sink) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let router = router(&self.files, &self.scripts);
        let tls = self.tls.map(|tls| TlsAcceptor::from(tls.0));
        let turns = Arc::new(Semaphore::new(CONNECTIONS));
        while !end.is_asked() {
            let accepted = async {
                let turn = Arc::clone(&turns).acquire_owned().await.map_err(io::Error::other)?;
                listener.accept().await.map(|(stream, peer)| (stream, peer, turn))
            };
            let (stream, peer, turn) = match tokio::time::timeout(GLANCE, accepted).await {
                Ok(Ok(accepted)) => accepted,
                Ok(Err(error)) => {
                    // no descriptor is left, or somebody went at once
                    sink(&Event::Problem(format!("take a connection: {error}")));
                    tokio::time::sleep(GLANCE).await;
                    continue;
                }
                Err(_) => continue,
            };
            let _ = stream.set_nodelay(true);
            let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNANSWERED);
            let (router, sink, tls) = (router.clone(), Arc::clone(sink), tls.clone());
            let files = self.files.clone();
            tokio::spawn(async move {
                match tls {
                    None => {
                        if plain::serve(&stream, peer, &files, &sink).await == After::Other {
                            answer(stream, peer, router, sink).await;
                        }
                    }
                    Some(tls) => match tokio::time::timeout(HEAD, tls.accept(stream)).await {
                        Ok(Ok(stream)) => answer(stream, peer, router, sink).await,
                        Ok(Err(error)) => {
                            sink(&Event::Problem(format!("{}: no TLS: {error}", peer.ip())));
                        }
                        Err(_) => {}
                    },
                }
                drop(turn);
            });
        }
        Ok(())
    }
}

fn router(files: &Files, scripts: &Scripts) -> Router {
    let scripts = Arc::clone(scripts);
    let generated = move |Part(name): Part<String>| {
        let text = name.strip_suffix(".ipxe").and_then(|mac| scripts(mac.parse().ok()?));
        async move {
            match text {
                Some(text) => ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
    };
    // What nobody has as a file is made; what nobody makes is not there.
    let mut router = Router::new().route("/boot/{name}", get(generated));
    for directory in files.directories().iter().rev() {
        let service = ServeDir::new(directory).with_buf_chunk_size(PIECE);
        let below = router;
        router = Router::new()
            .fallback_service(service.append_index_html_on_directories(false).fallback(below));
    }
    router
}

async fn answer<S>(stream: S, peer: SocketAddr, router: Router, sink: Sink)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (mut router, sink) = (router.clone(), Arc::clone(&sink));
        async move {
            let what = format!("{} {}", request.method(), request.uri().path());
            let answer = router.call(request.map(Body::new)).await;
            if let Ok(answer) = &answer {
                let status = answer.status().as_u16();
                sink(&Event::Requested { peer: peer.ip(), what, status });
            }
            answer
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // who sends garbage is told so by hyper, and gone
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}
