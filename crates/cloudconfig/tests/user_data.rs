//! What user-data is, however it is packed.

use std::io::Write as _;

use base64::Engine as _;
use kiln_cloudconfig::Limits;
use kiln_cloudconfig::user_data::{Part, PartKind, read};
use proptest::prelude::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).expect("written to memory");
    writer.finish().expect("written to memory")
}

fn parts(bytes: &[u8]) -> (Vec<Part>, String) {
    let (parts, findings) = read("user-data", bytes, &Limits::default());
    (parts, findings.to_string())
}

fn shown(parts: &[Part]) -> String {
    let line = |part: &Part| {
        format!("{} {:?} {:?}\n", part.name, part.kind, String::from_utf8_lossy(&part.bytes))
    };
    parts.iter().map(line).collect()
}

#[test]
fn kinds_by_their_first_line() {
    for (text, expected) in [
        ("#cloud-config\na: 1\n", PartKind::CloudConfig),
        ("#cloud-config\r\na: 1\r\n", PartKind::CloudConfig),
        ("\u{feff}#cloud-config\n", PartKind::CloudConfig),
        ("#!/bin/sh\n", PartKind::Script),
    ] {
        let (found, findings) = parts(text.as_bytes());
        assert_eq!((found[0].kind, findings.as_str()), (expected, ""), "{text}");
    }
    for nothing in ["", "\n \n"] {
        assert_eq!(parts(nothing.as_bytes()), (vec![], String::new()));
    }
}

#[test]
fn others_are_refused_by_name() {
    let mut report = String::new();
    for first in [
        "#include",
        "#include-once",
        "## template: jinja",
        "#part-handler",
        "#upstart-job",
        "#cloud-boothook",
        "#cloud-config-archive",
        "#cloud-config-jsonp",
        "#compose",
        "{\"ignition\": {}}",
        "hostname: a",
        "\u{1b}[31m",
    ] {
        let (found, findings) = parts(format!("{first}\nx\n").as_bytes());
        assert_eq!(found, []);
        report += &(findings + "\n");
    }
    insta::assert_snapshot!("refused", report);
}

#[test]
fn gzip_in_gzip_up_to_a_limit() {
    let text = b"#cloud-config\nhostname: a\n";
    let (found, findings) = parts(&gzip(&gzip(text)));
    assert_eq!((found[0].bytes.as_slice(), findings.as_str()), (&text[..], ""));
    let deep = (0..6).fold(text.to_vec(), |bytes, _| gzip(&bytes));
    assert_eq!(parts(&deep).1, "user-data: packed more than 4 times");
    let bomb = gzip(&vec![b'#'; 64 << 20]);
    assert_eq!(parts(&bomb).1, "user-data: more than 16777216 bytes when unpacked");
    let whole = gzip(text);
    assert_eq!(parts(&whole[..whole.len() - 9]).1, "user-data: damaged gzip");
}

/// As `cloud-init devel make-mime` writes it, and with what mail programs do besides.
fn message() -> Vec<u8> {
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let packed = base64(&gzip(b"#cloud-config\nhostname: packed\n"));
    let script = base64(b"#!/bin/sh\necho one\n");
    format!(
        "Content-Type: multipart/mixed;\n boundary=\"===== 1; x ==\"\nMIME-Version: 1.0\n\nA preamble.\n\
         --===== 1; x ==\nContent-Type: text/x-shellscript; charset=\"utf-8\"\nMIME-Version: 1.0\n\
         Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"one.sh\"\n\n{script}\n\
         --===== 1; x ==\nContent-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n{packed}\n\
         --===== 1; x ==\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: quoted-printable\n\
         Merge-Type: list(append)\n\nhostname: =61=\nda  \n\
         --===== 1; x ==\nContent-Type: multipart/alternative; boundary=in\n\n--in\n\n#!/bin/inner\n--in--\n\
         --===== 1; x ==\nContent-Type: text/jinja2\n\n## template: jinja\n\
         --===== 1; x ==\nContent-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nx\n\
         --===== 1; x ==--\nAn epilogue.\n"
    )
    .into_bytes()
}

#[test]
fn a_message_is_taken_apart() {
    let (found, findings) = parts(&message());
    insta::assert_snapshot!("message", shown(&found) + "\n" + &findings);
    // The same with the breaks that mail has.
    let crlf = String::from_utf8(message()).unwrap().replace('\n', "\r\n");
    let (with_crlf, findings_with) = parts(crlf.as_bytes());
    assert_eq!(findings_with, findings);
    assert_eq!(shown(&with_crlf).replace("\\r", ""), shown(&found));
    // And compressed as a whole.
    assert_eq!(parts(&gzip(&message())).0, found);
}

#[test]
fn a_message_that_was_cut_off_counts_for_nothing() {
    let whole = message();
    let (found, findings) = parts(&whole[..whole.len() - 40]);
    assert_eq!(found, []);
    assert!(findings.contains("whose last boundary is missing"), "{findings}");
    let text = b"Content-Type: multipart/mixed\n\n--a\n\n#!x\n--a--\n";
    assert_eq!(parts(text).1, "user-data: a MIME message without a boundary");
}

#[test]
fn parts_are_counted() {
    let part = "--a\n\n#!x\n".repeat(100);
    let text = format!("Content-Type: multipart/mixed; boundary=a\n\n{part}--a--\n");
    let (found, findings) = parts(text.as_bytes());
    assert_eq!((found.len(), findings.as_str()), (64, "user-data: more than 64 parts"));
}

proptest! {
    #[test]
    fn any_bytes_are_taken_apart_without_a_panic(bytes: Vec<u8>) {
        let _ = parts(&bytes);
    }

    #[test]
    fn any_damage_is_survived(at in 0_usize..1400, with in prop::collection::vec(any::<u8>(), 0..6), cut in 0_usize..6) {
        let mut bytes = message();
        let at = at.min(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with);
        let _ = parts(&bytes);
        let _ = parts(&[&[0x1f, 0x8b][..], &bytes].concat());
    }
}
