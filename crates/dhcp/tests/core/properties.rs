//! What holds whatever happens.

use std::net::Ipv4Addr;
use std::time::Duration;

use kiln_dhcp::wire::{Message, MessageType, code, udp};
use kiln_dhcp::{ChecksumState, Config, HardwareAddr, Input, Sent};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::hostile::honest;
use crate::world::{MAC, Server, World, frame};

fn options() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let known = prop::sample::select(vec![
        1_u8, 3, 6, 12, 15, 26, 28, 42, 50, 51, 52, 54, 58, 59, 61, 119, 121,
    ]);
    let len = prop_oneof![4 => 0..9_usize, 1 => 0..300_usize];
    let data = len.prop_flat_map(|len| vec(any::<u8>(), len));
    vec((prop_oneof![3 => known, 1 => 1..=254_u8], data), 0..12)
}

fn message() -> impl Strategy<Value = Message> {
    let header = (any::<bool>(), 1..=8_u8, any::<u32>(), any::<u16>(), any::<bool>());
    (header, any::<[u32; 4]>(), any::<[u8; 6]>(), options()).prop_map(
        |((reply, kind, xid, secs, broadcast), addresses, mac, options)| {
            let kind = MessageType::from_wire(kind).unwrap();
            let mut message = Message::new(reply, kind, xid, HardwareAddr(mac));
            let [a, b, c, d] = addresses.map(Ipv4Addr::from_bits);
            (message.secs, message.broadcast) = (secs, broadcast);
            (message.ciaddr, message.yiaddr, message.siaddr, message.giaddr) = (a, b, c, d);
            for (code, data) in options {
                if code != code::MESSAGE_TYPE {
                    message.options.set(code, data);
                }
            }
            message
        },
    )
}

/// What the outside does in one step of a schedule.
#[derive(Clone, Debug)]
enum Step {
    Wait(u32),
    LinkUp,
    LinkReady,
    LinkDown,
    ServerDies,
    ServerLives,
    ServerMoves(u8),
    Noise(Vec<u8>),
    Timeout,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..200_000_u32).prop_map(Step::Wait),
        2 => Just(Step::LinkUp),
        2 => Just(Step::LinkReady),
        1 => Just(Step::LinkDown),
        1 => Just(Step::ServerDies),
        2 => Just(Step::ServerLives),
        1 => (1..250_u8).prop_map(Step::ServerMoves),
        1 => vec(any::<u8>(), 0..400).prop_map(Step::Noise),
        1 => Just(Step::Timeout),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn decoding_what_was_encoded_gives_it_back(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn encoding_what_was_decoded_is_a_fixpoint(
        mut bytes in vec(any::<u8>(), 240..700),
        kind in 1..=8_u8,
    ) {
        bytes[1] = 1;
        bytes[2] = 6;
        bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
        bytes.splice(240..240, [53, 1, kind]);
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn any_frame_is_survived(
        frames in vec((vec(any::<u8>(), 0..600), any::<bool>()), 0..8),
    ) {
        let mut world = World::up(Config::default(), 3, Server::default());
        for (bytes, ready) in frames {
            let checksum =
                if ready { ChecksumState::Complete } else { ChecksumState::NotReady };
            world.input(Input::Frame { bytes: &bytes, checksum });
            world.input(Input::Datagram { source_port: 67, payload: &bytes });
        }
        world.seconds(1);
        prop_assert_eq!(world.bound_count(), 1, "and it does no harm");
    }

    /// Every option is whatever it likes, in replies that are otherwise believable, cut anywhere.
    #[test]
    fn any_options_are_survived_and_never_make_a_bad_lease(
        options in options(),
        yiaddr in prop_oneof![any::<u32>(), Just(0x0a4d_0909)],
        cut in prop_oneof![3 => Just(usize::MAX), 1 => 240..700_usize],
    ) {
        let server = move |request: &Message, _: Duration| {
            let mut reply = honest(request);
            reply.yiaddr = Ipv4Addr::from_bits(yiaddr);
            for (code, data) in &options {
                if *code != code::MESSAGE_TYPE {
                    reply.options.set(*code, data.as_slice());
                }
            }
            let mut payload = reply.encode();
            payload.truncate(cut);
            let to = udp::Endpoints {
                source_mac: MAC,
                destination_mac: MAC,
                source: Ipv4Addr::LOCALHOST,
                destination: Ipv4Addr::BROADCAST,
                source_port: 67,
                destination_port: 68,
            };
            vec![udp::encode(&to, &payload).unwrap()]
        };
        let mut world = World::up(Config::default(), 3, server);
        world.seconds(100);
        if let Some(lease) = world.client.lease() {
            let a = lease.address;
            prop_assert!(!a.is_loopback() && !a.is_multicast() && !a.is_broadcast());
            prop_assert!(a.octets()[0] != 0 && (1..=32).contains(&lease.prefix_len));
            prop_assert!(lease.dns.len() <= 3 && lease.ntp.len() <= 8 && lease.routes.len() <= 64);
            prop_assert!(lease.mtu.is_none_or(|mtu| (576..=9216).contains(&mtu)));
            for name in lease.search.iter().chain(&lease.domain).chain(&lease.host_name) {
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'));
            }
            if let Some(valid) = lease.valid_for {
                let (t1, t2) = (lease.renew_after.unwrap(), lease.rebind_after.unwrap());
                prop_assert!(!t1.is_zero() && t1 < t2 && t2 < valid);
            }
            // A route is added after what reaches its gateway.
            for (index, route) in lease.routes.iter().enumerate() {
                let Some(gateway) = route.gateway else { continue };
                let within = |network: Ipv4Addr, len: u8| {
                    len == 0 || (network.to_bits() ^ gateway.to_bits()) >> (32 - len) == 0
                };
                prop_assert!(
                    within(a, lease.prefix_len)
                        || lease.routes[..index]
                            .iter()
                            .any(|r| r.gateway.is_none() && within(r.destination, r.prefix_len))
                );
            }
        }
    }

    /// `World::input` asserts after each step that no address outlives its lease, and that the
    /// events tell the same story as the state.
    #[test]
    fn any_schedule_keeps_the_invariants(
        seed in any::<u64>(),
        lease in prop_oneof![30..300_u32, 300..100_000_u32, Just(u32::MAX)],
        loss in 0..60_u64,
        steps in vec(step(), 1..60),
    ) {
        let run = || {
            let server = Server { lease, ..Server::default() };
            let mut world = World::new(Config::default(), seed, server);
            let mut state = seed;
            world.lost = Box::new(move |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % 100 < loss
            });
            for step in &steps {
                match step {
                    Step::Wait(ms) => world.run_until(world.now + Duration::from_millis(u64::from(*ms))),
                    Step::LinkUp => world.input(Input::LinkUp),
                    Step::LinkReady => world.input(Input::LinkReady),
                    Step::LinkDown => world.input(Input::LinkDown),
                    Step::ServerDies => world.server.alive = false,
                    Step::ServerLives => world.server.alive = true,
                    Step::ServerMoves(n) => {
                        world.server.address = Ipv4Addr::new(10, 77, 5, *n);
                    }
                    Step::Noise(bytes) => {
                        world.input(Input::Datagram { source_port: 67, payload: bytes });
                    }
                    Step::Timeout => world.input(Input::Timeout),
                }
            }
            world
        };
        let world = run();
        // One question at a time, and never a flood of them.
        prop_assert!(world.most_transmits_per_input <= 1);
        let floods = world.sent.windows(12).filter(|w| w[11].at - w[0].at < Duration::from_secs(1));
        let changes = steps.iter().filter(|s| matches!(s, Step::LinkUp | Step::LinkReady)).count();
        prop_assert!(changes > 2 || floods.count() == 0);
        for record in &world.sent {
            let options = &record.message.options;
            if !record.message.ciaddr.is_unspecified() && record.message.kind == MessageType::Request {
                prop_assert_eq!(options.get(code::REQUESTED_ADDRESS), None);
                prop_assert_eq!(options.get(code::SERVER_ID), None);
            }
            prop_assert!(options.get(code::CLIENT_ID).is_some_and(|id| id.len() >= 2));
        }
        // The same inputs give the same outputs.
        let again = run();
        prop_assert_eq!(world.sent, again.sent);
        prop_assert_eq!(world.events, again.events);
    }

    #[test]
    fn lossy_networks_still_give_a_lease(seed in any::<u64>(), loss in 0..40_u64) {
        let mut world = World::new(Config::default(), seed, Server::default());
        let mut state = !seed;
        world.lost = Box::new(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % 100 < loss
        });
        world.input(Input::LinkUp);
        // At 40 % loss a round of four packets gets through in 13 % of the tries.
        world.seconds(1800);
        prop_assert!(world.bound_count() >= 1);
    }

    #[test]
    fn first_retry_bound_holds_against_naks_from_anyone(seed in any::<u64>(), ms in 1..200_u64) {
        let server = move |request: &Message, _: Duration| {
            let mut reply = honest(request);
            if reply.kind == MessageType::Ack {
                reply.kind = MessageType::Nak;
            }
            vec![frame(Ipv4Addr::new(10, 77, 0, 1), &reply)]
        };
        let mut world = World::new(Config::default(), seed, server);
        world.delay = Duration::from_millis(ms);
        world.input(Input::LinkUp);
        world.seconds(10);
        prop_assert!(world.kinds.iter().filter(|k| **k == Sent::Discover).count() <= 4);
    }
}
