//! Machines without a disk start from a lab's server and become nodes: by the PXE of UEFI's own drivers beside
//! another DHCP server, by a network card's ROM in a BIOS.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kiln::Cache;
use kiln::manifest::Manifest;
use kiln::qemu::{Firmware, Uefi};
use kiln_e2e::lab::{self, Lab};
use kiln_e2e::{LONG, images};
use kiln_netboot::Script;

/// What a node says of itself, as soon as it does.
fn ready(limit: Duration) -> Result<()> {
    let begun = Instant::now();
    let ask = || -> Result<String> {
        let address = SocketAddr::from((lab::address(1), 4646));
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

/// A machine that is started in a lab; gives what was said of it.
fn started(firmware: Firmware, rom: bool, proxied: bool) -> Result<String> {
    let images = images()?;
    let mut script = Script::new(format!("http://{}/nomados.vmlinuz", lab::HERE));
    script.initrds = vec![format!("http://{}/nomados.initramfs", lab::HERE)];
    let words = Manifest::read(images)?.command_line;
    script.arguments = words.split_whitespace().map(str::to_owned).collect();
    let text = script.text()?;
    lab::apart(|| {
        let scripts = Box::new(move |_: &str| Some(text.clone()));
        let lab = Lab::start(1, vec![images.to_owned()], proxied, scripts)?;
        let mut vm = lab.machine(1, firmware, rom).start()?;
        let said = || format!("{}\n{}", lab.events(), vm.console().tail(40));
        ready(LONG * 2).with_context(said)?;
        println!(
            "a node is ready {:.1} s after QEMU's start",
            vm.started().elapsed().as_secs_f64()
        );
        vm.power_button()?;
        vm.wait_exit(LONG)?;
        Ok(lab.events())
    })
}

#[test]
fn uefi_loads_by_tftp_beside_another_dhcp_server() -> Result<()> {
    if !lab::is_possible() {
        return Ok(());
    }
    let uefi = Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    let said = started(uefi, false, true)?;
    ensure!(said.contains("(PXE, UEFI x86-64) loads ipxe.efi"), "{said}");
    ensure!(said.contains("has ipxe.efi: "), "{said}");
    let url = format!("http://{}/boot/{}.ipxe", lab::HERE, lab::hardware(1).replace(':', "-"));
    ensure!(said.contains(&format!("(iPXE, UEFI x86-64) loads {url}")), "{said}");
    ensure!(said.contains("GET /nomados.initramfs: 200"), "{said}");
    Ok(())
}

#[test]
fn a_bios_loads_by_the_rom_of_its_card() -> Result<()> {
    if !lab::is_possible() {
        return Ok(());
    }
    let said = started(Firmware::Bios, true, false)?;
    let ack = format!("{}: Ack {}", lab::hardware(1), lab::address(1));
    ensure!(said.contains(&ack), "{said}");
    ensure!(said.contains("(iPXE, BIOS) loads http://"), "{said}");
    Ok(())
}
