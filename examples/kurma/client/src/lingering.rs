//! Bodies of requests that are taken to their end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::timeout;

/// How long the rest is taken at most, and how long nothing may come of it.
const LONGEST: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(5);

/// The body of a request, for a server. What whoever answers has not read when it lets go of the body is still
/// taken for a while (30 s, or until nothing comes for 5 s) and dropped: a connection that is closed at once makes
/// a client that is still sending see a broken connection, and not the answer (RFC 9112, section 9.6).
///
/// It is dropped within a runtime of tokio.
#[derive(Debug)]
pub struct Lingering<B: Body + Send + Unpin + 'static>(Option<B>);

impl<B: Body + Send + Unpin + 'static> Lingering<B> {
    /// A body as it comes.
    pub fn new(body: B) -> Self {
        Self(Some(body))
    }
}

impl<B: Body + Send + Unpin + 'static> Body for Lingering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body + Send + Unpin + 'static> Drop for Lingering<B> {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // without a runtime there is no connection either
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(rest(body));
        }
    }
}

async fn rest<B: Body + Unpin>(mut body: B) {
    let taken = async { while let Ok(Some(Ok(_))) = timeout(SILENCE, body.frame()).await {} };
    // who takes longer is closed to
    let _ = timeout(LONGEST, taken).await;
}
