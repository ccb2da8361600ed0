//! Machines without a disk start from a lab's server and become nodes: by the PXE of UEFI's own drivers beside
//! another DHCP server, by a network card's ROM in a BIOS, and by UEFI over HTTP.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kiln::Cache;
use kiln::manifest::Manifest;
use kiln::qemu::{Firmware, Machine, Uefi};
use kiln_e2e::{LONG, images, tool};
use kiln_netboot::serve::{Dhcp, End, Event, Files, Http, Sink, Tftp};
use kiln_netboot::{Boot, Network, Script, Server};
use kiln_network::container::Namespace;

/// Private ones: Nomad tells others no address that is none of RFC 1918.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 11);
const MAC: &str = "52:54:00:00:02:11";

fn run(program: &str, words: &str) -> Result<()> {
    let done = Command::new(program).args(words.split(' ')).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{program} {words}: {said}");
    Ok(())
}

/// Addresses from somebody else.
struct Other(Child);

impl Other {
    fn start() -> Result<Self> {
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq.args(["-k", "-C", "/dev/null", "--port=0", "--interface=lab0", "--bind-dynamic"]);
        dnsmasq.args(["--no-ping", "--leasefile-ro", "--user=root", "--log-facility=/dev/null"]);
        dnsmasq.args(["--dhcp-range=10.44.0.50,10.44.0.60"]);
        Ok(Self(dnsmasq.arg(format!("--dhcp-host={MAC},{NODE}")).spawn()?))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a node says of itself, as soon as it does.
fn ready(limit: Duration) -> Result<()> {
    let begun = Instant::now();
    let ask = || -> Result<String> {
        let address = SocketAddr::from((NODE, 4646));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /v1/nodes HTTP/1.0\r\n\r\n")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    loop {
        let said = ask();
        if said.as_ref().is_ok_and(|said| said.contains("\"Status\":\"ready\"")) {
            return Ok(());
        }
        if begun.elapsed() > limit {
            bail!("no node is ready: {said:?}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A machine that is started from here; gives what was said of it.
fn started(firmware: Firmware, rom: bool, proxied: bool) -> Result<Vec<String>> {
    run("ip", "link set lo up")?;
    run("ip", "link add lab0 type bridge")?;
    run("ip", &format!("addr add {HERE}/24 dev lab0"))?;
    run("ip", "link set lab0 up")?;
    run("ip", "tuntap add tap0 mode tap")?;
    run("ip", "link set tap0 master lab0 up")?;

    let files = Files::new([images()?.to_owned(), "/usr/lib/ipxe".into()]);
    let boot = Boot::new(HERE, 80);
    let mut script = Script::new(format!("{}/nomados.vmlinuz", boot.url));
    script.initrds = vec![format!("{}/nomados.initramfs", boot.url)];
    let words = Manifest::read(images()?)?.command_line;
    script.arguments = words.split_whitespace().map(str::to_owned).collect();
    let text = script.text()?;
    let tftp = Tftp::at(HERE, Some("lab0"), files.clone())?;
    let http = Http::bind((HERE, 80).into(), files, move |_| Some(text.clone()))?;
    let (mut dhcp, _other) = if proxied {
        (Dhcp::proxy("lab0", boot)?, Some(Other::start()?))
    } else {
        let address = format!("{HERE}/24").parse()?;
        let mut network = Network::new(address, [10, 44, 0, 100].into(), [10, 44, 0, 110].into());
        network.fixed.insert(MAC.parse()?, NODE);
        // Nomad does not start where nothing leads elsewhere.
        network.router = Some(HERE);
        let server =
            Server::new(network, Some(boot)).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        (Dhcp::server("lab0", server)?, None)
    };

    let mut machine = Machine::default();
    machine.nic = None;
    machine.firmware = firmware;
    let rom = if rom { "" } else { ",romfile=" };
    machine.arguments = [
        "-netdev",
        "tap,id=lab,ifname=tap0,script=no,downscript=no",
        "-device",
        &format!("virtio-net-pci,netdev=lab,mac={MAC},bootindex=1{rom}"),
    ]
    .map(str::to_owned)
    .into();
    let end = End::new();
    let (said, events) = std::sync::mpsc::channel();
    let sink: Sink = Arc::new(move |event: &Event| drop(said.send(event.to_string())));
    let done = std::thread::scope(|scope| {
        let (end, sink) = (&end, &sink);
        scope.spawn(move || tftp.serve(end, sink));
        scope.spawn(move || http.serve(end, sink));
        scope.spawn(move || dhcp.serve(end, sink));
        let done = (|| {
            let mut vm = machine.start()?;
            ready(LONG * 2).with_context(|| vm.console().tail(40))?;
            println!(
                "a node is ready {:.1} s after QEMU's start",
                vm.started().elapsed().as_secs_f64()
            );
            vm.power_button()?;
            vm.wait_exit(LONG).with_context(|| vm.console().tail(40))?;
            anyhow::Ok(())
        })();
        end.ask();
        done
    });
    drop(sink);
    let events: Vec<String> = events.try_iter().collect();
    done.with_context(|| events.join("\n"))?;
    Ok(events)
}

/// In a network of its own, which leads nowhere: what comes from elsewhere has to be there before.
fn apart(what: impl FnOnce() -> Result<Vec<String>> + Send) -> Result<Vec<String>> {
    images()?;
    Namespace::new()?.run(what)?
}

fn is_possible() -> bool {
    let tools = ["ip", "dnsmasq"].iter().all(|name| tool(name).is_some());
    // Debian's package ipxe
    tools && tool("../lib/ipxe/ipxe.efi").is_some()
}

#[test]
fn uefi_loads_by_tftp_beside_another_dhcp_server() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let uefi = Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    let said = apart(|| started(uefi, false, true))?.join("\n");
    ensure!(said.contains("(PXE, UEFI x86-64) loads ipxe.efi"), "{said}");
    ensure!(said.contains("has ipxe.efi: "), "{said}");
    ensure!(
        said.contains("(iPXE, UEFI x86-64) loads http://10.44.0.1/boot/52-54-00-00-02-11.ipxe"),
        "{said}"
    );
    ensure!(said.contains("GET /nomados.initramfs: 200"), "{said}");
    Ok(())
}

#[test]
fn a_bios_loads_by_the_rom_of_its_card() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let said = apart(|| started(Firmware::Bios, true, false))?.join("\n");
    ensure!(said.contains(&format!("{MAC}: Ack {NODE}")), "{said}");
    ensure!(said.contains("(iPXE, BIOS) loads http://"), "{said}");
    Ok(())
}
