//! Datagrams with their senders' numbers as the kernel gives them: 0 is that of a process that has none in
//! our PID namespace, which rustix's type cannot be.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// Descriptors of a datagram beyond these are lost, and closed by the kernel.
const MOST_DESCRIPTORS: usize = 16;
/// Room for them and for credentials, each with its header.
const CONTROL: usize =
    space(size_of::<libc::ucred>()) + space(MOST_DESCRIPTORS * size_of::<RawFd>());

/// That of a part (`CMSG_SPACE`), in bytes.
const fn space(length: usize) -> usize {
    let header = size_of::<libc::cmsghdr>().next_multiple_of(size_of::<usize>());
    header.saturating_add(length.next_multiple_of(size_of::<usize>()))
}

/// A datagram whose bytes are in the buffer.
#[derive(Debug)]
pub(in crate::unix) struct Received {
    /// How many.
    pub(in crate::unix) bytes: usize,
    /// Who has sent it, of those that have a number here (`SO_PASSCRED`).
    pub(in crate::unix) sender: Option<i32>,
    pub(in crate::unix) descriptors: Vec<OwnedFd>,
}

/// Takes a datagram, without waiting for one.
pub(in crate::unix) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> std::io::Result<Received> {
    let mut control = [0_u64; CONTROL.div_ceil(size_of::<u64>())];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid `msghdr`, which says that there is nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: buffer and control are there, ours alone, and as long as the message says.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let bytes = usize::try_from(result).map_err(|_| std::io::Error::last_os_error())?;
    let mut received = Received { bytes, sender: None, descriptors: Vec::new() };
    // SAFETY: the message is as the kernel has left it, and so are the parts of its control.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: it is not null, so a whole header is there.
        let found = unsafe { header.read() };
        // SAFETY: its data begin behind it.
        let data = unsafe { libc::CMSG_DATA(header) };
        let before = data.addr().saturating_sub(header.addr());
        let length = (found.cmsg_len as usize).saturating_sub(before);
        match (found.cmsg_level, found.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                // SAFETY: so many bytes are there, and all bytes are credentials.
                let credentials = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                received.sender = Some(credentials.pid).filter(|pid| *pid > 0);
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                let count = length.checked_div(size_of::<RawFd>()).unwrap_or(0);
                for index in 0..count {
                    // SAFETY: that many numbers are there.
                    let place = unsafe { data.cast::<RawFd>().add(index) };
                    // SAFETY: one of them.
                    let number = unsafe { place.read_unaligned() };
                    // SAFETY: the kernel has opened it for us, and nobody else knows it.
                    received.descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
            _ => {}
        }
        // SAFETY: as for the first one.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    use super::*;

    #[test]
    fn room_is_what_the_kernel_takes() {
        for length in [1, 4, size_of::<libc::ucred>(), 64] {
            // SAFETY: it is arithmetic alone.
            let expected = unsafe { libc::CMSG_SPACE(u32::try_from(length).unwrap()) };
            assert_eq!(space(length), expected as usize);
        }
    }

    #[test]
    fn a_datagram_has_a_sender_and_descriptors() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut buffer = [0_u8; 8];
        let error = receive(ours.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        theirs.send(b"nobody").unwrap();
        let received = receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!((received.bytes, received.sender), (6, None));
        rustix::net::sockopt::set_socket_passcred(&ours, true).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        // some more than there is room for
        let fds = [null.as_fd(); MOST_DESCRIPTORS + 3];
        let mut space =
            [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS + 3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let parts = [IoSlice::new(b"longer than there is room")];
        rustix::net::sendmsg(&theirs, &parts, &mut control, SendFlags::empty()).unwrap();
        let received = receive(ours.as_fd(), &mut buffer).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!((received.bytes, received.sender), (8, Some(own)));
        assert_eq!(&buffer, b"longer t");
        assert_eq!(received.descriptors.len(), MOST_DESCRIPTORS);
        for fd in &received.descriptors {
            assert_eq!(rustix::io::fcntl_getfd(fd).unwrap(), rustix::io::FdFlags::CLOEXEC);
        }
    }
}
