//! A unit's command as words for Nomad, or as a line for a shell.

use kiln_unit_file::{CommandLine, Piece, Word};

/// The words, where no shell is needed for them. `${` would be Nomad's to replace.
pub(super) fn plain(command: &CommandLine) -> Option<Vec<String>> {
    command.plain().filter(|words| words.iter().all(|word| !word.contains("${")))
}

/// The line for a POSIX shell.
pub(super) fn line(command: &CommandLine) -> String {
    let words: Vec<String> = command.words.iter().map(shell_word).collect();
    words.join(" ")
}

/// Whether a shell must not take `*` in values for a pattern.
pub(super) fn splits(command: &CommandLine) -> bool {
    command.words.iter().any(|word| matches!(word, Word::Split(_)))
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

#[cfg(test)]
mod tests {
    use kiln_unit_file::{Specifiers, parse_commands};
    use proptest::prelude::*;

    use super::*;

    const NONE: Specifiers<'static> = Specifiers { name: "a-b@c-d.service", instance: Some("c-d") };

    fn shell(text: &str) -> Vec<String> {
        parse_commands(text, &NONE).unwrap().iter().map(line).collect()
    }

    #[test]
    fn lines_are_quoted_for_a_shell_and_kept_from_nomad() {
        assert_eq!(
            shell("/bin/echo one ; /bin/echo \"two two\""),
            ["/bin/echo one", "/bin/echo 'two two'"]
        );
        assert_eq!(
            shell("/bin/x %p %i %j %I %% %H%t ${A}x $B $$C"),
            ["/bin/x a-b c-d b c/d % \"$(hostname)\"/run \"$A\"x $B '$C'"]
        );
        assert_eq!(shell(":/x $A ${B}"), ["/x '$A' '$''{B}'"]);
    }

    #[test]
    fn known_variables_are_words_and_unknown_ones_the_shells() {
        let mut command = parse_commands("/x $A ${A}- $B", &NONE).unwrap().remove(0);
        command.resolve(|name| (name == "A").then(|| "1 '2 3'".to_owned()));
        assert_eq!(plain(&command), None);
        assert_eq!(line(&command), "/x 1 '2 3' '1 '\\''2 3'\\'''- $B");
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
    }
}
