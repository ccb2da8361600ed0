//! The guest's network, clock and services, as its settings and its command line say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use kiln::qemu::{Card, Plugged, Vm};
use kiln_e2e::{Chrony, LONG, Variant, report, said};

/// What a guest says of itself once its network and its clock are ready.
const SCRIPT: &str = "
hostname | sed 's/^/report: hostname /'
grep 127.0.1.1 /etc/hosts | sed 's/^/report: hosts /'
ip -o -4 addr show | sed 's/^[0-9]*: /report: address /'
ip -4 route show | sed 's/^/report: route /'
grep -v '^#' /etc/resolv.conf | sed 's/^/report: resolv /'
ping -c 1 -W 5 192.0.2.2 > /dev/null && echo report: the second network answers
cat /etc/machine-id | sed 's/^/report: machine-id /'
";

/// Whether the console has a line with this text.
fn says(vm: &Vm, text: &str) -> bool {
    vm.console().find(text, 0, Duration::ZERO).is_some()
}

fn seconds_now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// The seconds that the time service says it has set, compared with the host's when the line came.
fn assert_clock(vm: &mut Vm, verb: &str) -> Result<()> {
    // Near the line's end: what stands before it is there too.
    let line = vm.wait_for(", stratum", LONG)?;
    assert!(line.text.contains(&format!("time: the clock is {verb}")), "{}", line.text);
    let age = line.at.elapsed().as_secs();
    let host = seconds_now()?.saturating_sub(age);
    let said = line.text.split('(').nth(1).and_then(|rest| rest.split(')').next());
    let guest: u64 = said.context("no time in the line")?.parse()?;
    assert!(host.abs_diff(guest) <= 5, "the guest has {guest}, the host {host}: {}", line.text);
    Ok(())
}

#[test]
fn two_cards_a_name_from_dhcp_a_service_of_ones_own_and_the_time() -> Result<()> {
    let _chrony = Chrony::start()?;
    let services = report(&["network", "time", "first-boot"], SCRIPT);
    let mut variant = Variant::new(
        &[
            ("etc/kiln/services.toml", services.as_str()),
            (
                "etc/kiln/network.toml",
                "[network]\nntp = [\"10.0.2.2\"]\nsearch = [\"example.org\"]\n",
            ),
        ],
        "ip=eth0:dhcp ip=192.0.2.5:::255.255.255.0::eth1:none:192.0.2.53",
    )?;
    variant.machine.hostname = Some("from-dhcp".into());
    variant.machine.rtc = Some("2001-01-01".into());
    let network = Some("192.0.2.0/24".into());
    variant.machine.cards = vec![Card::new(Plugged::User { network, hostname: None })];
    let mut vm = variant.start()?;
    assert_clock(&mut vm, "set to")?;
    vm.wait_for("report: end", LONG)?;

    let lines = said(&vm, "report: ");
    let one = |start: &str| lines.iter().any(|line| line.starts_with(start));
    for start in [
        "hostname from-dhcp",
        "hosts 127.0.1.1 from-dhcp",
        "address eth0    inet 10.0.2.15/24",
        "address eth1    inet 192.0.2.5/24",
        "route default via 10.0.2.2 dev eth0",
        "resolv search example.org",
        "resolv nameserver 10.0.2.3",
        "resolv nameserver 192.0.2.53",
        "the second network answers",
        "machine-id ",
    ] {
        assert!(one(start), "nothing begins with {start:?}: {lines:#?}");
    }
    // The hardware clock was years before the image; process 1 did not leave it there.
    let behind = said(&vm, "time: the clock is set to").first().cloned().unwrap_or_default();
    assert!(behind.contains("s behind 10.0.2.2"), "{behind}");
    let off = behind.split("it was ").nth(1).and_then(|rest| rest.split('.').next());
    assert!(
        off.is_some_and(|off| off.parse::<u64>().is_ok_and(|off| off < 20 * 365 * 86_400)),
        "{behind}"
    );
    vm.power_button()?;
    vm.wait_exit(LONG)?;
    Ok(())
}

#[test]
fn an_address_by_settings_and_services_that_cannot_be_read() -> Result<()> {
    let _chrony = Chrony::start()?;
    let settings = "[network]\nhostname = \"from-file\"\nntp = [\"10.0.2.2\"]\n\n[[network.interface]]\n\
                    match = \"52:54:00:12:34:56\"\naddresses = [\"10.0.2.20/24\"]\ngateway = \"10.0.2.2\"\n\
                    nameservers = [\"10.0.2.3\"]\nrequired = true\n";
    let broken = "[[service]]\nname = \"web\"\nexec = [\"/bin/web\"]\n";
    let variant = Variant::new(
        &[("etc/kiln/services.toml", broken), ("etc/kiln/network.toml", settings)],
        "",
    )?;
    let mut vm = variant.start()?;
    vm.wait_for("/etc/kiln/services.toml:1: left out: service web", LONG)?;
    vm.wait_for("/etc/kiln/services.toml:3: unknown key", LONG)?;
    // An answer from 10.0.2.2 shows that the address and the card work.
    assert_clock(&mut vm, "")?;
    for text in [
        "eth0: 10.0.2.20/24 via 10.0.2.2, as interface 1",
        "this machine is from-file",
        "network: up",
    ] {
        vm.wait_until(text, LONG, |vm| says(vm, text))?;
    }
    assert!(!says(&vm, "nomad: started"));
    vm.power_button()?;
    vm.wait_for("all services stopped", LONG)?;
    vm.wait_exit(LONG)?;
    Ok(())
}
