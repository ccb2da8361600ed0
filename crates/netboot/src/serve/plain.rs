//! Files over connections without TLS: the kernel sends them by itself (sendfile(2)), which spares copying each byte
//! twice. Requests are looked at before they are read: the first that is not one for a file, as [`Asked`] understands
//! it, leaves the connection to hyper as it is.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::asked::Asked;
use super::http::HEAD;
use super::{Event, Files, Sink};

/// Bytes of the longest request that is understood here.
const REQUEST: usize = 4 << 10;
/// Bytes that the kernel is given at once.
const PIECE: u64 = 1 << 20;
/// Bytes that are read at once of what it cannot send by itself.
const READ: u64 = 64 << 10;
/// The end of the year 9999, after which no date can be written.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing: it has ended.
    Nothing,
    /// Its next request is another's, who finds it unread.
    Other,
}

/// Answers requests for files.
pub(super) async fn serve(
    stream: &TcpStream,
    peer: SocketAddr,
    files: &Files,
    sink: &Sink,
) -> After {
    // one that went away is nobody's any more
    requests(stream, peer, files, sink).await.unwrap_or(After::Nothing)
}

async fn requests(
    stream: &TcpStream,
    peer: SocketAddr,
    files: &Files,
    sink: &Sink,
) -> io::Result<After> {
    let mut bytes = vec![0; REQUEST];
    loop {
        let len = match tokio::time::timeout(HEAD, stream.peek(&mut bytes)).await {
            Ok(Ok(0)) | Err(_) => return Ok(After::Nothing),
            Ok(len) => len?,
        };
        let asked = Asked::parse(bytes.get(..len).unwrap_or_default());
        let found = asked.and_then(|asked| {
            // what is no file may be a script, or why there is none
            let (file, len) = files.open(&asked.path).ok()?;
            let part = asked.part(len)?;
            Some((asked, file, len, part))
        });
        let Some((asked, file, len, part)) = found else { return Ok(After::Other) };
        take(stream, bytes.get_mut(..asked.len).unwrap_or_default())?;
        let status = if asked.range.is_some() { 206 } else { 200 };
        let method = if asked.body { "GET" } else { "HEAD" };
        let what = format!("{method} {}", asked.path);
        sink(&Event::Requested { peer: peer.ip(), what, status });
        let mut head = head(&asked, &file);
        if let Some((first, last)) = asked.range.map(|_| (part.start, part.end - 1)) {
            let _ = write!(head, "content-range: bytes {first}-{last}/{len}\r\n");
        }
        let _ = write!(head, "content-length: {}\r\n\r\n", part.end - part.start);
        let more =
            if asked.body && !part.is_empty() { SendFlags::MORE } else { SendFlags::empty() };
        send(stream, head.as_bytes(), more).await?;
        if asked.body {
            send_file(stream, &file, part.start, part.end).await?;
        }
        if asked.last {
            return Ok(After::Nothing);
        }
    }
}

/// Reads what has been looked at.
fn take(stream: &TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let len = stream.try_read(bytes)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = bytes.get_mut(len..).unwrap_or_default();
    }
    Ok(())
}

/// The beginning of an answer.
fn head(asked: &Asked, file: &File) -> String {
    let status = if asked.range.is_some() { "206 Partial Content" } else { "200 OK" };
    let mut head = format!("HTTP/1.1 {status}\r\naccept-ranges: bytes\r\n");
    let kind = mime_guess::from_path(&asked.path).first_raw();
    let _ = write!(head, "content-type: {}\r\n", kind.unwrap_or("application/octet-stream"));
    let changed = file.metadata().and_then(|it| it.modified()).ok();
    for (name, time) in [("last-modified", changed), ("date", Some(SystemTime::now()))] {
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        if let Some(since) = since.filter(|since| *since <= LAST) {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + since);
            let _ = write!(head, "{name}: {date}\r\n");
        }
    }
    if asked.last {
        head += "connection: close\r\n";
    }
    head
}

async fn send(stream: &TcpStream, mut bytes: &[u8], flags: SendFlags) -> io::Result<()> {
    let flags = flags | SendFlags::NOSIGNAL;
    while !bytes.is_empty() {
        let send = || again(|| rustix::net::send(stream, bytes, flags));
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Sends a part of a file. One that has become shorter ends the connection.
async fn send_file(stream: &TcpStream, file: &File, mut at: u64, end: u64) -> io::Result<()> {
    while at < end {
        let len = usize::try_from((end - at).min(PIECE)).map_err(io::Error::other)?;
        let push = || {
            let mut from = at;
            again(|| rustix::fs::sendfile(stream, file, Some(&mut from), len))
        };
        match stream.async_io(Interest::WRITABLE, push).await {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => at += u64::try_from(sent).map_err(io::Error::other)?,
            // a file system whose files the kernel cannot send
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                let len = usize::try_from((end - at).min(READ)).map_err(io::Error::other)?;
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, at)?;
                send(stream, &bytes, SendFlags::empty()).await?;
                at += u64::try_from(len).map_err(io::Error::other)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Does it until it is not interrupted.
fn again(mut call: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(&mut call)?)
}
