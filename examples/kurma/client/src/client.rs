//! Who asks.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::endpoint::{Endpoint, Stream};
use crate::enter::Enter;
use crate::rpc::{Call, Fault, Response as Answer};
use crate::types::{Create, HostInfo, Image, Pod, Upgrade, Upgraded};
use crate::{Error, Result};

type Body = BoxBody<Bytes, std::io::Error>;

/// How long connecting may take, and whatever is not known to take long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a pod may take to be made, or to end.
const LONG: Duration = Duration::from_secs(300);
/// Bytes of the longest answer.
const LONGEST: usize = 16 << 20;
/// Bytes of a file that are read at once.
const PIECE: usize = 64 << 10;

/// A server that can be asked. Each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
}

/// The output of an app, as it comes.
#[derive(Debug)]
pub struct Logs {
    body: Incoming,
    endpoint: String,
}

impl Logs {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| broken(&self.endpoint, error))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// What went wrong, and because of what.
fn reasons(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn broken(endpoint: &str, problem: impl ToString) -> Error {
    Error::Broken { endpoint: endpoint.to_owned(), problem: problem.to_string() }
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed()
}

/// A file as it is sent, and its length. `progress` is told how many bytes have been.
async fn file_body<F>(file: &Path, progress: F) -> Result<(Body, u64)>
where
    F: FnMut(u64) + Send + Sync + 'static,
{
    let fault = |source| Error::File { path: file.to_owned(), source };
    let opened = tokio::fs::File::open(file).await.map_err(fault)?;
    let len = opened.metadata().await.map_err(fault)?.len();
    let pieces = futures_util::stream::try_unfold(
        (opened, 0_u64, progress),
        |(mut file, sent, mut progress)| async move {
            let mut piece = vec![0; PIECE];
            let count = file.read(&mut piece).await?;
            piece.truncate(count);
            let sent = sent + count as u64;
            progress(sent);
            Ok((count > 0).then(|| (Bytes::from(piece), (file, sent, progress))))
        },
    );
    Ok((StreamBody::new(pieces.map_ok(Frame::data)).boxed(), len))
}

impl Client {
    /// Who asks a server.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// All pods.
    ///
    /// # Errors
    /// [`Error`]; so for all methods.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        self.call("Pods.List", json!({}), "pods", PATIENCE).await
    }

    /// A pod by its name or UUID.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn pod(&self, pod: &str) -> Result<Pod> {
        self.call("Pods.Get", json!({ "uuid": pod }), "pod", PATIENCE).await
    }

    /// Makes a pod and waits until its apps have been started.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn create(&self, create: &Create) -> Result<Pod> {
        let params = serde_json::to_value(create).map_err(|error| self.broken(error))?;
        self.call("Pods.Create", params, "pod", LONG).await
    }

    /// Ends a pod, and keeps what is known of it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stop(&self, pod: &str) -> Result<Pod> {
        self.call("Pods.Stop", json!({ "uuid": pod }), "pod", LONG).await
    }

    /// Ends a pod and removes all of it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn destroy(&self, pod: &str) -> Result<()> {
        self.call::<Value>("Pods.Destroy", json!({ "uuid": pod }), "", LONG).await.map(drop)
    }

    /// All images.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn images(&self) -> Result<Vec<Image>> {
        self.call("Images.List", json!({}), "images", PATIENCE).await
    }

    /// An image by its digest or name.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn image(&self, image: &str) -> Result<Image> {
        self.call("Images.Get", json!({ "hash": image }), "image", PATIENCE).await
    }

    /// Removes an image that no pod is made of.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_image(&self, image: &str) -> Result<()> {
        let params = json!({ "hash": image });
        self.call::<Value>("Images.Delete", params, "", PATIENCE).await.map(drop)
    }

    /// What machine it is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn info(&self) -> Result<HostInfo> {
        let answer = self.request(Request::get("/info"), empty(), PATIENCE).await?;
        self.read(self.taken(answer).await?).await
    }

    /// Sends an image: an ACI, or an archive of an OCI image or of `docker save`. `progress` is told how many
    /// bytes have been sent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn upload<F>(&self, file: &Path, progress: F) -> Result<Image>
    where
        F: FnMut(u64) + Send + Sync + 'static,
    {
        let (body, len) = file_body(file, progress).await?;
        let request = Request::post("/images/create")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, len);
        // as long as it takes: the server gives up on who sends nothing
        let answer = self.request(request, body, LONG * 12).await?;
        self.read(self.taken(answer).await?).await
    }

    /// Puts another version of the machine's system beside the one that runs, which the machine then tries:
    /// `file` is an archive of kernel and initramfs, signed by somebody whom the machine trusts.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn upgrade<F>(&self, file: &Path, how: &Upgrade, progress: F) -> Result<Upgraded>
    where
        F: FnMut(u64) + Send + Sync + 'static,
    {
        let (body, len) = file_body(file, progress).await?;
        let mut path = "/system/upgrade?".to_owned();
        for (name, asked) in [("force", how.force), ("kexec", how.kexec), ("stay", how.stay)] {
            if asked {
                path += &format!("{name}=true&");
            }
        }
        if let Some(words) = &how.append {
            path += &format!("append={}&", encoded(words));
        }
        let request = Request::post(path.trim_end_matches(['?', '&']))
            .header(CONTENT_TYPE, "application/x-tar")
            .header(CONTENT_LENGTH, len);
        let answer = self.request(request, body, LONG * 12).await?;
        self.read(self.taken(answer).await?).await
    }

    /// The output of an app: its last lines, and with `follow` what comes from now on.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn logs(
        &self,
        pod: &str,
        app: Option<&str>,
        lines: Option<u64>,
        follow: bool,
    ) -> Result<Logs> {
        let mut path = format!("/containers/logs?pod={}", encoded(pod));
        if let Some(app) = app {
            path += &format!("&app={}", encoded(app));
        }
        if let Some(lines) = lines {
            path += &format!("&lines={lines}");
        }
        if follow {
            path += "&follow=true";
        }
        let answer = self.request(Request::get(path), empty(), PATIENCE).await?;
        let body = self.taken(answer).await?;
        Ok(Logs { body, endpoint: self.endpoint.to_string() })
    }

    /// Begins a process beside an app. See [`crate::enter`] for what goes over the websocket.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn enter(
        &self,
        enter: &Enter,
    ) -> Result<WebSocketStream<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + use<>>>
    {
        use futures_util::SinkExt as _;

        let stream = self.connect().await?;
        let address = format!("ws://{}/containers/enter", self.endpoint.host());
        let opened = self.within(PATIENCE, async {
            tokio_tungstenite::client_async(address, stream)
                .await
                .map_err(|error| self.broken(error))
        });
        let (mut socket, _) = opened.await?;
        let first = serde_json::to_string(enter).map_err(|error| self.broken(error))?;
        socket.send(Message::text(first)).await.map_err(|error| self.broken(error))?;
        Ok(socket)
    }

    fn broken(&self, problem: impl ToString) -> Error {
        broken(&self.endpoint.to_string(), problem)
    }

    async fn within<T>(
        &self,
        patience: Duration,
        what: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let slow =
            || Error::Slow { endpoint: self.endpoint.to_string(), seconds: patience.as_secs() };
        tokio::time::timeout(patience, what).await.unwrap_or_else(|_| Err(slow()))
    }

    async fn connect(&self) -> Result<Box<dyn Stream>> {
        let endpoint = self.endpoint.to_string();
        let connected = async {
            self.endpoint.connect().await.map_err(|source| Error::Connect { endpoint, source })
        };
        self.within(PATIENCE, connected).await
    }

    /// Calls a method, and takes one part of what it gives; an empty name takes all.
    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
        part: &str,
        patience: Duration,
    ) -> Result<T> {
        let call = serde_json::to_vec(&Call::new(method, params)).map_err(|e| self.broken(e))?;
        let request = Request::post("/rpc").header(CONTENT_TYPE, "application/json");
        let body = Full::from(call).map_err(|never| match never {}).boxed();
        let answer = self.request(request, body, patience).await?;
        let answer: Answer = self.read(self.taken(answer).await?).await?;
        if let Some(fault) = answer.error {
            return Err(fault.into());
        }
        let mut result = answer.result.unwrap_or_default();
        if !part.is_empty() {
            result = result.get_mut(part).map(Value::take).unwrap_or_default();
        }
        serde_json::from_value(result).map_err(|error| self.broken(error))
    }

    /// Sends a value as JSON, and takes one.
    #[cfg(feature = "tls")]
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl serde::Serialize,
    ) -> Result<T> {
        let value = serde_json::to_vec(value).map_err(|error| self.broken(error))?;
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        let body = Full::from(value).map_err(|never| match never {}).boxed();
        let answer = self.request(request, body, PATIENCE).await?;
        self.read(self.taken(answer).await?).await
    }

    /// Asks with nothing but a path.
    #[cfg(feature = "tls")]
    pub(crate) async fn fetch<T: DeserializeOwned>(
        &self,
        method: hyper::Method,
        path: &str,
    ) -> Result<T> {
        let request = Request::builder().method(method).uri(path);
        let answer = self.request(request, empty(), PATIENCE).await?;
        self.read(self.taken(answer).await?).await
    }

    async fn request(
        &self,
        request: hyper::http::request::Builder,
        body: Body,
        patience: Duration,
    ) -> Result<Response<Incoming>> {
        let stream = self.connect().await?;
        let asked = async {
            let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = made.map_err(|error| self.broken(reasons(&error)))?;
            let talk = tokio::spawn(connection);
            let request = request.header(HOST, self.endpoint.host()).body(body);
            let request = request.map_err(|error| self.broken(error))?;
            let error = match sender.send_request(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // what ended the conversation says more than that it has ended
            drop(sender);
            Err(match talk.await {
                Ok(Err(cause)) => self.broken(reasons(&cause)),
                _ => self.broken(reasons(&error)),
            })
        };
        self.within(patience, asked).await
    }

    /// The body of an answer that is one; else what the server says against it.
    async fn taken(&self, answer: Response<Incoming>) -> Result<Incoming> {
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let status = answer.status();
        let text = Limited::new(answer.into_body(), PIECE).collect().await;
        let text = text.map(|body| body.to_bytes()).unwrap_or_default();
        let fault: Fault = serde_json::from_slice(&text).unwrap_or_else(|_| {
            let said = String::from_utf8_lossy(&text);
            Fault::new(i64::from(status.as_u16()), format!("{status}: {}", said.trim()))
        });
        Err(fault.into())
    }

    async fn read<T: DeserializeOwned>(&self, body: Incoming) -> Result<T> {
        let read = async {
            Limited::new(body, LONGEST).collect().await.map_err(|error| self.broken(error))
        };
        let bytes = self.within(LONG, read).await?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| self.broken(error))
    }
}

/// A word of a query (RFC 3986, section 2.1).
pub(crate) fn encoded(word: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let mut text = String::new();
    for byte in word.as_bytes() {
        match plain(byte) {
            true => text.push(char::from(*byte)),
            false => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_of_a_query() {
        assert_eq!(super::encoded("web-1"), "web-1");
        assert_eq!(super::encoded("a b&c/ü"), "a%20b%26c%2F%C3%BC");
    }
}
