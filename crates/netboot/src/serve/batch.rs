//! Datagrams that go to the kernel together, and bytes of a file that come from it together.

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::unix::fs::FileExt as _;

use nix::sys::socket::{setsockopt, sockopt};

/// Bytes that go to the kernel at once, and datagrams (`UDP_MAX_SEGMENTS` of linux/udp.h).
const BATCH: usize = 60_000;
const SEGMENTS: usize = 64;
/// Bytes that are read of a file at once.
const AHEAD: usize = 32 << 10;

/// Blocks of one window.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// How many of the bytes have gone.
    gone: usize,
    /// Bytes of each datagram but the last.
    segment: usize,
    /// Whether the kernel takes them apart (UDP_SEGMENT of udp(7)).
    together: bool,
}

impl Batch {
    pub(super) const fn new(segment: usize, together: bool) -> Self {
        Self { bytes: Vec::new(), gone: 0, segment, together }
    }

    /// Adds a block of a file.
    pub(super) fn add(
        &mut self,
        number: u16,
        file: &mut Ahead,
        offset: u64,
        len: usize,
    ) -> io::Result<()> {
        let at = self.bytes.len();
        self.bytes.extend([0, 3]);
        self.bytes.extend(number.to_be_bytes());
        let added = file.read(offset, len).map(|bytes| self.bytes.extend_from_slice(bytes));
        if added.is_err() {
            self.bytes.truncate(at);
        }
        added
    }

    /// Sends what is there. Where the kernel has no room for all, the rest goes the next time.
    pub(super) fn flush(&mut self, socket: &UdpSocket) -> io::Result<()> {
        while let Some(rest) = self.bytes.get(self.gone..).filter(|rest| !rest.is_empty()) {
            if self.together {
                match socket.send(rest) {
                    Ok(_) => break,
                    Err(error) if is_of_client(&error) => return Err(error),
                    // a device that cannot; from now on one by one
                    Err(_) => {
                        self.together = false;
                        let _ = setsockopt(socket, sockopt::UdpGsoSegment, &0);
                        continue;
                    }
                }
            }
            let datagram = rest.get(..self.segment).unwrap_or(rest);
            socket.send(datagram)?;
            self.gone += datagram.len();
        }
        self.clear();
        Ok(())
    }

    /// Forgets what is there.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.gone = 0;
    }

    /// Whether what is there has to go before more comes.
    pub(super) fn is_full(&self) -> bool {
        let next = self.bytes.len() + self.segment;
        next > BATCH || self.bytes.len() / self.segment.max(1) >= SEGMENTS
    }
}

/// Whether an error says nothing of what the device can do.
fn is_of_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock)
}

/// A file of which more is read than is asked for.
#[derive(Debug)]
pub(super) struct Ahead {
    file: File,
    bytes: Vec<u8>,
    /// Where in the file they are.
    offset: u64,
}

impl Ahead {
    pub(super) const fn new(file: File) -> Self {
        Self { file, bytes: Vec::new(), offset: 0 }
    }

    /// Bytes of the file.
    fn read(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        if self.place(offset, len).is_none() {
            self.bytes.resize(AHEAD.max(len), 0);
            self.offset = offset;
            let mut there = 0;
            while there < len {
                let rest = self.bytes.get_mut(there..).unwrap_or_default();
                let at = offset.saturating_add(u64::try_from(there).unwrap_or(u64::MAX));
                match self.file.read_at(rest, at) {
                    Ok(0) => break,
                    Ok(more) => there += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.bytes.clear();
                        return Err(error);
                    }
                }
            }
            self.bytes.truncate(there);
        }
        self.place(offset, len).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Those that are here.
    fn place(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(at..at.checked_add(len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_ahead_and_back() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a");
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&path, &content).unwrap();
        let mut ahead = Ahead::new(File::open(&path).unwrap());
        for (offset, len) in [
            (0, 512),
            (512, 512),
            (32_700, 512),
            (0, 8),
            (399_000, 1000),
            (200_001, 65_464),
            (400_000, 0),
        ] {
            let bytes = ahead.read(offset as u64, len).unwrap();
            assert!(bytes == &content[offset..offset + len], "{offset} {len}");
        }
        let short = ahead.read(399_500, 512).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(ahead.read(399_500, 500).unwrap(), &content[399_500..]);
    }

    #[test]
    fn what_has_no_room_goes_later_once() {
        let (from, to) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        from.connect(to.local_addr().unwrap()).unwrap();
        let mut batch = Batch::new(6, false);
        batch.bytes.extend(b"\0\x03\0\x01ab\0\x03\0\x02cd\0\x03\0\x03e");
        // the first of them has gone before
        batch.gone = 6;
        batch.flush(&from).unwrap();
        let mut bytes = [0; 10];
        for wanted in [&b"\0\x03\0\x02cd"[..], b"\0\x03\0\x03e"] {
            let len = to.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..len], wanted);
        }
        assert!(batch.bytes.is_empty() && batch.gone == 0);
    }
}
