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

/// What a system calls itself, with its version (os-release(5)).
fn system(text: &str) -> String {
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(value.trim().trim_matches(['"', '\'']))
    };
    let name = value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or("Linux");
    match value("VERSION_ID").filter(|version| !name.contains(version)) {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_system_calls_itself() {
        let text = "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        let with_version = format!("{text}VERSION_ID=\"12\"\n");
        for text in [text, &with_version] {
            assert_eq!(super::system(text), "Debian GNU/Linux 12 (bookworm)");
        }
        let text = "NAME=kurma\nVERSION_ID=v0.1.0\nPRETTY_NAME=Kurma-like\n";
        assert_eq!(super::system(text), "Kurma-like v0.1.0");
        assert_eq!(super::system(""), "Linux");
    }
}
