//! Shell scripts, read without running them: just enough to see the words of simple commands.

use std::collections::BTreeMap;

/// A simple command of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// The line at which it starts, counted from 1.
    pub(super) line: usize,
    /// Its words; `None` for one whose value only a shell would know.
    pub(super) words: Vec<Option<String>>,
}

/// Words that can stand before a command without changing what it is.
const BEFORE: &[&str] = &["if", "then", "else", "elif", "while", "until", "do", "!", "{", "exec"];

/// The simple commands of a script in their order, wherever they stand. A variable has a value if
/// it is assigned the same plain text wherever it is assigned.
pub(super) fn commands(script: &str) -> Vec<Command> {
    let raw = split(script);
    let mut variables: BTreeMap<String, Option<String>> = BTreeMap::new();
    // What is set by `for`, `read` or a function's arguments has no value that we could know.
    for command in &raw {
        let mut words = command.words.as_slice();
        if let [first, name, ..] = words
            && (first.is("for") || first.is("read") || first.is("local"))
            && let Some(name) = name.plain()
        {
            let name = name.split('=').next().unwrap_or_default();
            variables.insert(name.to_owned(), None);
        }
        while let Some((first, rest)) = words.split_first() {
            let keyword = BEFORE.iter().any(|word| first.is(word)) || first.is("export");
            if let Some((name, value)) = first.assignment() {
                let value = value.expand(&variables);
                let known = variables.entry(name).or_insert_with(|| value.clone());
                if *known != value {
                    *known = None;
                }
            } else if !keyword {
                break;
            }
            words = rest;
        }
    }
    raw.iter()
        .filter_map(|command| {
            let mut words = command.words.as_slice();
            while let Some((first, rest)) = words.split_first() {
                if first.assignment().is_none() && !BEFORE.iter().any(|word| first.is(word)) {
                    break;
                }
                words = rest;
            }
            let words: Vec<_> = words.iter().map(|word| word.expand(&variables)).collect();
            (!words.is_empty()).then_some(Command { line: command.line, words })
        })
        .collect()
}

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
    /// A command substitution, a pattern, arithmetic.
    Unknown,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Word {
    parts: Vec<Part>,
    quoted: bool,
}

impl Word {
    fn text(&mut self, character: char) {
        match self.parts.last_mut() {
            Some(Part::Text(text)) => text.push(character),
            _ => self.parts.push(Part::Text(character.into())),
        }
    }

    fn plain(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    fn is(&self, text: &str) -> bool {
        !self.quoted && self.plain() == Some(text)
    }

    fn assignment(&self) -> Option<(String, Self)> {
        let (Part::Text(first), rest) = self.parts.split_first()? else { return None };
        let (name, value) = first.split_once('=')?;
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let proper = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(letters);
        let mut parts = vec![Part::Text(value.to_owned())];
        parts.extend_from_slice(rest);
        proper.then(|| (name.to_owned(), Self { parts, quoted: self.quoted }))
    }

    fn expand(&self, variables: &BTreeMap<String, Option<String>>) -> Option<String> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(text.clone()),
                Part::Variable(name) => variables.get(name).cloned().flatten(),
                Part::Unknown => None,
            })
            .collect()
    }
}

struct Raw {
    line: usize,
    words: Vec<Word>,
}

fn split(script: &str) -> Vec<Raw> {
    let mut commands = Vec::new();
    let mut current = Raw { line: 1, words: Vec::new() };
    let mut word: Option<Word> = None;
    let mut line = 1;
    let mut characters = script.chars().peekable();
    let end_word = |word: &mut Option<Word>, current: &mut Raw| {
        current.words.extend(word.take());
    };
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('\n') => line += 1,
                Some(next) => word.get_or_insert_default().text(next),
                None => {}
            },
            '#' if word.is_none() => while characters.next_if(|next| *next != '\n').is_some() {},
            '\'' => {
                let word = word.get_or_insert_default();
                word.quoted = true;
                word.parts.push(Part::Text(String::new()));
                for next in characters.by_ref().take_while(|next| *next != '\'') {
                    line += usize::from(next == '\n');
                    word.text(next);
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                word.quoted = true;
                word.parts.push(Part::Text(String::new()));
                while let Some(next) = characters.next_if(|next| *next != '"') {
                    line += usize::from(next == '\n');
                    match next {
                        '\\' => match characters.next() {
                            Some('\n') => line += 1,
                            Some(next) => word.text(next),
                            None => {}
                        },
                        '$' => word.parts.push(dollar(&mut characters, &mut line)),
                        '`' => {
                            skip_until(&mut characters, '`', &mut line);
                            word.parts.push(Part::Unknown);
                        }
                        next => word.text(next),
                    }
                }
                characters.next();
            }
            '$' => {
                let part = dollar(&mut characters, &mut line);
                word.get_or_insert_default().parts.push(part);
            }
            '`' => {
                skip_until(&mut characters, '`', &mut line);
                word.get_or_insert_default().parts.push(Part::Unknown);
            }
            '*' | '?' | '[' if word.is_some() => {
                word.get_or_insert_default().parts.push(Part::Unknown);
            }
            ' ' | '\t' => end_word(&mut word, &mut current),
            '\n' | ';' | '&' | '|' | '(' | ')' => {
                end_word(&mut word, &mut current);
                if !current.words.is_empty() {
                    commands.push(current);
                }
                line += usize::from(character == '\n');
                current = Raw { line, words: Vec::new() };
            }
            character => {
                if current.words.is_empty() && word.is_none() {
                    current.line = line;
                }
                word.get_or_insert_default().text(character);
            }
        }
    }
    end_word(&mut word, &mut current);
    if !current.words.is_empty() {
        commands.push(current);
    }
    commands
}

type Characters<'script> = std::iter::Peekable<std::str::Chars<'script>>;

/// What stands after a dollar sign.
fn dollar(characters: &mut Characters<'_>, line: &mut usize) -> Part {
    let letters = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    match characters.peek() {
        Some('(') => {
            characters.next();
            let mut depth = 1;
            while depth > 0 {
                match characters.next() {
                    Some('(') => depth += 1,
                    Some(')') => depth -= 1,
                    Some('\n') => *line += 1,
                    None => break,
                    Some(_) => {}
                }
            }
            Part::Unknown
        }
        Some('{') => {
            characters.next();
            let inside = skip_until(characters, '}', line);
            if inside.chars().all(|c| letters(&c)) { Part::Variable(inside) } else { Part::Unknown }
        }
        Some(first) if letters(first) => {
            let mut name = String::new();
            while let Some(next) = characters.next_if(letters) {
                name.push(next);
            }
            Part::Variable(name)
        }
        Some('@' | '*' | '#' | '?' | '$' | '!' | '-') => {
            characters.next();
            Part::Unknown
        }
        _ => Part::Text("$".into()),
    }
}

fn skip_until(characters: &mut Characters<'_>, end: char, line: &mut usize) -> String {
    let mut inside = String::new();
    for next in characters.by_ref().take_while(|next| *next != end) {
        *line += usize::from(next == '\n');
        inside.push(next);
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(script: &str) -> Vec<String> {
        commands(script)
            .iter()
            .map(|command| {
                let words: Vec<_> =
                    command.words.iter().map(|word| word.as_deref().unwrap_or("?")).collect();
                format!("{}: {}", command.line, words.join(" "))
            })
            .collect()
    }

    #[test]
    fn commands_stand_anywhere() {
        let script = "#!/bin/sh\nset -e # why\nif [ \"$1\" = configure ]; then\n  a b \\\n   'c d' \
                      \"e\"f\nfi && g || { h; }\n";
        let found = words(script);
        assert_eq!(found[0], "2: set -e");
        assert_eq!(found[2], "4: a b c d ef");
        assert_eq!(found[4], "6: g");
        assert_eq!(found[5], "6: h");
    }

    #[test]
    fn variables_are_known_when_they_are_plain() {
        let script = "A=/usr/bin\nB=$A/x\nC=$(uname)\nfor D in 1 2; do echo $A $B $C $D $1; done\n\
                      A2=x\nA2=y\necho ${A2} ${A:-z} `date` \"$A\"\n";
        let found = words(script);
        assert!(found.contains(&"4: echo /usr/bin /usr/bin/x ? ? ?".to_owned()), "{found:?}");
        assert!(found.contains(&"7: echo ? ? ? /usr/bin".to_owned()), "{found:?}");
    }
}
