//! Registries that are down, slow, or lie.

use std::net::TcpListener;
use std::time::Duration;

use kiln_oci::Compression;

use super::server::{Fault, Server, serve};
use super::{client, pulled};
use crate::images::image;

#[test]
fn a_registry_that_falters_is_asked_again() {
    let image = image(Compression::Gzip);
    for fault in [Fault::None, Fault::BreaksOff, Fault::NoRanges, Fault::Busy] {
        let server = serve(&image, fault);
        let (_, found) =
            pulled(&client(|_| {}), &format!("127.0.0.1:{}/app:1", server.port)).unwrap();
        assert_eq!(found.manifest_bytes, image.manifest_bytes, "{fault:?}");
        let ranges = server.seen().iter().filter(|head| head.contains("range: bytes=")).count();
        assert_eq!(
            ranges,
            usize::from(matches!(fault, Fault::BreaksOff | Fault::NoRanges)),
            "{fault:?}"
        );
    }
}

#[test]
fn a_registry_that_is_down_slow_or_lies_is_an_error_that_names_what() {
    let image = image(Compression::Gzip);
    let descriptor = &image.layers[1].descriptor;
    let layer = descriptor.digest().to_string();
    let zeros = format!("sha256:{:064}", 0);
    let (size, less) = (descriptor.size(), descriptor.size() - 1);
    for (fault, named, reason) in [
        (Fault::Down, "/manifests/1", "503 Service Unavailable (tried 2 times)"),
        (Fault::Lies, &layer, "bytes with digest sha256:"),
        (Fault::LiesOfRanges, &layer, "bytes with digest sha256:"),
        (Fault::Longer, &layer, &format!("gives more than its {size} bytes")),
        (Fault::Shorter, &layer, &format!("it ended after {less} of {size} bytes (tried 2 times)")),
        (Fault::Endless, &layer, &format!("gives more than its {size} bytes")),
        (Fault::AlwaysBreaksOff, &layer, "after 2 of"),
        (Fault::EndlessManifests, "/manifests/1", "it is longer than 65536 bytes"),
        (Fault::LiesOfManifests, &zeros, "bytes with digest sha256:"),
        (Fault::Silent, &layer, "(tried 2 times)"),
    ] {
        let server = serve(&image, fault);
        let client = client(|options| {
            options.attempts = 2;
            options.limits.manifest = 64 << 10;
            options.silence =
                if fault == Fault::Silent { Duration::from_millis(300) } else { options.silence };
        });
        let error = pulled(&client, &format!("127.0.0.1:{}/app:1", server.port)).unwrap_err();
        assert!(error.contains(named) && error.contains(reason), "{fault:?}: {error}");
        let asked = server.seen().iter().filter(|head| head.contains(named)).count();
        assert!(asked <= 2, "{fault:?}: asked {asked} times");
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = pulled(&client(|options| options.attempts = 2), &format!("127.0.0.1:{gone}/app:1"))
        .unwrap_err();
    assert!(error.contains("refused") && error.contains("(tried 2 times)"), "{error}");
}

#[test]
fn a_token_is_had_with_the_password_and_used() {
    let image = image(Compression::Gzip);
    let server = serve(&image, Fault::Token);
    let name = format!("127.0.0.1:{}/app:1", server.port);
    let with = client(|options| options.credentials = Some(("user".into(), "pass".into())));
    pulled(&with, &name).unwrap();
    let tokens =
        |server: &Server| server.seen().iter().filter(|it| it.starts_with("get /token")).count();
    // Once, and not for every blob.
    assert_eq!(tokens(&server), 1);
    let error = pulled(&client(|_| {}), &name).unwrap_err();
    assert!(error.contains("no token from http://127.0.0.1:") && error.contains("401"), "{error}");
    // What stands before `@` is no address of this machine.
    let server = serve(&image, Fault::TokenElsewhere);
    let error = pulled(&with, &format!("127.0.0.1:{}/app:1", server.port)).unwrap_err();
    assert!(
        error.contains("127.0.0.1:80@registry.invalid") && error.contains("not safe"),
        "{error}"
    );
}
