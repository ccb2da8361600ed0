//! Questions to a name server, and what its answers say (RFC 1035 section 4, RFC 3596).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    V4,
    V6,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn number(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }

    fn address(self, bytes: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => <[u8; 4]>::try_from(bytes).ok().map(|four| Ipv4Addr::from(four).into()),
            Self::V6 => <[u8; 16]>::try_from(bytes).ok().map(|all| Ipv6Addr::from(all).into()),
        }
    }
}

/// The Internet's class.
const CLASS: u16 = 1;
const HEADER: usize = 12;
/// Bits of the header's second word: an answer, its kind, cut off, recursion wanted, what went wrong.
const ANSWER: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
const CUT_OFF: u16 = 0x0200;
const RECURSION: u16 = 0x0100;
const WRONG: u16 = 0x000f;

/// A question; none for what is no name.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for word in [id, RECURSION, 1, 0, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    // section 2.3.4, with the byte of the first label and that of the root
    if name.len() > 253 {
        return None;
    }
    for word in [kind.number(), CLASS] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    Some(out)
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// None where the name has none of that kind.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoName,
    /// The server cannot say, with its number for why.
    Refused(u16),
    /// More than fits, and nothing of it is there.
    CutOff,
}

/// What an answer to a question says; none for what is no answer to it. Of a chain of other names for a
/// name the addresses count, which whoever asks for recursion is given with it.
pub(super) fn answer(bytes: &[u8], question: &[u8], kind: Kind) -> Option<Answer> {
    let mut at = Reader { bytes, at: 0 };
    let (id, flags, questions, answers) = (at.word()?, at.word()?, at.word()?, at.word()?);
    at.skip(4)?;
    let asked = question.get(HEADER..)?;
    let is_one = question.get(..2) == Some(&id.to_be_bytes()[..])
        && flags & (ANSWER | OPERATION) == ANSWER
        && questions == 1
        && at.take(asked.len())?.eq_ignore_ascii_case(asked);
    if !is_one {
        return None;
    }
    match flags & WRONG {
        0 => {}
        3 => return Some(Answer::NoName),
        why => return Some(Answer::Refused(why)),
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        let Some(record) = at.record() else { break };
        if record.kind == kind.number() && record.class == CLASS {
            found.extend(kind.address(record.data));
        }
    }
    match found.is_empty() && flags & CUT_OFF != 0 {
        true => Some(Answer::CutOff),
        false => Some(Answer::Addresses(found)),
    }
}

struct Record<'b> {
    kind: u16,
    class: u16,
    data: &'b [u8],
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    fn word(&mut self) -> Option<u16> {
        let taken = self.take(2)?;
        Some(u16::from_be_bytes(taken.try_into().ok()?))
    }

    /// Whose it is does not matter: labels up to the root, or up to a pointer (section 4.1.4), which is not
    /// followed.
    fn name(&mut self) -> Option<()> {
        loop {
            match *self.take(1)?.first()? {
                0 => return Some(()),
                length @ 1..=63 => self.skip(length.into())?,
                192..=255 => return self.skip(1),
                _ => return None,
            }
        }
    }

    fn record(&mut self) -> Option<Record<'b>> {
        self.name()?;
        let (kind, class) = (self.word()?, self.word()?);
        self.skip(4)?;
        let length = self.word()?;
        Some(Record { kind, class, data: self.take(length.into())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer with these flags and records, each a name, a type and data.
    fn reply(question: &[u8], flags: u16, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut out = question[..2].to_vec();
        for word in [flags, 1, u16::try_from(records.len()).unwrap(), 0, 0] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&question[HEADER..]);
        for (name, kind, data) in records {
            out.extend_from_slice(name);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            out.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    #[test]
    fn a_question_is_as_section_4_has_it() {
        assert_eq!(
            question(0x1234, "a.example.", Kind::V6).unwrap(),
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x1c\x00\x01"
        );
        let long = "a".repeat(64);
        for bad in ["", ".", "a..b", long.as_str(), &"a.".repeat(127)] {
            let is_bad = question(1, bad, Kind::V4).is_none();
            assert_eq!(is_bad, !bad.starts_with("a.a."), "{bad}");
        }
        assert!(question(1, &"a.".repeat(128), Kind::V4).is_none());
    }

    #[test]
    fn addresses_are_taken_behind_other_names_and_of_the_kind_that_was_asked_for() {
        let asked = question(7, "a.test", Kind::V4).unwrap();
        // another name for it (type 5), by a pointer, and the address of that one
        let records: [(&[u8], u16, &[u8]); 3] = [
            (b"\xc0\x0c", 5, b"\x01b\xc0\x0e"),
            (b"\x01b\x04test\x00", 1, &[192, 0, 2, 7]),
            (b"\xc0\x0c", 28, &[0; 16]),
        ];
        let said = reply(&asked, 0x8180, &records);
        let expected = Answer::Addresses(vec!["192.0.2.7".parse().unwrap()]);
        assert_eq!(answer(&said, &asked, Kind::V4), Some(expected));

        assert_eq!(
            answer(&reply(&asked, 0x8180, &[]), &asked, Kind::V4),
            Some(Answer::Addresses(vec![]))
        );
        assert_eq!(answer(&reply(&asked, 0x8183, &[]), &asked, Kind::V4), Some(Answer::NoName));
        assert_eq!(answer(&reply(&asked, 0x8185, &[]), &asked, Kind::V4), Some(Answer::Refused(5)));
        assert_eq!(answer(&reply(&asked, 0x8380, &[]), &asked, Kind::V4), Some(Answer::CutOff));
        // a question, another identifier, another name
        let other = question(8, "a.test", Kind::V4).unwrap();
        let else_ = question(7, "b.test", Kind::V4).unwrap();
        for bad in
            [reply(&asked, 0x0100, &[]), reply(&other, 0x8180, &[]), reply(&else_, 0x8180, &[])]
        {
            assert_eq!(answer(&bad, &asked, Kind::V4), None);
        }
    }

    proptest! {
        /// Cut off or changed anywhere, an answer is read without a panic, and gives no more addresses than it
        /// has bytes for.
        #[test]
        fn damaged_answers(at in 0_usize..80, byte: u8, cut in 0_usize..80) {
            let asked = question(7, "a.test", Kind::V6).unwrap();
            let mut said = reply(&asked, 0x8180, &[(b"\xc0\x0c", 28, &[1; 16]), (b"\x00", 28, &[2; 16])]);
            if let Some(at) = said.get_mut(at) {
                *at = byte;
            }
            said.truncate(cut);
            if let Some(Answer::Addresses(found)) = answer(&said, &asked, Kind::V6) {
                prop_assert!(found.len() <= said.len() / 16);
            }
        }
    }
}
