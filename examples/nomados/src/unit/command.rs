//! Command lines as `Exec*=` has them (systemd.service(5), "COMMAND LINES"): prefixes, quoting,
//! specifiers, variables; and the same as words for Nomad or as a line for a shell.

use std::collections::BTreeMap;

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text as it is.
    Literal(String),
    /// The value of an environment variable: `${NAME}`.
    Variable(String),
    /// What a program of the node says: for specifiers that differ from node to node.
    Output(&'static str),
}

/// A word of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// One word.
    Text(Vec<Piece>),
    /// The value of an environment variable, split at white space: `$NAME`.
    Split(String),
}

/// A command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// `-`: its failure counts as success.
    pub(super) ignore_failure: bool,
    /// `@`: what the program sees as its own name.
    pub(super) name: Option<Vec<Piece>>,
    /// `+`, `!` or `!!`: with more rights than the unit's user has.
    pub(super) privileged: Option<&'static str>,
    /// The program, then its arguments.
    pub(super) words: Vec<Word>,
}

/// What specifiers stand for (systemd.unit(5), "SPECIFIERS").
#[derive(Debug, Clone)]
pub(super) struct Specifiers<'a> {
    /// The unit's name.
    pub(super) name: &'a str,
    /// Its instance; empty for a template without one.
    pub(super) instance: Option<&'a str>,
}

impl Specifiers<'_> {
    /// Text with its specifiers replaced.
    pub(super) fn expand(&self, text: &str) -> Result<Vec<Piece>, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                literal.push(letter);
                continue;
            }
            let Some(specifier) = letters.next() else {
                literal.push('%');
                break;
            };
            if let Some(program) = output(specifier) {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Output(program));
                continue;
            }
            literal += &self.one(specifier)?;
        }
        if !literal.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(pieces)
    }

    /// The same where only text will do.
    pub(super) fn expand_text(&self, text: &str) -> Result<String, String> {
        match self.expand(text)?.as_slice() {
            [Piece::Literal(text)] => Ok(text.clone()),
            _ => Err("a specifier in it is known on the node only".into()),
        }
    }

    fn one(&self, specifier: char) -> Result<String, String> {
        let stem = self.name.strip_suffix(".service").unwrap_or(self.name);
        let prefix = stem.split('@').next().unwrap_or(stem);
        Ok(match specifier {
            '%' => "%".into(),
            'n' => self.name.into(),
            'N' => stem.into(),
            'p' | 'P' => prefix.into(),
            'j' | 'J' => prefix.rsplit('-').next().unwrap_or(prefix).into(),
            'i' | 'I' | 'f' => {
                let instance = match self.instance {
                    Some("") => {
                        return Err(
                            "the unit is a template; say which instance (--instance)".into()
                        );
                    }
                    found => found.unwrap_or_default(),
                };
                match specifier {
                    'f' => {
                        format!(
                            "/{}",
                            unescape_name(if instance.is_empty() { prefix } else { instance })
                        )
                    }
                    'I' => unescape_name(instance),
                    _ => instance.into(),
                }
            }
            't' => "/run".into(),
            'S' => "/var/lib".into(),
            'C' => "/var/cache".into(),
            'L' => "/var/log".into(),
            'E' => "/etc".into(),
            'T' => "/tmp".into(),
            'V' => "/var/tmp".into(),
            'h' => "/root".into(),
            's' => "/bin/sh".into(),
            'u' | 'g' => "root".into(),
            'U' | 'G' => "0".into(),
            'm' | 'b' | 'd' | 'y' | 'Y' | 'a' | 'A' | 'B' | 'M' | 'o' | 'w' | 'W' | 'q' => {
                return Err(format!("%{specifier} is not known before it runs"));
            }
            other => format!("%{other}"),
        })
    }
}

/// A part of a unit's name as what it was made of (systemd-escape(1)): `-` was `/`, `\xAB` any byte.
fn unescape_name(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.strip_prefix(b"x").and_then(|hex| hex.get(..2));
        let byte = digits
            .filter(|_| *first == b'\\')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => bytes.push(byte),
            None => bytes.push(if *first == b'-' { b'/' } else { *first }),
        }
        rest = if byte.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The program whose output a specifier stands for.
fn output(specifier: char) -> Option<&'static str> {
    match specifier {
        'H' | 'l' => Some("hostname"),
        'v' => Some("uname -r"),
        _ => None,
    }
}

/// Splits text at white space, takes quotes off and resolves C's escapes, both relaxed as systemd
/// is: an escape that there is not stays as it stands. Gives each word as written, too.
pub(super) fn words(text: &str) -> Result<Vec<(String, String)>, String> {
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
pub(super) fn parse(value: &str, specifiers: &Specifiers<'_>) -> Result<Vec<CommandLine>, String> {
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
pub(super) fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl CommandLine {
    /// The names of all variables.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
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
    pub(super) fn resolve(&mut self, value: impl Fn(&str) -> Option<String>) {
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

    /// The words, where no shell is needed for them. `${` would be Nomad's to replace.
    pub(super) fn plain(&self) -> Option<Vec<String>> {
        let word = |word: &Word| match word {
            Word::Split(_) => None,
            Word::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Literal(literal) => text += literal,
                        _ => return None,
                    }
                }
                (!text.contains("${")).then_some(text)
            }
        };
        self.words.iter().map(word).collect()
    }

    /// The line for a POSIX shell.
    pub(super) fn shell(&self) -> String {
        let words: Vec<String> = self.words.iter().map(shell_word).collect();
        words.join(" ")
    }

    /// Whether a shell must not take `*` in values for a pattern.
    pub(super) fn splits(&self) -> bool {
        self.words.iter().any(|word| matches!(word, Word::Split(_)))
    }
}

fn shell_word(word: &Word) -> String {
    match word {
        Word::Split(name) => format!("${name}"),
        Word::Text(pieces) => pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => quote(text),
                // Without braces: those are Nomad's.
                Piece::Variable(name) => format!("\"${name}\""),
                Piece::Output(program) => format!("\"$({program})\""),
            })
            .collect(),
    }
}

/// Text as one word of a shell, never with `${` in it.
pub(super) fn quote(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''").replace("${", "$''{"))
}

/// Assignments of `Environment=`, in order.
pub(super) fn assignments(
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
    use super::*;
    use proptest::prelude::*;

    const NONE: Specifiers<'static> = Specifiers { name: "a-b@c-d.service", instance: Some("c-d") };

    fn shell(text: &str) -> Vec<String> {
        parse(text, &NONE).unwrap().iter().map(CommandLine::shell).collect()
    }

    fn plain(text: &str) -> Option<Vec<String>> {
        parse(text, &NONE).unwrap().pop().unwrap().plain()
    }

    #[test]
    fn quoting_is_that_of_the_manual() {
        assert_eq!(
            shell("/bin/echo one ; /bin/echo \"two two\""),
            ["/bin/echo one", "/bin/echo 'two two'"]
        );
        assert_eq!(
            plain("/bin/echo / >/dev/null & \\; /bin/ls").unwrap(),
            ["/bin/echo", "/", ">/dev/null", "&", ";", "/bin/ls"]
        );
        assert_eq!(
            plain(r#"/x 'a "b"' \x41\101\u00e4 \d '' it\'s"#).unwrap(),
            ["/x", "a \"b\"", "AAä", "\\d", "", "it's"]
        );
        assert!(parse("/x 'open", &NONE).is_err());
        assert!(parse("-", &NONE).is_err());
    }

    #[test]
    fn prefixes_and_specifiers() {
        let found = parse("-@!!/bin/x name %p %i %j %I %% %H%t ${A}x $B $$C", &NONE).unwrap();
        let command = &found[0];
        assert!(command.ignore_failure && command.privileged == Some("!!"));
        assert_eq!(command.name, Some(vec![Piece::Literal("name".into())]));
        assert_eq!(command.shell(), "/bin/x a-b c-d b c/d % \"$(hostname)\"/run \"$A\"x $B '$C'");
        assert_eq!(unescape_name("dev-sd\\x2da"), "dev/sd-a");
        assert_eq!(parse(":/x $A ${B}", &NONE).unwrap()[0].shell(), "/x '$A' '$''{B}'");
        let template = Specifiers { name: "x@.service", instance: Some("") };
        assert!(parse("/x %i", &template).unwrap_err().contains("--instance"));
    }

    #[test]
    fn known_variables_are_words_and_unknown_ones_the_shells() {
        let mut command = parse("/x $A ${A}- $B", &NONE).unwrap().remove(0);
        assert_eq!(command.variables().collect::<Vec<_>>(), ["A", "A", "B"]);
        command.resolve(|name| (name == "A").then(|| "1 '2 3'".to_owned()));
        assert_eq!(command.plain(), None);
        assert_eq!(command.shell(), "/x 1 '2 3' '1 '\\''2 3'\\'''- $B");
    }

    proptest! {
        /// What a shell makes of a line is what was meant.
        #[test]
        fn the_shell_sees_the_same_words(words in prop::collection::vec("[a '\"$\\\\{}*;]{0,6}", 1..5)) {
            let line: Vec<String> = words.iter().map(|word| quote(word)).collect();
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf '%s\\n' {}", line.join(" "))])
                .output()
                .unwrap();
            let expected: String = words.iter().map(|word| format!("{word}\n")).collect();
            prop_assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
            let replaced_by_nomad = line.join(" ").contains("${");
            prop_assert!(!replaced_by_nomad);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse(&text, &NONE);
            let _ = assignments(&text, &NONE);
        }
    }
}
