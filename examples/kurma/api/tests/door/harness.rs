//! A server, the door before it, and who comes.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiln_oci::Compression;
use kiln_oci::appc::{self, App, ImageManifest};
use kiln_tree::{Node, Tree};
use kurma_api::{Door, Options};
use kurma_client::enroll::enroll;
use kurma_client::tls::{Identity, SERVER_NAME};
use kurma_client::{Client, Code, Endpoint, Role};
use kurma_server::{ApiOptions, Images, Listener, PodOptions, Pods};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Patience with a loaded machine; passing never takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server behind a door.
pub(crate) struct Server {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) plain: SocketAddr,
    /// The code that was shown, if one was.
    pub(crate) code: Option<Code>,
    log: Arc<Mutex<Vec<String>>>,
    end: watch::Sender<bool>,
    door: Option<tokio::task::JoinHandle<()>>,
    _behind: watch::Sender<bool>,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let place = directory.path().to_owned();
        let mut pods = PodOptions::default();
        pods.directory = place.join("var");
        pods.runtime = place.join("run");
        pods.sockets = place.join("run/remote");
        pods.cgroup = None;
        let images = Images::open(place.join("var/images"), kiln_oci::Limits::default());
        let images = Arc::new(images.unwrap());
        let pods = Pods::open(pods, Arc::clone(&images)).unwrap();
        let mut api = ApiOptions::default();
        api.audit = place.join("audit.log");
        let socket = place.join("kurma.sock");
        let listeners = [Listener::remote(&socket)];
        let (behind, ending) = watch::channel(false);
        runtime.spawn(async move {
            let listeners = kurma_server::bind(&listeners).unwrap();
            kurma_server::serve(pods, images, listeners, api, ending).await.unwrap();
        });
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(10));
        }
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            directory,
            address: nowhere,
            plain: nowhere,
            code: None,
            log: Arc::default(),
            end: watch::channel(false).0,
            door: None,
            _behind: behind,
            runtime,
        };
        server.open(change);
        server
    }

    /// Opens the door, as it is opened when the program starts.
    pub(crate) fn open(&mut self, change: impl FnOnce(&mut Options)) {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = Options::default();
        options.directory = self.path("data");
        options.server = self.path("kurma.sock");
        options.listen = vec![nowhere];
        options.plain = vec![nowhere];
        options.names = vec!["localhost".into(), "127.0.0.1".into()];
        let log = Arc::clone(&self.log);
        options.log = Arc::new(move |line| log.lock().unwrap().push(line.to_owned()));
        change(&mut options);
        let door = self.runtime.block_on(Door::open(options)).unwrap();
        (self.address, self.plain) = (door.addresses()[0], door.addresses()[1]);
        self.code = door.is_new().then(|| door.code().unwrap().code.parse().unwrap());
        let (end, ending) = watch::channel(false);
        self.end = end;
        self.door = Some(self.runtime.spawn(door.serve(ending)));
    }

    /// Asks the door to end.
    pub(crate) fn end(&self) {
        self.end.send_replace(true);
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) {
        let door = self.door.take().unwrap();
        self.wait(door).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        let within = async { tokio::time::timeout(PATIENCE, what).await };
        self.runtime.block_on(within).expect("it takes too long")
    }

    /// Becomes known by a code.
    pub(crate) fn enroll(&self, code: &Code, name: &str) -> kurma_client::Result<Identity> {
        let address = self.address.to_string();
        self.wait(enroll(&address, code, name)).map(|(identity, _)| identity)
    }

    /// The operator that the first code is for.
    pub(crate) fn operator(&self) -> Identity {
        self.enroll(self.code.as_ref().unwrap(), "first").unwrap()
    }

    /// Somebody who may look.
    pub(crate) fn reader(&self, operator: &Identity, name: &str) -> Identity {
        let issued = self.wait(self.client(operator).code(Role::ReadOnly)).unwrap();
        self.enroll(&issued.code.parse().unwrap(), name).unwrap()
    }

    pub(crate) fn client(&self, identity: &Identity) -> Client {
        Client::new(Endpoint::tls(self.address.to_string(), identity).unwrap())
    }

    pub(crate) fn plainly(&self) -> Client {
        Client::new(Endpoint::Plain(self.plain.to_string()))
    }

    /// A file of an image with nothing to run.
    pub(crate) fn image(&self) -> PathBuf {
        let mut manifest = ImageManifest::new("example.com/nothing".parse().unwrap());
        manifest.app = Some(App::new(vec!["/bin/nothing".into()]));
        let mut tree = Tree::new();
        // does not become shorter
        let bytes: Vec<u8> =
            (0..300_000_u32).flat_map(|at| at.wrapping_mul(at).to_le_bytes()).collect();
        tree.insert("data", Node::file(bytes)).unwrap();
        let image = appc::write(&manifest, &tree, Compression::None, Vec::new()).unwrap().0;
        let path = self.path("image.aci");
        std::fs::write(&path, image).unwrap();
        path
    }

    /// A connection over TLS, as somebody or nobody.
    pub(crate) async fn connect(
        &self,
        identity: Option<&Identity>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let authority = std::fs::read(self.path("data/ca.pem")).unwrap();
        roots.add(CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let own = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![own], key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// What is said to bytes over TLS, until the end.
    pub(crate) fn say(&self, identity: Option<&Identity>, bytes: &[u8]) -> String {
        self.wait(async {
            let mut stream = self.connect(identity).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said).await;
            String::from_utf8_lossy(&said).into_owned()
        })
    }

    /// The same, of a request.
    pub(crate) fn ask(
        &self,
        identity: Option<&Identity>,
        what: &str,
        headers: &str,
        body: &str,
    ) -> String {
        let head = format!("{what} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
        let request = format!("{head}Connection: close\r\n{headers}\r\n{body}");
        self.say(identity, request.as_bytes())
    }

    /// Waits until the log says something.
    pub(crate) fn until_logged(&self, what: &str) {
        let begun = Instant::now();
        loop {
            let log = self.log.lock().unwrap().join("\n");
            if log.contains(what) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what:?} is not in:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn audit(&self) -> String {
        std::fs::read_to_string(self.path("audit.log")).unwrap()
    }
}
