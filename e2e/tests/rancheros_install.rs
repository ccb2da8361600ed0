//! The RancherOS-like system put on a disk, replaced by another version, taken back, and fallen back to:
//! by both firmwares, with both partition tables; and what is left when the power goes meanwhile.
//! `cargo xtask campaign rancheros-crash-states` has more of these.

use std::fs;

use anyhow::{Result, ensure};
use kiln::Cache;
use kiln::qemu::{Firmware, Uefi};
use kiln_e2e::rancheros::{has_room, live, started_from_cd, started_from_disk};
use rancheros::key;

#[test]
fn it_is_installed_upgraded_taken_back_and_falls_back() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let life = live(directory.path(), &Firmware::Bios, false)?;
    let tallies = [life.installation_crashes(20, 1)?, life.upgrades.upgrade_crashes(30, 1)?];
    for (tally, states) in tallies.iter().zip([20, 30]) {
        tally.iter().for_each(|(state, count)| println!("{count}: {state}"));
        ensure!(tally.values().sum::<u64>() == states, "{tally:?}");
    }
    Ok(())
}

#[test]
fn a_disk_with_an_mbr_is_started_by_uefi() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = directory.path();
    let uefi = Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    let guest = started_from_cd(place, "log", uefi.clone())?;
    let public = key::ensure(&place.join("key"))?;
    fs::write(place.join("c.yml"), format!("ssh_authorized_keys:\n- {public}\n"))?;
    let install = "sudo ros install -t generic --no-reboot -d /dev/vda -c - -a 'quiet panic=3'";
    guest.feed(install, &place.join("c.yml"))?;
    guest.power_off()?;
    let guest = started_from_disk(place, "log", uefi)?;
    assert_eq!(guest.run("sudo ros os list")?, "a  v2.0.0           running, next\n");
    has_room(&guest)?;
    guest.power_off()
}
