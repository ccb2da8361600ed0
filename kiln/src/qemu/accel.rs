//! Which accelerator works here: asked of a guest, because a `/dev/kvm` that can be opened may
//! still hang every guest or abort QEMU (nested virtualisation without hardware support does both).

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::{Cache, Error, Result, cache};

/// A guest that works answers in a quarter of a second even without acceleration; one that takes
/// longer than this is slower than emulation.
const PROBE: Duration = Duration::from_secs(2);

/// How QEMU executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accel {
    /// The host's processor, through Linux's KVM.
    Kvm,
    /// Translation in software, which works everywhere.
    Tcg,
}

impl Accel {
    pub(super) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// The accelerator's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// The best accelerator that runs a guest, remembered until the machine is started again.
pub(super) fn choose(qemu: &Path, cache: &Cache) -> Result<Accel> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let answer = cache.path(format!("accel-{}", boot.trim()))?;
    match std::fs::read_to_string(&answer).as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        _ => {}
    }
    let usable = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let accel = if usable && answers(qemu, Accel::Kvm)? { Accel::Kvm } else { Accel::Tcg };
    // Not being able to remember costs a probe next time, nothing else.
    let _ = cache::write_file(&answer, accel.name().as_bytes());
    Ok(accel)
}

/// Whether a guest that is a boot sector comes far enough to say so on its serial port.
fn answers(qemu: &Path, accel: Accel) -> Result<bool> {
    let directory = tempfile::tempdir().map_err(Error::io("create directory for", qemu))?;
    let disk = directory.path().join("probe.raw");
    std::fs::write(&disk, boot_sector()).map_err(Error::io("write", &disk))?;
    let mut child = Command::new(qemu)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-m", "64"])
        .args(accel.arguments())
        .args(["-serial", "stdio", "-no-reboot", "-drive"])
        .arg(format!("file={},format=raw,if=ide", disk.display().to_string().replace(',', ",,")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("start", qemu))?;
    let (sender, receiver) = mpsc::channel();
    if let Some(mut output) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut byte = [0];
            while output.read_exact(&mut byte).is_ok() {
                if byte == [ANSWER] {
                    // The receiver may have given up already.
                    let _ = sender.send(());
                    return;
                }
            }
        });
    }
    let answered = receiver.recv_timeout(PROBE).is_ok();
    let _ = child.kill();
    let _ = child.wait();
    Ok(answered)
}

const ANSWER: u8 = b'K';

/// A disk whose boot sector writes [`ANSWER`] to the first serial port and halts.
fn boot_sector() -> Vec<u8> {
    let code = [
        0xfa, // cli
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xb0, ANSWER, // mov al, ANSWER
        0xee,   // out dx, al
        0xf4,   // hlt
        0xeb, 0xfd, // jmp to the hlt
    ];
    let mut disk = vec![0; 64 * 512];
    for (place, byte) in disk.iter_mut().zip(code) {
        *place = byte;
    }
    for (place, byte) in disk.iter_mut().skip(510).zip([0x55, 0xaa]) {
        *place = byte;
    }
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_always_answers() {
        let Some(qemu) = crate::command::find("qemu-system-x86_64") else {
            assert!(std::env::var_os("CI").is_none(), "qemu-system-x86_64 is missing");
            println!("skipped: qemu-system-x86_64");
            return;
        };
        // A busy machine may be late once.
        assert!((0..5).any(|_| answers(&qemu, Accel::Tcg).unwrap()));
    }
}
