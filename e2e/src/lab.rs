//! A lab: machines without disks on a bridge of their own, and our server that they boot from.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Result, ensure};
use kiln::qemu::{Firmware, Machine};
use kiln_netboot::serve::{Dhcp, End, Event, Files, Http, Sink, Tftp};
use kiln_netboot::{Boot, Network, Server};
use kiln_network::container::Namespace;

use crate::tool;

/// Who serves. The addresses are private ones: Nomad and Consul tell others none that is not.
pub const HERE: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 1);
/// The bridge.
const BRIDGE: &str = "lab0";

/// The address of the machine with that number, which is none of the range.
#[must_use]
pub fn address(machine: u8) -> Ipv4Addr {
    let [a, b, c, _] = HERE.octets();
    Ipv4Addr::new(a, b, c, 10 + machine)
}

/// Its hardware address.
#[must_use]
pub fn hardware(machine: u8) -> String {
    format!("52:54:00:00:02:{machine:02x}")
}

/// Whether a lab can be made here; else it is said why not.
#[must_use]
pub fn is_possible() -> bool {
    let tools = ["ip", "dnsmasq"].iter().all(|name| tool(name).is_some());
    // Debian's package ipxe
    tools && tool("../lib/ipxe/ipxe.efi").is_some()
}

/// Does something in a network of its own, which leads nowhere: what comes from elsewhere has to be there before.
///
/// # Errors
/// Those of what is done; without a namespace.
pub fn apart<T: Send>(what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    Namespace::new()?.run(what)?
}

/// What serves until it is to end.
type Service = Box<dyn FnOnce(&End, &Sink) + Send>;

/// The script of the machine with that hardware address.
pub type Scripts = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A lab that serves until it is dropped.
#[derive(Debug)]
pub struct Lab {
    end: End,
    threads: Vec<JoinHandle<()>>,
    events: Mutex<(Receiver<String>, Vec<String>)>,
    other: Option<Child>,
}

impl Lab {
    /// Serves these directories and iPXE; scripts by HTTP. Addresses are given by `dhcp`, or where there is none by
    /// dnsmasq, to that machine.
    ///
    /// # Errors
    /// What cannot be set up. To be called in a namespace ([`apart`]).
    pub fn start(
        machines: u8,
        directories: Vec<PathBuf>,
        proxied: bool,
        scripts: Scripts,
    ) -> Result<Self> {
        run("ip", "link set lo up")?;
        run("ip", &format!("link add {BRIDGE} type bridge"))?;
        run("ip", &format!("addr add {HERE}/24 dev {BRIDGE}"))?;
        run("ip", &format!("link set {BRIDGE} up"))?;
        for machine in 1..=machines {
            run("ip", &format!("tuntap add {} mode tap", tap(machine)))?;
            run("ip", &format!("link set {} master {BRIDGE} up", tap(machine)))?;
        }
        let files = Files::new(directories.into_iter().chain(["/usr/lib/ipxe".into()]));
        let boot = Boot::new(HERE, 80);
        let tftp = Tftp::at(HERE, Some(BRIDGE), files.clone())?;
        let http = Http::bind((HERE, 80).into(), files, move |mac| scripts(&mac.to_string()))?;
        let mut other = None;
        let mut dhcp = if proxied {
            other = Some(dnsmasq(machines)?);
            Dhcp::proxy(BRIDGE, boot)?
        } else {
            let mut network = Network::new(format!("{HERE}/24").parse()?, address(90), address(99));
            for machine in 1..=machines {
                network.fixed.insert(hardware(machine).parse()?, address(machine));
            }
            // Nomad does not start where nothing leads elsewhere.
            network.router = Some(HERE);
            let server = Server::new(network, Some(boot));
            let server = server.map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
            Dhcp::server(BRIDGE, server)?
        };
        let end = End::new();
        let (said, events) = channel();
        let sink: Sink = Arc::new(move |event: &Event| {
            let _ = said.send(event.to_string());
        });
        let mut threads = Vec::new();
        let mut serve = |what: Service| {
            let (end, sink) = (end.clone(), Arc::clone(&sink));
            threads.push(std::thread::spawn(move || what(&end, &sink)));
        };
        serve(Box::new(move |end, sink| drop(tftp.serve(end, sink))));
        serve(Box::new(move |end, sink| drop(http.serve(end, sink))));
        serve(Box::new(move |end, sink| drop(dhcp.serve(end, sink))));
        Ok(Self { end, threads, events: Mutex::new((events, Vec::new())), other })
    }

    /// What was served to whom, so far.
    #[must_use]
    pub fn events(&self) -> String {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (news, all) = &mut *events;
        all.extend(news.try_iter());
        all.join("\n")
    }

    /// A machine of the lab without a disk. `rom` says whether its card has one of its own.
    #[must_use]
    pub fn machine(&self, number: u8, firmware: Firmware, rom: bool) -> Machine {
        let mut machine = Machine::default();
        machine.nic = None;
        machine.firmware = firmware;
        let rom = if rom { "" } else { ",romfile=" };
        machine.arguments = [
            "-netdev",
            &format!("tap,id=lab,ifname={},script=no,downscript=no", tap(number)),
            "-device",
            &format!("virtio-net-pci,netdev=lab,mac={},bootindex=1{rom}", hardware(number)),
        ]
        .map(str::to_owned)
        .into();
        machine
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.end.ask();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(other) = &mut self.other {
            let _ = other.kill();
            let _ = other.wait();
        }
        if std::thread::panicking() {
            eprintln!("what the lab served:\n{}", self.events());
        }
    }
}

fn tap(machine: u8) -> String {
    format!("tap{machine}")
}

fn run(program: &str, words: &str) -> Result<()> {
    let done = Command::new(program).args(words.split(' ')).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{program} {words}: {said}");
    Ok(())
}

/// Addresses from somebody else.
fn dnsmasq(machines: u8) -> Result<Child> {
    let mut dnsmasq = Command::new("dnsmasq");
    dnsmasq.args(["-k", "-C", "/dev/null", "--port=0", "--bind-dynamic"]);
    dnsmasq.arg(format!("--interface={BRIDGE}"));
    dnsmasq.args(["--no-ping", "--leasefile-ro", "--user=root", "--log-facility=/dev/null"]);
    dnsmasq.arg(format!("--dhcp-range={},{}", address(90), address(99)));
    for machine in 1..=machines {
        dnsmasq.arg(format!("--dhcp-host={},{}", hardware(machine), address(machine)));
    }
    Ok(dnsmasq.spawn()?)
}
