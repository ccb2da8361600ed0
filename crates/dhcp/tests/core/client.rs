//! The states of RFC 2131 figure 5, one test per way out of each.

use std::net::Ipv4Addr;
use std::time::Duration;

use kiln_dhcp::wire::code;
use kiln_dhcp::{
    ClasslessRoutes, Client, Config, Event, HardwareAddr, Input, LostReason, OffLinkGateway,
    Problem, Route, Sent,
};

use crate::hostile::{self, discard, honest};
use crate::world::{MAC, Record, Server, World, frame};

const HOUR: Duration = Duration::from_secs(3600);

fn bound() -> World<Server> {
    let mut world = World::up(Config::default(), 7, Server::default());
    world.seconds(1);
    assert_eq!(world.bound_count(), 1);
    world
}

fn sent_of(world: &World<Server>, kind: Sent) -> Vec<&Record> {
    world.sent.iter().zip(&world.kinds).filter(|(_, k)| **k == kind).map(|(r, _)| r).collect()
}

#[test]
fn discover_and_request_are_as_rfc2131_table_5_wants() {
    let world = bound();
    assert_eq!(world.kinds, [Sent::Discover, Sent::Request]);
    let [discover, request] = [&world.sent[0].message, &world.sent[1].message];
    for message in [discover, request] {
        assert_eq!(message.ciaddr, Ipv4Addr::UNSPECIFIED);
        assert_eq!(message.options.get(code::CLIENT_ID).unwrap(), [1, 2, 0, 0, 0, 0, 0x11]);
        let list = message.options.get(code::PARAMETER_LIST).unwrap();
        let at = |code| list.iter().position(|c| *c == code).unwrap();
        assert!(at(121) < at(3), "RFC 3442 wants 121 before 3");
        assert_eq!(message.options.fixed(code::MAX_SIZE), Some(1472_u16.to_be_bytes()));
    }
    assert_eq!(discover.options.get(code::SERVER_ID), None);
    assert_eq!(discover.xid, request.xid);
    assert_eq!(discover.secs, request.secs);
    assert_eq!(request.options.address(code::SERVER_ID), Some(hostile::SERVER));
    assert_eq!(request.options.address(code::REQUESTED_ADDRESS), Some(hostile::ADDRESS));
}

#[test]
fn nothing_is_sent_without_carrier() {
    let mut world = World::new(Config::default(), 7, Server::default());
    world.seconds(100);
    assert_eq!(world.sent, []);
    world.input(Input::LinkUp);
    world.input(Input::LinkUp);
    world.seconds(1);
    assert_eq!(world.sent[0].message.secs, 0, "secs counts from carrier");
    assert_eq!(world.kinds, [Sent::Discover, Sent::Request]);
}

#[test]
fn a_first_question_before_the_link_was_ready_is_asked_again_at_once() {
    let deaf = Server { alive: false, ..Server::default() };
    let mut world = World::up(Config::default(), 7, deaf);
    world.run_until(Duration::from_millis(300));
    world.server.alive = true;
    world.input(Input::LinkReady);
    world.run_until(Duration::from_millis(400));
    assert_eq!(world.kinds, [Sent::Discover, Sent::Discover, Sent::Request]);
    assert_eq!(world.sent[0].message.xid, world.sent[1].message.xid);
    assert!(!world.events.iter().any(|(_, event)| matches!(event, Event::StillTrying { .. })));

    // An answered one is not.
    world.input(Input::LinkReady);
    world.seconds(10);
    assert_eq!(world.sent.len(), 3);

    // Nor is one whose second turn has come; the link alone says nothing while it is down.
    let mut world = World::new(Config::default(), 7, Server { alive: false, ..Server::default() });
    world.input(Input::LinkReady);
    assert_eq!(world.sent.len(), 0);
    world.input(Input::LinkUp);
    world.seconds(2);
    let sent = world.sent.len();
    world.input(Input::LinkReady);
    assert_eq!(world.sent.len(), sent);

    // The question about a lease that is held, too.
    let mut world = bound();
    world.input(Input::LinkDown);
    world.server.alive = false;
    world.input(Input::LinkUp);
    world.input(Input::LinkReady);
    assert_eq!(sent_of(&world, Sent::Reboot).len(), 2);
}

#[test]
fn discover_is_repeated_with_doubling_pauses_and_people_are_told() {
    let dead = Server { alive: false, ..Server::default() };
    let mut world = World::up(Config::default(), 7, dead);
    world.seconds(300);
    let at: Vec<_> = world.sent.iter().map(|record| record.at.as_secs_f64()).collect();
    for (pair, nominal) in at.windows(2).zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0]) {
        let pause = pair[1] - pair[0];
        assert!((nominal * 0.75..=nominal * 1.25).contains(&pause), "{pause} for {nominal}");
    }
    let told = world.events.iter().filter(|(_, e)| matches!(e, Event::StillTrying { .. })).count();
    assert_eq!(told, world.sent.len() - 1);
    assert!(world.sent.iter().all(|record| record.message.xid == world.sent[0].message.xid));
    world.server.alive = true;
    world.seconds(100);
    assert_eq!(world.bound_count(), 1);
}

#[test]
fn renewing_is_unicast_with_ciaddr_and_without_options_50_and_54() {
    let mut world = bound();
    world.run_until(HOUR / 2 + Duration::from_secs(60));
    let renew = sent_of(&world, Sent::Renew)[0];
    assert_eq!(renew.unicast_to, Some(hostile::SERVER));
    assert!(renew.at <= HOUR / 2 && renew.at >= HOUR * 15 / 32, "T1, less up to a sixteenth");
    assert_eq!(renew.message.ciaddr, hostile::ADDRESS);
    assert_eq!(renew.message.options.get(code::REQUESTED_ADDRESS), None);
    assert_eq!(renew.message.options.get(code::SERVER_ID), None);
    assert!(matches!(world.events.last(), Some((_, Event::Renewed(_)))));
    assert_eq!(world.client.lease().unwrap().acquired_at, renew.at);
    // And so for ever.
    world.run_until(HOUR * 100);
    assert_eq!(world.lost_reasons(), []);
    assert_eq!(sent_of(&world, Sent::Discover).len(), 1);
}

#[test]
fn silence_leads_through_rebinding_to_expiry_and_back_to_init() {
    let mut world = bound();
    world.server.alive = false;
    world.run_until(HOUR + Duration::from_secs(5));
    assert_eq!(world.lost_reasons(), [LostReason::Expired]);
    let lost_at = world.events.iter().find(|(_, e)| matches!(e, Event::Lost { .. })).unwrap().0;
    let asked_at = world.sent[1].at;
    assert_eq!(lost_at, asked_at + HOUR, "a lease counts from its REQUEST");
    let renews = sent_of(&world, Sent::Renew);
    let rebinds = sent_of(&world, Sent::Rebind);
    assert!(renews.len() >= 4 && rebinds.len() >= 2, "{} {}", renews.len(), rebinds.len());
    let t2 = HOUR * 7 / 8;
    assert!(renews.iter().all(|r| r.at < t2) && rebinds.iter().all(|r| r.at >= t2));
    for rebind in rebinds {
        assert_eq!(rebind.unicast_to, Some(Ipv4Addr::BROADCAST));
        assert_eq!(rebind.message.ciaddr, hostile::ADDRESS);
        assert_eq!(rebind.message.options.get(code::REQUESTED_ADDRESS), None);
        assert_eq!(rebind.message.options.get(code::SERVER_ID), None);
    }
    assert!(sent_of(&world, Sent::Discover).len() >= 2);
}

#[test]
fn another_server_may_rebind_but_not_renew() {
    let mut world = bound();
    world.server.id = Ipv4Addr::new(10, 77, 0, 2);
    world.run_until(HOUR * 7 / 8 - Duration::from_secs(1));
    assert!(!world.events.iter().any(|(_, e)| matches!(e, Event::Renewed(_))));
    world.run_until(HOUR * 7 / 8 + Duration::from_secs(1));
    assert_eq!(world.client.lease().unwrap().server, world.server.id);
    assert_eq!(world.lost_reasons(), []);
}

#[test]
fn nak_while_renewing_takes_the_address_away_and_starts_over_at_once() {
    let mut world = bound();
    world.server.address = Ipv4Addr::new(10, 77, 5, 5);
    world.run_until(HOUR / 2 + Duration::from_secs(1));
    assert_eq!(world.lost_reasons(), [LostReason::Refused]);
    assert_eq!(world.client.lease().unwrap().address, world.server.address);
    assert_eq!(world.bound_count(), 2);
}

#[test]
fn a_nak_that_nobody_asked_for_changes_nothing() {
    let mut world = bound();
    let mut nak = honest(&world.sent[1].message);
    nak.kind = kiln_dhcp::wire::MessageType::Nak;
    for xid in [nak.xid, 0, 1] {
        nak.xid = xid;
        world.input(Input::Datagram { source_port: 67, payload: &nak.encode() });
    }
    assert!(world.client.lease().is_some());
    assert_eq!(world.lost_reasons(), []);
}

#[test]
fn unanswered_requests_lead_back_to_discover() {
    let mut world = World::up(Config::default(), 7, Server::default());
    // Every ACK is lost: packets 1 DISCOVER, 2 OFFER, 3 REQUEST, 4 ACK …
    world.lost = Box::new(|n| n == 4 || n == 6 || n == 8 || n == 10);
    world.seconds(60);
    assert_eq!(
        world.kinds,
        [
            Sent::Discover,
            Sent::Request,
            Sent::Request,
            Sent::Request,
            Sent::Request,
            Sent::Discover,
            Sent::Request
        ]
    );
    assert_eq!(world.bound_count(), 1);
}

#[test]
fn release_goes_to_the_server_and_ends_it_all() {
    let mut world = bound();
    world.input(Input::Release);
    let release = world.sent.last().unwrap();
    assert_eq!(release.unicast_to, Some(hostile::SERVER));
    assert_eq!(release.message.kind, kiln_dhcp::wire::MessageType::Release);
    assert_eq!(release.message.ciaddr, hostile::ADDRESS);
    assert_eq!(release.message.options.address(code::SERVER_ID), Some(hostile::SERVER));
    assert_eq!(release.message.options.get(code::REQUESTED_ADDRESS), None);
    assert_eq!(world.lost_reasons(), [LostReason::Released]);
    let sent = world.sent.len();
    world.input(Input::LinkUp);
    world.seconds(10_000);
    assert_eq!(world.sent.len(), sent);
}

#[test]
fn stop_keeps_silent() {
    let mut world = World::up(Config::default(), 7, Server { alive: false, ..Server::default() });
    world.input(Input::Stop);
    world.seconds(1000);
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_link_that_comes_back_is_asked_whether_it_is_the_same_network() {
    let mut world = bound();
    world.input(Input::LinkDown);
    world.seconds(10);
    assert!(world.client.lease().is_some());
    world.input(Input::LinkUp);
    let reboot = &world.sent.last().unwrap().message;
    assert_eq!(reboot.options.address(code::REQUESTED_ADDRESS), Some(hostile::ADDRESS));
    assert_eq!(reboot.options.get(code::SERVER_ID), None);
    assert_eq!(reboot.ciaddr, Ipv4Addr::UNSPECIFIED);
    world.seconds(1);
    assert!(matches!(world.events.last(), Some((_, Event::Renewed(_)))));

    // Another network says NAK.
    world.input(Input::LinkDown);
    world.server.address = Ipv4Addr::new(10, 77, 5, 5);
    world.input(Input::LinkUp);
    world.seconds(1);
    assert_eq!(world.lost_reasons(), [LostReason::Refused]);
    assert_eq!(world.client.lease().unwrap().address, world.server.address);

    // A silent one leaves the lease to its timers.
    world.input(Input::LinkDown);
    world.server.alive = false;
    world.input(Input::LinkUp);
    world.seconds(100);
    assert!(world.client.lease().is_some());
    assert_eq!(sent_of(&world, Sent::Reboot).len(), 2 + 3);
}

#[test]
fn a_lease_ends_without_carrier_too() {
    let mut world = bound();
    world.input(Input::LinkDown);
    world.run_until(HOUR * 2);
    assert_eq!(world.lost_reasons(), [LostReason::Expired]);
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn waking_from_sleep_past_expiry_loses_the_address_first() {
    let mut world = bound();
    // An ACK that would have renewed comes with the wake-up.
    let ack = honest(&world.sent[1].message).encode();
    world.now = HOUR * 5;
    world.input(Input::Datagram { source_port: 67, payload: &ack });
    assert_eq!(world.lost_reasons(), [LostReason::Expired]);
    world.seconds(1);
    assert_eq!(world.bound_count(), 2);
}

#[test]
fn a_clock_that_steps_back_stands_still() {
    let mut world = bound();
    world.now = Duration::ZERO;
    for _ in 0..10 {
        world.input(Input::Timeout);
    }
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn short_leases_are_lengthened_to_the_floor() {
    let brief = Server { lease: 1, ..Server::default() };
    let mut world = World::up(Config::default(), 7, brief);
    world.seconds(1);
    assert_eq!(world.client.lease().unwrap().valid_for, Some(Duration::from_secs(30)));
}

/// The lease that a reply with these options makes.
fn lease_with(
    config: Config,
    change: impl Fn(&mut kiln_dhcp::wire::Options) + 'static,
) -> kiln_dhcp::Lease {
    let server = move |request: &kiln_dhcp::wire::Message, _: Duration| {
        let mut reply = honest(request);
        change(&mut reply.options);
        vec![frame(hostile::SERVER, &reply)]
    };
    let mut world = World::up(config, 7, server);
    world.seconds(1);
    world.client.lease().unwrap().clone()
}

fn route(a: [u8; 4], prefix_len: u8, gateway: Option<[u8; 4]>) -> Route {
    Route { destination: a.into(), prefix_len, gateway: gateway.map(Ipv4Addr::from) }
}

#[test]
fn classless_routes_beat_the_router_option_rfc3442() {
    // 10.99.1.0/24 via 10.77.0.1; 0/0 via 10.77.0.2, host bits set where they do not belong.
    let data = [24, 10, 99, 1, 10, 77, 0, 1, 0, 10, 77, 0, 2];
    let lease =
        lease_with(Config::default(), move |o| discard(o.set(code::CLASSLESS_ROUTES, data)));
    assert_eq!(
        lease.routes,
        [route([10, 99, 1, 0], 24, Some([10, 77, 0, 1])), route([0; 4], 0, Some([10, 77, 0, 2]))]
    );
    let mut config = Config::default();
    config.classless_routes = ClasslessRoutes::Ignore;
    let lease = lease_with(config, move |o| discard(o.set(code::CLASSLESS_ROUTES, data)));
    assert_eq!(lease.routes, [route([0; 4], 0, Some([10, 77, 0, 1]))]);
}

#[test]
fn tunnelvision_can_be_refused_cve_2024_3661() {
    let data = [1, 0, 10, 77, 0, 1, 1, 128, 10, 77, 0, 1, 0, 10, 77, 0, 1];
    let mut config = Config::default();
    config.classless_routes = ClasslessRoutes::NoShorterThan(8);
    let lease = lease_with(config, move |o| discard(o.set(code::CLASSLESS_ROUTES, data)));
    assert_eq!(lease.routes, [route([0; 4], 0, Some([10, 77, 0, 1]))]);
}

#[test]
fn a_gateway_behind_a_host_mask_is_on_the_link() {
    let lease =
        lease_with(Config::default(), |o| discard(o.set(code::SUBNET_MASK, [255, 255, 255, 255])));
    assert_eq!(lease.prefix_len, 32);
    assert_eq!(
        lease.routes,
        [route([10, 77, 0, 1], 32, None), route([0; 4], 0, Some([10, 77, 0, 1]))]
    );
    // The same said with option 121, as some clouds do, in the wrong order.
    let data = [0, 10, 77, 0, 1, 32, 10, 77, 0, 1, 0, 0, 0, 0];
    let lease = lease_with(Config::default(), move |o| {
        o.set(code::SUBNET_MASK, [255; 4]).set(code::CLASSLESS_ROUTES, data);
    });
    assert_eq!(lease.routes.len(), 2);
    assert_eq!(lease.routes[0], route([10, 77, 0, 1], 32, None));
}

#[test]
fn a_gateway_off_the_subnet_is_used_when_asked_for() {
    let mut config = Config::default();
    config.off_link_gateway = OffLinkGateway::OnLink;
    let lease = lease_with(config, |o| discard(o.set(code::ROUTER, [192, 0, 2, 1])));
    assert_eq!(
        lease.routes,
        [route([192, 0, 2, 1], 32, None), route([0; 4], 0, Some([192, 0, 2, 1]))]
    );
}

#[test]
fn masks_that_are_none_count_as_absent() {
    for mask in [&[255, 0, 255, 0][..], &[0, 0, 0, 0], &[255, 255, 0]] {
        let mask = mask.to_vec();
        let lease =
            lease_with(Config::default(), move |o| discard(o.set(code::SUBNET_MASK, mask.clone())));
        assert_eq!(lease.prefix_len, 8, "the class of 10.77.9.9");
    }
}

#[test]
fn names_mtu_and_servers_are_taken_when_good() {
    let lease = lease_with(Config::default(), |o| {
        o.set(code::HOST_NAME, *b"node-1\0")
            .set(code::DOMAIN_NAME, *b"example.org.")
            .set(code::DOMAIN_SEARCH, *b"\x01a\x07example\x00\x01b\xc0\x02")
            .set(code::MTU, [5, 120])
            .set(code::DNS, [10, 0, 0, 53, 127, 0, 0, 1, 10, 0, 0, 53, 10, 0, 0, 54])
            .set(code::NTP, [10, 0, 0, 123]);
    });
    assert_eq!(lease.host_name.as_deref(), Some("node-1"));
    assert_eq!(lease.domain.as_deref(), Some("example.org"));
    assert_eq!(lease.search, ["a.example", "b.example"]);
    assert_eq!(lease.mtu, Some(1400));
    assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 0, 53), Ipv4Addr::new(10, 0, 0, 54)]);
    assert_eq!(lease.ntp, [Ipv4Addr::new(10, 0, 0, 123)]);
}

#[test]
fn settings_are_refused_with_every_problem_at_once() {
    let mut config = Config::default();
    config.client_id = Some(vec![1]);
    config.host_name = Some("a b".into());
    config.first_retry = Duration::ZERO;
    let error = Client::new(config, HardwareAddr([0; 6]), 0, Duration::ZERO).unwrap_err();
    assert_eq!(
        error.problems,
        [
            Problem::ClientId(1),
            Problem::HostName("a b".into()),
            Problem::Retry,
            Problem::HardwareAddr
        ]
    );
    assert!(error.to_string().starts_with("client_id: 1 bytes, expected 2 to 255; host_name: "));
}

#[test]
fn the_settings_reach_the_wire() {
    let mut config = Config::default();
    config.host_name = Some("node-1".into());
    config.vendor_class = Some(b"kiln".to_vec());
    config.client_id = Some(vec![0, 1, 2, 3]);
    config.broadcast = true;
    config.request = vec![43, 3];
    let world = World::up(config, 7, Server::default());
    let discover = &world.sent[0].message;
    assert_eq!(discover.chaddr, MAC);
    assert!(discover.broadcast);
    assert_eq!(discover.options.get(code::HOST_NAME), Some(&b"node-1"[..]));
    assert_eq!(discover.options.get(code::VENDOR_CLASS), Some(&b"kiln"[..]));
    assert_eq!(discover.options.get(code::CLIENT_ID), Some(&[0, 1, 2, 3][..]));
    let list = discover.options.get(code::PARAMETER_LIST).unwrap();
    assert_eq!(list.iter().filter(|c| **c == 43).count(), 1);
    assert_eq!(list.iter().filter(|c| **c == 3).count(), 1);
}

#[cfg(feature = "serde")]
#[test]
fn a_lease_survives_json() {
    let world = bound();
    let lease = world.client.lease().unwrap();
    let json = serde_json::to_string(lease).unwrap();
    assert_eq!(serde_json::from_str::<kiln_dhcp::Lease>(&json).unwrap(), *lease);
    let broken = json.replace("3600.0", "-1");
    assert!(serde_json::from_str::<kiln_dhcp::Lease>(&broken).is_err());
}
