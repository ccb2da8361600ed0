//! Roots that are fetched when a machine boots: each kind boots, and what is wrong on the way is told and ends in a
//! shell, never in another root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kiln::definition::Definition;
use kiln::manifest::Manifest;
use kiln::qemu::{DirectKernel, Machine, Vm};
use kiln::sign::Key;
use kiln::{Progress, build, cache};
use kiln_e2e::LONG;
use kiln_netboot::serve::{End, Event, Files, Http, Sink};
use kiln_ramroot::{Chunker, Kind};

/// The system, in every kind, in `target/e2e/ramroot`; and in an older version that the same key has signed.
fn built() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn make() -> Result<PathBuf> {
    let out = cache::workspace_root().join("target/e2e/ramroot");
    std::fs::create_dir_all(out.join("older"))?;
    let key = out.join("key.pem");
    if !key.exists() {
        Key::make(&key)?;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/ramroot/image.toml");
    let mut definition = Definition::read(&file)?;
    let mut options = build::Options::default();
    options.key = Some(key);
    build::build(&definition, &options, &out, &Progress::on_stderr())?;
    definition.version = Some("1.9.0".into());
    options.formats = vec!["root.tar.zst".parse().map_err(anyhow::Error::msg)?];
    build::build(&definition, &options, &out.join("older"), &Progress::on_stderr())?;
    Ok(out)
}

/// Serves files at a port of 127.0.0.1, which guests reach as 10.0.2.2, until it is dropped.
struct Served {
    port: u16,
    end: End,
    said: Arc<Mutex<Vec<String>>>,
}

impl Served {
    fn new(directory: &Path) -> Result<Self> {
        let files = Files::new([directory.to_owned()]);
        let http = Http::bind(([127, 0, 0, 1], 0).into(), files, |_| None)?;
        let (port, end) = (http.address()?.port(), End::new());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mine, over) = (Arc::clone(&said), end.clone());
        let sink: Sink = Arc::new(move |event: &Event| {
            mine.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event.to_string());
        });
        std::thread::spawn(move || http.serve(&over, &sink));
        Ok(Self { port, end, said })
    }

    fn url(&self, file: &str) -> String {
        format!("http://10.0.2.2:{}/{file}", self.port)
    }

    fn said(&self) -> String {
        self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).join("\n")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end.ask();
    }
}

/// Boots the initramfs with these words on its command line.
fn boot(words: &str, memory: u32) -> Result<Vm> {
    let out = built()?;
    let mut machine = Machine::default();
    let line = format!("{} {words}", Manifest::read(out)?.command_line);
    machine.kernel = Some(DirectKernel {
        kernel: out.join("ramroot-vmlinuz"),
        initramfs: out.join("ramroot-initrd.img"),
        command_line: line,
    });
    machine.memory = memory;
    Ok(machine.start()?)
}

/// Waits for a text; what the console said belongs to what went wrong.
fn waited(vm: &mut Vm, text: &str) -> Result<String> {
    let found = vm.wait_for(text, LONG);
    Ok(found.with_context(|| vm.console().tail(60))?.text)
}

/// What the root's service says, whole.
fn proof(vm: &mut Vm) -> Result<String> {
    waited(vm, "that is all")?;
    let found = vm.console().find("proof: this is the root", 0, Duration::ZERO);
    Ok(found.with_context(|| vm.console().tail(60))?.1.text)
}

fn boots(kind: &str) -> Result<()> {
    let served = Served::new(built()?)?;
    let mut vm = boot(&format!("ramroot={}", served.url(&format!("ramroot-root.{kind}"))), 512)?;
    let proof = proof(&mut vm)?;
    println!("{:.1} s: {proof}", vm.started().elapsed().as_secs_f64());
    ensure!(proof.contains(&format!("640 65534 ramroot 2.0.0, {kind}:")), "{proof}");
    Ok(())
}

/// What a shell says, with what it complained of.
fn shell(line: &str) -> Result<String> {
    let done = Command::new("sh").args(["-ec", line]).current_dir(built()?).output()?;
    ensure!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// What others read in what was made: archives, a file system, a signature of digests of chunks.
#[test]
fn others_read_the_artifacts() -> Result<()> {
    let proof = "./usr/share/proof";
    for unpack in ["xz -dc ramroot-root.tar.xz", "zstd -dc ramroot-root.tar.zst"] {
        let names = shell(&format!("{unpack} | tar -t"))?;
        ensure!(names.lines().any(|name| name.trim_start_matches("./") == &proof[2..]), "{names}");
        // devices are the kernel's to make
        ensure!(!names.contains("dev/console"), "{names}");
    }
    let dictionary = shell("xz --list -vv ramroot-root.tar.xz")?;
    ensure!(dictionary.contains("dict=8MiB"), "{dictionary}");
    shell("fsck.erofs ramroot-root.erofs")?;
    shell("openssl pkey -in key.pem -pubout -out key.pub")?;
    for kind in ["tar.xz", "tar.zst", "erofs"] {
        let name = format!("ramroot-root.{kind}.chunks");
        let list = std::fs::read_to_string(built()?.join(&name))?;
        let (signed, signature) = list.rsplit_once("signature ").context("a signature")?;
        let digits = signature.trim().as_bytes().chunks(2).map(std::str::from_utf8);
        let signature: Vec<u8> =
            digits.map(|two| Ok(u8::from_str_radix(two?, 16)?)).collect::<Result<_>>()?;
        std::fs::write(built()?.join("signed"), signed)?;
        std::fs::write(built()?.join("sig"), signature)?;
        shell("openssl pkeyutl -verify -pubin -inkey key.pub -rawin -in signed -sigfile sig")?;
        shell(&format!(
            "split -b 65536 --filter=sha256sum ramroot-root.{kind} | cut -d' ' -f1 > theirs
             tail -n +9 signed | cmp - theirs"
        ))?;
    }
    let script = shell("cat ramroot.ipxe")?;
    let line = "kernel ${base-url}ramroot-vmlinuz initrd=ramroot-initrd.img console=ttyS0,115200 quiet panic=5 \
                boot=ramdisk ramroot=${base-url}ramroot-root.tar.xz BOOTIF=01-${netX/mac:hexhyp}\n";
    ensure!(script.contains(line), "{script}");
    Ok(())
}

#[test]
fn an_archive_through_xz_boots() -> Result<()> {
    boots("tar.xz")
}

#[test]
fn an_archive_through_zstd_boots() -> Result<()> {
    boots("tar.zst")
}

#[test]
fn a_file_system_boots() -> Result<()> {
    boots("erofs")
}

/// A copy of what is served, in which something is different.
fn copied(change: impl FnOnce(&Path) -> Result<()>) -> Result<(tempfile::TempDir, Served)> {
    let directory = tempfile::tempdir()?;
    for name in ["ramroot-root.tar.zst", "ramroot-root.tar.zst.chunks"] {
        std::fs::copy(built()?.join(name), directory.path().join(name))?;
    }
    change(&directory.path().join("ramroot-root.tar.zst"))?;
    let served = Served::new(directory.path())?;
    Ok((directory, served))
}

/// It is refused with this reason, and there is a shell, which is in no root.
fn refused(words: &str, memory: u32, reason: &str) -> Result<Vm> {
    let mut vm = boot(&format!("ramroot.patience=10 {words}"), memory)?;
    waited(&mut vm, reason)?;
    waited(&mut vm, "an emergency shell")?;
    vm.type_text("ls /usr/share/proof; echo at $((6 * 7))\n")?;
    waited(&mut vm, "at 42")?;
    ensure!(vm.console().find("this is the root", 0, Duration::ZERO).is_none());
    Ok(vm)
}

#[test]
fn one_changed_byte_is_refused() -> Result<()> {
    let (_kept, served) = copied(|root| {
        let mut bytes = std::fs::read(root)?;
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        Ok(std::fs::write(root, bytes)?)
    })?;
    let place = served.url("ramroot-root.tar.zst");
    let vm = refused(&format!("ramroot={place}"), 512, "is not what was signed; again")?;
    let again = vm.console().find("ramroot-root.tar.zst: chunk ", 0, Duration::ZERO);
    ensure!(again.is_some(), "{}", vm.console().tail(40));
    // it was asked for again, from where it was right, and not from the beginning
    ensure!(served.said().contains(": 206"), "{}", served.said());
    Ok(())
}

#[test]
fn an_older_root_is_refused_unless_it_is_allowed() -> Result<()> {
    let served = Served::new(&built()?.join("older"))?;
    let place = format!("ramroot={}", served.url("ramroot-root.tar.zst"));
    refused(&place, 512, "of version 1.9.0, older than this initramfs (2.0.0)")?;
    let mut vm = boot(&format!("{place} ramroot.older"), 512)?;
    let proof = proof(&mut vm)?;
    ensure!(proof.contains("ramroot 1.9.0"), "{proof}");
    Ok(())
}

#[test]
fn what_cannot_be_is_said_before_anything_is_unpacked() -> Result<()> {
    let key = Key::read(&built()?.join("key.pem"))?;
    let (_kept, served) = copied(|root| {
        let mut chunker = Chunker::new(std::io::sink(), 1 << 20);
        std::io::copy(&mut std::fs::File::open(root)?, &mut chunker)?;
        let name = ("ramroot-root.tar.zst", Kind::TarZst);
        let (_, list) = chunker.finish(("ramroot", "2.0.0"), name, 3 << 30)?;
        let beside = root.with_extension("zst.chunks");
        Ok(std::fs::write(beside, list.signed(|text| key.sign(text)))?)
    })?;
    let place = format!("ramroot={}", served.url("ramroot-root.tar.zst"));
    let reason = "not enough memory: this root (ramroot 2.0.0, tar.zst) needs 3136 MiB, and ";
    refused(&place, 512, reason)?;
    ensure!(!served.said().contains("GET /ramroot-root.tar.zst: "), "{}", served.said());
    Ok(())
}

#[test]
fn a_server_that_is_down_is_told() -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let place = format!("ramroot=http://10.0.2.2:{port}/ramroot-root.tar.xz");
    refused(&place, 512, "ramroot-root.tar.xz.chunks: ")?;
    Ok(())
}
