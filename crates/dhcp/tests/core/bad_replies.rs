//! Replies that no client should believe, against the machine in virtual time.

use std::time::Duration;

use crate::hostile::{self, ALSO_BAD, BAD, ODD, answer, honest};
use crate::world::{World, frame};
use kiln_dhcp::wire::{Malformed, Message, MessageType};
use kiln_dhcp::{Config, Event, Ignored, Sent};

type HostileServer = Box<dyn FnMut(&Message, Duration) -> Vec<Vec<u8>>>;

fn facing(case: &'static str) -> World<HostileServer> {
    let server: HostileServer =
        Box::new(move |request, _| answer(case, request).into_iter().collect());
    World::up(Config::default(), 1, server)
}

/// The reason that must be counted for each bad reply: that it was refused for what is wrong with
/// it, and not by accident.
fn expected(case: &str) -> Ignored {
    match case {
        "wrong-xid" => Ignored::OtherTransaction,
        "wrong-chaddr" => Ignored::OtherHardwareAddr,
        "op-request" => Ignored::NotAReply,
        "bad-cookie" => Malformed::Cookie.into(),
        "no-serverid" | "serverid-0" | "zero-len-opts" => Ignored::ServerId,
        "bad-udp-csum" => Malformed::UdpChecksum.into(),
        "bad-ip-csum" => Malformed::IpChecksum.into(),
        "ip-len-over" | "trunc-200" => Malformed::Truncated.into(),
        "ipfrag" => Malformed::Fragment.into(),
        "ack-other-server" => Ignored::OtherServer,
        "ack-other-ip" => Ignored::OtherAddress,
        "lease-0" | "no-lease" | "lease-len2" => Ignored::LeaseTime,
        "type-len0" | "trunc-240" | "dup-type" => Malformed::MessageType.into(),
        "ack-no-offer" => Ignored::Unexpected,
        "other-client-id" => Ignored::OtherClientId,
        "hlen-16" => Malformed::Hardware.into(),
        _ => Ignored::Address,
    }
}

#[test]
fn none_of_the_bad_replies_leads_to_an_address() {
    for case in BAD.into_iter().chain(ALSO_BAD) {
        let mut world = facing(case);
        world.seconds(300);
        assert_eq!(world.bound_count(), 0, "{case}");
        assert_eq!(world.client.lease(), None, "{case}");
        let reasons: Vec<_> = world.client.ignored().map(|(reason, _)| reason).collect();
        assert_eq!(reasons, [expected(case)], "{case}");
        assert!(world.kinds.contains(&Sent::Discover), "{case}: keeps trying");
    }
}

#[test]
fn odd_replies_still_lead_to_the_right_address() {
    for case in ODD {
        let mut world = facing(case);
        world.seconds(1);
        let lease = world.client.lease().unwrap_or_else(|| panic!("{case}: no lease"));
        assert_eq!((lease.address, lease.prefix_len), (hostile::ADDRESS, 16), "{case}");
        let has_default = !matches!(case, "gw-offlink" | "gw-0");
        assert_eq!(
            lease.default_gateway(),
            has_default.then_some(hostile::SERVER),
            "{case}: {:?}",
            lease.routes
        );
        assert_eq!(lease.mtu, None, "{case}");
        assert_eq!(lease.host_name, None, "{case}");
        assert_eq!(lease.domain, None, "{case}");
        assert_eq!(lease.dns.len(), if case == "dns-60" { 3 } else { 1 }, "{case}");
        match case {
            "lease-inf" => assert_eq!((lease.valid_for, lease.renew_after), (None, None)),
            _ => assert_eq!(lease.renew_after, Some(Duration::from_secs(1800)), "{case}"),
        }
    }
}

#[test]
fn nak_storm_is_at_most_four_discovers_in_ten_seconds() {
    for seed in 0..50 {
        let server: HostileServer = Box::new(|request, _| {
            let mut reply = honest(request);
            if reply.kind == MessageType::Ack {
                reply.kind = MessageType::Nak;
            }
            vec![frame(hostile::SERVER, &reply)]
        });
        let mut world = World::up(Config::default(), seed, server);
        world.seconds(10);
        let discovers = world.kinds.iter().filter(|kind| **kind == Sent::Discover).count();
        assert!((2..=4).contains(&discovers), "seed {seed}: {discovers}");
        assert!(world.events.iter().any(|(_, event)| *event == Event::Refused));
        assert_eq!(world.bound_count(), 0);
    }
}

#[test]
fn a_flood_of_offers_makes_one_request() {
    let server: HostileServer = Box::new(|request, _| {
        let one = answer("ok", request).unwrap();
        let copies = if request.kind == MessageType::Discover { 300 } else { 1 };
        vec![one; copies]
    });
    let mut world = World::up(Config::default(), 1, server);
    world.seconds(1);
    assert_eq!(world.kinds, [Sent::Discover, Sent::Request]);
    assert_eq!(world.bound_count(), 1);
    assert_eq!(world.client.ignored().map(|(_, count)| count).sum::<u64>(), 299);
}

#[test]
fn unauthenticated_forcerenew_is_ignored_rfc3203() {
    let mut world = facing("ok");
    world.seconds(1);
    let asked = world.sent.last().unwrap().message.clone();
    let mut payload = honest(&asked).encode();
    payload[242] = 9;
    world.input(kiln_dhcp::Input::Datagram { source_port: 67, payload: &payload });
    assert_eq!(world.kinds.len(), 2);
    assert_eq!(world.client.ignored().collect::<Vec<_>>(), [(Malformed::MessageType.into(), 1)]);
}
