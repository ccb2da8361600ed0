//! Virtual machines: described as data, started in QEMU, watched by their console, stopped in order.
//!
//! ```no_run
//! use std::time::Duration;
//! use kiln::qemu::{Disk, Format, Machine};
//!
//! let mut machine = Machine::default();
//! machine.disks.push(Disk::new("nomados.raw", Format::Raw));
//! let mut vm = machine.start()?;
//! vm.wait_for("network is ready", Duration::from_secs(120))?;
//! vm.power_button()?;
//! vm.wait_exit(Duration::from_secs(60))?;
//! # Ok::<(), kiln::Error>(())
//! ```

mod accel;
mod console;
mod firmware;
mod lan;
mod qmp;
mod vm;

pub use accel::Accel;
pub use console::{Console, Line};
pub use firmware::{Firmware, Uefi};
pub use lan::Lan;
pub use vm::Vm;

use std::hash::{BuildHasher, RandomState};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::{Cache, Error, Result, command};

/// A port of the host's loopback interface that leads to a port of the guest.
pub use crate::definition::Forward;

/// The format of a disk's file. QEMU is told it and must not guess: a guest could write another
/// format's header into a raw disk.
pub use kiln_diskimg::container::Format;

/// The format that a file's extension says.
#[must_use]
pub fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        CD => Some(Format::Raw),
        name => name.parse().ok(),
    }
}

/// The extension of what is a CD before it is a disk.
const CD: &str = "iso";

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Bus {
    /// Paravirtual, the fastest for firmware and guest.
    #[default]
    Virtio,
    /// The controller that the board has: IDE, or SATA with UEFI.
    Ide,
    /// A stick on USB.
    Usb,
    /// A disc in a CD drive. It is only read.
    Cd,
}

/// A disk of a machine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// How it is attached.
    pub bus: Bus,
    /// Whether the guest's writes go to a temporary file that is thrown away at the end. Default:
    /// yes, so that an image that was built stays what it is.
    pub snapshot: bool,
}

impl Disk {
    /// A disk whose writes are thrown away.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, format: Format) -> Self {
        Self { path: path.into(), format, bus: Bus::Virtio, snapshot: true }
    }

    /// What a file's extension says that it is: a disk, or a disc in a CD drive.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let mut disk = Self::new(path, format_of(path)?);
        if path.extension().is_some_and(|extension| extension == CD) {
            disk.bus = Bus::Cd;
        }
        Some(disk)
    }

    fn arguments(&self, command: &mut Command, index: usize) {
        let (path, format) = (escaped(&self.path), self.format.qemu_name());
        let snapshot = if self.snapshot { "on" } else { "off" };
        let start = format!("file={path},format={format}");
        let drive = match self.bus {
            Bus::Virtio => format!("{start},if=virtio,index={index},snapshot={snapshot}"),
            Bus::Ide => format!("{start},if=ide,index={index},snapshot={snapshot}"),
            Bus::Cd => format!("{start},if=ide,index={index},media=cdrom,readonly=on"),
            Bus::Usb => {
                let drive = format!("{start},if=none,id=stick{index},snapshot={snapshot}");
                command.args(["-device", &format!("qemu-xhci,id=usb{index}")]);
                command.args(["-drive", &drive]);
                let (bus, boot) = (format!("usb{index}.0"), index + 1);
                let stick = format!("usb-storage,bus={bus},drive=stick{index},bootindex={boot}");
                command.args(["-device", &stick]);
                return;
            }
        };
        command.args(["-drive", &drive]);
    }
}

/// A path as a value among QEMU's options, in which a comma is written twice.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A network card's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Nic {
    /// Paravirtual.
    #[default]
    Virtio,
    /// Intel's 82540EM, which VirtualBox and VMware have too.
    E1000,
}

impl Nic {
    fn device(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net-pci",
            Self::E1000 => "e1000",
        }
    }
}

/// What a network card is plugged into.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Plugged {
    /// Nothing: it has carrier, and nobody answers.
    Nowhere,
    /// A network of its own in QEMU, with a DHCP server, a gateway (address 2 of the network) and the
    /// host's loopback behind it.
    User {
        /// The network (`192.0.2.0/24`). Default: QEMU's, 10.0.2.0/24.
        network: Option<String>,
        /// The name that the DHCP server gives to the guest.
        hostname: Option<String>,
    },
    /// A bridge of the host, by `qemu-bridge-helper`: root, or allowed by /etc/qemu/bridge.conf.
    Bridge(String),
    /// A network between guests.
    Lan(Lan),
}

impl Plugged {
    fn netdev(&self, number: usize) -> String {
        match self {
            Self::Nowhere => format!("hubport,id=net{number},hubid={number}"),
            Self::User { network, hostname } => {
                let mut text = format!("user,id=net{number}");
                for (key, value) in [("net", network), ("hostname", hostname)] {
                    if let Some(value) = value {
                        text += &format!(",{key}={}", value.replace(',', ",,"));
                    }
                }
                text
            }
            Self::Bridge(bridge) => {
                format!("bridge,id=net{number},br={}", bridge.replace(',', ",,"))
            }
            Self::Lan(lan) => lan.netdev(&format!("net{number}")),
        }
    }
}

/// A network card beyond the first.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Card {
    /// Its model. Default: virtio.
    pub model: Nic,
    /// What it is plugged into.
    pub plugged: Plugged,
    /// Its address. Default: QEMU's, which is the same in every machine.
    pub mac: Option<[u8; 6]>,
}

impl Card {
    /// A virtio card.
    #[must_use]
    pub fn new(plugged: Plugged) -> Self {
        Self { model: Nic::Virtio, plugged, mac: None }
    }

    /// A virtio card on a network between guests, with the address 52:54:00:4b:49:NUMBER (the
    /// prefix is QEMU's own), by which it differs from those of the others there.
    #[must_use]
    pub fn on(lan: &Lan, number: u8) -> Self {
        let mac = Some([0x52, 0x54, 0, 0x4b, 0x49, number]);
        Self { mac, ..Self::new(Plugged::Lan(lan.clone())) }
    }
}

/// A kernel that QEMU loads itself, without firmware reading a disk.
#[derive(Debug, Clone)]
pub struct DirectKernel {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initramfs: PathBuf,
    /// Its command line.
    pub command_line: String,
}

/// A machine that is not running yet.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Machine {
    /// Memory in MiB. Default: 2048.
    pub memory: u32,
    /// Processors. Default: 2.
    pub processors: u32,
    /// The network card; `None` for a machine without one. Default: virtio.
    pub nic: Option<Nic>,
    /// Whether the network has QEMU's DHCP server, gateway and forwards. Default: yes; without, the
    /// card is plugged into nothing.
    pub network: bool,
    /// The name that QEMU's DHCP server gives to the guest on the first card. Default: none.
    pub hostname: Option<String>,
    /// Further network cards, in order.
    pub cards: Vec<Card>,
    /// What the hardware clock shows at the start, as QEMU takes it (`2001-01-01`). Default: the
    /// host's time.
    pub rtc: Option<String>,
    /// Ports of the host that lead into the guest.
    pub forwards: Vec<Forward>,
    /// What starts it. Default: SeaBIOS.
    pub firmware: Firmware,
    /// Disks, in the order in which the firmware tries them.
    pub disks: Vec<Disk>,
    /// A kernel to start in place of what is on the disks.
    pub kernel: Option<DirectKernel>,
    /// The accelerator; `None` finds the one that works. Default: `None`.
    pub accel: Option<Accel>,
    /// Whether the machine starts again when the guest says so. Default: no, it ends; a guest that
    /// panics would otherwise do so for ever.
    pub reboots: bool,
    /// Further arguments for QEMU, as they are.
    pub arguments: Vec<String>,
    /// When this becomes true, every wait ends with [`Error::Interrupted`].
    pub interrupt: Option<Arc<AtomicBool>>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            memory: 2048,
            processors: 2,
            nic: Some(Nic::Virtio),
            network: true,
            hostname: None,
            cards: Vec::new(),
            rtc: None,
            forwards: Vec::new(),
            firmware: Firmware::Bios,
            disks: Vec::new(),
            kernel: None,
            accel: None,
            reboots: false,
            arguments: Vec::new(),
            interrupt: None,
        }
    }
}

impl Machine {
    /// Starts the machine. It ends when the thread that started it does, whatever becomes of the
    /// [`Vm`].
    ///
    /// # Errors
    /// [`Error::MissingTool`] without QEMU, [`Error::PortInUse`], [`Error::GuestDied`] when QEMU
    /// refuses to start.
    pub fn start(mut self) -> Result<Vm> {
        let qemu = command::require(
            "qemu-system-x86_64",
            "to run the machine",
            "qemu-system-x86 qemu-utils",
        )?;
        for file in self
            .disks
            .iter()
            .map(|disk| &disk.path)
            .chain(self.kernel.iter().flat_map(|direct| [&direct.kernel, &direct.initramfs]))
            .chain(self.firmware.files())
        {
            std::fs::metadata(file).map_err(Error::io("read", file))?;
        }
        for forward in &mut self.forwards {
            forward.host = free_port(*forward)?;
        }
        let accel = match self.accel {
            Some(accel) => accel,
            None => accel::choose(&qemu, &Cache::of_workspace())?,
        };
        let directory = tempfile::Builder::new()
            .prefix("kiln-vm-")
            .tempdir()
            .map_err(Error::io("create directory in", &std::env::temp_dir()))?;
        self.firmware.prepare(directory.path())?;
        // A guest must not outlive whoever runs it, however that ends.
        let mut command = match command::find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL"]).arg(qemu);
                command
            }
            None => Command::new(qemu),
        };
        self.arguments(&mut command, accel, directory.path());
        Vm::start(command, directory, self.forwards, self.interrupt)
    }

    fn arguments(&self, command: &mut Command, accel: Accel, directory: &Path) {
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(accel.arguments());
        command.args(["-m", &self.memory.to_string(), "-smp", &self.processors.to_string()]);
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        command.arg("-qmp");
        command.arg(format!("unix:{},server=on,wait=off", directory.join("qmp").display()));
        self.firmware.arguments(command, directory);
        for (index, disk) in self.disks.iter().enumerate() {
            disk.arguments(command, index);
        }
        if let Some(nic) = self.nic {
            if self.network {
                let user = Plugged::User { network: None, hostname: self.hostname.clone() };
                let mut netdev = user.netdev(0);
                for forward in &self.forwards {
                    let protocol = if forward.udp { "udp" } else { "tcp" };
                    netdev += &format!(
                        ",hostfwd={protocol}:127.0.0.1:{}-:{}",
                        forward.host, forward.guest
                    );
                }
                command.args(["-netdev", &netdev]);
            } else {
                command.args(["-netdev", &Plugged::Nowhere.netdev(0)]);
            }
            command.args(["-device", &format!("{},netdev=net0,romfile=", nic.device())]);
        }
        for (number, card) in (1..).zip(&self.cards) {
            command.args(["-netdev", &card.plugged.netdev(number)]);
            let mut device = format!("{},netdev=net{number},romfile=", card.model.device());
            if let Some([a, b, c, d, e, f]) = card.mac {
                device += &format!(",mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            }
            command.args(["-device", &device]);
        }
        if let Some(rtc) = &self.rtc {
            command.args(["-rtc", &format!("base={rtc}")]);
        }
        if let Some(direct) = &self.kernel {
            command.arg("-kernel").arg(&direct.kernel);
            command.arg("-initrd").arg(&direct.initramfs);
            command.args(["-append", &direct.command_line]);
        }
        if !self.reboots {
            command.arg("-no-reboot");
        }
        command.args(&self.arguments);
    }
}

/// The port itself if it can be had, or a free one for 0.
fn free_port(forward: Forward) -> Result<u16> {
    let bind = |port: u16| {
        let address = ("127.0.0.1", port);
        if forward.udp {
            UdpSocket::bind(address).and_then(|socket| socket.local_addr())
        } else {
            TcpListener::bind(address).and_then(|socket| socket.local_addr())
        }
    };
    // QEMU takes the port a moment later. One that the system chooses is of those that it also gives
    // to connections, and may be gone by then; these it leaves alone (ip(7), ip_local_port_range).
    let quiet = (forward.host == 0).then(|| (0..32).map(|_| unlikely_port())).into_iter().flatten();
    quiet
        .chain([forward.host])
        .find_map(|port| bind(port).ok())
        .map(|address| address.port())
        .ok_or(Error::PortInUse { port: forward.host })
}

/// Any port from 20000 to 32767.
fn unlikely_port() -> u16 {
    // Its keys are random.
    let random = RandomState::new().hash_one(0);
    u16::try_from(20_000 + random % 12_768).unwrap_or(20_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = taken.local_addr().unwrap().port();
        let error = free_port(Forward { udp: false, host, guest: 1 }).unwrap_err().to_string();
        assert!(error.contains(&host.to_string()), "{error}");
    }

    #[test]
    fn a_free_port_is_not_one_for_connections() {
        for udp in [false, true] {
            let port = free_port(Forward { udp, host: 0, guest: 1 }).unwrap();
            assert!((20_000..32_768).contains(&port), "{port}");
        }
    }

    #[test]
    fn cards_and_clock_as_qemu_takes_them() {
        let mut machine = Machine {
            hostname: Some("from-dhcp".into()),
            rtc: Some("2001-01-01".into()),
            ..Machine::default()
        };
        let network = Some("192.0.2.0/24".into());
        machine.cards = [
            Plugged::Bridge("br0".into()),
            Plugged::User { network, hostname: None },
            Plugged::Nowhere,
        ]
        .map(Card::new)
        .into();
        let mut command = Command::new("qemu");
        machine.arguments(&mut command, Accel::Tcg, Path::new("/run"));
        let text = command::describe(&command);
        for part in [
            "user,id=net0,hostname=from-dhcp",
            "bridge,id=net1,br=br0",
            "user,id=net2,net=192.0.2.0/24",
            "hubport,id=net3,hubid=3",
            "virtio-net-pci,netdev=net3,romfile=",
            "base=2001-01-01",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        let mut machine = Machine::default();
        machine.disks.push(Disk::new("/a,b.raw", Format::Raw));
        let mut command = Command::new("qemu");
        machine.arguments(&mut command, Accel::Tcg, Path::new("/run"));
        assert!(command::describe(&command).contains("file=/a,,b.raw,format=raw,"));
    }
}
