//! Who has a name, and who speaks TLS: servers that the configuration names are reached by what the network
//! says of name servers, and believed by whom the system's images trust, or the configuration.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_cloudconfig::datasource::http::{self, Stream};
use kiln_guest::names;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::{files, places, units};

/// Whom images trust, in each of them.
const TRUSTED: &str = "etc/ssl/certs/ca-certificates.crt";

/// How servers are reached.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Certificates of authorities that are trusted besides, as PEM.
    pub(crate) authorities: Vec<String>,
}

/// Whether a text is a certificate that somebody can vouch with.
pub(crate) fn is_certificate(pem: &str) -> bool {
    let found = CertificateDer::from_pem_slice(pem.as_bytes());
    found.is_ok_and(|certificate| RootCertStore::empty().add(certificate).is_ok())
}

/// What TLS needs, from certificates as PEM. One that nobody understands is no reason to trust nobody else.
fn client(pems: impl IntoIterator<Item = Vec<u8>>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        roots
            .add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    }
    if roots.is_empty() {
        return Err("no certificate of an authority is here".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The images' own: of the container that this runs in, or of the one that has the network.
fn trusted() -> Option<Vec<u8>> {
    let entries = fs::read_dir(places::BUNDLES).into_iter().flatten().flatten();
    let of_network = entries.filter_map(|entry| {
        let name = entry.file_name();
        let service = name.to_str()?.rsplit_once('-')?.0;
        (service == units::NETWORK).then(|| entry.path().join("rootfs"))
    });
    let roots = std::iter::once(PathBuf::from("/")).chain(of_network);
    roots.filter_map(|root| files::read(root.join(TRUSTED)).ok().flatten()).next()
}

impl http::Reach for Reach {
    fn addresses(&self, name: &str, patience: Duration) -> Result<Vec<IpAddr>, String> {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        names::addresses(name, &text("/run/hosts"), &text("/run/resolv.conf"), patience)
    }

    fn secured(&self, host: &str, plain: Box<dyn Stream>) -> Result<Box<dyn Stream>, String> {
        let own = self.authorities.iter().map(|pem| pem.clone().into_bytes());
        let config = Arc::new(client(own.chain(trusted()))?);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        Ok(Box::new(StreamOwned::new(connection, plain)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use kiln_cloudconfig::datasource::http::{Bounds, get};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    /// An authority, and a server at this machine's own address with a certificate of it for `name`.
    fn server(authority: &str, name: &str) -> (String, u16) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, authority);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = own.signed_by(&key, &issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(connection, stream.unwrap()));
                // who is not believed is told so here
                let mut line = String::new();
                if stream.read_line(&mut line).is_err() {
                    continue;
                }
                let stream = stream.get_mut();
                match line.starts_with("GET /cut ") {
                    // nothing says that this is all
                    true => stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhal").unwrap(),
                    false => {
                        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nwhole").unwrap();
                        stream.conn.send_close_notify();
                    }
                }
                let _ = stream.flush();
            }
        });
        (authority, port)
    }

    #[test]
    fn who_has_a_certificate_for_its_name_is_believed() {
        let (authority, port) = server("ours", "localhost");
        assert!(is_certificate(&authority) && !is_certificate("-----BEGIN CERTIFICATE-----\n"));
        let reach = Reach { authorities: vec![authority] };
        let told = |reach: &dyn http::Reach, path: &str| {
            let url = format!("https://127.0.0.1:{port}{path}");
            get(&url, 100, &Bounds::default(), Some(reach)).map_err(|error| error.why)
        };
        let named = Named(&reach);
        let url = |path: &str| format!("https://localhost:{port}{path}");
        let whole = get(&url("/"), 100, &Bounds::default(), Some(&named));
        assert_eq!(whole, Ok(Some(b"whole".to_vec())));
        let cut = get(&url("/cut"), 100, &Bounds::default(), Some(&named)).unwrap_err();
        assert!(cut.why.contains("close_notify"), "{cut}");

        // a name is no address, and nobody is believed whom nobody vouches for
        let other = told(&reach, "/").unwrap_err();
        assert!(other.contains("certificate"), "{other}");
        let (stranger, _) = server("a stranger", "localhost");
        let reach = Reach { authorities: vec![stranger] };
        let unknown = get(&url("/"), 100, &Bounds::default(), Some(&Named(&reach))).unwrap_err();
        assert!(unknown.why.contains("UnknownIssuer"), "{unknown}");
    }

    /// Who knows where `localhost` is without a file.
    #[derive(Debug)]
    struct Named<'r>(&'r Reach);

    impl http::Reach for Named<'_> {
        fn addresses(&self, _: &str, _: Duration) -> Result<Vec<IpAddr>, String> {
            // nobody listens at the first one
            Ok(["127.0.0.2", "127.0.0.1"].map(|text| text.parse().unwrap()).into())
        }

        fn secured(&self, host: &str, plain: Box<dyn Stream>) -> Result<Box<dyn Stream>, String> {
            self.0.secured(host, plain)
        }
    }
}
