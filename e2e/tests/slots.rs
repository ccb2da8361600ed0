//! Two systems on one disk: replaced, tried, marked good, taken back, fallen back from; and what is
//! left when the power goes meanwhile. Sixteen boots; `cargo xtask campaign crash-states` has more.

use anyhow::{Result, ensure};
use kiln_e2e::slots::{Disks, crashes, live};

#[test]
fn a_disk_with_slots_replaces_its_systems_and_falls_back() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let disks = Disks::build(directory.path())?;
    for uefi in [false, true] {
        let life = live(&disks, uefi, directory.path())?;
        println!("{}", life.said.join("\n"));
        let (count, bytes) = (life.log.stretches(), life.log.written());
        println!("{count} stretches, {bytes} bytes written");
        let tally = crashes(&life, 50, 2, uefi, 1)?;
        for (state, count) in &tally.found {
            println!("{count} {state:?}");
        }
        ensure!(tally.states == 50 && tally.boots == 2, "{tally:?}");
    }
    Ok(())
}
