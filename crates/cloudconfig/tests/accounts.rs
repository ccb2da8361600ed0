//! Users added to the texts of passwd, group and shadow, as the field's own checker sees them.

use std::process::Command;

use kiln_cloudconfig::accounts::Accounts;
use kiln_cloudconfig::schema::User;
use proptest::prelude::*;

fn user() -> impl Strategy<Value = User> {
    (
        "[a-e]",
        prop::option::of(995_u32..1005),
        prop::collection::vec("[a-h]", 0..3),
        prop::option::of("[f-h]"),
        any::<bool>(),
        prop::option::of(Just("$6$saltsalt$hash")),
    )
        .prop_map(|(name, uid, groups, primary, system, hash)| {
            let mut user = User::named(name);
            user.uid = uid;
            user.groups = groups;
            user.primary_group = primary;
            user.system = system;
            user.password_hash = hash.map(str::to_owned);
            user.lock_password = hash.is_none();
            user
        })
}

proptest! {
    #[test]
    fn every_user_has_numbers_of_his_own_and_a_line_in_each_file(users in prop::collection::vec(user(), 1..12)) {
        let mut accounts = Accounts::default();
        for user in &users {
            let before = accounts.clone();
            let known = before.user(&user.name);
            match accounts.add(user) {
                Err(_) => prop_assert_eq!(&accounts, &before),
                Ok(()) => {
                    let found = accounts.user(&user.name).unwrap();
                    if let Some(known) = known {
                        prop_assert_eq!(&found, &known);
                    }
                    for group in &user.groups {
                        let line = format!("{group}:x:");
                        let line = accounts.group.lines().find(|it| it.starts_with(&line)).unwrap();
                        let members = line.rsplit(':').next().unwrap();
                        prop_assert_eq!(members.split(',').filter(|it| *it == user.name).count(), 1);
                    }
                    // Once more changes nothing.
                    let once = accounts.clone();
                    accounts.add(user).unwrap();
                    prop_assert_eq!(&accounts, &once);
                }
            }
        }
        for (text, fields) in [(&accounts.passwd, 7), (&accounts.group, 4), (&accounts.shadow, 9)] {
            let mut names: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), all);
            prop_assert!(text.lines().all(|line| line.split(':').count() == fields), "{}", text);
        }
        for text in [&accounts.passwd, &accounts.group] {
            let mut ids: Vec<&str> = text.lines().map(|line| line.split(':').nth(2).unwrap()).collect();
            let all = ids.len();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), all, "{}", text);
        }
    }

    #[test]
    fn any_files_can_be_added_to(passwd in "[a-c:0-9\n]{0,40}", group in "[a-c:0-9,\n]{0,40}", shadow in "[a-c:\n]{0,40}", user in user()) {
        let mut accounts = Accounts { passwd, group, shadow };
        let _ = accounts.add(&user);
    }
}

/// pwck and grpck of the shadow suite find nothing to say.
#[test]
fn the_shadow_suite_agrees() {
    let mut accounts = Accounts {
        passwd: "root:x:0:0:root:/:/bin/sh\n".into(),
        group: "root:x:0:\n".into(),
        shadow: "root:*:19000:0:99999:7:::\n".into(),
    };
    let mut ada = User::named("ada");
    ada.groups = vec!["docker".into(), "wheel".into()];
    ada.password_hash = Some("$6$saltsalt$hash".into());
    let mut daemon = User::named("_daemon");
    (daemon.system, daemon.home) = (true, Some("/".into()));
    accounts.add(&ada).unwrap();
    accounts.add(&daemon).unwrap();
    let place = tempfile::tempdir().unwrap();
    // They look for homes and shells as well.
    for (path, text) in [
        ("etc/passwd", accounts.passwd.as_str()),
        ("etc/group", &accounts.group),
        ("etc/shadow", &accounts.shadow),
        ("bin/sh", ""),
        ("home/ada/file", ""),
    ] {
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    for tool in ["pwck", "grpck"] {
        let output = Command::new(tool).args(["-r", "-R"]).arg(place.path()).output();
        let Ok(output) = output else {
            println!("skipped: {tool}");
            continue;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        if said.contains("failed to chroot") || said.contains("Permission denied") {
            println!("skipped: root");
            continue;
        }
        assert!(output.status.success(), "{tool}: {said}\n{accounts:?}");
    }
}
