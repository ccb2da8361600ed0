//! What machine it is.

use kurma_client::HostInfo;

/// What is known of this machine.
pub(super) fn read() -> HostInfo {
    let name = rustix::system::uname();
    let mut info = HostInfo::default();
    info.hostname = name.nodename().to_string_lossy().into_owned();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    info.cpus = cpus.try_into().unwrap_or(u32::MAX);
    let memory = rustix::system::sysinfo();
    info.memory = u64::from(memory.mem_unit).saturating_mul(memory.totalram);
    info.platform = "linux".to_owned();
    info.arch = match name.machine().to_bytes() {
        b"x86_64" => "amd64".to_owned(),
        other => String::from_utf8_lossy(other).into_owned(),
    };
    info.ac_version = kiln_oci::appc::VERSION.to_owned();
    info.kurma_version = env!("CARGO_PKG_VERSION").to_owned();
    info.kernel_version = name.release().to_string_lossy().into_owned();
    info.system = system(&std::fs::read_to_string("/etc/os-release").unwrap_or_default());
    info
}

/// What a system calls itself (os-release(5)).
fn system(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_system_calls_itself() {
        let text = "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(super::system(text), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(super::system(""), "Linux");
    }
}
