//! The same NomadOS from every format, on every card and controller, with little memory, and with a
//! disk for its data.

use std::process::Command;

use kiln::Progress;
use kiln::qemu::{Bus, Nic};
use kiln_e2e::{images, start};
use nomados::run::{self, Options};

fn boots(change: impl FnOnce(&mut Options), image: &str) -> anyhow::Result<()> {
    let mut options = Options::new(images()?.join(image));
    change(&mut options);
    let mut guest = start(&options)?;
    guest.running.wait_ready(&Progress::quiet())?;
    let output = guest.running.run_job(&run::hello(), &Progress::quiet())?;
    assert!(output.starts_with("hello from nomados"), "{output}");
    println!("{image}:\n{}", run::chart(&guest.running.phases()));
    guest.running.shut_down(&Progress::quiet())?;
    Ok(())
}

#[test]
fn initramfs_and_kernel() -> anyhow::Result<()> {
    boots(|_| {}, "nomados.initramfs")
}

#[test]
fn qcow2_on_e1000_and_ide() -> anyhow::Result<()> {
    boots(|options| (options.nic, options.bus) = (Nic::E1000, Bus::Ide), "nomados.qcow2")
}

#[test]
fn vmdk() -> anyhow::Result<()> {
    boots(|_| {}, "nomados.vmdk")
}

/// The seed's command line: raw, e1000, 512 MB.
#[test]
fn raw_on_e1000_with_512_mb() -> anyhow::Result<()> {
    boots(|options| (options.nic, options.memory) = (Nic::E1000, 512), "nomados.raw")
}

#[test]
fn data_on_a_labelled_disk_is_still_there_after_a_restart() {
    let quiet = Progress::quiet();
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("data.raw");
    std::fs::File::create(&disk).unwrap().set_len(512 << 20).unwrap();
    let Ok(made) = Command::new("mkfs.ext4").args(["-q", "-L", "nomad-data"]).arg(&disk).status()
    else {
        assert!(std::env::var_os("CI").is_none(), "mkfs.ext4 is missing");
        println!("skipped: mkfs.ext4");
        return;
    };
    assert!(made.success());
    let mut options = Options::new(images().unwrap().join("nomados.raw"));
    options.data = Some(disk);
    let node = |guest: &kiln_e2e::Guest| guest.running.agent.nodes().unwrap()[0]["ID"].clone();

    let mut guest = start(&options).unwrap();
    guest.running.wait_ready(&quiet).unwrap();
    guest.running.run_job(&run::hello(), &quiet).unwrap();
    let first = node(&guest);
    guest.running.shut_down(&quiet).unwrap();
    drop(guest);

    let mut guest = start(&options).unwrap();
    guest.running.wait_ready(&quiet).unwrap();
    assert_eq!(node(&guest), first);
    let allocation = guest.running.agent.allocation("hello").unwrap().unwrap();
    assert_eq!(allocation.status, "complete");
    guest.running.shut_down(&quiet).unwrap();
}
