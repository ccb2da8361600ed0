//! Relations between packages (Debian Policy, section 7.1).

use std::cmp::Ordering;
use std::fmt;

use crate::version;

/// One package that a relation names, perhaps in certain versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relation<'text> {
    /// The name of a package, or of what packages provide.
    pub name: &'text str,
    /// What stands after a colon: `any` or an architecture.
    pub qualifier: Option<&'text str>,
    /// The versions that will do; `None` for all of them.
    pub version: Option<(Operator, &'text str)>,
}

/// How the version of a package stands to that of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>>`
    Later,
}

impl Operator {
    /// Whether `found OPERATOR wanted`.
    #[must_use]
    pub fn holds(self, found: &str, wanted: &str) -> bool {
        let order = version::compare(found, wanted);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::AtMost => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::AtLeast => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Earlier => "<<",
            Self::AtMost => "<=",
            Self::Equal => "=",
            Self::AtLeast => ">=",
            Self::Later => ">>",
        })
    }
}

impl Relation<'_> {
    /// Whether a package of the name in this version is meant.
    #[must_use]
    pub fn admits(&self, version: &str) -> bool {
        self.version.is_none_or(|(operator, wanted)| operator.holds(version, wanted))
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(out, ":{qualifier}")?;
        }
        if let Some((operator, version)) = self.version {
            write!(out, " ({operator} {version})")?;
        }
        Ok(())
    }
}

/// Reads a field such as `Depends`: all of the groups must be met, each by one of its relations.
///
/// ```
/// let groups = kiln_debroot::dependency::parse("libc6 (>= 2.34), mta | exim4:any")?;
/// assert_eq!(groups[0][0].to_string(), "libc6 (>= 2.34)");
/// assert_eq!(groups[1][1].qualifier, Some("any"));
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// What cannot be understood, in words.
pub fn parse(field: &str) -> Result<Vec<Vec<Relation<'_>>>, String> {
    field
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty())
        .map(|group| group.split('|').map(|relation| one(relation.trim())).collect())
        .collect()
}

/// Reads a single relation.
fn one(text: &str) -> Result<Relation<'_>, String> {
    let wrong = |what: &str| format!("the relation {text:?} {what}");
    let (name, version) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => {
            let Some(inside) = rest.trim_end().strip_suffix(')') else {
                return Err(wrong("has no closing parenthesis at its end"));
            };
            let inside = inside.trim();
            let end = inside.find(|c| !matches!(c, '<' | '=' | '>')).unwrap_or(inside.len());
            let (operator, version) = inside.split_at(end);
            let operator = match operator {
                "<<" => Operator::Earlier,
                // What the single signs meant of old is what dpkg still takes them for.
                "<=" | "<" => Operator::AtMost,
                "=" => Operator::Equal,
                ">=" | ">" => Operator::AtLeast,
                ">>" => Operator::Later,
                _ => return Err(wrong("has none of the operators << <= = >= >>")),
            };
            let version = version.trim();
            version::check(version).map_err(wrong)?;
            (name, Some((operator, version)))
        }
    };
    let name = name.trim();
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (name, None),
    };
    if !is_name(name) || qualifier.is_some_and(|qualifier| !is_name(qualifier)) {
        return Err(wrong("names no package"));
    }
    Ok(Relation { name, qualifier, version })
}

/// Whether this can be the name of a package. Some archives have letters that the Policy has not
/// (section 5.6.1), but never one that means something in a path.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}
