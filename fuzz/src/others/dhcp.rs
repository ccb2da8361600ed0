//! The readers of kiln-dhcp. Also a module of that crate's tests.

use kiln_dhcp::ChecksumState;
use kiln_dhcp::wire::options::domain_list;
use kiln_dhcp::wire::{Message, Options, Packet, udp};

/// A frame (its checksum as the kernel leaves it, or not) and a message.
pub fn wire(input: &[u8]) {
    for state in [ChecksumState::Complete, ChecksumState::NotReady] {
        if let Ok(datagram) = udp::decode(input, state) {
            message(datagram.payload);
        }
    }
    message(input);
    let _ = domain_list(input);
}

fn message(bytes: &[u8]) {
    let Ok(packet) = Packet::new(bytes) else { return };
    let options = Options::decode(&packet);
    for (code, _) in options.iter() {
        let _ = (options.number(code), options.address(code), options.addresses(code).count());
    }
    if let Ok(message) = Message::decode(bytes) {
        let written = message.encode();
        let again = Message::decode(&written);
        assert!(again.is_ok_and(|again| again.encode() == written));
    }
}
