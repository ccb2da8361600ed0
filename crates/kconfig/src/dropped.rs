//! What was asked for and did not come out of `make olddefconfig`, and why.

use std::fmt;

use crate::dotconfig::{DotConfig, Setting};
use crate::error::Site;
use crate::fragment::Assignment;
use crate::lang::{Condition, Declaration, Declarations, Kind};
use crate::value::{Tristate, Value};

/// An option that did not become what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Dropped {
    /// The option, without `CONFIG_`.
    pub option: String,
    /// What was asked for, and where.
    pub requested: Assignment,
    /// What it became; nothing where the result does not have it.
    pub became: Option<String>,
    /// Why, as far as the Kconfig files tell; never empty.
    pub causes: Vec<Cause>,
}

/// Why an option came out other than it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(tag = "cause", rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum Cause {
    /// No Kconfig file of the tree (for this architecture) declares it.
    Unknown {
        /// Declared options of similar names.
        similar: Vec<String>,
    },
    /// A condition that the option hangs on does not hold.
    Unmet {
        /// The condition with the words in front: `depends on A && B`.
        condition: String,
        /// The parts of it that do not hold.
        parts: Vec<String>,
        /// The options in those parts, and what they are.
        options: Vec<(String, String)>,
        /// Where the condition stands.
        site: Site,
    },
    /// A condition hangs on what the compiler or another program of the host can do, and nothing
    /// else is seen that does not hold.
    Host {
        /// The parts of the condition that ask: `$(cc-option,-fsanitize=kernel)`.
        asks: Vec<String>,
        /// Where the condition stands.
        site: Site,
    },
    /// Nobody can be asked for it: it follows from others.
    NoPrompt {
        /// The options that would turn it on, and what they are.
        selected_by: Vec<(String, String)>,
        /// Where it is declared.
        site: Site,
    },
    /// Another option turns it on.
    Selected {
        /// Which one.
        by: String,
        /// What that is.
        value: String,
        /// Where it says so.
        site: Site,
    },
    /// Of these options only one can be on, and it is another.
    Choice {
        /// Which one is.
        taken: String,
        /// Where the option is declared.
        site: Site,
    },
    /// The value is none of the option's type, or out of its range.
    Type {
        /// What it must be, in words.
        expected: String,
        /// Where it is declared.
        site: Site,
    },
    /// None of the above is seen; where it is declared, if at all.
    Unexplained {
        /// Where it is declared.
        site: Option<Site>,
    },
}

/// Compares what was asked for with what a tree made of it (`make olddefconfig`), and tells of
/// every option that is not as asked, in the order of the requests.
///
/// `requested` are fragments, [merged](crate::merge) if there are several: the last line for an
/// option counts. An option that is to be off may be absent from `resolved`, provided the tree
/// declares it: a name that it does not know is a mistake, whatever it is set to.
///
/// This example shows how to learn why a driver is missing.
///
/// ```
/// use kiln_kconfig::{Declarations, DotConfig, dropped};
///
/// let tree = Declarations::load("Kconfig", &[], |_| Ok(b"\
/// config PCI
///  bool \"PCI\"
/// config E1000
///  tristate \"Intel PRO/1000\"
///  depends on PCI
/// ".to_vec()));
/// let asked = DotConfig::parse(b"CONFIG_E1000=y\n# CONFIG_E100 is not set\n", "my.config");
/// let result = DotConfig::parse(b"# CONFIG_PCI is not set\n", ".config");
/// let dropped: Vec<String> =
///     dropped(&asked, &result, &tree).iter().map(ToString::to_string).collect();
/// assert_eq!(dropped, [
///     "CONFIG_E1000=y (my.config:1) is not in the result: \
///      'depends on PCI' (Kconfig:5) is not met: PCI is n",
///     "CONFIG_E100=n (my.config:2) is not in the result: \
///      no such option in this tree; did you mean E1000?",
/// ]);
/// ```
#[must_use]
pub fn dropped(requested: &DotConfig, resolved: &DotConfig, tree: &Declarations) -> Vec<Dropped> {
    requested
        .effective()
        .filter(|request| !is_kept(request, resolved) || !tree.contains(request.name))
        .map(|request| Dropped {
            option: request.name.to_owned(),
            requested: Assignment::of(&request),
            became: resolved.by_name(request.name).map(|setting| setting.text()),
            causes: causes(&request, resolved, tree),
        })
        .collect()
}

fn is_kept(request: &Setting<'_>, resolved: &DotConfig) -> bool {
    match resolved.by_name(request.name) {
        None => request.value == Some(Value::NO),
        Some(result) => match (&request.value, &result.value) {
            (Some(a), Some(b)) => a == b || (a.number().is_some() && a.number() == b.number()),
            _ => false,
        },
    }
}

fn causes(request: &Setting<'_>, resolved: &DotConfig, tree: &Declarations) -> Vec<Cause> {
    let Some(declarations) = tree.options.get(request.name) else {
        let similar = tree.similar(request.name).into_iter().map(str::to_owned).collect();
        return vec![Cause::Unknown { similar }];
    };
    let mut causes = wrong_type(request, declarations);
    if !causes.is_empty() {
        return causes;
    }
    let wanted = request.value.as_ref().and_then(Value::tristate);
    if wanted == Some(Tristate::Module)
        && tristate_of(resolved, "MODULES") != Tristate::Yes
        && let Some(first) = declarations.first()
    {
        causes.push(Cause::Unmet {
            condition: "m depends on MODULES".to_owned(),
            parts: vec!["MODULES".to_owned()],
            options: vec![("MODULES".to_owned(), text_of(resolved, "MODULES"))],
            site: first.site.clone(),
        });
        return causes;
    }
    let is = tristate_of(resolved, request.name);
    if wanted.is_some_and(|wanted| is > wanted) {
        // Only a select, or nobody being asked, keeps an option above what a file says.
        causes.extend(
            selects(request.name, resolved, tree)
                .filter(|(_, value, _)| *value > Tristate::No)
                .map(|(by, value, site)| Cause::Selected { by, value: value.to_string(), site }),
        );
        if causes.is_empty() {
            let all =
                |declaration: &Declaration| unmet(&declaration.visible, Tristate::Yes, resolved);
            causes.extend(declarations.iter().flat_map(all));
        }
    } else {
        let wanted = wanted.unwrap_or(Tristate::Yes);
        // One declaration that could be had would be enough: the one with the least against it.
        let against = |declaration: &Declaration| {
            let mut found = unmet(&declaration.depends, wanted, resolved);
            if declaration.prompt {
                found.extend(unmet(&declaration.visible, wanted, resolved));
            }
            found
        };
        let least = declarations
            .iter()
            .filter(|declaration| declaration.prompt || declarations.iter().all(|d| !d.prompt))
            .map(against)
            .min_by_key(Vec::len);
        causes.extend(least.into_iter().flatten());
    }
    if causes.is_empty() {
        causes.extend(declarations.iter().find_map(|own| taken(request, own, resolved, tree)));
    }
    if causes.is_empty()
        && let Some(first) =
            declarations.iter().find(|_| declarations.iter().all(|own| !own.prompt))
    {
        let mut selected_by: Vec<(String, String)> = selects(request.name, resolved, tree)
            .map(|(by, _, _)| (by.clone(), text_of(resolved, &by)))
            .collect();
        selected_by.dedup();
        causes.push(Cause::NoPrompt { selected_by, site: first.site.clone() });
    }
    if causes.is_empty() {
        let all = |own: &Declaration| -> Vec<Condition> {
            own.depends.iter().chain(&own.visible).cloned().collect()
        };
        causes.extend(declarations.iter().flat_map(all).filter_map(|condition| {
            let asks: Vec<String> =
                condition.unknown(resolved).iter().map(ToString::to_string).collect();
            (!asks.is_empty()).then(|| Cause::Host { asks, site: condition.site.clone() })
        }));
    }
    if causes.is_empty() {
        let site = declarations.first().map(|declaration| declaration.site.clone());
        causes.push(Cause::Unexplained { site });
    }
    causes
}

/// Whether the value is one that the option cannot have.
fn wrong_type(request: &Setting<'_>, declarations: &[Declaration]) -> Vec<Cause> {
    let mut declared = declarations.iter();
    let Some((kind, site)) = declared.find_map(|own| Some((own.kind?, &own.site))) else {
        return Vec::new();
    };
    let fits = match (kind, &request.value) {
        (Kind::Bool, Some(Value::Tristate(value))) => *value != Tristate::Module,
        (Kind::Tristate, Some(Value::Tristate(_)))
        | (Kind::String, Some(Value::String(_)))
        | (Kind::Int, Some(Value::Int(_)))
        | (Kind::Hex, Some(Value::Int(_) | Value::Hex(_))) => true,
        _ => false,
    };
    let mut found = Vec::new();
    let mut expect = |expected: String, site: &Site| {
        found.push(Cause::Type { expected, site: site.clone() });
    };
    if !fits {
        let expected = match kind {
            Kind::Bool => "y or n",
            Kind::Tristate => "y, m or n",
            Kind::String => "text in quotes",
            Kind::Int => "a whole number",
            Kind::Hex => "a hexadecimal number",
        };
        expect(expected.to_owned(), site);
    } else if let Some(number) = request.value.as_ref().and_then(Value::number) {
        for (low, high, site) in declarations.iter().flat_map(|own| &own.ranges) {
            let bound = |text: &str| {
                Value::read(text.as_bytes()).ok().and_then(|(value, _)| value.number())
            };
            let (Some(min), Some(max)) = (bound(low), bound(high)) else { continue };
            if number < min || number > max {
                expect(format!("{low} to {high}"), site);
            }
        }
    }
    found
}

fn unmet(conditions: &[Condition], wanted: Tristate, resolved: &DotConfig) -> Vec<Cause> {
    let mut found = Vec::new();
    for condition in conditions {
        let parts = condition.unmet(wanted, resolved);
        if parts.is_empty() {
            continue;
        }
        let mut options: Vec<(String, String)> = Vec::new();
        for name in parts.iter().flat_map(|part| part.options()) {
            if !options.iter().any(|(known, _)| known == name) {
                options.push((name.to_owned(), text_of(resolved, name)));
            }
        }
        found.push(Cause::Unmet {
            condition: format!("{} {}", condition.word, condition.expr),
            parts: parts.iter().map(ToString::to_string).collect(),
            options,
            site: condition.site.clone(),
        });
    }
    found
}

/// The member of the same choice that is on instead.
fn taken(
    request: &Setting<'_>,
    own: &Declaration,
    resolved: &DotConfig,
    tree: &Declarations,
) -> Option<Cause> {
    let members = tree.choices.get(own.choice?)?;
    let is_on =
        |name: &&String| *name != request.name && tristate_of(resolved, name) == Tristate::Yes;
    let taken = members.iter().find(is_on)?.clone();
    Some(Cause::Choice { taken, site: own.site.clone() })
}

/// Who selects an option, how far, and where.
fn selects<'a>(
    option: &str,
    resolved: &'a DotConfig,
    tree: &'a Declarations,
) -> impl Iterator<Item = (String, Tristate, Site)> + 'a {
    tree.selects.get(option).into_iter().flatten().map(|select| {
        let by = tristate_of(resolved, &select.by);
        let condition = select.condition.as_ref().and_then(|condition| condition.eval(resolved));
        let value = match (&select.condition, condition) {
            (Some(_), Some(condition)) => by.min(condition),
            _ => by,
        };
        (select.by.clone(), value, select.site.clone())
    })
}

fn tristate_of(config: &DotConfig, option: &str) -> Tristate {
    let value = config.by_name(option).and_then(|setting| setting.value);
    value.and_then(|value| value.tristate()).unwrap_or(Tristate::No)
}

fn text_of(config: &DotConfig, option: &str) -> String {
    config.by_name(option).map_or_else(|| "n".to_owned(), |setting| setting.text())
}

impl fmt::Display for Dropped {
    /// One line, without a line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, requested, became, causes } = self;
        write!(f, "CONFIG_{option}={} ({}) ", requested.value, requested.site)?;
        match became {
            None => f.write_str("is not in the result")?,
            Some(value) => write!(f, "became {value}")?,
        }
        for (number, cause) in causes.iter().enumerate() {
            write!(f, "{} {cause}", if number == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let are = |options: &[(String, String)]| {
            let words: Vec<String> =
                options.iter().map(|(name, value)| format!("{name} is {value}")).collect();
            words.join(", ")
        };
        match self {
            Self::Unknown { similar } => {
                f.write_str("no such option in this tree")?;
                if !similar.is_empty() {
                    write!(f, "; did you mean {}?", similar.join(" or "))?;
                }
                Ok(())
            }
            Self::Unmet { condition, parts, options, site } => {
                write!(f, "'{condition}' ({site}) is not met: ")?;
                if options.is_empty() {
                    f.write_str(&parts.join(", "))
                } else {
                    f.write_str(&are(options))
                }
            }
            Self::Host { asks, site } => {
                write!(f, "the host's tools were asked for {} ({site})", asks.join(", "))
            }
            Self::NoPrompt { selected_by, site } => {
                write!(f, "it cannot be set ({site} has no prompt)")?;
                if !selected_by.is_empty() {
                    write!(f, ", only selected: {}", are(selected_by))?;
                }
                Ok(())
            }
            Self::Selected { by, value, site } => {
                write!(f, "CONFIG_{by}={value} selects it ({site})")
            }
            Self::Choice { taken, site } => {
                write!(f, "of its choice ({site}) CONFIG_{taken} is taken")
            }
            Self::Type { expected, site } => write!(f, "expected {expected} ({site})"),
            Self::Unexplained { site: Some(site) } => {
                write!(f, "the Kconfig files do not tell why ({site} declares it)")
            }
            Self::Unexplained { site: None } => f.write_str("the Kconfig files do not tell why"),
        }
    }
}
