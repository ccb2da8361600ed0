//! Ours against kmod's own depmod and modprobe on the modules of Debian's generic kernel.
#![cfg(feature = "modinfo")]
#![expect(clippy::unwrap_used, reason = "what the tests share fails the test that calls it")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use kiln_kmod::{Index, Problem};

/// A root directory with the kernel's modules linked in and depmod's files beside them.
struct Oracle {
    root: tempfile::TempDir,
    release: String,
    scanned: Index,
}

impl Oracle {
    fn new() -> Option<Self> {
        if !support::has("depmod") || !support::has("modprobe") {
            support::skip("kmod");
            return None;
        }
        let Some((tree, release)) = support::kernel_tree() else {
            support::skip("a Debian kernel package");
            return None;
        };
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("lib/modules").join(&release);
        fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::symlink(tree.join("kernel"), dir.join("kernel")).unwrap();
        for file in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            fs::copy(tree.join(file), dir.join(file)).unwrap();
        }
        let status = Command::new("depmod").arg("-b").arg(root.path()).arg(&release).status();
        assert!(status.unwrap().success());
        let scanned = Index::scan(&tree).unwrap();
        Some(Self { root, release, scanned })
    }

    fn dir(&self) -> std::path::PathBuf {
        self.root.path().join("lib/modules").join(&self.release)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.dir().join(file)).unwrap()
    }

    /// Module names in the order in which modprobe would insert them; `None` where it fails.
    fn modprobe(&self, wanted: &str) -> Option<Vec<String>> {
        let out = Command::new("modprobe")
            .arg("--show-depends")
            .arg("-d")
            .arg(self.root.path())
            .args(["-S", &self.release, wanted])
            .output()
            .unwrap();
        let lines = String::from_utf8(out.stdout).unwrap();
        out.status.success().then(|| {
            let paths = lines.lines().filter_map(|line| line.strip_prefix("insmod "));
            paths.map(|path| stem(path.trim())).collect()
        })
    }
}

fn stem(path: &str) -> String {
    let file = Path::new(path).file_name().unwrap().to_str().unwrap();
    file.split('.').next().unwrap().replace('-', "_")
}

fn written(index: &Index) -> BTreeMap<&'static str, String> {
    let files = index.files();
    files.into_iter().map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect()
}

fn dep_sets(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let lines = text.lines().map(|line| line.split_once(':').unwrap());
    lines.map(|(path, needs)| (path, needs.split_whitespace().collect())).collect()
}

#[test]
fn files_equal_depmods() {
    let Some(oracle) = Oracle::new() else { return };
    let ours = written(&oracle.scanned);
    assert_eq!(oracle.scanned.problems(), &[]);
    assert!(oracle.scanned.loadable() > 200, "{}", oracle.scanned.loadable());

    // Byte for byte, the order of lines included.
    for file in [
        "modules.alias",
        "modules.softdep",
        "modules.devname",
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        assert!(ours[file] == oracle.text(file), "{file} differs");
    }

    // The dependencies of a module may come in another order, as long as it is a valid one.
    let theirs = oracle.text("modules.dep");
    let (ours, theirs) = (ours["modules.dep"].as_str(), theirs.as_str());
    let paths = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect()
    };
    assert_eq!(paths(ours), paths(theirs));
    let sets = dep_sets(ours);
    assert_eq!(sets, dep_sets(theirs));
    for line in ours.lines() {
        let mut loaded = BTreeSet::new();
        for path in line.split_once(':').unwrap().1.split_whitespace().rev() {
            assert!(sets[path].is_subset(&loaded), "{line}: {path} too early");
            loaded.insert(path);
        }
    }
}

/// Text written, read again and written again is the same text.
#[test]
fn our_files_and_depmods_read_alike() {
    let Some(oracle) = Oracle::new() else { return };
    let theirs = Index::read_dir(&oracle.dir()).unwrap();
    assert_eq!(theirs.problems(), &[]);
    let again = written(&theirs);
    for (file, text) in written(&oracle.scanned) {
        if file != "modules.dep" {
            assert!(again[file] == text, "{file} differs");
        }
    }
    let dep = oracle.text("modules.dep");
    assert_eq!(dep_sets(&again["modules.dep"]), dep_sets(&dep));
}

const NAMES: &[&str] = &[
    "virtio_net",
    "virtio-blk",
    "virtio_scsi",
    "virtio_pci",
    "e1000",
    "e1000e",
    "igb",
    "ahci",
    "nvme",
    "xhci_pci",
    "usb-storage",
    "uas",
    "usbhid",
    "ext4",
    "btrfs",
    "xfs",
    "f2fs",
    "vfat",
    "isofs",
    "squashfs",
    "erofs",
    "overlay",
    "nfsv4",
    "cifs",
    "dm_crypt",
    "dm-verity",
    "raid456",
    "bridge",
    "br_netfilter",
    "veth",
    "vxlan",
    "wireguard",
    "nf_tables",
    "nft_compat",
    "iptable_nat",
    "xt_MASQUERADE",
    "i915",
    "amdgpu",
    "nouveau",
    "qxl",
    "vmwgfx",
    "snd-hda-intel",
    "iwlwifi",
    "ath10k_pci",
    "kvm_intel",
    "vboxguest",
    "vmw_pvscsi",
    "hv_netvsc",
    "mlx5_core",
    "tipc",
    "zram",
    "fuse",
    "9p",
    "ceph",
    "loop",
    "nbd",
    "ip_vs",
    "evdev",
    "button",
];

/// Modaliases as `/sys/devices` has them: QEMU's devices, a laptop's, and by kind.
const ALIASES: &[&str] = &[
    "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00",
    "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
    "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
    "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00",
    "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00",
    "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
    "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80",
    "pci:v00008086d00007113sv00001AF4sd00001100bc06sc80i00",
    "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00",
    "pci:v00008086d00009A49sv0000103Csd0000880Dbc03sc00i00",
    "pci:v0000144Dd0000A80Asv0000144Dsd0000A801bc01sc08i02",
    "pci:v00001022d00001483sv00001022sd00001453bc06sc04i00",
    "pci:v00008086d0000A0EDsv0000103Csd0000880Dbc0Csc03i30",
    "pci:v000015ADd000007B0sv000015ADsd000007B0bc02sc00i00",
    "pci:v00001B36d00000100sv00001AF4sd00001100bc03sc00i00",
    "virtio:d00000001v00001AF4",
    "virtio:d00000002v00001AF4",
    "virtio:d00000010v00001AF4",
    "acpi:PNP0C0C:",
    "acpi:PNP0303:",
    "acpi:QEMU0002:",
    "acpi:ACPI0003:",
    "acpi:LNXPWRBN:",
    "platform:pcspkr",
    "usb:v0627p0001d0000dc00dsc00dp00ic03isc01ip01in00",
    "usb:v0781p5581d0100dc00dsc00dp00ic08isc06ip50in00",
    "hid:b0003g0001v00000627p00000001",
    "input:b0003v0627p0001e0001-e0,1,2,4,k71,72,73,ram4,l0,1,2,sfw",
    "cpu:type:x86,ven0000fam0006mod008E:feature:,0000,0001,0002,0003,0081,0099,",
    "dmi:bvnDellInc.:bvr1.2.3:bd01/01/2020:svnDellInc.:pnLatitude7490:pvr:rvnDellInc.:rn0X:",
    "fs-ext4",
    "fs-iso9660",
    "net-pf-16-proto-16-family-nl80211",
    "char-major-10-200",
    "devname:fuse",
    "crypto-aes",
    "nft-chain-2-nat",
    "ipt_MASQUERADE",
    "rtnl-link-bridge",
    "xfrm-type-2-50",
    "block-major-7-0",
];

/// For each name and alias: the same modules, in an order that works.
///
/// modprobe 30 takes one `softdep` line for a module and passes over the others; where a module
/// has several (btrfs has four), we load what all of them say, and so more than it does.
#[test]
fn load_orders_work_and_agree_with_modprobe() {
    let Some(oracle) = Oracle::new() else { return };
    let index = Index::read_dir(&oracle.dir()).unwrap();
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for line in oracle.text("modules.softdep").lines().filter(|line| !line.starts_with('#')) {
        *lines.entry(line.split_whitespace().nth(1).unwrap().to_owned()).or_default() += 1;
    }
    let (mut compared, mut more) = (0, 0);
    for wanted in NAMES.iter().chain(ALIASES) {
        let found = index.resolve(&[wanted]);
        let ours: Vec<String> = found.load.iter().map(|module| module.name.clone()).collect();
        let mut loaded = BTreeSet::new();
        for module in &ours {
            let info = index.get(module).unwrap();
            assert!(info.dependencies().all(|need| loaded.contains(need)), "{wanted}: {module}");
            assert!(loaded.insert(module.as_str()), "{wanted}: {module} twice");
        }
        match oracle.modprobe(wanted) {
            None => assert_eq!(found.unknown, [*wanted], "modprobe does not know it"),
            Some(theirs) => {
                assert!(found.unknown.is_empty(), "{wanted}: modprobe says {theirs:?}");
                let theirs: BTreeSet<&str> = theirs.iter().map(String::as_str).collect();
                if ours.iter().any(|name| lines.get(name).is_some_and(|&lines| lines > 1)) {
                    assert!(loaded.is_superset(&theirs), "{wanted}: {loaded:?}, not {theirs:?}");
                    more += usize::from(loaded != theirs);
                } else {
                    assert_eq!(loaded, theirs, "{wanted}");
                }
                compared += usize::from(!theirs.is_empty());
            }
        }
    }
    println!("{compared} of {} load something", NAMES.len() + ALIASES.len());
    assert!(more <= 5, "{more}");
    assert!(compared > NAMES.len() / 2, "{compared}");
}

/// An image's index: closed, with valid files that modprobe's own tools would take.
#[test]
fn subset_is_closed_and_depmod_agrees() {
    let Some(oracle) = Oracle::new() else { return };
    let wanted = ["virtio_net", "virtio_blk", "ext4", "overlay", "bridge", "acpi:PNP0C0C:"];
    let wanted = wanted
        .map(|name| if oracle.scanned.resolve(&[name]).unknown.is_empty() { name } else { "ext4" });
    let subset = oracle.scanned.subset(&wanted);
    assert!(subset.loadable() > 5 && subset.loadable() < 60, "{}", subset.loadable());
    assert_eq!(subset.builtin(), oracle.scanned.builtin());
    assert_eq!(subset.resolve(&wanted), oracle.scanned.resolve(&wanted));

    // What depmod makes of just these modules.
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("lib/modules").join(&oracle.release);
    for module in subset.modules().filter(|module| !module.is_builtin()) {
        let to = dir.join(module.path());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(oracle.dir().join(module.path()), to).unwrap();
    }
    let ours = written(&subset);
    for file in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::write(dir.join(file), &ours[file]).unwrap();
    }
    let out = Command::new("depmod").arg("-b").arg(root.path()).arg(&oracle.release).output();
    let out = out.unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    for file in ["modules.alias", "modules.softdep", "modules.devname"] {
        assert_eq!(ours[file], fs::read_to_string(dir.join(file)).unwrap(), "{file}");
    }
    let theirs = fs::read_to_string(dir.join("modules.dep")).unwrap();
    assert_eq!(dep_sets(&ours["modules.dep"]), dep_sets(&theirs));
}

#[test]
fn firmware_is_what_modinfo_says() {
    let Some(oracle) = Oracle::new() else { return };
    for module in ["e100", "iwlwifi", "amdgpu", "r8169"] {
        let Some(info) = oracle.scanned.get(module) else { continue };
        let mut modinfo = Command::new("modinfo");
        modinfo.args(["-F", "firmware"]).arg(oracle.dir().join(info.path()));
        let out = modinfo.output().unwrap();
        let theirs = String::from_utf8(out.stdout).unwrap();
        let mut theirs: Vec<&str> = theirs.lines().collect();
        theirs.sort_unstable();
        theirs.dedup();
        assert_eq!(oracle.scanned.firmware([module]), theirs, "{module}");
        assert!(!theirs.is_empty());
    }
    assert!(!oracle.scanned.problems().iter().any(|p| matches!(p, Problem::NoDepends { .. })));
}
