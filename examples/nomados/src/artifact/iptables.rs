//! The iptables that CNI's plugins and container runtimes call, and the extensions which it loads by
//! dlopen (so no closure finds them).

use anyhow::Result;
use kiln_initramfs::elf::Root;
use kiln_tree::{Node, Tree};

/// The packages with all of it, and CNI's plugins.
pub(super) const PACKAGES: &[&str] =
    &["containernetworking-plugins", "iptables", "libmnl0", "libnftnl11", "libxtables12"];
/// The nft variant of iptables, whose rules live in nf_tables.
const IPTABLES: &str = "/usr/sbin/xtables-nft-multi";
/// What it is called by. Debian makes these links when the package is configured.
const IPTABLES_NAMES: &[&str] = &[
    "ip6tables",
    "ip6tables-restore",
    "ip6tables-save",
    "iptables",
    "iptables-restore",
    "iptables-save",
];
/// The extensions that the plugins and container runtimes use: matches and targets.
const EXTENSIONS: &[&str] = &[
    "libip6t_REJECT",
    "libipt_REJECT",
    "libxt_DNAT",
    "libxt_MARK",
    "libxt_MASQUERADE",
    "libxt_REDIRECT",
    "libxt_SNAT",
    "libxt_addrtype",
    "libxt_comment",
    "libxt_conntrack",
    "libxt_mark",
    "libxt_multiport",
    "libxt_standard",
    "libxt_tcp",
    "libxt_udp",
];

/// The program and its extensions, to be added with what they need themselves.
pub(super) fn roots() -> Vec<Root> {
    let program =
        Root::in_sysroot(IPTABLES).because("what sets up container networks calls iptables");
    let extensions = EXTENSIONS.iter().map(|name| {
        Root::in_sysroot(format!("/usr/lib/x86_64-linux-gnu/xtables/{name}.so"))
            .because("iptables loads it by dlopen for a rule")
    });
    [program].into_iter().chain(extensions).collect()
}

/// The names that iptables is called by.
///
/// # Errors
/// When the tree has one of them already.
pub(super) fn add_links(tree: &mut Tree) -> Result<()> {
    for name in IPTABLES_NAMES {
        let link = Node::symlink("xtables-nft-multi").because("a name of iptables");
        tree.insert(format!("usr/sbin/{name}"), link)?;
    }
    Ok(())
}
