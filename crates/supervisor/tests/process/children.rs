//! What services of these tests do: this program again.
#![expect(unsafe_code, reason = "a service takes descriptors over by number")]

use std::io::{IoSlice, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::Duration;

/// Does what the arguments say, if they are for a service.
pub(crate) fn live(arguments: &[String]) -> bool {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--serve", address] => serve(address),
        ["--answer"] => answer(),
        ["--keep"] => keep(),
        ["--lock", path] => lock(path),
        ["--heavy"] => heavy(),
        ["--rights", base] => rights(base.as_ref()),
        _ => return false,
    }
    true
}

/// The first descriptor that was passed on.
fn inherited() -> OwnedFd {
    // SAFETY: nothing else of this process knows the descriptor, which the supervisor gave it.
    unsafe { OwnedFd::from_raw_fd(3) }
}

fn serve(address: &str) {
    std::thread::sleep(Duration::from_millis(200));
    match address.split_once(':').unwrap() {
        ("unix", path) => std::mem::forget(UnixListener::bind(path).unwrap()),
        (_, address) => std::mem::forget(std::net::TcpListener::bind(address).unwrap()),
    }
    std::thread::sleep(Duration::from_secs(100));
}

/// Says where it can write, and what is said of the mounts there.
fn rights(base: &Path) {
    use rustix::fs::StatVfsMountFlags as Flag;
    let known = Flag::RDONLY | Flag::NOSUID | Flag::NODEV | Flag::NOEXEC | Flag::NOATIME;
    for (place, _) in crate::mounts::PLACES {
        let directory = base.join(place);
        if place == crate::mounts::UNCOVERED {
            let _ = rustix::mount::unmount(&directory, rustix::mount::UnmountFlags::empty());
        }
        let Ok(found) = rustix::fs::statvfs(&directory) else { continue };
        let names = (found.f_flag & known).iter_names().map(|(name, _)| format!(" {name}"));
        let written = match std::fs::write(directory.join("file"), "") {
            Ok(()) => "written",
            Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => "refused",
            Err(error) => panic!("{place}: {error}"),
        };
        println!("{place} {written}:{}", names.collect::<String>());
    }
}

/// Says to one who connects what it was given, and ends.
fn answer() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let listener = UnixListener::from(inherited());
    let (mut stream, _) = listener.accept().unwrap();
    let own = variable("LISTEN_PID") == std::process::id().to_string();
    let (name, count) = (variable("LISTEN_FDNAMES"), variable("LISTEN_FDS"));
    write!(stream, "{name} {count} {own}").unwrap();
}

/// Leaves a file with the supervisor, or says what is in the one that it has from there.
fn keep() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        let mut file = std::fs::File::from(inherited());
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        println!("found {} with {text}", std::env::var("LISTEN_FDNAMES").unwrap());
    } else {
        let memfd = rustix::fs::memfd_create("kept", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = std::fs::File::from(memfd);
        file.write_all(b"content").unwrap();
        println!("stored");
        notify("FDSTORE=1\nFDNAME=secret", Some(&file));
    }
    notify("READY=1", None);
    std::thread::sleep(Duration::from_secs(100));
}

/// Takes a lock, leaves it to a child that takes its time to die, and fails.
fn lock(path: &str) {
    use rustix::fs::FlockOperation;
    let file = std::fs::File::create(path).unwrap();
    let taken = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    println!("{}", if taken { "taken" } else { "held" });
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(program);
    let mut child = command.arg("--heavy").stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    std::process::abort();
}

/// Has much memory, which the kernel takes back before it lets go of files.
fn heavy() {
    let memory = vec![1_u8; 256 << 20];
    print!(".");
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(100));
    drop(memory);
}

/// sd_notify(3), with a descriptor.
fn notify(text: &str, file: Option<&std::fs::File>) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};
    let name = std::env::var("NOTIFY_SOCKET").unwrap();
    let address = SocketAddrUnix::new_abstract_name(name.trim_start_matches('@').as_bytes());
    let socket = UnixDatagram::unbound().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    }
    let parts = [IoSlice::new(text.as_bytes())];
    rustix::net::connect(&socket, &address.unwrap()).unwrap();
    rustix::net::sendmsg(&socket, &parts, &mut control, SendFlags::empty()).unwrap();
}
