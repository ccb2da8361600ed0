//! NomadOS started by UEFI: from the disk that a BIOS starts too, and with Secure Boot what is signed
//! and nothing else.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kiln::boot::signer;
use kiln::definition::{Format, SecureBoot};
use kiln::qemu::{Bus, Disk, Firmware, Machine, Nic, Uefi};
use kiln::{Cache, Progress};
use kiln_diskimg::Guid;
use kiln_diskimg::boot::secure_boot::{Enrollment, Signature};
use kiln_diskimg::boot::sign::{Certificate, PrivateKey, Profile};
use kiln_diskimg::{Limits, gpt};
use kiln_e2e::{LONG, rooted};
use nomados::build;
use nomados::run;

/// What `/init` says first.
const INIT: &str = "/init started";
/// What it says of a root whose every block is verified.
const VERIFIED: &str = "root: verified erofs";
/// How long firmware may take to refuse.
const REFUSED: Duration = Duration::from_secs(200);

fn build(out: &Path, formats: &[Format], secure: Option<SecureBoot>) -> Result<PathBuf> {
    let mut options = build::Options::new(out);
    options.formats = formats.to_vec();
    options.secure_boot = secure;
    build::build(&options, &Progress::on_stderr())?;
    Ok(out.join("nomados.raw"))
}

fn machine(image: &Path, firmware: Firmware) -> Result<Machine> {
    let mut machine = Machine::default();
    machine.disks.push(Disk::of(image).context("no disk")?);
    (machine.nic, machine.network) = (Some(Nic::Virtio), false);
    machine.firmware = firmware;
    Ok(machine)
}

#[test]
fn one_disk_is_started_by_uefi_and_by_a_bios() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let formats = [Format::Raw, Format::VmdkStream, Format::Vhdx, Format::Iso];
    let image = build(directory.path(), &formats, None)?;
    let quiet = Progress::quiet();
    let cache = Cache::of_workspace();
    let uefi = Firmware::Uefi(Uefi::find(&cache)?);
    let mut options = run::Options::new(&image);
    options.firmware = uefi;
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
    // The distribution's shim starts it where only Microsoft's key is trusted.
    let shim = Firmware::Uefi(Uefi::secure(&cache, None)?);
    for (bus, firmware) in [(Bus::Cd, shim), (Bus::Usb, Firmware::Bios)] {
        let mut machine = machine(&image.with_file_name("nomados.iso"), firmware)?;
        machine.disks.iter_mut().for_each(|disk| disk.bus = bus);
        machine.start()?.wait_for(INIT, LONG).with_context(|| format!("iso, {bus:?}"))?;
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

/// Firmware that trusts one certificate and nobody else.
fn trusting(certificate: &Certificate, directory: &Path) -> Result<Firmware> {
    let cache = Cache::of_workspace();
    let signature = Signature::certificate(Guid::from_u128(1), certificate.to_der());
    let mut enrollment = Enrollment::new(signature.clone());
    enrollment.key_exchange.push(signature.clone());
    enrollment.allowed.push(signature);
    let store = std::fs::read(Uefi::find(&cache)?.variables)?;
    let variables = directory.join("variables.fd");
    std::fs::write(&variables, enrollment.enroll(&store)?)?;
    Ok(Firmware::Uefi(Uefi::secure(&cache, Some(variables))?))
}

/// The same disk with one bit of one byte changed.
fn changed(image: &Path, name: &str, at: usize) -> Result<PathBuf> {
    let path = image.with_file_name(format!("{name}.raw"));
    let mut bytes = std::fs::read(image)?;
    bytes.get_mut(at).map(|byte| *byte ^= 1).context("beyond the disk's end")?;
    std::fs::write(&path, bytes)?;
    Ok(path)
}

/// Where bytes are that the disk has once.
fn find(disk: &[u8], bytes: &[u8]) -> Result<usize> {
    let found = disk.windows(bytes.len()).position(|window| window == bytes);
    found.with_context(|| format!("the disk has no {}", String::from_utf8_lossy(bytes)))
}

#[test]
fn secure_boot_starts_what_is_signed_and_nothing_else() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let ours = make_keys(&path("ours"), 1)?;
    make_keys(&path("theirs"), 2)?;
    let firmware = trusting(&ours, directory.path())?;

    let keys = |name| Some(SecureBoot::Keys(path(name)));
    let root = "filesystem = \"erofs-lz4\"\nverity = true";
    let signed = rooted(&path("signed"), root, keys("ours"))?;
    let mut vm = machine(&signed, firmware.clone())?.start()?;
    vm.wait_for(VERIFIED, LONG).context("the signed one")?;
    vm.wait_for(INIT, LONG).context("process 1 of the verified root")?;
    drop(vm);

    let disk = std::fs::read(&signed)?;
    let table = gpt::read_device(&mut Cursor::new(&disk), &Limits::default())?;
    let start = |name: &str| {
        let found = table.entries.iter().find(|(_, entry)| entry.name == name);
        found.map(|(_, entry)| entry.first * 512).with_context(|| format!("no partition {name}"))
    };
    let (root, hashes) =
        (usize::try_from(start("root")?)?, usize::try_from(start("root-verity")?)?);
    // The initramfs is zstd's, the last section of what is signed, before the root.
    let initramfs = find(&disk, &[0x28, 0xb5, 0x2f, 0xfd])?;
    let refused = [
        ("unsigned", build(&path("unsigned"), &[Format::Raw], None)?),
        ("another key", build(&path("other"), &[Format::Raw], keys("theirs"))?),
        ("kernel", changed(&signed, "kernel", find(&disk, b"HdrS")? + 0x1000)?),
        ("initramfs", changed(&signed, "initramfs", initramfs + 10_000)?),
        ("command line", changed(&signed, "line", find(&disk, b"roothash=")? + 20)?),
    ];
    for (what, image) in refused {
        let mut vm = machine(&image, firmware.clone())?.start()?;
        vm.wait_for("Access Denied", REFUSED).context(what)?;
        let started = vm.console().find(INIT, 0, Duration::ZERO);
        ensure!(started.is_none(), "{what}: it was started");
    }
    // What was signed does not change, and finds the root to be another one.
    for (what, at) in [("root", root + 1030), ("hashes of the root", hashes + 4096 + 5)] {
        let image = changed(&signed, "root", at)?;
        let mut vm = machine(&image, firmware.clone())?.start()?;
        vm.wait_for("is corrupted", LONG).context(what)?;
        let started = vm.console().find(VERIFIED, 0, Duration::ZERO);
        ensure!(started.is_none(), "{what}: it was entered");
    }
    Ok(())
}
