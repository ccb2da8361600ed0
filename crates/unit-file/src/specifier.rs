//! What `%n` and its like stand for (systemd.unit(5), "SPECIFIERS").

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Literal(String),
    /// The value of an environment variable: `${NAME}`.
    Variable(String),
    /// What a program of the node says: for specifiers that differ from node to node.
    Output(&'static str),
}

/// What a unit's specifiers depend on.
#[derive(Debug, Clone)]
pub struct Specifiers<'a> {
    /// The unit's name.
    pub name: &'a str,
    /// Its instance; empty for a template without one.
    pub instance: Option<&'a str>,
}

impl Specifiers<'_> {
    /// Text with its specifiers replaced.
    ///
    /// # Errors
    /// A sentence: something is not known before it runs, or needs an instance.
    pub fn expand(&self, text: &str) -> Result<Vec<Piece>, String> {
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
    ///
    /// # Errors
    /// A sentence, as above, or that something differs from machine to machine.
    pub fn expand_text(&self, text: &str) -> Result<String, String> {
        match self.expand(text)?.as_slice() {
            [Piece::Literal(text)] => Ok(text.clone()),
            _ => Err("a specifier in it is known on the node only".into()),
        }
    }

    fn one(&self, specifier: char) -> Result<String, String> {
        let stem = crate::syntax::stem(self.name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_kinds_of_units_have_a_suffix() {
        for (name, prefix) in [("a.b@c.socket", "a.b"), ("web.timer", "web"), ("a.b", "a.b")] {
            let specifiers = Specifiers { name, instance: Some("c") };
            assert_eq!(specifiers.expand_text("%p"), Ok(prefix.into()), "{name}");
        }
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(unescape_name("dev-sd\\x2da"), "dev/sd-a");
    }
}
