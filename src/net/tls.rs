//! TLS on both legs, by rustls: what clients are shown, and how stores are verified.
//!
//! Without a configured certificate a self-signed pair is made at start, as MySQL does. A store's leg speaks the client's version
//! and cipher, for `SHOW STATUS LIKE 'Ssl_%'` tells clients of that leg. Towards a store the certificate is
//! verified when a CA is configured; without one the leg is encrypted only, as with MySQL's `--ssl-mode=REQUIRED`.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion};
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

/// A certificate chain and its key.
pub struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Pair {
    /// A self-signed pair for clients that do not verify, or that pin what they saw: one per process, kept over reloads.
    ///
    /// # Errors
    /// [`TlsError::SelfSigned`].
    pub fn self_signed() -> Result<Pair, TlsError> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let pair = rcgen::generate_simple_self_signed(names)?;
        let key =
            PrivateKeyDer::try_from(pair.signing_key.serialize_der()).map_err(|e| TlsError::Verifier(e.to_owned()))?;
        Ok(Pair { chain: vec![pair.cert.der().clone()], key })
    }

    fn copy(&self) -> Pair {
        Pair { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// TLS towards clients.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    /// SHA256 of the certificate that clients see.
    pub fingerprint: [u8; 32],
    /// Nobody is let in without TLS, but over a unix socket.
    pub required: bool,
}

/// What clients are shown; `None` when TLS is off. `own` is shown where no certificate is configured.
///
/// # Errors
/// [`TlsError`] for unreadable files or a pair that does not fit.
pub fn acceptor(tls: &ListenTls, own: &Pair) -> Result<Option<Acceptor>, TlsError> {
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
    let pair = match (&tls.cert, &tls.key) {
        (Some(cert), Some(k)) => Pair { chain: certificates(cert)?, key: key(k)? },
        _ => own.copy(),
    };
    let fingerprint = pair.chain.first().map(|leaf| crate::auth::proof::fingerprint(leaf)).unwrap_or_default();
    let required = tls.mode == TlsMode::Required;
    let tls = TlsAcceptor::from(Arc::new(builder.with_single_cert(pair.chain, pair.key)?));
    Ok(Some(Acceptor { tls, fingerprint, required }))
}

/// What a client's leg agreed on; the store's leg is made alike, for clients ask the store which version they speak.
pub type Agreed = (ProtocolVersion, CipherSuite);

/// TLS towards a store.
pub struct Connector {
    roots: Option<Arc<RootCertStore>>,
    client: Option<Pair>,
    any: TlsConnector,
    /// Few: as many as there are versions and suites.
    alike: Mutex<Vec<(Agreed, TlsConnector)>>,
    /// The store refused a leg that was made like the client's.
    own_way: AtomicBool,
}

/// How a store is connected to over TLS.
///
/// # Errors
/// [`TlsError`] for unreadable files or a pair that does not fit.
pub fn connector(tls: &StoreTls) -> Result<Option<Connector>, TlsError> {
    if tls.mode == TlsMode::Off {
        return Ok(None);
    }
    let roots = tls.ca.as_deref().map(roots).transpose()?.map(Arc::new);
    let client = match (&tls.cert, &tls.key) {
        (Some(cert), Some(k)) => Some(Pair { chain: certificates(cert)?, key: key(k)? }),
        _ => None,
    };
    let any =
        build(roots.as_ref(), client.as_ref(), rustls::crypto::ring::default_provider(), rustls::DEFAULT_VERSIONS)?;
    Ok(Some(Connector { roots, client, any, alike: Mutex::default(), own_way: AtomicBool::new(false) }))
}

fn build(
    roots: Option<&Arc<RootCertStore>>,
    client: Option<&Pair>,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(Arc::clone(roots)),
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(unverified::Unverified(provider))),
    };
    let config = match client.map(Pair::copy) {
        Some(pair) => builder.with_client_auth_cert(pair.chain, pair.key)?,
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// How alike two suites are: the same, the same cipher with another kind of key, or only of the same version.
fn distance(a: CipherSuite, b: CipherSuite) -> u8 {
    let cipher = |s: CipherSuite| s.as_str().and_then(|name| name.rsplit_once("_WITH_")).map(|(_, cipher)| cipher);
    match () {
        () if a == b => 0,
        () if cipher(a).is_some() && cipher(a) == cipher(b) => 1,
        () => 2,
    }
}

impl Connector {
    /// One that speaks the version that a client's leg agreed on, its cipher first; an older one where the store has not got the newest.
    fn like(&self, agreed: Agreed) -> Option<TlsConnector> {
        let mut known = self.alike.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = known.iter().find(|(a, _)| *a == agreed) {
            return Some(made.clone());
        }
        // of several versions the store takes its newest: only above an older one must that be left out
        let newest = agreed.0 == ProtocolVersion::TLSv1_3;
        let versions: Vec<_> =
            rustls::ALL_VERSIONS.iter().copied().filter(|v| newest || v.version == agreed.0).collect();
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.sort_by_key(|s| distance(s.suite(), agreed.1));
        let made = build(self.roots.as_ref(), self.client.as_ref(), provider, &versions).ok()?;
        known.push((agreed, made.clone()));
        Some(made)
    }
}

/// Answers a client's ClientHello; the connection is encrypted afterwards.
///
/// # Errors
/// As the socket's or the handshake's.
pub async fn accept(stream: &mut PacketStream, acceptor: &Acceptor) -> io::Result<()> {
    let (inner, rest) = stream.take_stream();
    let Stream::Plain(socket) = inner else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let tls = acceptor.tls.accept(Prefixed::new(rest, socket)).await?;
    stream.put_back(Stream::Accepted(Box::new(tls)));
    Ok(())
}

/// Sends a ClientHello to a store; the connection is encrypted afterwards. With `like`, as that client's leg is.
///
/// # Errors
/// As the socket's or the handshake's: a certificate that does not verify among them.
pub async fn connect(
    stream: &mut PacketStream,
    connector: &Connector,
    host: &str,
    like: Option<Agreed>,
) -> io::Result<()> {
    let name = ServerName::try_from(host.to_owned())
        .or_else(|_| ServerName::try_from("localhost"))
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let (inner, rest) = stream.take_stream();
    let Stream::Plain(socket) = inner else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let alike = like.filter(|_| !connector.own_way.load(Ordering::Relaxed)).and_then(|agreed| connector.like(agreed));
    let tls = match &alike {
        Some(alike) => alike.connect(name, Prefixed::new(rest, socket)).await.inspect_err(|e| {
            // a store that does not speak the client's version: the next login goes the store's own way
            if !e.to_string().contains("ertificate") {
                connector.own_way.store(true, Ordering::Relaxed);
            }
        })?,
        None => connector.any.connect(name, Prefixed::new(rest, socket)).await?,
    };
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
        let own = Pair::self_signed().unwrap();
        let shown = acceptor(&ListenTls::default(), &own).unwrap().unwrap();
        // the same over a reload: clients may pin it
        assert_eq!(acceptor(&ListenTls::default(), &own).unwrap().unwrap().fingerprint, shown.fingerprint);
        assert!(acceptor(&ListenTls { mode: TlsMode::Off, ..ListenTls::default() }, &own).unwrap().is_none());
        let missing = StoreTls { ca: Some("/nowhere/ca.pem".into()), ..StoreTls::default() };
        let error = connector(&missing).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn the_client_s_cipher_comes_first_then_its_kin() {
        use CipherSuite as S;
        let wanted = S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        let mut list = [S::TLS13_AES_256_GCM_SHA384, S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, wanted];
        list.sort_by_key(|s| distance(*s, wanted));
        assert_eq!(list, [wanted, S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, S::TLS13_AES_256_GCM_SHA384]);
    }
}
