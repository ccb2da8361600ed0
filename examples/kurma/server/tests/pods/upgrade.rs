//! Another version of the machine's system is passed on to who judges it.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use kurma_client::Upgrade;

use crate::harness::{PATIENCE, Server, ready};
use crate::refusals::post;

/// Takes what begins with a word, and writes down how it was called.
const PROGRAM: &str = "#!/bin/sh
cd \"${0%/*}\"
echo \"$@\" >> called
[ \"$1\" = restart ] && exit
[ \"$(head -c 6)\" = system ] || { echo it is no system >&2; exit 1; }
wc -c > rest
echo version 2 is there
";

#[test]
fn another_version_goes_to_who_judges_it_and_the_machine_starts_anew() {
    if !ready() {
        return;
    }
    let mut server = Server::start();
    let file = server.path("system.tar");
    std::fs::write(&file, [b"system".as_slice(), &vec![0; 3_000_000]].concat()).unwrap();
    let mut how = Upgrade::default();
    // who is refused before it has sent all reads why, each time
    for _ in 0..20 {
        let none = server.wait(server.client().upgrade(&file, &how, |_| ())).unwrap_err();
        assert!(none.to_string().contains("not the server's to replace"), "{none}");
    }

    let program = server.path("upgrades");
    std::fs::write(&program, PROGRAM).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    server.kill();
    server.restart();
    let called = || std::fs::read_to_string(server.path("called")).unwrap_or_default();
    how.stay = true;
    (how.force, how.kexec, how.append) = (true, true, Some("a b=c&d".into()));
    let done = server.wait(server.client().upgrade(&file, &how, |_| ())).unwrap();
    assert_eq!((done.message.as_str(), done.restarts), ("version 2 is there", false));
    assert_eq!(called(), "upgrade --force --kexec --append=a b=c&d -\n");
    assert_eq!(std::fs::read_to_string(server.path("rest")).unwrap().trim(), "3000000");

    // what is refused at once is still taken to its end, so that the answer is read
    std::fs::write(&file, vec![b'x'; 3_000_000]).unwrap();
    let how = Upgrade::default();
    let refused = server.wait(server.client().upgrade(&file, &how, |_| ())).unwrap_err();
    assert!(refused.to_string().contains("it is no system"), "{refused}");
    assert!(!called().contains("restart"));

    let remotely = |role: &str, query: &str| {
        let headers = format!("kurma-caller: ann\r\nkurma-role: {role}\r\n");
        let path = format!("/system/upgrade{query}");
        post(&server.path("run/remote/kurma.sock"), &path, &headers, b"system")
    };
    for (role, query, status) in [
        ("read-only", "", "403 "),
        ("operator", "?force=true", "403 "),
        ("operator", "?append=init=/bin/sh", "403 "),
        ("operator", "?other=1", "400 "),
        ("operator", "", "200 "),
    ] {
        let said = remotely(role, query);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{role} {query}: {said}");
    }
    let begun = Instant::now();
    while !called().ends_with("upgrade -\nrestart\n") {
        assert!(begun.elapsed() < PATIENCE, "{}", called());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let audit = std::fs::read_to_string(server.path("var/audit.log")).unwrap();
    assert!(audit.contains("\"did\":\"System.Upgrade\"") && audit.contains("it is no system"));
}
