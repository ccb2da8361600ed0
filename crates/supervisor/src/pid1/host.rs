//! The machine's name, its loopback interface, ctrl-alt-del and the out-of-memory killer.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Names the machine; at most 64 bytes (gethostname(2)).
///
/// # Errors
/// The kernel refuses.
pub fn set_hostname(name: &str) -> std::io::Result<()> {
    Ok(rustix::system::sethostname(name.trim().as_bytes())?)
}

/// Brings the loopback interface up. The kernel then gives it 127.0.0.1 and ::1 by itself.
///
/// # Errors
/// The kernel refuses.
pub fn loopback_up() -> std::io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, // protocol 0 is NETLINK_ROUTE
    )?;
    rustix::net::sendto(&socket, &link_up(1), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let timeout = Some(std::time::Duration::from_secs(2));
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        timeout,
    )?;
    let mut answer = [0_u8; 256];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // nlmsgerr: after the header of 16 bytes, a negative error number or 0
    match answer.get(16..20).filter(|_| length >= 20) {
        Some(&[a, b, c, d]) => match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(()),
            error => Err(std::io::Error::from_raw_os_error(error.saturating_neg())),
        },
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

/// `RTM_NEWLINK` with `IFF_UP` for an interface (rtnetlink(7)): `nlmsghdr` of 16 bytes and
/// `ifinfomsg` of 16 bytes, in the machine's byte order. The loopback interface has index 1.
fn link_up(index: i32) -> [u8; 32] {
    let mut message = [0_u8; 32];
    let fields: [(usize, &[u8]); 7] = [
        (0, &32_u32.to_ne_bytes()), // length
        (4, &16_u16.to_ne_bytes()), // RTM_NEWLINK
        (6, &5_u16.to_ne_bytes()),  // NLM_F_REQUEST | NLM_F_ACK
        (8, &1_u32.to_ne_bytes()),  // sequence
        (20, &index.to_ne_bytes()), // ifi_index
        (24, &1_u32.to_ne_bytes()), // ifi_flags: IFF_UP
        (28, &1_u32.to_ne_bytes()), // ifi_change: that flag alone
    ];
    for (at, bytes) in fields {
        for (place, byte) in message.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    }
    message
}

/// Lets ctrl-alt-del send `SIGINT` to PID 1 instead of resetting the machine at once.
///
/// # Errors
/// The kernel refuses: this is not the first process of a machine.
pub fn catch_ctrl_alt_del() -> std::io::Result<()> {
    Ok(rustix::system::reboot(rustix::system::RebootCommand::CadOff)?)
}

/// Exempts this process from the out-of-memory killer; services are not.
///
/// # Errors
/// The kernel refuses, or there is no /proc.
pub fn never_kill_for_memory() -> std::io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "-1000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_netlink_message_has_the_documented_layout() {
        let message = link_up(1);
        #[cfg(target_endian = "little")]
        assert_eq!(
            message,
            [
                32, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
                0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0
            ] // ifinfomsg
        );
        assert_eq!(message.len(), 32);
    }
}
