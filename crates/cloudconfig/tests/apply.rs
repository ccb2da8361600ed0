//! Plans carried out below a root, and links that would lead out of it.
#![cfg(feature = "linux")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use kiln_cloudconfig::apply::{Done, Root};
use kiln_cloudconfig::plan::{Action, Options, Plan, plan};
use kiln_cloudconfig::schema::User;
use kiln_cloudconfig::{Limits, decode, document};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHFZDvJJUVn2uUaRPVuKLtNPbVPHzJfNYJ9VZpn0xg5e ada@lab";

fn planned(text: &str) -> Plan {
    let limits = Limits::default();
    let (root, findings) = document::read("cc.yml", text.as_bytes(), &limits);
    assert!(findings.is_empty(), "{findings}");
    let (config, findings) = decode(&root, &limits);
    assert!(findings.is_empty(), "{findings}");
    plan(&config, &Options::with_user(User::named("rancher")))
}

#[test]
fn a_plan_is_shown_as_lines() {
    insta::assert_snapshot!("plan", planned(include_str!("samples/full.yml")));
    let mut without = planned(&format!("users: []\nssh_authorized_keys: ['{KEY}']"));
    assert_eq!(
        without.to_string(),
        "cannot: ssh_authorized_keys: there is no default user whom they could be for\n"
    );
    without = planned("write_files: [{path: \"/a\\nhostname b\", content: x}]");
    assert_eq!(without.to_string().lines().count(), 2, "{without}");
}

/// A root like Debian's; none where we are not root, because files are given to others.
fn root() -> Option<tempfile::TempDir> {
    let place = tempfile::tempdir().expect("a directory");
    if fs::metadata(place.path()).expect("its owner").uid() != 0 {
        println!("skipped: root");
        return None;
    }
    for (path, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nrancher:x:1000:1000::/home/rancher:/bin/bash",
        ),
        ("etc/group", "root:x:0:\nshadow:x:42:\ndocker:x:998:someone\nrancher:x:1000:\n"),
        ("etc/shadow", "root:*:19000:0:99999:7:::\nrancher:!:19000:0:99999:7:::\n"),
    ] {
        let path = place.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }
    Some(place)
}

fn perform(place: &Path, plan: &Plan) -> Vec<String> {
    let root = Root::open(place).expect("the root");
    let failed = plan.actions.iter().filter_map(|action| root.perform(action).err());
    failed.map(|error| error.to_string()).collect()
}

fn listed(place: &Path, path: &str) -> String {
    let found = fs::symlink_metadata(place.join(path)).expect(path);
    format!("{:o} {}:{}", found.permissions().mode() & 0o7777, found.uid(), found.gid())
}

#[test]
fn files_users_and_keys_are_where_they_belong() {
    let Some(place) = root() else { return };
    let plan = planned(include_str!("samples/full.yml"));
    assert_eq!(perform(place.path(), &plan), [] as [&str; 0]);
    let read = |path: &str| fs::read_to_string(place.path().join(path)).unwrap();
    assert_eq!(read("etc/hostname"), "node-1\n");
    assert_eq!(read("etc/motd"), "Hello,\nworld.\n");
    assert_eq!(listed(place.path(), "etc/motd"), "644 0:0");
    assert_eq!(
        (read("etc/secret").as_str(), listed(place.path(), "etc/secret").as_str()),
        ("secret", "600 1500:998")
    );
    assert_eq!(read("home/rancher/.ssh/authorized_keys"), format!("{KEY}\n"));
    assert_eq!(listed(place.path(), "home/rancher/.ssh/authorized_keys"), "600 1000:1000");
    assert_eq!(listed(place.path(), "home/ada/.ssh"), "700 1500:1500");
    assert_eq!(read("etc/sudoers.d/90-cloud-config-ada"), "ada ALL=(ALL) NOPASSWD:ALL\n");
    assert_eq!(listed(place.path(), "etc/sudoers.d/90-cloud-config-ada"), "440 0:0");
    assert!(!place.path().join("srv/backup").exists());
    insta::assert_snapshot!(
        "accounts",
        format!("{}---\n{}---\n{}", read("etc/passwd"), read("etc/group"), read("etc/shadow"))
    );
    assert_eq!(listed(place.path(), "etc/shadow"), "640 0:42");

    // Once more: nothing is there twice but what was to be added.
    let before = [read("etc/passwd"), read("etc/group"), read("etc/shadow")];
    assert_eq!(perform(place.path(), &plan), [] as [&str; 0]);
    assert_eq!([read("etc/passwd"), read("etc/group"), read("etc/shadow")], before);
    assert_eq!(read("home/rancher/.ssh/authorized_keys"), format!("{KEY}\n"));
    assert_eq!(read("etc/packed"), "hello".repeat(2));
    let names: Vec<_> = fs::read_dir(place.path().join("etc")).unwrap().collect();
    assert!(
        names.iter().all(|it| !it
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("unfinished"))
    );
}

#[test]
fn what_is_no_file_is_for_others() {
    let Some(place) = root() else { return };
    let root = Root::open(place.path()).unwrap();
    let plan = planned(
        "runcmd: [a]\nmodules: [loop]\nsysctl: {a.b: 1}\nmounts: [[a, /b]]\nservices: {a: true}\n\
         power_state: {mode: halt}\nnetwork: {}\nwrite_files: [{path: /x, container: console}]\nusers: []\n",
    );
    assert_eq!(plan.actions.len(), 8);
    for action in &plan.actions {
        assert_eq!(root.perform(action), Ok(Done::NotHere), "{action}");
    }
    assert!(!place.path().join("x").exists());
}

#[test]
fn no_link_leads_out_of_the_root() {
    let Some(place) = root() else { return };
    let outside = tempfile::tempdir().unwrap();
    let (inside, out) = (place.path(), outside.path());
    fs::write(out.join("passwd"), "untouched").unwrap();
    fs::create_dir(inside.join("run")).unwrap();
    fs::create_dir(inside.join("var")).unwrap();
    symlink("/run", inside.join("var/run")).unwrap();
    symlink(out, inside.join("absolute")).unwrap();
    symlink("../../../../../../../../tmp", inside.join("above")).unwrap();
    symlink(out.join("passwd"), inside.join("etc/link")).unwrap();
    fs::create_dir(inside.join("etc/there")).unwrap();

    let write = |path: &str| {
        let plan = planned(&format!("users: []\nwrite_files: [{{path: {path}, content: new}}]"));
        perform(inside, &plan).join("\n")
    };
    // A link inside the root is one that the system has; the kernel resolves it as if it were there.
    assert_eq!(write("/var/run/file"), "");
    assert_eq!(fs::read_to_string(inside.join("run/file")).unwrap(), "new");
    // Where this one leads there is nothing, seen from the root, and no directory is made for it.
    assert_eq!(write("/absolute/file"), "/absolute/file: No such file or directory (os error 2)");
    assert_eq!(write("/above/file"), "/above/file: No such file or directory (os error 2)");
    assert_eq!(fs::read_dir(out).unwrap().count(), 1);
    // The link itself is replaced.
    assert_eq!(write("/etc/link"), "");
    assert_eq!(fs::read_to_string(inside.join("etc/link")).unwrap(), "new");
    assert_eq!(fs::read_to_string(out.join("passwd")).unwrap(), "untouched");
    // What is no file is not replaced.
    assert_eq!(write("/etc/there"), "/etc/there: a directory");
    let fifo = std::process::Command::new("mkfifo").arg(inside.join("etc/fifo")).status().unwrap();
    assert!(fifo.success());
    assert_eq!(write("/etc/fifo"), "/etc/fifo: no plain file");
    assert_eq!(write("/etc/passwd/x"), "/etc/passwd/x: Not a directory (os error 20)");
    // Nor is anything added to what is behind a link.
    symlink(out.join("passwd"), inside.join("etc/added")).unwrap();
    let plan = planned("users: []\nwrite_files: [{path: /etc/added, content: new, append: true}]");
    assert_eq!(perform(inside, &plan), ["/etc/added: a symbolic link, to which nothing is added"]);
}

#[test]
fn a_user_cannot_have_keys_written_elsewhere() {
    let Some(place) = root() else { return };
    let inside = place.path();
    fs::create_dir_all(inside.join("root/.ssh")).unwrap();
    fs::create_dir_all(inside.join("home/rancher")).unwrap();
    std::os::unix::fs::chown(inside.join("home/rancher"), Some(1000), Some(1000)).unwrap();
    let plan = planned(&format!("ssh_authorized_keys: ['{KEY}']"));
    symlink("/root/.ssh", inside.join("home/rancher/.ssh")).unwrap();
    let path = "/home/rancher/.ssh/authorized_keys";
    assert_eq!(perform(inside, &plan), [format!("{path}: .ssh is no directory")]);
    fs::remove_file(inside.join("home/rancher/.ssh")).unwrap();
    fs::create_dir(inside.join("home/rancher/.ssh")).unwrap();
    symlink("/etc/shadow", inside.join("home/rancher/.ssh/authorized_keys")).unwrap();
    assert_eq!(
        perform(inside, &plan),
        [format!("{path}: a symbolic link, to which nothing is added")]
    );
    std::os::unix::fs::chown(inside.join("home/rancher/.ssh"), Some(1001), None).unwrap();
    assert_eq!(perform(inside, &plan), [format!("{path}: .ssh belongs to another user, 1001")]);
    assert_eq!(fs::read_dir(inside.join("root/.ssh")).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_written_leaves_what_was() {
    let Some(place) = root() else { return };
    let etc = place.path().join("etc");
    fs::write(etc.join("motd"), "old").unwrap();
    // What a crash has left is in nobody's way.
    fs::write(etc.join(".cloud-config-unfinished"), "half").unwrap();
    let plan = planned(
        "users: []\nwrite_files:\n- {path: /etc/motd, content: new, owner: 'nobody-known:root'}\n- {path: /etc/other, content: x, permissions: '4711'}",
    );
    assert_eq!(perform(place.path(), &plan), ["/etc/motd: its owner nobody-known is not there"]);
    assert_eq!(fs::read_to_string(etc.join("motd")).unwrap(), "old");
    assert_eq!(listed(place.path(), "etc/other"), "4711 0:0");
    assert!(!etc.join(".cloud-config-unfinished").exists());

    let users = planned("users: [{name: ada, uid: 1000}]");
    assert_eq!(
        perform(place.path(), &users),
        ["/etc/passwd: ada: another user has the number 1000"]
    );
    let action = Action::AddKeys { user: "nobody".into(), keys: vec![KEY.into()] };
    let root = Root::open(place.path()).unwrap();
    assert_eq!(root.perform(&action).unwrap_err().to_string(), "/etc/passwd: nobody is not there");
}
