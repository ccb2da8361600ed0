//! The configuration as TOML.

use std::fmt;
use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::{Config, Problem};

/// More mistakes than this are not looked for.
const MOST_MISTAKES: usize = 100;

/// A place of the text that is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What was found and expected.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Why a text is no configuration. `Display` gives a line for each problem.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not the TOML that was expected.
    Toml(Vec<Mistake>),
    /// It says something that cannot be.
    Problems(Vec<Problem>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn lines<T: fmt::Display>(all: &[T], out: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (at, one) in all.iter().enumerate() {
                write!(out, "{}{one}", if at == 0 { "" } else { "\n" })?;
            }
            Ok(())
        }
        match self {
            Self::Toml(mistakes) => lines(mistakes, out),
            Self::Problems(problems) => lines(problems, out),
        }
    }
}

impl std::error::Error for ReadError {}

#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    network: Config,
}

/// Reads a file that has the table `[network]` and nothing else.
///
/// # Errors
/// [`ReadError::Toml`] with each mistake and its place; if there is none, everything that
/// [`Config::check`] finds.
///
/// ```
/// let text = "[network]\nhostname = \"node-1\"\n\n[[network.interface]]\nmatch = \"eth*\"\ndhcp = true\n";
/// let config = kiln_network::from_toml(text)?;
/// assert_eq!(config.interfaces.len(), 1);
/// # Ok::<(), kiln_network::ReadError>(())
/// ```
pub fn from_toml(text: &str) -> Result<Config, ReadError> {
    let (mut table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let errors = errors.iter().take(MOST_MISTAKES);
        return Err(ReadError::Toml(sorted(errors.map(|error| mistake(text, error)).collect())));
    }
    let mut mistakes = Vec::new();
    let mut cuts: Vec<String> = Vec::new();
    loop {
        let error = match File::deserialize(Deserializer::from(table.clone())) {
            Ok(_) if !mistakes.is_empty() => return Err(ReadError::Toml(sorted(mistakes))),
            Ok(file) => {
                let problems = file.network.check();
                let is_good = problems.is_empty();
                return if is_good { Ok(file.network) } else { Err(ReadError::Problems(problems)) };
            }
            Err(error) => error,
        };
        // What is missing because it was wrong was told.
        let missing = error.message().strip_prefix("missing field `");
        let missing = missing.and_then(|rest| rest.strip_suffix('`'));
        if !missing.is_some_and(|field| cuts.iter().any(|cut| cut == field)) {
            mistakes.push(mistake(text, &error));
        }
        // What is wrong is cut out, so that the next mistake comes to light.
        let name = error.span().and_then(|span| cut(table.get_mut(), &span));
        match name {
            Some(name) if cuts.len() < MOST_MISTAKES => cuts.push(name),
            _ => return Err(ReadError::Toml(sorted(mistakes))),
        }
    }
}

fn sorted(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort();
    mistakes
}

fn mistake(text: &str, error: &toml::de::Error) -> Mistake {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.chars().rev().take_while(|c| *c != '\n').count().saturating_add(1);
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    Mistake { line, column, message: meant(&message).unwrap_or(message) }
}

/// The message about an unknown field, with what was probably meant.
fn meant(message: &str) -> Option<String> {
    let (found, expected) = message.split_once(", expected ")?;
    let field = found.strip_prefix("unknown field ")?.trim_matches('`');
    let known = expected.split('`').skip(1).step_by(2);
    let (distance, name) = known.map(|name| (strsim::osa_distance(field, name), name)).min()?;
    let close = distance <= 2 || name.contains(field) || field.contains(name);
    Some(if close { format!("{found}, did you mean `{name}`?") } else { message.to_owned() })
}

/// Cuts out the entry or element that lies there, and says what an entry's name was.
fn cut(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let found = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
    if let Some(key) = found.map(|(key, _)| key.clone()) {
        table.remove(&key);
        return Some(key.get_ref().to_string());
    }
    table.iter_mut().find_map(|(_, value)| cut_inside(value, span))
}

fn cut_inside(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<String> {
    match value.get_mut() {
        DeValue::Table(table) => cut(table, span),
        DeValue::Array(array) => {
            let Some(at) = array.iter().position(|element| element.span() == *span) else {
                return array.iter_mut().find_map(|element| cut_inside(element, span));
            };
            *array = std::mem::replace(array, DeArray::new())
                .into_iter()
                .enumerate()
                .filter_map(|(number, element)| (number != at).then_some(element))
                .collect();
            Some(String::new())
        }
        _ => None,
    }
}

/// The file that [`from_toml`] reads.
///
/// # Errors
/// Only if the serialiser fails, which it has no reason to.
pub fn to_toml(config: &Config) -> Result<String, toml::ser::Error> {
    toml::to_string(&File { network: config.clone() })
}
