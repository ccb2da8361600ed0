//! Cloud-configs by number: mostly sound, then damaged a little.

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(most).expect("a size"))
            .expect("less than a size")
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

const SECTIONS: &[&str] = &[
    "hostname: node-1\n",
    "hostname: \"node-2\"\n",
    "ssh_authorized_keys:\n- ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHFZDvJJUVn2uUaRPVuKLtNPbVPHzJfNYJ9VZpn0xg5e ada\n",
    "users:\n- default\n- name: ada\n  groups: [docker, sudo]\n  uid: 1500\n  sudo: false\n",
    "users: [{name: bob, shell: /bin/sh, groups: 'wheel, adm'}]\n",
    "write_files:\n- path: /etc/motd\n  content: |\n    hello\n    world\n  permissions: '0600'\n",
    "write_files: [{path: /a, encoding: b64, content: aGVsbG8=, owner: 'ada:docker', append: true}]\n",
    "bootcmd: [[modprobe, loop], 'echo a: b']\n",
    "runcmd:\n  - [touch, /run/x]\n  - >-\n    echo one\n    two\n",
    "mounts: [[LABEL=data, /data, ext4, 'noatime', '0', '2']]\n",
    "network: {interfaces: [{match: eth*, dhcp: yes}]}\n",
    "network:\n  version: 2\n  ethernets:\n    eth0:\n      addresses: [192.0.2.5/24]\n      gateway4: 192.0.2.1\n",
    "sysctl: {net.ipv4.ip_forward: 1, vm.swappiness: '10'}\n",
    "modules: [loop max_loop=8, br_netfilter]\n",
    "services: {sshd: true, ntp: off}\n",
    "power_state: {mode: reboot, delay: +1}\n",
    "x-shared: &shared {a: [1, 2.5, null]}\n",
    "packages: [vim]\n",
];

const BITS: &[&str] = &[
    ":",
    "- ",
    "\n",
    "  ",
    "\t",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!x ",
    "|",
    ">",
    "'",
    "\"",
    "#",
    "<<: *shared\n",
    "null",
    "0777",
    "\u{1b}",
    "é",
    "---\n",
    "...",
    "%YAML 1.2\n",
    "? ",
    ", ",
    "~",
    "1e999",
    "..",
    "\\",
    "\u{0}",
];

/// The config of a number.
pub(crate) fn config(seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut text = String::from("#cloud-config\n");
    for _ in 0..=random.below(5) {
        text.push_str(random.of(SECTIONS));
    }
    for _ in 0..random.below(4) {
        damage(&mut text, &mut random);
    }
    text
}

fn damage(text: &mut String, random: &mut Random) {
    let boundary = |text: &str, at: usize| {
        (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
    };
    let at = random.below(text.len() + 1);
    let at = boundary(text, at);
    match random.below(3) {
        0 => text.insert_str(at, random.of(BITS)),
        1 => {
            let end = boundary(text, (at + random.below(8)).min(text.len()));
            text.replace_range(at..end, "");
        }
        _ => {
            let end = boundary(text, (at + random.below(24)).min(text.len()));
            let piece = text[at..end].to_owned();
            let to = random.below(text.len() + 1);
            let to = boundary(text, to);
            text.insert_str(to, &piece);
        }
    }
}
