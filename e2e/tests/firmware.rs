//! NomadOS started by UEFI: from the disk that a BIOS starts too, and with Secure Boot what is signed
//! and nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kiln::boot::signer;
use kiln::definition::{self, Format};
use kiln::qemu::{Disk, Firmware, Machine, Nic, Uefi, format_of};
use kiln::{Cache, Progress};
use kiln_diskimg::Guid;
use kiln_diskimg::boot::secure_boot::{Enrollment, Signature};
use kiln_diskimg::boot::sign::{Certificate, PrivateKey, Profile};
use kiln_e2e::LONG;
use nomados::build;
use nomados::run::{self, Options};

/// What `/init` says first.
const INIT: &str = "/init started";

fn build(out: &Path, firmware: &[definition::Firmware], keys: Option<&Path>) -> Result<PathBuf> {
    let mut options = build::Options::new(out);
    options.formats = vec![Format::Raw, Format::VmdkStream, Format::Vhdx];
    options.firmware = firmware.to_vec();
    options.secure_boot = keys.map(Path::to_path_buf);
    build::build(&options, &Progress::on_stderr())?;
    Ok(out.join("nomados.raw"))
}

fn machine(image: &Path, firmware: Firmware) -> Result<Machine> {
    let mut machine = Machine::default();
    let format = format_of(image).context("no disk")?;
    machine.disks.push(Disk::new(image, format));
    (machine.nic, machine.network) = (Some(Nic::Virtio), false);
    machine.firmware = firmware;
    Ok(machine)
}

#[test]
fn one_disk_is_started_by_uefi_and_by_a_bios() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let image = build(directory.path(), &definition::Firmware::ALL, None)?;
    let quiet = Progress::quiet();
    let mut options = Options::new(&image);
    options.firmware = Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    let mut running = run::start(&options)?;
    running.wait_ready(&quiet)?;
    let output = running.run_job(&run::hello(), &quiet)?;
    ensure!(output.starts_with("hello from nomados"), "{output}");
    println!("by UEFI:\n{}", run::chart(&running.phases()));
    running.shut_down(&quiet)?;
    for other in ["nomados.stream.vmdk", "nomados.vhdx"] {
        let mut vm = machine(&image.with_file_name(other), Firmware::Bios)?.start()?;
        vm.wait_for(INIT, LONG).with_context(|| other.to_owned())?;
    }
    Ok(())
}

/// A key that is nobody's secret, with its certificate: from a number the same each time.
fn make_keys(directory: &Path, start: u64) -> Result<Certificate> {
    let mut state = start;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            // A linear congruential generator (Knuth's MMIX).
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
    };
    let key = PrivateKey::generate(2048, &mut random)?;
    let certificate = Certificate::self_signed(&key, &Profile::new("Kiln test"))?;
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("db.key"), key.to_pem()?)?;
    std::fs::write(directory.join("db.crt"), certificate.to_pem()?)?;
    signer(directory)?;
    Ok(certificate)
}

#[test]
fn secure_boot_starts_what_is_signed_and_nothing_else() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let ours = make_keys(&path("ours"), 1)?;
    make_keys(&path("theirs"), 2)?;

    // A machine that trusts this key.
    let cache = Cache::of_workspace();
    let owner = Guid::from_u128(1);
    let signature = Signature::certificate(owner, ours.to_der());
    let mut enrollment = Enrollment::new(signature.clone());
    enrollment.key_exchange.push(signature.clone());
    enrollment.allowed.push(signature);
    let store = std::fs::read(Uefi::find(&cache)?.variables)?;
    std::fs::write(path("variables.fd"), enrollment.enroll(&store)?)?;
    let firmware = Firmware::Uefi(Uefi::secure(&cache, Some(path("variables.fd")))?);

    let uefi = [definition::Firmware::Uefi];
    let signed = build(&path("signed"), &uefi, Some(&path("ours")))?;
    let mut vm = machine(&signed, firmware.clone())?.start()?;
    vm.wait_for(INIT, LONG).context("the signed one")?;
    drop(vm);

    // One bit of the initramfs, which is at the end of the disk's content.
    let mut bytes = std::fs::read(&signed)?;
    let middle = bytes.len() / 2;
    bytes.get_mut(middle).map(|byte| *byte ^= 1).context("an empty disk")?;
    std::fs::write(path("changed.raw"), bytes)?;
    let cases = [
        ("unsigned", build(&path("unsigned"), &uefi, None)?),
        ("signed by another key", build(&path("other"), &uefi, Some(&path("theirs")))?),
        ("one bit changed", path("changed.raw")),
    ];
    for (what, image) in cases {
        let mut vm = machine(&image, firmware.clone())?.start()?;
        vm.wait_for("Access Denied", Duration::from_secs(200)).context(what)?;
        let started = vm.console().find(INIT, 0, Duration::ZERO);
        ensure!(started.is_none(), "{what}: it was started");
    }
    Ok(())
}
