//! A lab's files by TFTP and HTTP: `kiln-netboot`, beside dnsmasq and nginx.
//!
//! Needs root and `ip`. Servers are in one network namespace, all clients in one thread of another, joined by a veth
//! pair whose frames are Ethernet's. Files are in the page cache. One client fetches a large file, then a hundred at
//! once fetch a smaller one each; over HTTP also in parts of 1 MiB, one request after the other on one connection.
//! Clients of TFTP compare each block. Those of HTTP compare what comes before anything is measured, then only count
//! it. dnsmasq has no windows (RFC 7440): where sixteen blocks are asked for at once, it sends one after the other.
//! Ours writes a line for each request, theirs write nothing. curl fetches the large file once more by TFTP.
//!
//! CPU time is that of the server's processes alone, to a hundredth of a second; memory is their `VmHWM` in a run,
//! of nginx the sum of three processes.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::fetch::{self, http, tftp};
use kiln_benches::noise::Noise;
use kiln_benches::report::{Report, Unit, median};
use kiln_benches::servers::{Network, OURS, Process, THEIRS};
use kiln_benches::turns::{Contender, seconds, take_turns};
use kiln_benches::{Result, machine};

const MIB: usize = 1 << 20;

/// TFTP and HTTP beside dnsmasq and nginx
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// Clients at once, where there are many
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Our server [default: kiln-netboot beside this program]
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
    /// Where the files are, 600 MiB
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Measure only what has this in its name: `TFTP`, `HTTP`, `1 client`
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("netboot", &arguments.common, || measure(&arguments))
}

/// The files: so many MiB each, of which the longest repeats what is in the others.
const FILES: [(&str, usize); 4] = [("8", 8), ("16", 16), ("64", 64), ("512", 512)];

fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new();
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces (run it as root)");
        return Ok(report);
    }
    if !machine::are_installed(&["ip"]) {
        return Ok(report);
    }
    let ours = match &arguments.server {
        Some(path) => path.clone(),
        None => machine::program("kiln-netboot", "kiln-netboot")?,
    };
    let place = tempfile::Builder::new().prefix("kiln-lab-").tempdir_in(&arguments.dir)?;
    let place = place.path();
    fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
    let content = Noise::default().bytes(64 * MIB);
    make(&place.join("files"), &content)?;

    let network = Network::new()?;
    let ours = own(&network, &ours, place)?;
    let ours = || Server { name: "kiln-netboot", process: &ours, address: OURS };
    let theirs = |name, process| Server { name, process, address: THEIRS };
    let peer =
        |name: &str| machine::are_installed(&[name]).then(|| machine::find_program(name)).flatten();
    let dnsmasq = peer("dnsmasq").map(|it| dnsmasq(&network, &it, place));
    let dnsmasq = dnsmasq.transpose()?;
    let nginx = peer("nginx").map(|it| nginx(&network, &it, place));
    let nginx = nginx.transpose()?;

    let mut bench = Bench { content: &content, report: &mut report, arguments };
    let mut servers = vec![ours()];
    servers.extend(dnsmasq.as_ref().map(|process| theirs("dnsmasq", process)));
    for (clients, file, len) in [(1, "64", 64), (arguments.clients, "8", 8)] {
        for window in [1, 16] {
            bench.tftp(&servers, clients, (file, len * MIB), window)?;
        }
    }
    bench.curl(&servers)?;
    let mut servers = vec![ours()];
    servers.extend(nginx.as_ref().map(|process| theirs("nginx", process)));
    for (clients, file, len) in [(1, "512", 512), (arguments.clients, "16", 16)] {
        bench.http(&servers, clients, (file, len * MIB), false)?;
    }
    bench.http(&servers, arguments.clients, ("16", 16 * MIB), true)?;
    Ok(report)
}

fn make(directory: &Path, content: &[u8]) -> Result<()> {
    fs::create_dir(directory)?;
    for (name, len) in FILES {
        let mut file = fs::File::create(directory.join(name))?;
        for at in (0..len).step_by(64) {
            let rest = (len - at).min(64) * MIB;
            file.write_all(content.get(..rest).ok_or("too little content")?)?;
        }
        // what is still to be written is not measured
        file.sync_all()?;
    }
    Ok(())
}

fn own(network: &Network, program: &Path, place: &Path) -> Result<Process> {
    let (lab, said) = (place.join("lab.toml"), place.join("ours.log"));
    let files = place.join("files");
    let text = format!(
        "interface = \"eth0\"\naddress = \"{OURS}/24\"\nmode = \"none\"\nfiles = [{:?}]\n",
        files.to_str().ok_or("the directory's name is no text")?
    );
    fs::write(&lab, text)?;
    let lab = lab.to_str().ok_or("the directory's name is no text")?;
    let mut process = network.start(program, &said, &["run", lab])?;
    process.says("ready", &said)?;
    Ok(process)
}

fn dnsmasq(network: &Network, program: &Path, place: &Path) -> Result<Process> {
    let said = place.join("dnsmasq.log");
    let root = format!("--tftp-root={}", place.join("files").display());
    let address = format!("--listen-address={THEIRS}");
    let words = ["--conf-file=/dev/null", "--keep-in-foreground", "--log-facility=-", "--port=0"];
    let tftp =
        ["--enable-tftp", "--tftp-max=1000", "--quiet-tftp", "--user=root", "--bind-interfaces"];
    let words = [&words[..], &tftp, &[root.as_str(), address.as_str()]].concat();
    let mut process = network.start(program, &said, &words)?;
    process.says("TFTP root", &said)?;
    Ok(process)
}

fn nginx(network: &Network, program: &Path, place: &Path) -> Result<Process> {
    let (config, said) = (place.join("nginx.conf"), place.join("nginx.log"));
    let place = place.display();
    let text = format!(
        "daemon off; user root; worker_processes auto; pid {place}/nginx.pid; error_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;\n\
         server {{ listen {THEIRS}:80; root {place}/files; }} }}\n"
    );
    fs::write(&config, text)?;
    let config = config.to_str().ok_or("the directory's name is no text")?;
    let mut process = network.start(program, &said, &["-c", config, "-e", "stderr"])?;
    process.listens((THEIRS, 80).into(), &said)?;
    Ok(process)
}

/// One of those compared.
#[derive(Clone, Copy)]
struct Server<'a> {
    name: &'static str,
    process: &'a Process,
    address: Ipv4Addr,
}

/// What a run came to.
#[derive(Default)]
struct Sample {
    wall: f64,
    cpu: f64,
    memory: f64,
    /// How long requests took, sorted.
    took: Vec<f64>,
    /// How many times clients said something again.
    again: u32,
    /// What was agreed to.
    window: u64,
}

/// A file's name and its length.
type File = (&'static str, usize);

struct Bench<'a> {
    content: &'a [u8],
    report: &'a mut Report,
    arguments: &'a Arguments,
}

impl Bench<'_> {
    fn tftp(
        &mut self,
        servers: &[Server<'_>],
        clients: usize,
        file: File,
        window: u16,
    ) -> Result<()> {
        let content = self.content.get(..file.1).ok_or("too little content")?;
        let run = |server: &Server<'_>| {
            let wanted = tftp::Wanted {
                server: (server.address, 69).into(),
                file: file.0,
                content,
                block: 1468,
                window,
            };
            let one = |_| tftp::Transfer::new(wanted);
            let mut all = (0..clients).map(one).collect::<Result<Vec<_>>>()?;
            let mut sample = used(server, || fetch::together(&mut all))?;
            sample.took = all.iter().map(|it| it.took).collect();
            sample.again = all.iter().map(|it| it.again).sum();
            sample.window = all.iter().map(tftp::Transfer::window).max().unwrap_or_default();
            Ok(sample)
        };
        let what = format!("TFTP, {}, window {window}", many(clients, file));
        self.contest(&what, servers, clients * file.1, &run)
    }

    fn http(
        &mut self,
        servers: &[Server<'_>],
        clients: usize,
        file: File,
        parts: bool,
    ) -> Result<()> {
        let (len, part) = (u64::try_from(file.1)?, u64::try_from(MIB)?);
        let step = |at: u64| -> Range<u64> { at * part..(at + 1) * part };
        let parts: Vec<_> = if parts { (0..len / part).map(step).collect() } else { Vec::new() };
        let ranges = if parts.is_empty() { "" } else { " in parts" };
        let what = format!("HTTP, {}{ranges}", many(clients, file));
        let content = self.content;
        let run = |server: &Server<'_>, content| {
            let wanted = http::Wanted {
                server: SocketAddr::from((server.address, 80)),
                file: file.0,
                len,
                content,
                parts: parts.clone(),
            };
            let one = |_| http::Connection::new(wanted.clone());
            let mut all = (0..clients).map(one).collect::<Result<Vec<_>>>()?;
            let mut sample = used(server, || fetch::together(&mut all))?;
            sample.took = all.iter().flat_map(|it| it.took.iter().copied()).collect();
            Ok::<_, kiln_benches::Error>(sample)
        };
        if what.contains(&self.arguments.only) {
            for server in servers {
                run(server, Some(content)).map_err(|error| format!("{}: {error}", server.name))?;
            }
        }
        self.contest(&what, servers, clients * file.1, &|server| run(server, None))
    }

    /// The large file by curl: another client's opinion.
    fn curl(&mut self, servers: &[Server<'_>]) -> Result<()> {
        let what = "TFTP, 1 client, 64 MiB, by curl";
        if !what.contains(&self.arguments.only) || !machine::are_installed(&["curl"]) {
            return Ok(());
        }
        let one = |server: &Server<'_>| {
            let url = format!("tftp://{}/64", server.address);
            Contender::timed(server.name, move || {
                let words =
                    ["--silent", "--show-error", "--max-time", "120", "--output", "/dev/null"];
                machine::run("curl", |it| it.args(words).args(["--tftp-blksize", "1468", &url]))
            })
        };
        self.report.timed(what, self.arguments.common.n, servers.iter().map(one).collect())
    }

    fn contest(
        &mut self,
        what: &str,
        servers: &[Server<'_>],
        bytes: usize,
        run: &dyn Fn(&Server<'_>) -> Result<Sample>,
    ) -> Result<()> {
        if !what.contains(&self.arguments.only) {
            return Ok(());
        }
        let one = |server| Contender::new(Server::name(server), move || run(server));
        let mut turns: Vec<_> = servers.iter().map(one).collect();
        let samples = take_turns(self.arguments.common.n, &mut turns)?;
        let mut rows = |row: &str,
                        unit,
                        figure: &dyn Fn(&Sample) -> f64,
                        note: &dyn Fn(&[Sample]) -> String| {
            for (server, samples) in servers.iter().zip(&samples) {
                let figures = samples.iter().map(figure).collect();
                self.report.add(&format!("{what}: {row}"), server.name, unit, figures);
                self.report.note(note(samples));
            }
        };
        let nothing = |_: &[Sample]| String::new();
        rows("wall time", Unit::Seconds, &|it| it.wall, &|samples| {
            let mut walls: Vec<f64> = samples.iter().map(|it| it.wall).collect();
            walls.sort_by(f64::total_cmp);
            let speed = bytes as f64 / MIB as f64 / median(&walls);
            let again: u32 = samples.iter().map(|it| it.again).sum();
            let window = samples.iter().map(|it| it.window).max().unwrap_or_default();
            match window {
                0 => format!("{speed:.0} MiB/s"),
                _ => format!("{speed:.0} MiB/s, window {window}, said again {again}"),
            }
        });
        if samples.iter().flatten().any(|it| it.took.len() > 1) {
            rows("p50 of requests", Unit::Milliseconds, &|it| quantile(&it.took, 50), &nothing);
            rows("p99 of requests", Unit::Milliseconds, &|it| quantile(&it.took, 99), &nothing);
        }
        rows("CPU time of the server", Unit::Seconds, &|it| it.cpu, &nothing);
        rows("memory of the server", Unit::Mebibytes, &|it| it.memory, &nothing);
        Ok(())
    }
}

impl Server<'_> {
    const fn name(&self) -> &'static str {
        self.name
    }
}

fn many(clients: usize, file: File) -> String {
    let plural = if clients == 1 { "" } else { "s" };
    format!("{clients} client{plural}, {} MiB", file.1 / MIB)
}

/// Runs something, and says what the server has used meanwhile.
fn used(server: &Server<'_>, run: impl FnOnce() -> Result<()>) -> Result<Sample> {
    server.process.forget()?;
    let before = server.process.used()?;
    let wall = seconds(run)?;
    let after = server.process.used()?;
    Ok(Sample { wall, cpu: after.cpu - before.cpu, memory: after.memory, ..Sample::default() })
}

/// What so many of a hundred do not exceed.
fn quantile(values: &[f64], of_hundred: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * of_hundred).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
