//! Expressions of the Kconfig language: what stands behind `depends on`, `if` and `visible if`.
//!
//! Grammar and values are those of `Documentation/kbuild/kconfig-language.rst` ("Menu
//! dependencies"): `n`, `m`, `y` are 0, 1, 2; `&&` is the smaller, `||` the larger, `!x` is 2 - x;
//! a comparison is `n` or `y`.

use std::fmt;

use crate::value::{Tristate, Value};

/// Parentheses and `!` nest no deeper in any Kconfig file; beyond is not understood.
const MAX_DEPTH: usize = 64;
/// The longest expression of Linux has some 60 tokens.
const MAX_TOKENS: usize = 1000;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    /// An option, by name, or a constant.
    Word(Word),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Compare(Word, Comparison, Word),
    /// Something that only a program of the host could answer, such as `$(cc-option,-m64)`.
    Opaque(String),
}

/// An operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Option(String),
    Constant(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What an option is set to, if to anything.
pub(crate) trait Values {
    fn value(&self, option: &str) -> Option<Value>;
}

impl Expr {
    /// Reads an expression; what is none becomes [`Expr::Opaque`] as a whole.
    pub(crate) fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let opaque = || Self::Opaque(text.trim().to_owned());
        if tokens.len() > MAX_TOKENS {
            return opaque();
        }
        let mut parser = Parser { tokens, at: 0, depth: 0 };
        match parser.or() {
            Some(expr) if parser.at == parser.tokens.len() => expr,
            _ => opaque(),
        }
    }

    /// The value; nothing where it hangs on something that is not known.
    pub(crate) fn eval(&self, values: &impl Values) -> Option<Tristate> {
        match self {
            Self::Word(word) => Some(word.tristate(values)),
            Self::Not(inner) => inner.eval(values).map(|value| match value {
                Tristate::No => Tristate::Yes,
                Tristate::Module => Tristate::Module,
                Tristate::Yes => Tristate::No,
            }),
            Self::And(a, b) => match (a.eval(values), b.eval(values)) {
                (Some(Tristate::No), _) | (_, Some(Tristate::No)) => Some(Tristate::No),
                (a, b) => Some(a?.min(b?)),
            },
            Self::Or(a, b) => match (a.eval(values), b.eval(values)) {
                (Some(Tristate::Yes), _) | (_, Some(Tristate::Yes)) => Some(Tristate::Yes),
                (a, b) => Some(a?.max(b?)),
            },
            Self::Compare(a, how, b) => {
                Some(if how.holds(a, b, values) { Tristate::Yes } else { Tristate::No })
            }
            Self::Opaque(_) => None,
        }
    }

    /// The parts that all must hold.
    pub(crate) fn conjuncts(&self) -> Vec<&Self> {
        match self {
            Self::And(a, b) => {
                let mut parts = a.conjuncts();
                parts.extend(b.conjuncts());
                parts
            }
            other => vec![other],
        }
    }

    /// The options that it speaks of, each once, in its order.
    pub(crate) fn options(&self) -> Vec<&str> {
        fn collect<'a>(expr: &'a Expr, found: &mut Vec<&'a str>) {
            let mut add = |word: &'a Word| {
                if let Word::Option(name) = word
                    && !found.contains(&name.as_str())
                {
                    found.push(name);
                }
            };
            match expr {
                Expr::Word(word) => add(word),
                Expr::Compare(a, _, b) => {
                    add(a);
                    add(b);
                }
                Expr::Not(inner) => collect(inner, found),
                Expr::And(a, b) | Expr::Or(a, b) => {
                    collect(a, found);
                    collect(b, found);
                }
                Expr::Opaque(_) => {}
            }
        }
        let mut found = Vec::new();
        collect(self, &mut found);
        found
    }
}

impl Word {
    fn of(token: &str) -> Self {
        match token {
            "y" | "m" | "n" => Self::Constant(token.to_owned()),
            // `64BIT` is an option, `64` is none.
            text if number(text).is_some() => Self::Constant(text.to_owned()),
            name => Self::Option(name.to_owned()),
        }
    }

    fn tristate(&self, values: &impl Values) -> Tristate {
        match self {
            Self::Option(name) => {
                values.value(name).and_then(|value| value.tristate()).unwrap_or(Tristate::No)
            }
            Self::Constant(text) => match text.as_str() {
                "y" => Tristate::Yes,
                "m" => Tristate::Module,
                _ => Tristate::No,
            },
        }
    }

    /// As text, which is how comparisons see it. An option that is not set is `n` where the other
    /// side is a tristate, and empty otherwise; both are unequal to anything else.
    fn text(&self, values: &impl Values) -> String {
        match self {
            Self::Constant(text) => text.clone(),
            Self::Option(name) => match values.value(name) {
                None => "n".to_owned(),
                Some(Value::String(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                Some(value) => String::from_utf8_lossy(&value.to_bytes()).into_owned(),
            },
        }
    }
}

impl Comparison {
    fn holds(self, a: &Word, b: &Word, values: &impl Values) -> bool {
        let (a, b) = (a.text(values), b.text(values));
        let order = match (number(&a), number(&b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.cmp(&b),
        };
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

fn number(text: &str) -> Option<i128> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Macro(String),
    Operator(&'static str),
}

const OPERATORS: [&str; 11] = ["&&", "||", "!=", "<=", ">=", "=", "<", ">", "!", "(", ")"];

/// Splits an expression; characters that belong nowhere become words, which no grammar takes.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) {
            found.push(Token::Operator(operator));
            rest = &rest[operator.len()..];
        } else if rest.starts_with("$(") {
            let end = macro_end(rest);
            found.push(Token::Macro(rest[..end].to_owned()));
            rest = &rest[end..];
        } else if first == '"' || first == '\'' {
            let inner = &rest[1..];
            let end = inner.find(first).unwrap_or(inner.len());
            found.push(Token::Quoted(inner[..end].to_owned()));
            rest = inner.get(end + 1..).unwrap_or_default();
        } else {
            let stop = |c: char| c.is_whitespace() || "&|!=<>()\"'$".contains(c);
            let end = rest.char_indices().skip(1).find(|(_, c)| stop(*c));
            let end = end.map_or(rest.len(), |(at, _)| at);
            found.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    found
}

/// Where a macro that begins the text ends: behind the parenthesis that matches its first.
pub(super) fn macro_end(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 1 => return at + 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    text.len()
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn takes(&mut self, operator: &str) -> bool {
        let is = matches!(self.tokens.get(self.at), Some(Token::Operator(o)) if *o == operator);
        self.at += usize::from(is);
        is
    }

    fn or(&mut self) -> Option<Expr> {
        let mut left = self.and()?;
        while self.takes("||") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Some(left)
    }

    fn and(&mut self) -> Option<Expr> {
        let mut left = self.unary()?;
        while self.takes("&&") {
            left = Expr::And(Box::new(left), Box::new(self.unary()?));
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let found = if self.takes("!") {
            Some(Expr::Not(Box::new(self.unary()?)))
        } else if self.takes("(") {
            let inner = self.or()?;
            self.takes(")").then_some(inner)
        } else {
            self.comparison()
        };
        self.depth -= 1;
        found
    }

    fn comparison(&mut self) -> Option<Expr> {
        if let Some(Token::Macro(text)) = self.tokens.get(self.at) {
            let text = text.clone();
            self.at += 1;
            // Compared with something, it is as unknown.
            if self.operator().is_some() {
                self.at += 1;
            }
            return Some(Expr::Opaque(text));
        }
        let left = self.word()?;
        let Some(comparison) = self.operator() else { return Some(Expr::Word(left)) };
        if let Some(Token::Macro(text)) = self.tokens.get(self.at) {
            let text = text.clone();
            self.at += 1;
            return Some(Expr::Opaque(text));
        }
        Some(Expr::Compare(left, comparison, self.word()?))
    }

    fn operator(&mut self) -> Option<Comparison> {
        let Some(Token::Operator(operator)) = self.tokens.get(self.at) else { return None };
        let comparison = match *operator {
            "=" => Comparison::Equal,
            "!=" => Comparison::Unequal,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.at += 1;
        Some(comparison)
    }

    fn word(&mut self) -> Option<Word> {
        let word = match self.tokens.get(self.at)? {
            Token::Word(text) => Word::of(text),
            Token::Quoted(text) => Word::Constant(text.clone()),
            _ => return None,
        };
        self.at += 1;
        Some(word)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(name) => f.write_str(name),
            Self::Constant(text)
                if matches!(text.as_str(), "y" | "m" | "n") || number(text).is_some() =>
            {
                f.write_str(text)
            }
            Self::Constant(text) => write!(f, "\"{text}\""),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only what binds less tightly than its surroundings needs parentheses.
        let within = |inner: &Self, f: &mut fmt::Formatter<'_>| match inner {
            Self::Or(..) => write!(f, "({inner})"),
            _ => write!(f, "{inner}"),
        };
        match self {
            Self::Word(word) => write!(f, "{word}"),
            Self::Not(inner) => match &**inner {
                Self::Or(..) | Self::And(..) | Self::Compare(..) => write!(f, "!({inner})"),
                _ => write!(f, "!{inner}"),
            },
            Self::And(a, b) => {
                within(a, f)?;
                f.write_str(" && ")?;
                within(b, f)
            }
            Self::Or(a, b) => write!(f, "{a} || {b}"),
            Self::Compare(a, how, b) => {
                let sign = match how {
                    Comparison::Equal => "=",
                    Comparison::Unequal => "!=",
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                };
                write!(f, "{a} {sign} {b}")
            }
            Self::Opaque(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dotconfig::DotConfig;

    fn eval(text: &str, config: &str) -> Option<Tristate> {
        Expr::parse(text).eval(&DotConfig::parse(config.as_bytes(), "config"))
    }

    #[test]
    fn values_are_those_of_the_language() {
        let config =
            "CONFIG_A=y\nCONFIG_B=m\nCONFIG_N=4\nCONFIG_S=\"text\"\n# CONFIG_C is not set\n";
        for (text, expected) in [
            ("A", Tristate::Yes),
            ("!B", Tristate::Module),
            ("A && B", Tristate::Module),
            ("A && (C || B)", Tristate::Module),
            ("!A || C", Tristate::No),
            ("UNKNOWN", Tristate::No),
            ("UNKNOWN=n", Tristate::Yes),
            ("B = m && A!=n", Tristate::Yes),
            ("N >= 4 && N<10", Tristate::Yes),
            ("S = \"text\"", Tristate::Yes),
            ("N > 0x10", Tristate::No),
            ("C && $(cc-option,-x (y) z)", Tristate::No),
        ] {
            assert_eq!(eval(text, config), Some(expected), "{text}");
        }
        assert_eq!(eval("A && $(success,true)", config), None);
        assert_eq!(eval("A &&", config), None);
        assert_eq!(eval(&"(".repeat(100_000), config), None);
    }

    #[test]
    fn text_is_what_was_meant() {
        for text in ["A && (B || !C) && D != n", "!(A && B) || C", "A >= 5 || $(success,[ a ])"] {
            assert_eq!(Expr::parse(text).to_string(), text);
        }
        assert_eq!(Expr::parse("A&&(B||C)").options(), ["A", "B", "C"]);
    }
}
