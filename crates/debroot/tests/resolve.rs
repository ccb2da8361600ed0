//! Which packages are chosen, and what is said when they cannot be.

use kiln_debroot::{Error, Index, Request, resolve};

/// An index of paragraphs without what no decision needs.
fn index(paragraphs: &str) -> Index {
    let mut index = Index::new("amd64");
    let mut text = String::new();
    for (number, paragraph) in paragraphs.trim().split("\n\n").enumerate() {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        let (name, version) = lines[0].split_once(' ').expect("name and version");
        text.push_str(&format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{number}.deb\n\
             Size: 1\nSHA256: {number:064x}\n{}\n\n",
            lines[1..].join("\n")
        ));
    }
    index.add("http://archive", &text, "Packages").expect("an index");
    index
}

fn names(index: &Index, wanted: &[&str]) -> Result<String, String> {
    with(index, &Request::new(wanted.iter().copied()))
}

fn with(index: &Index, request: &Request) -> Result<String, String> {
    let chosen = resolve(index, request).map_err(|error| error.to_string())?;
    let words: Vec<String> = chosen
        .iter()
        .map(|chosen| format!("{} {}", chosen.package.name(), chosen.package.version()))
        .collect();
    Ok(words.join(", "))
}

#[test]
fn the_highest_version_of_everything_needed() {
    let index = index(
        "app 1
        Depends: lib (>= 1), data

        app 2~rc1
        Depends: lib (>= 2), data
        Pre-Depends: base:any

        lib 2
        lib-is-here: yes

        data 1
        Depends: app

        base 7

        unused 1",
    );
    assert_eq!(names(&index, &["app"]).unwrap(), "app 2~rc1, base 7, data 1, lib 2");
    assert_eq!(names(&index, &["app=1"]).unwrap(), "app 1, data 1, lib 2");
}

#[test]
fn what_must_be_is_taken_before_anything_is_chosen() {
    let index = index(
        "app 1
        Depends: first | second, needs-second

        needs-second 1
        Depends: second

        first 1

        second 1",
    );
    assert_eq!(names(&index, &["app"]).unwrap(), "app 1, needs-second 1, second 1");
}

#[test]
fn virtual_packages() {
    let index = index(
        "app 1
        Depends: mail (>= 2) | mta

        extra 1
        Priority: extra
        Provides: mta

        important 1
        Priority: important
        Provides: mta, mail (= 1)

        versioned 1
        Provides: abi (= 5)

        wants-abi 1
        Depends: abi (>= 4)

        wants-more 1
        Depends: abi (>= 6)",
    );
    assert_eq!(names(&index, &["app"]).unwrap(), "app 1, important 1");
    assert_eq!(names(&index, &["app", "extra"]).unwrap(), "app 1, extra 1");
    assert_eq!(names(&index, &["wants-abi"]).unwrap(), "versioned 1, wants-abi 1");
    assert_eq!(names(&index, &["abi"]).unwrap(), "versioned 1");
    insta::assert_snapshot!(names(&index, &["mta", "wants-more"]).unwrap_err(), @r"
    mta: several packages provide this; ask for one of them: extra, important
    wants-more 1: Depends: abi (>= 6): there is only abi (= 5) of versioned 1
    ");
}

#[test]
fn an_alternative_that_excludes_what_is_there_is_not_taken() {
    let index = index(
        "app 1
        Depends: bad | good, lib

        bad 1
        Conflicts: lib

        good 1

        lib 1",
    );
    assert_eq!(names(&index, &["app"]).unwrap(), "app 1, good 1, lib 1");
}

#[test]
fn recommended_packages_only_where_they_can_be_had() {
    let index = index(
        "app 1
        Recommends: nice, gone, hostile

        nice 1

        hostile 1
        Breaks: app (<< 2)",
    );
    assert_eq!(names(&index, &["app"]).unwrap(), "app 1");
    let request = Request::new(["app"]).with_recommends(true);
    assert_eq!(with(&index, &request).unwrap(), "app 1, nice 1");
}

#[test]
fn essential_packages_on_demand() {
    let index = index(
        "app 1

        dpkg 1
        Essential: yes
        Depends: tar

        tar 1",
    );
    let request = Request::new(["app"]).with_essential(true);
    assert_eq!(with(&index, &request).unwrap(), "app 1, dpkg 1, tar 1");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let index = index(
        "nginx 1.22
        Depends: gone (>= 1) | lib (>= 3), lost

        lib 2

        one 1
        Conflicts: two

        two 1
        Breaks: one (<< 1.5)",
    );
    let wanted = ["ngnix", "nginx=2", "nginx", "one:i386", "a b", "one", "two", "zzzzzz"];
    insta::assert_snapshot!(names(&index, &wanted).unwrap_err(), @r"
    ngnix: no archive has a package of this name; did you mean nginx?
    nginx=2: no archive has this version; there is 1.22
    one:i386: only packages of the archive's own architecture can be asked for, without a colon
    a b: that is no name of a package
    zzzzzz: no archive has a package of this name
    nginx 1.22: Depends: gone (>= 1) | lib (>= 3): there is only lib 2
    nginx 1.22: Depends: lost: no archive has such a package
    one 1: Conflicts: two: excludes two 1 (asked for)
    two 1: Breaks: one (<< 1.5): excludes one 1 (asked for)
    ");
    let twice = ["lib=2", "lib=3"];
    insta::assert_snapshot!(names(&index, &twice).unwrap_err(), @"lib=3: no archive has this version; there is 2");
}

#[test]
fn broken_indexes_are_refused_with_the_line() {
    let good = format!(
        "Package: a\nVersion: 1\nArchitecture: all\nFilename: p/a.deb\nSize: 1\nSHA256: {:064}\n",
        0
    );
    let add = |text: &str| Index::new("amd64").add("http://x", text, "Packages");
    add(&good).unwrap();
    for (from, to) in [
        ("Package: a", "Package: ../a"),
        ("Version: 1", "Version: one"),
        ("Filename: p/a.deb", "Filename: ../../etc/a.deb"),
        ("Filename: p/a.deb", "Filename: /etc/a.deb"),
        ("Size: 1", "Size: -1"),
        ("SHA256: 0", "SHA256: Z"),
        ("Size: 1", "Size 1"),
        ("Package: a", " continued"),
    ] {
        let error = add(&format!("\n{}", good.replace(from, to))).unwrap_err();
        assert!(matches!(error, Error::Syntax { line: 2.., .. }), "{to}: {error}");
    }
}
