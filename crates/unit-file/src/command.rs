//! Command lines as `Exec*=` has them (systemd.service(5), "COMMAND LINES"): prefixes, quoting,
//! specifiers, variables.

use std::collections::BTreeMap;

use crate::specifier::{Piece, Specifiers};

/// A word of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// One word.
    Text(Vec<Piece>),
    /// The value of an environment variable, split at white space: `$NAME`.
    Split(String),
}

/// A command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `-`: its failure counts as success.
    pub ignore_failure: bool,
    /// `@`: what the program sees as its own name.
    pub name: Option<Vec<Piece>>,
    /// `+`, `!` or `!!`: with more rights than the unit's user has.
    pub privileged: Option<&'static str>,
    /// The program, then its arguments.
    pub words: Vec<Word>,
}

/// Splits text at white space, takes quotes off and resolves C's escapes, both relaxed as systemd
/// is: an escape that there is not stays as it stands. Gives each word as written, too.
///
/// # Errors
/// A sentence: a quote that is never closed.
pub fn words(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut letters = text.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.peek().is_none() {
            return Ok(found);
        }
        let (mut word, mut raw) = (String::new(), String::new());
        let mut quote = None;
        while let Some(letter) = letters.next_if(|next| quote.is_some() || !next.is_whitespace()) {
            raw.push(letter);
            match letter {
                '\\' => {
                    let mut escape = String::new();
                    word += &unescape(&mut letters, &mut escape);
                    raw += &escape;
                }
                '"' | '\'' if quote == Some(letter) => quote = None,
                '"' | '\'' if quote.is_none() => quote = Some(letter),
                _ => word.push(letter),
            }
        }
        if let Some(quote) = quote {
            return Err(format!("a {quote} is never closed"));
        }
        found.push((word, raw));
    }
}

/// What follows a backslash. Puts what it read into `raw`.
fn unescape(letters: &mut std::iter::Peekable<std::str::Chars<'_>>, raw: &mut String) -> String {
    let Some(letter) = letters.next() else { return "\\".into() };
    raw.push(letter);
    let simple = match letter {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        's' => ' ',
        '\\' | '"' | '\'' | ';' => letter,
        _ => {
            let (digits, radix, mut number) = match letter {
                'x' => (2, 16, String::new()),
                'u' => (4, 16, String::new()),
                'U' => (8, 16, String::new()),
                '0'..='3' => (3, 8, letter.to_string()),
                _ => return format!("\\{letter}"),
            };
            while number.len() < digits {
                let Some(digit) = letters.next_if(|next| next.is_digit(radix)) else { break };
                raw.push(digit);
                number.push(digit);
            }
            let whole = number.len() == digits;
            let value = u32::from_str_radix(&number, radix).ok().and_then(char::from_u32);
            return match value.filter(|value| whole && *value != '\0') {
                Some(value) => value.to_string(),
                None => format!("\\{raw}"),
            };
        }
    };
    simple.to_string()
}

/// The commands of an `Exec*=` line: several are separated by `;`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_commands(
    value: &str,
    specifiers: &Specifiers<'_>,
) -> Result<Vec<CommandLine>, String> {
    let mut commands = Vec::new();
    let all = words(value)?;
    for words in all.split(|(_, raw)| raw == ";") {
        let Some(((first, _), rest)) = words.split_first() else { continue };
        let mut command = CommandLine::default();
        let (mut named, mut verbatim) = (false, false);
        let mut path = first.as_str();
        while let Some(prefix) = path.chars().next() {
            match prefix {
                '-' => command.ignore_failure = true,
                '@' => named = true,
                ':' => verbatim = true,
                '+' => command.privileged = Some("+"),
                '!' if command.privileged == Some("!") => command.privileged = Some("!!"),
                '!' => command.privileged = Some("!"),
                _ => break,
            }
            path = path.get(1..).unwrap_or_default();
        }
        if path.is_empty() {
            return Err("there is no program".into());
        }
        command.words.push(Word::Text(specifiers.expand(path)?));
        let mut rest = rest.iter();
        if named {
            let (name, _) = rest.next().ok_or("after @ the program's own name is missing")?;
            command.name = Some(specifiers.expand(name)?);
        }
        for (word, _) in rest {
            let pieces = specifiers.expand(word)?;
            command.words.push(if verbatim { Word::Text(pieces) } else { variables(pieces) });
        }
        commands.push(command);
    }
    Ok(commands)
}

/// Finds the variables of a word.
fn variables(pieces: Vec<Piece>) -> Word {
    if let [Piece::Literal(text)] = pieces.as_slice()
        && let Some(name) = text.strip_prefix('$').filter(|name| is_name(name))
    {
        return Word::Split(name.to_owned());
    }
    let mut found = Vec::new();
    for piece in pieces {
        let Piece::Literal(text) = piece else {
            found.push(piece);
            continue;
        };
        let mut literal = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find('$') {
            let (before, dollar) = rest.split_at(at);
            literal += before;
            let after = dollar.get(1..).unwrap_or_default();
            let name = after
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .filter(|(name, _)| is_name(name));
            if let Some((name, after)) = name {
                if !literal.is_empty() {
                    found.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                found.push(Piece::Variable(name.to_owned()));
                rest = after;
            } else {
                literal.push('$');
                rest = after.strip_prefix('$').unwrap_or(after);
            }
        }
        literal += rest;
        if !literal.is_empty() {
            found.push(Piece::Literal(literal));
        }
    }
    if found.is_empty() {
        found.push(Piece::Literal(String::new()));
    }
    Word::Text(found)
}

/// Whether this can be a variable's name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl CommandLine {
    /// The names of all variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.words.iter().flat_map(|word| match word {
            Word::Split(name) => vec![name.as_str()],
            Word::Text(pieces) => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Variable(name) => Some(name.as_str()),
                    _ => None,
                })
                .collect(),
        })
    }

    /// Puts the values of variables in place of those whose value is known.
    pub fn resolve(&mut self, value: impl Fn(&str) -> Option<String>) {
        let mut resolved = Vec::new();
        for word in std::mem::take(&mut self.words) {
            match word {
                Word::Split(name) => match value(&name) {
                    Some(text) => {
                        let parts = words(&text).unwrap_or_else(|_| {
                            let plain = text.split_whitespace();
                            plain.map(|word| (word.to_owned(), word.to_owned())).collect()
                        });
                        resolved.extend(
                            parts
                                .into_iter()
                                .map(|(word, _)| Word::Text(vec![Piece::Literal(word)])),
                        );
                    }
                    None => resolved.push(Word::Split(name)),
                },
                Word::Text(pieces) => {
                    let pieces = pieces.into_iter().map(|piece| match piece {
                        Piece::Variable(name) => match value(&name) {
                            Some(text) => Piece::Literal(text),
                            None => Piece::Variable(name),
                        },
                        other => other,
                    });
                    resolved.push(Word::Text(pieces.collect()));
                }
            }
        }
        self.words = resolved;
    }

    /// The words, where nothing in them is left to be found out when it runs.
    #[must_use]
    pub fn plain(&self) -> Option<Vec<String>> {
        let word = |word: &Word| match word {
            Word::Split(_) => None,
            Word::Text(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Literal(literal) => Some(literal.as_str()),
                    _ => None,
                })
                .collect(),
        };
        self.words.iter().map(word).collect()
    }
}

/// Assignments of `Environment=`; of several for one name the last one counts.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn assignments(
    value: &str,
    specifiers: &Specifiers<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for (word, _) in words(value)? {
        let (name, value) =
            word.split_once('=').ok_or_else(|| format!("{word:?} is no assignment"))?;
        if !is_name(name) {
            return Err(format!("{name:?} is no variable's name"));
        }
        found.insert(name.to_owned(), specifiers.expand_text(value)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: Specifiers<'static> = Specifiers { name: "a-b@c-d.service", instance: Some("c-d") };

    fn plain(text: &str) -> Vec<Vec<String>> {
        parse_commands(text, &NONE).unwrap().iter().map(|line| line.plain().unwrap()).collect()
    }

    #[test]
    fn quoting_is_that_of_the_manual() {
        assert_eq!(
            plain("/bin/echo one ; /bin/echo \"two two\""),
            [["/bin/echo", "one"], ["/bin/echo", "two two"]]
        );
        assert_eq!(
            plain("/bin/echo / >/dev/null & \\; /bin/ls"),
            [["/bin/echo", "/", ">/dev/null", "&", ";", "/bin/ls"]]
        );
        assert_eq!(
            plain(r#"/x 'a "b"' \x41\101\u00e4 \d '' it\'s"#),
            [["/x", "a \"b\"", "AAä", "\\d", "", "it's"]]
        );
        assert!(parse_commands("/x 'open", &NONE).is_err());
        assert!(parse_commands("-", &NONE).is_err());
    }

    #[test]
    fn prefixes_and_specifiers() {
        let found = parse_commands("-@!!/bin/x name %p %i %j %I %% %t $$C", &NONE).unwrap();
        let command = &found[0];
        assert!(command.ignore_failure && command.privileged == Some("!!"));
        assert_eq!(command.name, Some(vec![Piece::Literal("name".into())]));
        let words = command.plain().unwrap();
        assert_eq!(words, ["/bin/x", "a-b", "c-d", "b", "c/d", "%", "/run", "$C"]);
        let verbatim = parse_commands(":/x $A ${B}", &NONE).unwrap();
        assert_eq!(verbatim[0].plain().unwrap(), ["/x", "$A", "${B}"]);
        let template = Specifiers { name: "x@.service", instance: Some("") };
        assert!(parse_commands("/x %i", &template).unwrap_err().contains("--instance"));
        assert_eq!(parse_commands("/x %H", &NONE).unwrap()[0].plain(), None);
    }

    #[test]
    fn variables_are_found_and_known_ones_replaced() {
        let mut command = parse_commands("/x $A ${A}- $B", &NONE).unwrap().remove(0);
        assert_eq!(command.variables().collect::<Vec<_>>(), ["A", "A", "B"]);
        command.resolve(|name| Some(if name == "A" { "1 '2 3'" } else { "" }.to_owned()));
        assert_eq!(command.plain().unwrap(), ["/x", "1", "2 3", "1 '2 3'-"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse_commands(&text, &NONE);
            let _ = assignments(&text, &NONE);
        }
    }
}
