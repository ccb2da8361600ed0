//! The order of versions beside `dpkg --compare-versions`.

use std::cmp::Ordering;
use std::process::Command;

use kiln_debroot::version::{check, compare};
use proptest::prelude::*;

const NASTY: &[&str] = &[
    "0",
    "00",
    "0.0",
    "1",
    "1.0",
    "1.00",
    "01.0",
    "1.0-0",
    "1.0-1",
    "1.0-01",
    "1.0~",
    "1.0~~",
    "1.0~~a",
    "1.0~rc1",
    "1.0~rc1-1",
    "1.0rc1",
    "1.0+b1",
    "1.0+",
    "1.0.",
    "1.0.a",
    "1.0a",
    "1.0A",
    "1.0z",
    "1.0-1~bpo12+1",
    "1.0-1+b1",
    "1.0-1+deb12u1",
    "1.0-1+deb12u10",
    "1.0-1+deb12u9",
    "0:1.0",
    "1:0",
    "1:1.0-1",
    "2:0~",
    "10",
    "9",
    "1a1",
    "1a01",
    "1a10",
    "2.36-9+deb12u10",
    "2.36-9+deb12u13",
    "20230311+deb12u1",
    "1.22.1-9+deb12u2",
    "4.3.1+ds1-8+deb12u1+b1",
    "1:9.2p1-2+deb12u7",
    "6.1.148-1",
    "6.1.0-9",
    "1.1.1n-0+deb11u5",
    "3.0.17-1~deb12u2",
    "99999999999999999999999999",
    "100000000000000000000000000",
    "1.2-3-4",
    "1.2-3.4-0",
    "0~",
    "0~~",
    "0-0~",
    "1:5.10:3-1",
];

/// What dpkg says; `None` when there is no dpkg.
fn dpkg(left: &str, right: &str) -> Option<Ordering> {
    let holds = |operator: &str| {
        let mut command = Command::new("dpkg");
        let status = command.args(["--compare-versions", left, operator, right]).status().ok()?;
        Some(status.success())
    };
    Some(match (holds("lt")?, holds("eq")?) {
        (true, _) => Ordering::Less,
        (false, true) => Ordering::Equal,
        (false, false) => Ordering::Greater,
    })
}

#[test]
fn nasty_pairs_are_ordered_as_dpkg_orders_them() {
    let mut pairs = 0;
    for (number, left) in NASTY.iter().enumerate() {
        // Each with its neighbours and a few from afar: some hundreds of pairs.
        for step in [0, 1, 2, 3, 7, 19] {
            let Some(right) = NASTY.get((number + step) % NASTY.len()) else { continue };
            let Some(expected) = dpkg(left, right) else {
                println!("skipped: dpkg");
                assert!(std::env::var_os("CI").is_none(), "CI has all tools");
                return;
            };
            assert_eq!(compare(left, right), expected, "{left} {right}");
            assert_eq!(compare(right, left), expected.reverse(), "{right} {left}");
            pairs += 1;
        }
    }
    assert!(pairs > 300);
}

#[test]
fn proper_versions_are_told_from_others() {
    for good in NASTY {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in
        ["", "a", "1.0-", ":1", "x:1", "1_0", "1.0-1_2", "9999999999:1", "5.10:3", "1 0", "-1"]
    {
        assert!(check(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn it_is_an_order(
        a in "[0-9]?:?[0-9a-zA-Z.+~-]{0,8}",
        b in "[0-9]?:?[0-9a-zA-Z.+~-]{0,8}",
        c in "[0-9]?:?[0-9a-zA-Z.+~-]{0,8}",
    ) {
        prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
            prop_assert!(compare(&a, &c).is_le());
        }
    }

    #[test]
    fn nothing_panics(a in any::<String>(), b in any::<String>()) {
        let _ = (compare(&a, &b), check(&a));
    }
}
