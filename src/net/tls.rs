//! TLS on both legs, by rustls: what clients are shown, and how stores are verified.
//!
//! Without a configured certificate a self-signed pair is made at start, as MySQL does. Towards a store the certificate is
//! verified when a CA is configured; without one the leg is encrypted only, as with MySQL's `--ssl-mode=REQUIRED`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::packet_stream::PacketStream;
use super::stream::{Prefixed, Stream};
use crate::config::model::{ListenTls, StoreTls, TlsMode};

/// A TLS setting that cannot be used; fault of the operator.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read or holds no such thing.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// rustls refuses the combination.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The verifier cannot be built.
    #[error("TLS: {0}")]
    Verifier(String),
    /// The self-signed pair could not be made.
    #[error("TLS: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

fn file_error(path: &Path, what: impl std::fmt::Display) -> TlsError {
    TlsError::File { path: path.display().to_string(), what: what.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| file_error(path, e))?.collect();
    let list = list.map_err(|e| file_error(path, e))?;
    if list.is_empty() {
        return Err(file_error(path, "no certificate in it"));
    }
    Ok(list)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| file_error(path, e))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for c in certificates(path)? {
        store.add(c).map_err(|e| file_error(path, e))?;
    }
    Ok(store)
}

/// What clients are shown; `None` when TLS is off.
///
/// # Errors
/// [`TlsError`] for unreadable files or a pair that does not fit.
pub fn acceptor(tls: &ListenTls) -> Result<Option<TlsAcceptor>, TlsError> {
    if tls.mode == TlsMode::Off {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &tls.ca {
        Some(ca) => {
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|e| TlsError::Verifier(e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = match (&tls.cert, &tls.key) {
        (Some(cert), Some(k)) => (certificates(cert)?, key(k)?),
        _ => self_signed()?,
    };
    Ok(Some(TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key)?))))
}

fn self_signed() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key =
        PrivateKeyDer::try_from(pair.signing_key.serialize_der()).map_err(|e| TlsError::Verifier(e.to_owned()))?;
    Ok((vec![pair.cert.der().clone()], key))
}

/// How a store is connected to over TLS.
pub struct Connectors {
    any: TlsConnector,
    /// By what the client's own leg agreed on: the store is offered that before all else.
    like: Vec<(CipherSuite, TlsConnector)>,
}

impl Connectors {
    /// The store's choice.
    #[must_use]
    pub fn any(&self) -> &TlsConnector {
        &self.any
    }

    /// As the client's own leg is encrypted, so that what the store says of the connection holds for the client's too, and
    /// accounts that ask for a cipher get what they ask for.
    #[must_use]
    pub fn like(&self, client: &Stream) -> &TlsConnector {
        let agreed = client.cipher_suite();
        self.like.iter().find(|(suite, _)| Some(*suite) == agreed).map_or(&self.any, |(_, connector)| connector)
    }
}

/// How a store is connected to over TLS; `None` when off.
///
/// # Errors
/// [`TlsError`] for unreadable files or a pair that does not fit.
pub fn connectors(tls: &StoreTls) -> Result<Option<Connectors>, TlsError> {
    if tls.mode == TlsMode::Off {
        return Ok(None);
    }
    let provider = rustls::crypto::ring::default_provider();
    let roots = tls.ca.as_deref().map(roots).transpose()?;
    let pair = match (&tls.cert, &tls.key) {
        (Some(cert), Some(k)) => Some((certificates(cert)?, key(k)?)),
        _ => None,
    };
    let make = |suites: Vec<SupportedCipherSuite>| {
        let provider = Arc::new(CryptoProvider { cipher_suites: suites, ..provider.clone() });
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match &roots {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(unverified::Unverified(provider))),
        };
        let config = match &pair {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        Ok::<_, TlsError>(TlsConnector::from(Arc::new(config)))
    };
    let mut like = Vec::new();
    for first in &provider.cipher_suites {
        // a client of TLS 1.2 means 1.2; one of 1.3 takes what the store has
        let old = first.version().version == ProtocolVersion::TLSv1_2;
        let mut suites = provider.cipher_suites.clone();
        suites.retain(|s| !old || s.version() == first.version());
        // the store's key may be of another kind than the proxy's: its twin comes next
        suites.sort_by_key(|s| (s != first, ciphers(*s) != ciphers(*first)));
        like.push((first.suite(), make(suites)?));
    }
    Ok(Some(Connectors { any: make(provider.cipher_suites.clone())?, like }))
}

/// A suite's name without the kind of key.
fn ciphers(suite: SupportedCipherSuite) -> String {
    suite.suite().as_str().unwrap_or_default().replace("_ECDSA_", "_RSA_")
}

/// Answers a client's ClientHello; the connection is encrypted afterwards.
///
/// # Errors
/// As the socket's or the handshake's.
pub async fn accept(stream: &mut PacketStream, acceptor: &TlsAcceptor) -> io::Result<()> {
    let (inner, rest) = stream.take_stream();
    let Stream::Plain(socket) = inner else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let tls = acceptor.accept(Prefixed::new(rest, socket)).await?;
    stream.put_back(Stream::Accepted(Box::new(tls)));
    Ok(())
}

/// Sends a ClientHello to a store; the connection is encrypted afterwards.
///
/// # Errors
/// As the socket's or the handshake's: a certificate that does not verify among them.
pub async fn connect(stream: &mut PacketStream, connector: &TlsConnector, host: &str) -> io::Result<()> {
    let name = ServerName::try_from(host.to_owned())
        .or_else(|_| ServerName::try_from("localhost"))
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let (inner, rest) = stream.take_stream();
    let Stream::Plain(socket) = inner else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let tls = connector.connect(name, Prefixed::new(rest, socket)).await?;
    stream.put_back(Stream::Connected(Box::new(tls)));
    Ok(())
}

/// The verifier of a leg without a CA: signatures are checked, the certificate's issuer is not.
mod unverified {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct Unverified(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for Unverified {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_pair_is_made_and_a_missing_file_is_named() {
        assert!(acceptor(&ListenTls::default()).unwrap().is_some());
        assert!(acceptor(&ListenTls { mode: TlsMode::Off, ..ListenTls::default() }).unwrap().is_none());
        let missing = StoreTls { ca: Some("/nowhere/ca.pem".into()), ..StoreTls::default() };
        let error = connectors(&missing).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }
}
