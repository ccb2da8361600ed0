//! Paragraphs of fields, as in control files and package indexes (Debian Policy, chapter 5.1;
//! `deb822(5)`).

use crate::{Error, Result};

/// One paragraph: fields in their order. Borrows the text it is read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph<'text> {
    fields: Vec<Field<'text>>,
}

/// One field of a paragraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field<'text> {
    /// Its name as written; names are compared without regard to case.
    pub name: &'text str,
    /// Its value, white space at both ends removed; further lines as they stand, with their
    /// leading space.
    pub value: &'text str,
    /// The line of its name, counted from 1.
    pub line: usize,
}

impl<'text> Paragraph<'text> {
    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'text str> {
        self.field(name).map(|field| field.value)
    }

    /// A field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field<'text>> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// All fields, in their order.
    #[must_use]
    pub fn fields(&self) -> &[Field<'text>] {
        &self.fields
    }
}

/// The paragraphs of a text.
///
/// ```
/// let text = "Package: a\nDescription: short\n longer\n\nPackage: b\n";
/// let paragraphs: Vec<_> =
///     kiln_debroot::control::paragraphs(text, "control").collect::<Result<_, _>>()?;
/// assert_eq!(paragraphs[0].get("description"), Some("short\n longer"));
/// assert_eq!(paragraphs[1].get("Package"), Some("b"));
/// # Ok::<(), kiln_debroot::Error>(())
/// ```
pub fn paragraphs<'text>(text: &'text str, origin: &'text str) -> Paragraphs<'text> {
    Paragraphs { text, origin, at: 0, line: 0, failed: false }
}

/// The paragraphs of a text, one after the other; the first error is the last item.
#[derive(Debug, Clone)]
pub struct Paragraphs<'text> {
    text: &'text str,
    origin: &'text str,
    at: usize,
    line: usize,
    failed: bool,
}

impl<'text> Iterator for Paragraphs<'text> {
    type Item = Result<Paragraph<'text>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.read() {
            Ok(paragraph) if paragraph.fields.is_empty() => None,
            Ok(paragraph) => Some(Ok(paragraph)),
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

impl<'text> Paragraphs<'text> {
    fn read(&mut self) -> Result<Paragraph<'text>> {
        let mut paragraph = Paragraph::default();
        // Where the value of the last field starts and ends so far.
        let mut value = 0..0;
        while let Some(rest) = self.text.get(self.at..).filter(|rest| !rest.is_empty()) {
            let start = self.at;
            let length = rest.find('\n').unwrap_or(rest.len());
            let line = rest.get(..length).unwrap_or(rest);
            self.at = start + length + 1;
            self.line += 1;
            if line.starts_with('#') {
                continue;
            }
            if line.trim_end().is_empty() {
                if paragraph.fields.is_empty() {
                    continue;
                }
                break;
            }
            if line.starts_with([' ', '\t']) {
                let Some(field) = paragraph.fields.last_mut() else {
                    return Err(self.wrong("a line that continues a field stands at the start"));
                };
                value.end = start + length;
                field.value = self.text.get(value.clone()).unwrap_or_default().trim();
                continue;
            }
            let Some((name, rest)) = line.split_once(':') else {
                return Err(self.wrong("a field has the form 'Name: value'"));
            };
            let proper = |byte: u8| byte.is_ascii_graphic();
            if name.is_empty() || name.starts_with('-') || !name.bytes().all(proper) {
                return Err(self.wrong("a field's name is made of visible ASCII characters"));
            }
            value = start + name.len() + 1..start + length;
            paragraph.fields.push(Field { name, value: rest.trim(), line: self.line });
        }
        Ok(paragraph)
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::syntax(self.origin, self.line, reason)
    }
}
