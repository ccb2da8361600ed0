//! The few system calls that no safe wrapper covers: packet sockets and their options, and a UDP
//! send with a chosen source address. All `unsafe` of this crate is here.
#![expect(unsafe_code, reason = "AF_PACKET addresses, BPF and control messages have no safe API")]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// One instruction of classic BPF (`struct sock_filter`, linux/filter.h).
pub(super) type Instruction = libc::sock_filter;

/// A statement or jump of classic BPF.
pub(super) const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Constants that C gives as `int` and structures hold in 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "all are far below 65536")]
mod short {
    pub(super) const AF_INET: u16 = libc::AF_INET as u16;
    pub(super) const AF_PACKET: u16 = libc::AF_PACKET as u16;
    pub(super) const ETH_P_IP: u16 = libc::ETH_P_IP as u16;
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[expect(clippy::cast_possible_truncation, reason = "sizes of C structures are small")]
const fn len_of<T>() -> libc::socklen_t {
    mem::size_of::<T>() as libc::socklen_t
}

fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives through the call; the kernel
    // only reads it.
    check(unsafe {
        libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), len_of::<T>())
    })?;
    Ok(())
}

fn socket(domain: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe {
        libc::socket(domain, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol)
    })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A packet socket on one interface that sees only what `filter` lets through.
///
/// The socket is made with protocol 0, so that it receives nothing until it is bound: the filter is
/// there (and locked) before the first frame, and the bind does not wait for an RCU grace period as
/// rebinding a live socket does (0.01 ms against 19 ms).
pub(super) fn packet_socket(index: u32, filter: &[Instruction]) -> io::Result<OwnedFd> {
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let fd = socket.as_raw_fd();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1_i32)?;
    set_option(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;

    // SAFETY: all zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = short::AF_PACKET;
    address.sll_protocol = short::ETH_P_IP.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the pointer and the length describe `address`, which lives through the call.
    check(unsafe {
        libc::bind(fd, std::ptr::from_ref(&address).cast(), len_of::<libc::sockaddr_ll>())
    })?;
    Ok(socket)
}

/// Room for the control messages used here, aligned as `cmsghdr` needs.
#[repr(C, align(8))]
struct Control([u8; 128]);

/// Receives one frame; returns its length in `buffer` and whether its checksum is still to be
/// filled in (`TP_STATUS_CSUMNOTREADY`, packet(7)).
pub(super) fn receive_frame(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 128]);
    // SAFETY: all zero is a valid msghdr: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: the message points at one buffer and at control space, both alive, with their lengths.
    let len = check_len(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) })?;
    let mut not_ready = false;
    // SAFETY: the kernel has filled in the control messages and their length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: not null, so a whole header inside the control space.
        let header = unsafe { next.read_unaligned() };
        if header.cmsg_level == libc::SOL_PACKET && header.cmsg_type == libc::PACKET_AUXDATA {
            // SAFETY: the header is inside the control space, and so is its data.
            let data = unsafe { libc::CMSG_DATA(next) };
            // SAFETY: PACKET_AUXDATA carries one tpacket_auxdata, whole because the control space
            // is larger than it.
            let auxdata = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
            not_ready = auxdata.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0;
        }
        // SAFETY: `next` came from this message.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    Ok((len.min(buffer.len()), not_ready))
}

/// A UDP socket on port 68 of one interface, for any address of it, so that it gets the broadcasts
/// in which servers say NAK.
pub(super) fn udp_socket(interface: &str, port: u16) -> io::Result<OwnedFd> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let fd = socket.as_raw_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1_i32)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_BROADCAST, &1_i32)?;
    let mut name = [0_u8; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    name.iter_mut().zip(interface.bytes()).for_each(|(to, from)| *to = from);
    set_option(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)?;
    let address = socket_address(Ipv4Addr::UNSPECIFIED, port);
    // SAFETY: the pointer and the length describe `address`, which lives through the call.
    check(unsafe {
        libc::bind(fd, std::ptr::from_ref(&address).cast(), len_of::<libc::sockaddr_in>())
    })?;
    Ok(socket)
}

fn socket_address(address: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: short::AF_INET,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: address.to_bits().to_be() },
        sin_zero: [0; 8],
    }
}

/// Sends a datagram from `source` (one of the host's addresses) to `destination`.
pub(super) fn send_udp(
    fd: BorrowedFd<'_>,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    port: u16,
    payload: &[u8],
) -> io::Result<()> {
    let mut to = socket_address(destination, port);
    let mut part =
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let mut control = Control([0; 128]);
    // SAFETY: all zero is a valid msghdr: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut to).cast();
    message.msg_namelen = len_of::<libc::sockaddr_in>();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(len_of::<libc::in_pktinfo>()) } as _;
    // SAFETY: the control space is aligned and larger than one in_pktinfo message.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: CMSG_LEN only computes.
    let cmsg_len = unsafe { libc::CMSG_LEN(len_of::<libc::in_pktinfo>()) };
    let value = libc::cmsghdr {
        cmsg_len: cmsg_len as _,
        cmsg_level: libc::IPPROTO_IP,
        cmsg_type: libc::IP_PKTINFO,
    };
    // SAFETY: `header` points at room for a header inside the control space.
    unsafe { header.write_unaligned(value) };
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: source.to_bits().to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    // SAFETY: `header` is inside the control space, and so is its data.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: CMSG_SPACE reserved room for one in_pktinfo there.
    unsafe { data.cast::<libc::in_pktinfo>().write_unaligned(info) };
    // SAFETY: every pointer in the message is to a live local with its length; the kernel only
    // reads them.
    check_len(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, 0) })?;
    Ok(())
}

/// Receives one datagram from any sender; returns its length in `buffer` and the sender's port.
pub(super) fn receive_udp(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, u16)> {
    let mut from = MaybeUninit::<libc::sockaddr_in>::zeroed();
    let mut from_len = len_of::<libc::sockaddr_in>();
    // SAFETY: buffer and address are alive, with their lengths.
    let len = check_len(unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            from.as_mut_ptr().cast(),
            &raw mut from_len,
        )
    })?;
    // SAFETY: zeroed above, and all zero is a valid sockaddr_in.
    let from = unsafe { from.assume_init() };
    Ok((len.min(buffer.len()), u16::from_be(from.sin_port)))
}
