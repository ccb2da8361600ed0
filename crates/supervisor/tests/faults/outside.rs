//! Who says that a service is ready, and has no number for the supervisor: a process outside of its PID
//! namespace.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kiln_supervisor::{Log, Readiness, ServiceSpec};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::supervised::{PATIENCE, options, sh, supervise, until};
use crate::{first_process, is_root};

pub(crate) fn run(dir: &Path) {
    assert!(rustix::process::getpid().is_init());
    let own = std::env::current_exe().unwrap().display().to_string();
    let words = [own.as_str(), "--ready-when-told", dir.to_str().unwrap()];
    let mut told = ServiceSpec::daemon("told", words);
    told.log = Log::Null;
    told.readiness = Readiness::SdNotify;
    told.ready_timeout = PATIENCE;
    supervise(vec![told, sh("other", "exec sleep 1000")], options(dir));
}

/// A service that says where it would say that it is ready, and says so when it may.
pub(crate) fn ready_when_told(dir: &Path) -> ExitCode {
    let name = std::env::var("NOTIFY_SOCKET").unwrap();
    std::fs::write(dir.join("name.new"), &name).unwrap();
    std::fs::rename(dir.join("name.new"), dir.join("name")).unwrap();
    until("it may", || dir.join("go").exists().then_some(()));
    connected(&name).send(b"READY=1").unwrap();
    std::thread::sleep(Duration::from_secs(1000));
    ExitCode::SUCCESS
}

fn connected(name: &str) -> UnixDatagram {
    let address = SocketAddr::from_abstract_name(name.trim_start_matches('@')).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect_addr(&address).unwrap();
    socket
}

/// It is not believed, takes nothing with it, and what it sends is closed.
pub(crate) fn test(dir: &Path) {
    if !is_root() {
        return;
    }
    let supervisor = first_process("a_message_from_outside_is_nobodys", dir);
    let mut client = supervisor.client();
    let name = until("it has a socket", || std::fs::read_to_string(dir.join("name")).ok());
    let socket = connected(&name);
    for text in ["READY=1", "FDSTORE=1\nFDNAME=x", "READY=1\nFDSTORE=1"] {
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        let fds = [write.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let parts = [IoSlice::new(text.as_bytes())];
        rustix::net::sendmsg(&socket, &parts, &mut control, SendFlags::empty()).unwrap();
        drop(write);
        let end = || rustix::io::read(&read, &mut [0_u8; 1]) == Ok(0);
        until("it is read, and nobody has the other end any more", || end().then_some(()));
    }
    let mut state = |name: &str| client.status(Some(name)).unwrap().remove(0);
    assert_eq!(state("told").state, "unready");
    until("the other is up", || (state("other").state == "up").then_some(()));
    assert_eq!(state("other").restarts, 0);
    std::fs::write(dir.join("go"), "").unwrap();
    until("it is ready by its own word", || (state("told").state == "up").then_some(()));
    assert_eq!(state("told").restarts, 0);
    supervisor.end();
}
