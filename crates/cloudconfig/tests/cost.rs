//! Texts that are made to cost much: what a reader does with them grows with their length and no faster.

use std::time::Duration;

use kiln_cloudconfig::{Limits, decode, document, user_data};

/// Far more than they take without optimisation; a reader that squares needs hours.
const MOST: Duration = Duration::from_secs(20);

/// What this thread has had of a processor: others may be busy on the machine.
fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time from the beginning of the thread")
}

#[test]
fn no_long_text_takes_long() {
    let size = 256 << 10;
    let repeated = |piece: &str| piece.repeat(size / piece.len());
    let mut texts: Vec<(String, String)> = [
        "[",
        "{",
        "]",
        "- ",
        "? ",
        "-\n",
        "a:\n",
        "a: ",
        "&a ",
        "*a ",
        "!a ",
        "'",
        "\"",
        "\"\\",
        "|\n",
        "| ",
        ">\n \n",
        "# ",
        "#\n",
        "\n",
        " ",
        "\t",
        "a",
        "a ",
        "a\n",
        "a, ",
        "[a, ",
        "{a: ",
        "%a\n",
        "---\n",
        "...\n",
        "<<: ",
        "? a\n: b\n",
        "é",
        "\u{2028}",
        "- a\n",
        "a: [\n",
        ": ",
        ", ",
        "\r",
        "\r\n",
        "a#",
        "a:b",
        "0",
        "~\n",
    ]
    .into_iter()
    .map(|piece| (piece.to_owned(), repeated(piece)))
    .collect();
    for (open, piece) in [
        ("a: [", "a, "),
        ("{", "a, "),
        ("{", "a: b, "),
        ("\"", "a "),
        ("\"", "a\n"),
        ("'", "''"),
        ("a: |\n", " a\n"),
        ("a: |\n", "\n"),
        ("a: >\n", " a\n\n"),
        ("a: ", "a\n  "),
        ("- ", "&a a\n- "),
        ("[", "&a a, "),
        ("[", "\"a\", "),
        ("a: ", " #"),
        ("services: {", "x, "),
        ("[", "*a,"),
        ("- &a a\n", "- *a\n"),
        ("a: \"", "\\n"),
        ("a: &", "a"),
        ("a: !<", "a"),
        ("a: !", "%41"),
    ] {
        texts.push((format!("{open}{piece}"), format!("{open}{}", repeated(piece))));
    }
    let limits = Limits::default();
    for (name, text) in texts {
        let before = spent();
        let (root, _) = document::read("x", text.as_bytes(), &limits);
        let _ = decode(&root, &limits);
        let took = spent() - before;
        assert!(took < MOST, "{name:?}: {took:?}");
    }
}

#[test]
fn no_long_message_takes_long() {
    for piece in
        ["--a\n\n", "--a\n", "\n", ";", "a;", "=", "\"", "a: b\n", " \n", "=41", "--", "\r\n"]
    {
        for header in [
            "Content-Type: multipart/mixed; boundary=a\n\n",
            "Content-Type: multipart/mixed; boundary=\"",
            "Content-Type: text/plain; x=",
            "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n",
        ] {
            let text = header.to_owned() + &piece.repeat((256 << 10) / piece.len());
            let before = spent();
            let _ = user_data::read("x", text.as_bytes(), &Limits::default());
            let took = spent() - before;
            assert!(took < MOST, "{header:?} {piece:?}: {took:?}");
        }
    }
}
