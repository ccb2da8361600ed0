//! Bounds in time of what comes and what is taken.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use kurma_client::Lingering;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What may go wrong with a body.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long nothing has come.
#[derive(Debug)]
struct Wait {
    patience: Duration,
    over: Pin<Box<Sleep>>,
    waits: bool,
}

impl Wait {
    fn new(patience: Duration) -> Self {
        Self { patience, over: Box::pin(sleep(patience)), waits: false }
    }

    fn done(&mut self) {
        self.waits = false;
    }

    /// Ready when it has been too long since it was done last.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.waits {
            self.waits = true;
            self.over.as_mut().reset(Instant::now() + self.patience);
        }
        self.over.as_mut().poll(context)
    }
}

/// A body of which something has to come now and then. What is said after its end is dropped.
#[derive(Debug)]
pub(crate) struct Coming {
    body: Lingering<Incoming>,
    wait: Wait,
}

impl Coming {
    pub(crate) fn new(body: Lingering<Incoming>, patience: Duration) -> Self {
        Self { body, wait: Wait::new(patience) }
    }
}

impl Body for Coming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                ready!(self.wait.poll(context));
                let what = format!("nothing came for {} s", self.wait.patience.as_secs());
                return Poll::Ready(Some(Err(what.into())));
            };
            self.wait.done();
            match frame {
                Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose other end has to take what it is sent, unless it has been made a tunnel.
#[derive(Debug)]
pub(crate) struct Taken<S> {
    stream: S,
    wait: Wait,
    tunnel: Arc<AtomicBool>,
}

impl<S> Taken<S> {
    pub(crate) fn new(stream: S, patience: Duration, tunnel: Arc<AtomicBool>) -> Self {
        Self { stream, wait: Wait::new(patience), tunnel }
    }

    fn bounded<T>(
        &mut self,
        done: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.wait.done();
            return done;
        }
        if self.tunnel.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        ready!(self.wait.poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was taken for too long")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(done, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(done, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(done, context)
    }
}
