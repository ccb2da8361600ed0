//! Why options were dropped, on a Kconfig tree that has every reason in it.

use std::collections::BTreeMap;
use std::io;

use kiln_kconfig::{Declarations, DotConfig, dropped, merge};
use proptest::prelude::*;

const TOP: &str = "\
mainmenu \"Test\"
source \"scripts/Kconfig.include\"
config MODULES
	bool \"Modules\"
	modules
source \"arch/$(SRCARCH)/Kconfig\"
source \"nowhere/Kconfig\"
";
const INCLUDE: &str = "\
# macros are no options
success = $(if-success,$(1),y,n)
cc-option = $(success,$(CC) -Werror $(1) -c -x c /dev/null)
$(error-if,$(success,false),config FAKE)
";
const ARCH: &str = "\
menu \"Devices\"
	depends on PCI || \\
		   EXTRA

config E1000
	tristate \"Intel PRO/1000\" if EXPERT
	depends on NET && !64BIT # a comment
	help
	  Not a line of the language:
	  config HELPLESS

	    depends on nothing

	  The end.

config CHILD
	bool
	default y
endmenu

if NET
config MASQ
	bool
config USER
	bool \"User\"
	select MASQ if EXPERT
endif

choice
	prompt \"Speed\"
config FAST
	bool \"Fast\"
config SLOW
	bool \"Slow\"
endchoice

config SHIFT
	int \"Shift\"
	range 12 25
config SANITIZE
	bool \"Sanitize\"
	depends on $(cc-option,-fsanitize=(x))
config PLAIN
	bool \"Plain\"
config TRI
	tristate \"Tri\"
config NAME
	string \"Name\"
";

fn tree() -> Declarations {
    let files = BTreeMap::from([
        ("Kconfig", TOP),
        ("scripts/Kconfig.include", INCLUDE),
        ("arch/x86/Kconfig", ARCH),
    ]);
    Declarations::load("Kconfig", &[("SRCARCH", "x86")], |name| {
        let text = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.as_bytes().to_vec())
    })
}

#[test]
fn options_are_declared_where_they_are_and_help_is_no_declaration() {
    let tree = tree();
    let names: Vec<&str> = tree.options().collect();
    assert_eq!(
        names,
        [
            "CHILD", "E1000", "FAST", "MASQ", "MODULES", "NAME", "PLAIN", "SANITIZE", "SHIFT",
            "SLOW", "TRI", "USER"
        ]
    );
    assert_eq!(tree.sites("E1000").next().unwrap().to_string(), "arch/x86/Kconfig:5");
    let problems: Vec<String> = tree.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["Kconfig:7: cannot read nowhere/Kconfig: entity not found"]);
}

#[test]
fn every_reason_is_told() {
    let asked = DotConfig::parse(
        b"CONFIG_E1000=y\nCONFIG_CHILD=y\nCONFIG_MASQ=y\nCONFIG_FAST=y\nCONFIG_SHIFT=77\n\
          CONFIG_SANITIZE=y\nCONFIG_PLAIN=m\nCONFIG_TRI=m\nCONFIG_E1001=y\n# CONFIG_E1002 is not set\n\
          CONFIG_NAME=5\nCONFIG_NOTHINGLIKEIT=y\n",
        "a.config",
    );
    let result = DotConfig::parse(
        b"CONFIG_64BIT=y\nCONFIG_SLOW=y\n# CONFIG_FAST is not set\nCONFIG_SHIFT=17\nCONFIG_TRI=y\n\
          # CONFIG_PLAIN is not set\nCONFIG_NAME=\"\"\n",
        ".config",
    );
    let lines: Vec<String> =
        dropped(&asked, &result, &tree()).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_is_asked_to_be_off_and_is_on_is_told_with_who_turned_it_on() {
    let asked = DotConfig::parse(b"# CONFIG_MASQ is not set\n# CONFIG_E1000 is not set\n", "a");
    let result = DotConfig::parse(
        b"CONFIG_NET=y\nCONFIG_EXPERT=y\nCONFIG_USER=y\nCONFIG_MASQ=y\n",
        ".config",
    );
    let lines: Vec<String> =
        dropped(&asked, &result, &tree()).iter().map(ToString::to_string).collect();
    // E1000 is absent, which is what was asked for.
    assert_eq!(
        lines,
        ["CONFIG_MASQ=n (a:1) became y: CONFIG_USER=y selects it (arch/x86/Kconfig:26)"]
    );
}

#[test]
fn the_last_fragment_that_asks_is_the_one_that_is_named() {
    let first = DotConfig::parse(b"CONFIG_TRI=y\nCONFIG_PLAIN=y\n", "first.config");
    let second = DotConfig::parse(b"\nCONFIG_PLAIN=y\n# CONFIG_TRI is not set\n", "second.config");
    let asked = merge(&DotConfig::parse(b"", ""), &[first, second]).config;
    let result = DotConfig::parse(b"", ".config");
    let found = dropped(&asked, &result, &tree());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].requested.site.to_string(), "second.config:2");
}

#[test]
fn a_file_that_sources_itself_ends() {
    let tree = Declarations::load("Kconfig", &[], |_| {
        Ok(b"config A\n\tbool \"A\"\nsource \"Kconfig\"\nsource \"Kconfig\"\n".to_vec())
    });
    assert!(tree.contains("A") && !tree.problems().is_empty());
}

proptest! {
    #[test]
    fn nothing_panics(text in "(config |if |\tdepends on |\\$\\(|\\(|\"|help\n|[A-C&|!=<> \\\\\n\t#é]){0,80}") {
        let tree = Declarations::load("Kconfig", &[], |_| Ok(text.clone().into_bytes()));
        let asked: String = tree.options().map(|name| format!("CONFIG_{name}=y\n")).collect();
        let asked = DotConfig::parse(asked.as_bytes(), "asked");
        for dropped in dropped(&asked, &DotConfig::parse(b"", "none"), &tree) {
            prop_assert!(!dropped.causes.is_empty());
        }
    }
}
