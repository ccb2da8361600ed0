//! A network between guests: a switch of our own that every guest's card is plugged into.
//!
//! QEMU's `stream` back end (QEMU 7.2 and later) sends each Ethernet frame with its length in front,
//! as 32 bits in network order, over a socket of this user alone. Nothing else of the host hears it.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Error, Result};

/// The longest frame that a virtual card sends, with offloads.
const LONGEST: usize = 80 << 10;
/// How long a guest may not take what is sent to it before it is unplugged.
const STUCK: Duration = Duration::from_secs(30);

/// A switch with any number of ports. It ends with its last handle; guests that are plugged in
/// then see their link without an answer.
#[derive(Debug, Clone)]
pub struct Lan(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    ports: Arc<Ports>,
    /// Holds the socket.
    _directory: tempfile::TempDir,
}

#[derive(Debug, Default)]
struct Ports {
    plugged: Mutex<Vec<(u64, UnixStream)>>,
    frames: AtomicU64,
}

impl Lan {
    /// Starts a switch.
    ///
    /// # Errors
    /// [`Error::Io`] when there can be no socket.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("kiln-lan-")
            .tempdir()
            .map_err(Error::io("create directory in", &std::env::temp_dir()))?;
        let socket = directory.path().join("switch");
        let listener = UnixListener::bind(&socket).map_err(Error::io("listen on", &socket))?;
        let (stop, ports) = (Arc::new(AtomicBool::new(false)), Arc::new(Ports::default()));
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&ports));
        std::thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming()) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let ports = Arc::clone(&shared);
                std::thread::spawn(move || ports.serve(number, stream));
            }
        });
        Ok(Self(Arc::new(Switch { socket, stop, ports, _directory: directory })))
    }

    /// How many frames were passed on so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.0.ports.frames.load(Ordering::Relaxed)
    }

    /// QEMU's back end for a card that is plugged in here.
    pub(super) fn netdev(&self, id: &str) -> String {
        let path = self.0.socket.display().to_string().replace(',', ",,");
        format!("stream,id={id},server=off,addr.type=unix,addr.path={path}")
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that listens.
        let _ = UnixStream::connect(&self.socket);
        for (_, stream) in self.ports.plugged().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Ports {
    fn plugged(&self) -> std::sync::MutexGuard<'_, Vec<(u64, UnixStream)>> {
        self.plugged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes everything on that one guest says, until it is unplugged.
    fn serve(&self, number: u64, mut stream: UnixStream) {
        let Ok(writer) = stream.try_clone() else { return };
        if writer.set_write_timeout(Some(STUCK)).is_err() {
            return;
        }
        self.plugged().push((number, writer));
        while let Ok(frame) = read_frame(&mut stream) {
            self.frames.fetch_add(1, Ordering::Relaxed);
            self.plugged().retain_mut(|(other, stream)| {
                // A frame that went out half would make nonsense of all that follow.
                *other == number || stream.write_all(&frame).is_ok()
            });
        }
        self.plugged().retain(|(other, _)| *other != number);
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// The next frame with its length in front.
fn read_frame(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if len > LONGEST {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut frame = head.to_vec();
    frame.resize(head.len() + len, 0);
    stream.read_exact(frame.get_mut(head.len()..).unwrap_or_default())?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plug(lan: &Lan) -> UnixStream {
        let stream = UnixStream::connect(&lan.0.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn send(stream: &mut UnixStream, frame: &[u8]) {
        let head = u32::try_from(frame.len()).unwrap().to_be_bytes();
        stream.write_all(&[&head, frame].concat()).unwrap();
    }

    fn until_plugged(lan: &Lan, count: usize) {
        while lan.0.ports.plugged().len() != count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn everybody_but_the_sender_hears_a_frame_and_who_leaves_is_forgotten() {
        let lan = Lan::start().unwrap();
        let (mut one, mut two, mut three) = (plug(&lan), plug(&lan), plug(&lan));
        until_plugged(&lan, 3);
        send(&mut one, b"to all");
        assert_eq!(read_frame(&mut two).unwrap(), b"\0\0\0\x06to all");
        assert_eq!(read_frame(&mut three).unwrap(), b"\0\0\0\x06to all");
        send(&mut two, b"back");
        assert_eq!(read_frame(&mut one).unwrap(), b"\0\0\0\x04back");
        drop(three);
        until_plugged(&lan, 2);
        // One that says nonsense is unplugged, the others go on.
        two.write_all(&u32::MAX.to_be_bytes()).unwrap();
        until_plugged(&lan, 1);
        assert!(read_frame(&mut two).is_err());
        assert_eq!(lan.frames(), 2);
    }

    #[test]
    fn guests_are_unplugged_when_the_switch_ends() {
        let lan = Lan::start().unwrap();
        let mut one = plug(&lan);
        until_plugged(&lan, 1);
        drop(lan);
        assert!(read_frame(&mut one).is_err());
    }
}
