//! The time service: sets the clock by SNTP (RFC 4330, RFC 5905 section 14) and keeps it near the
//! right time.
//!
//! Requests and the checks of replies (origin, mode, leap indicator, stratum, root distance,
//! kiss-o'-death) are `sntpc`'s. Here is whom to ask, when, and what to believe: servers are
//! addresses from the settings or from DHCP, asked in order; a clock that is off by more than half a
//! second is stepped, a smaller error is left alone. A reply from before the image was made is not
//! believed.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use sntpc::{NtpContext, NtpResult, NtpTimestampGenerator, NtpUdpSocket};

use crate::console::tell;
use crate::{NOTES, clock, files};

/// How long the boot is held up for a server that does not answer.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// What the network service writes: the servers' addresses, a line each.
pub(crate) const SERVERS: &str = "ntp-servers";
/// How long one reply may take.
const REPLY: Duration = Duration::from_secs(2);
/// An error of the clock that is corrected.
const STEP: Duration = Duration::from_millis(500);
/// Time between questions once the clock is set, and when nobody answers then.
const INTERVAL: Duration = Duration::from_secs(1024);
const RETRY: Duration = Duration::from_secs(64);
/// NTP's port.
const PORT: u16 = 123;

fn say(what: impl std::fmt::Display) {
    tell("time", what);
}

/// The service. Ready (a newline on descriptor 3) when the clock is set, or when there is nobody to
/// ask and the clock is not before the image. Ends with failure when nobody answers within
/// [`BOUND`].
pub(crate) fn run() -> ExitCode {
    let notes = Path::new(NOTES);
    let news = News::of(notes);
    let path = notes.join(SERVERS);
    let deadline = Instant::now() + BOUND;
    let mut service = Service {
        least: clock::least(&clock::epoch()),
        refused: Vec::new(),
        ready: false,
        slow: 1,
    };
    let mut pause = Duration::from_secs(1);
    loop {
        let wait = match servers(&path) {
            // The network is not there yet.
            None => None,
            Some(servers) if servers.is_empty() => {
                service.nobody_to_ask();
                None
            }
            Some(servers) => match service.ask(&servers) {
                true => {
                    pause = RETRY;
                    Some(INTERVAL.saturating_mul(service.slow))
                }
                false => {
                    let wait = pause;
                    pause = pause.saturating_mul(2).min(INTERVAL);
                    Some(wait)
                }
            },
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if !service.ready && left.is_zero() {
            let what =
                if path.exists() { "no server has answered" } else { "the network is not ready" };
            say(format_args!("{what} after {} s: tried again later", BOUND.as_secs()));
            return ExitCode::FAILURE;
        }
        let wait = if service.ready { wait } else { Some(wait.unwrap_or(left).min(left)) };
        news.wait(wait);
    }
}

/// The servers that are known; `None` while nobody has said which there are.
fn servers(path: &Path) -> Option<Vec<IpAddr>> {
    let text = files::read(path).ok().flatten()?;
    Some(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

struct Service {
    /// Seconds since 1970 before which no time can be right.
    least: u64,
    /// Those that do not want to be asked (RFC 5905 section 7.4: DENY, RSTR).
    refused: Vec<IpAddr>,
    ready: bool,
    /// By what the interval is longer because somebody said RATE.
    slow: u32,
}

impl Service {
    fn nobody_to_ask(&mut self) {
        if self.ready {
            return;
        }
        if clock::now().as_secs() >= self.least {
            say(format_args!(
                "no server is known: the clock stays at {}",
                clock::shown(clock::now())
            ));
            self.be_ready();
        } else {
            say("no server is known, and the clock is wrong");
        }
    }

    /// Asks one server after the other; whether one has told the time.
    fn ask(&mut self, servers: &[IpAddr]) -> bool {
        for server in servers {
            if self.refused.contains(server) {
                continue;
            }
            match query(SocketAddr::new(*server, PORT)) {
                Ok(answer) => match self.believe(*server, &answer) {
                    Ok(()) => return true,
                    Err(problem) => say(format_args!("{server}: {problem}")),
                },
                Err(sntpc::Error::KissOfDeath(code)) => {
                    say(format_args!("{server}: does not want to be asked ({})", code.as_str()));
                    match code {
                        sntpc::KissOfDeathCode::Rate => {
                            self.slow = self.slow.saturating_mul(2).min(64)
                        }
                        _ => self.refused.push(*server),
                    }
                }
                Err(error) if !self.ready => say(format_args!("{server}: {}", reason(error))),
                Err(_) => {}
            }
        }
        false
    }

    fn believe(&mut self, server: IpAddr, answer: &NtpResult) -> Result<(), String> {
        let offset = Duration::from_micros(answer.offset().unsigned_abs());
        let ahead = answer.offset() >= 0;
        let now = clock::now();
        let right = if ahead { now.saturating_add(offset) } else { now.saturating_sub(offset) };
        if right.as_secs() < self.least {
            return Err(format!(
                "says that it is {}, before this image was made",
                clock::shown(right)
            ));
        }
        let off = if ahead { "behind" } else { "ahead" };
        let what = if offset > STEP {
            clock::set(right)?;
            format!("set to {} ({})", clock::shown(right), right.as_secs())
        } else {
            format!("right, {} ({})", clock::shown(now), now.as_secs())
        };
        if offset > STEP || !self.ready {
            say(format_args!(
                "the clock is {what}: it was {:.6} s {off} {server}, stratum {}",
                offset.as_secs_f64(),
                answer.stratum()
            ));
        }
        self.be_ready();
        Ok(())
    }

    fn be_ready(&mut self) {
        if !self.ready {
            self.ready = true;
            // The supervisor reads the other end; if it is gone, nobody waits for the news.
            let _ = std::fs::write("/proc/self/fd/3", "\n");
        }
    }
}

fn reason(error: sntpc::Error) -> &'static str {
    use sntpc::Error;
    match error {
        Error::IncorrectOriginTimestamp => "the reply is not to what was asked",
        Error::IncorrectMode => "the reply is not a server's",
        Error::UnsynchronizedClock => "it does not know the time itself",
        Error::InvalidTimestamp | Error::BackwardReferenceTimestamp => "the reply holds no time",
        Error::ExcessiveRootDistance => "it is too far from whoever knows the time",
        Error::IncorrectResponseVersion => "the reply is of another version",
        Error::IncorrectStratumHeaders => "it has no stratum",
        Error::IncorrectPayload => "the reply is cut short",
        Error::ResponseAddressMismatch => "somebody else has answered",
        _ => "no answer",
    }
}

/// One question and its answer, within [`REPLY`]. Each has a port of its own, so that a late answer
/// to an earlier question is not heard.
fn query(server: SocketAddr) -> sntpc::Result<NtpResult> {
    let any: SocketAddr = match server.ip() {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)
        .and_then(|socket| socket.set_read_timeout(Some(REPLY)).map(|()| socket))
        // What others send is not heard either.
        .and_then(|socket| socket.connect(server).map(|()| socket))
        .map_err(|_| sntpc::Error::Network)?;
    let socket = Socket { socket, server };
    let context = NtpContext::new(Now(Duration::ZERO));
    // Nothing in it waits but the socket, and that waits in its own calls.
    let mut asked = pin!(sntpc::get_time(server, &socket, context));
    match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => Err(sntpc::Error::Network),
    }
}

struct Socket {
    socket: UdpSocket,
    server: SocketAddr,
}

impl NtpUdpSocket for Socket {
    fn send_to(&self, buf: &[u8], _: SocketAddr) -> impl Future<Output = sntpc::Result<usize>> {
        std::future::ready(self.socket.send(buf).map_err(|_| sntpc::Error::Network))
    }

    fn recv_from(
        &self,
        buf: &mut [u8],
    ) -> impl Future<Output = sntpc::Result<(usize, SocketAddr)>> {
        let received = self.socket.recv(buf).map(|len| (len, self.server));
        std::future::ready(received.map_err(|_| sntpc::Error::Network))
    }
}

/// The clock, as it was when it was looked at last.
#[derive(Clone, Copy)]
struct Now(Duration);

impl NtpTimestampGenerator for Now {
    fn init(&mut self) {
        self.0 = clock::now();
    }

    fn timestamp_sec(&self) -> u64 {
        self.0.as_secs()
    }

    fn timestamp_subsec_micros(&self) -> u32 {
        self.0.subsec_micros()
    }
}

/// Changes of the directory in which the network service leaves its notes.
struct News(Option<OwnedFd>);

impl News {
    fn of(directory: &Path) -> Self {
        let watch = || -> io::Result<OwnedFd> {
            std::fs::create_dir_all(directory)?;
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let path: PathBuf = directory.to_owned();
            inotify::add_watch(&fd, path, inotify::WatchFlags::MOVED_TO)?;
            Ok(fd)
        };
        let watched = watch();
        if let Err(error) = &watched {
            say(format_args!("{}: {error}", directory.display()));
        }
        Self(watched.ok())
    }

    /// Waits for a change, at most so long; a second at most where changes are not told.
    fn wait(&self, most: Option<Duration>) {
        let Some(fd) = &self.0 else {
            std::thread::sleep(most.unwrap_or(RETRY).min(Duration::from_secs(1)));
            return;
        };
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        if matches!(poll(&mut fds, most.as_ref()), Ok(1..)) {
            let mut read = [0_u8; 4096];
            while matches!(rustix::io::read(fd, &mut read), Ok(1..)) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that gives each question the answer that `answer` makes of it.
    fn server(answer: impl Fn(&mut [u8; 48]) + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut question = [0; 48];
            let Ok((48, from)) = socket.recv_from(&mut question) else { return };
            let mut reply = [0_u8; 48];
            reply[0] = 4 << 3 | 4;
            reply[1] = 2;
            let ntp = (clock::now().as_secs() + 2_208_988_800 + 100) << 32;
            reply[24..32].copy_from_slice(&question[40..48]);
            reply[32..40].copy_from_slice(&ntp.to_be_bytes());
            reply[40..48].copy_from_slice(&ntp.to_be_bytes());
            answer(&mut reply);
            let _ = socket.send_to(&reply, from);
        });
        address
    }

    #[test]
    fn a_right_answer_tells_the_offset() {
        let answer = query(server(|_| {})).unwrap();
        assert!((99_000_000..=101_000_000).contains(&answer.offset()), "{}", answer.offset());
        assert_eq!(answer.stratum(), 2);
    }

    #[test]
    fn what_rfc_4330_says_not_to_believe_is_not_believed() {
        use sntpc::Error;
        let refused = |change: fn(&mut [u8; 48])| query(server(change)).unwrap_err();
        assert_eq!(refused(|reply| reply[24] ^= 1), Error::IncorrectOriginTimestamp);
        assert_eq!(refused(|reply| reply[0] = 4 << 3 | 5), Error::IncorrectMode);
        assert_eq!(refused(|reply| reply[0] |= 3 << 6), Error::UnsynchronizedClock);
        assert_eq!(refused(|reply| reply[1] = 16), Error::IncorrectStratumHeaders);
        assert_eq!(refused(|reply| reply[40..48].fill(0)), Error::InvalidTimestamp);
        let kiss = refused(|reply| {
            reply[1] = 0;
            reply[12..16].copy_from_slice(b"DENY");
        });
        assert_eq!(kiss, Error::KissOfDeath(sntpc::KissOfDeathCode::Deny));
    }

    #[test]
    fn a_time_before_the_image_is_not_believed() {
        let answer = query(server(|_| {})).unwrap();
        let mut service = Service { least: u64::MAX, refused: Vec::new(), ready: false, slow: 1 };
        let problem = service.believe(IpAddr::from([127, 0, 0, 1]), &answer).unwrap_err();
        assert!(problem.contains("before this image was made"), "{problem}");
        assert!(!service.ready);
    }

    #[test]
    fn servers_are_lines_and_what_is_no_address_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SERVERS);
        assert_eq!(servers(&path), None);
        std::fs::write(&path, "10.0.2.2\nexample.org\n2001:db8::1\n").unwrap();
        assert_eq!(servers(&path).unwrap().len(), 2);
    }
}
