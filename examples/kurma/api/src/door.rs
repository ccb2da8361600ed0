//! The door: sockets, certificates, and what all connections have in common.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kurma_client::enroll::Issued;
use kurma_client::{PORT, Role};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::authority::{Certified, is_name};
use crate::connection;
use crate::log::Log;
use crate::options::Options;
use crate::register::Register;
use crate::unknown::Unknown;

/// How often it is seen whether the server's certificate has to be made anew.
const LOOK: Duration = Duration::from_secs(3600);

/// On whose behalf something is passed on.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// Who is at the other end.
#[derive(Debug)]
pub(crate) enum Who {
    /// Somebody without a certificate.
    Nobody,
    /// Somebody with one of the authority's.
    Known(Certified),
    /// Somebody where everybody is an operator.
    Plain(Asking),
}

impl Who {
    pub(crate) fn plain(address: IpAddr) -> Self {
        let name = format!("plain {}", address.to_canonical());
        Self::Plain(Asking { name, role: Role::Operator })
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) door: Arc<Door>,
    pub(crate) from: SocketAddr,
    pub(crate) who: Who,
    /// Whether bytes go both ways with nothing between them any longer.
    pub(crate) tunnel: Arc<AtomicBool>,
    /// Whether something has changed about who is known since it was begun.
    pub(crate) changes: watch::Receiver<()>,
    /// Held until the last of it has ended.
    pub(crate) _goes_on: mpsc::Sender<()>,
}

impl Connection {
    /// Waits until it has to end: all have to, or who is there is known no longer. Who was not when it began is
    /// told so by the answer.
    pub(crate) async fn over(&self) {
        let (mut end, mut changes) = (self.door.end.subscribe(), self.changes.clone());
        loop {
            tokio::select! {
                _ = end.wait_for(|end| *end) => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            if matches!(&self.who, Who::Known(own) if self.door.is_refused(&own.serial)) {
                return;
            }
        }
    }
}

/// The way in from the network, opened but not served yet.
#[derive(Debug)]
pub struct Door {
    pub(crate) options: Options,
    pub(crate) log: Log,
    pub(crate) register: Mutex<Register>,
    pub(crate) unknown: Unknown,
    pub(crate) known: Arc<Semaphore>,
    tls: Mutex<Arc<ServerConfig>>,
    sockets: Mutex<Vec<(TcpListener, bool)>>,
    /// Where it is listened, TLS first.
    addresses: Vec<SocketAddr>,
    changes: watch::Sender<()>,
    end: watch::Sender<bool>,
}

fn config(register: &Register, log: &Log) -> Result<ServerConfig, String> {
    let (certificate, key, why) = register.server(SystemTime::now())?;
    if let Some(why) = why {
        log.says(&format!("the server has a new certificate: {why}"));
    }
    let wrong = |error: &dyn std::fmt::Display| format!("the server's certificate: {error}");
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| wrong(&error))?;
    let authority = register.authority.der.clone();
    // who has a code only knows the authority by it
    let chain = vec![certificate.map_err(|error| wrong(&error))?, authority.clone()];
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(|error| wrong(&error))?;
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| wrong(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&error))?;
    // every connection shows its certificate
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl Door {
    /// Opens the directory and the sockets.
    ///
    /// # Errors
    /// A sentence: a file or a socket is not what it should be.
    pub async fn open(options: Options) -> Result<Self, String> {
        if let Some(name) = options.names.iter().find(|name| !is_name(name)) {
            return Err(format!("{name:?} is neither a name of a machine nor an address"));
        }
        let log = Log::new(Arc::clone(&options.log));
        let register = Register::open(&options.directory, &options.names, SystemTime::now())?;
        let tls = config(&register, &log)?;
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        let secure = options.listen.iter().map(|address| (address, true));
        for (address, is_secure) in secure.chain(options.plain.iter().map(|one| (one, false))) {
            let fault = |error| format!("listen at {address}: {error}");
            let socket = TcpListener::bind(address).await.map_err(fault)?;
            addresses.push(socket.local_addr().map_err(fault)?);
            sockets.push((socket, is_secure));
        }
        Ok(Self {
            log,
            register: Mutex::new(register),
            unknown: Unknown::new(options.limits.unknown),
            known: Arc::new(Semaphore::new(options.limits.connections)),
            tls: Mutex::new(Arc::new(tls)),
            sockets: Mutex::new(sockets),
            addresses,
            changes: watch::channel(()).0,
            end: watch::channel(false).0,
            options,
        })
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is listened: as in the options, TLS first.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether nobody has ever been known here.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.register().is_new()
    }

    /// A code for an operator.
    ///
    /// # Errors
    /// A sentence: too many count already.
    pub fn code(&self) -> Result<Issued, String> {
        let issued = self.register().code(Role::Operator, self.options.lasting, SystemTime::now());
        issued.map_err(|fault| fault.message)
    }

    /// What somebody types to be known, at a host.
    #[must_use]
    pub fn invitation(&self, host: &str, code: &Issued) -> String {
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host.to_owned(),
        };
        let port = self.addresses.first().map_or(PORT, SocketAddr::port);
        let port = if port == PORT { String::new() } else { format!(":{port}") };
        format!("kurma enroll https://{host}{port} --code {}", code.code)
    }

    pub(crate) fn is_refused(&self, serial: &str) -> bool {
        self.register().is_refused(serial)
    }

    /// Has all connections see whether they may go on.
    pub(crate) fn changed(&self) {
        self.changes.send_replace(());
    }

    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves until `ending` says so.
    pub async fn serve(self, mut ending: watch::Receiver<bool>) {
        let sockets =
            std::mem::take(&mut *self.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        let door = Arc::new(self);
        let (goes_on, mut gone) = mpsc::channel::<()>(1);
        for (socket, is_secure) in sockets {
            tokio::spawn(connection::accept(Arc::clone(&door), socket, is_secure, goes_on.clone()));
        }
        drop(goes_on);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = ending.wait_for(|end| *end) => break,
                _ = look.tick() => door.look(),
            }
        }
        door.end.send_replace(true);
        // what is held is dropped with the last connection
        let _ = tokio::time::timeout(door.options.limits.end, gone.recv()).await;
    }

    /// Hears of what changes from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Waits until the end is asked for.
    pub(crate) async fn ends(&self) {
        let _ = self.end.subscribe().wait_for(|end| *end).await;
    }

    /// Sees whether the server's certificate is still good.
    fn look(&self) {
        let made = config(&self.register(), &self.log);
        match made {
            Ok(config) => {
                *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
            }
            Err(error) => self.log.says(&error),
        }
    }
}
