//! TLS 1.3 where the key is the identity: self-signed certificates, pinned by their public key.
//!
//! There is no authority and nothing that expires in a blackout (P8): dates and names in a certificate are not
//! looked at. What counts is that the other end holds the private key of a public key that the signed topology
//! names. QUIC sessions and the gRPC admin API use the same certificate.
//!
//! Private keys are made here ([`new_key`]) and lie in files that only their owner may read ([`create_key`], [`read_key`]), and a program that holds one
//! leaves no image of its memory behind ([`keep_memory_private`]).

mod key_file;
mod private_memory;

use std::fmt;
use std::sync::Arc;

use estafet_model::{PublicKey, SigningKey};
use rcgen::KeyPair;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
pub use rustls::pki_types::CertificateDer;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme, version,
};
use zeroize::Zeroizing;

pub use crate::key_file::{KeyFileError, create_key, create_secret, new_key, read_key, read_secret};
pub use crate::private_memory::keep_memory_private;

/// The DER prefix of an Ed25519 SubjectPublicKeyInfo without its outer header (RFC 8410, section 4), after which the
/// 32 key bytes follow.
const ED25519_SPKI: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A node's or operator's key could not be made into a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be written.
    #[error("failed to make a certificate from the private key: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the configuration.
    #[error("failed to set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// A private key and the self-signed certificate that shows its public half.
pub struct Identity {
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// A certificate for `key`. `name` is for people who look at it; nobody checks it.
    pub fn new(key: &SigningKey, name: &str) -> Result<Self, TlsError> {
        let bytes = key.to_pkcs8_der();
        let der = PrivatePkcs8KeyDer::from(bytes.as_slice());
        let pair = Zeroizing::new(KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)?);
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])?.self_signed(&*pair)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], any_eddsa_type(&der)?);
        Ok(Self { certified: Arc::new(certified) })
    }

    fn certificate(&self) -> &CertificateDer<'static> {
        &self.certified.cert[0]
    }

    /// The certificate in DER, for clients that want it as their root.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        self.certificate()
    }

    /// A server that demands a client certificate whose key `admits` accepts.
    pub fn server_config(
        &self,
        admits: impl Fn(&PublicKey) -> bool + Send + Sync + 'static,
        alpn: &[u8],
    ) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Pinned { provider: Arc::clone(&provider), admits: Box::new(admits) });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified))));
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }

    /// A client that talks only to the owner of `expected`.
    pub fn client_config(&self, expected: PublicKey, alpn: &[u8]) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let admits = move |key: &PublicKey| *key == expected;
        let verifier = Arc::new(Pinned { provider: Arc::clone(&provider), admits: Box::new(admits) });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified))));
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({:?})", key_of_certificate(self.certificate()))
    }
}

/// The Ed25519 public key that a certificate shows; nothing if it is malformed or of another kind.
#[must_use]
pub fn key_of_certificate(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let info = certificate.subject_public_key_info();
    let key = info.as_ref().get(2..)?.strip_prefix(ED25519_SPKI)?;
    Some(PublicKey::from_bytes(key.try_into().ok()?))
}

/// Accepts a certificate by its public key alone, in both directions.
struct Pinned {
    provider: Arc<CryptoProvider>,
    admits: Box<dyn Fn(&PublicKey) -> bool + Send + Sync>,
}

impl Pinned {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let key =
            key_of_certificate(certificate).ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if (self.admits)(&key) {
            Ok(())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pinned")
    }
}

fn refuse_tls12() -> rustls::Error {
    rustls::Error::General("only TLS 1.3 is spoken here".to_owned())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_shows_the_key_it_was_made_from() {
        let key = SigningKey::from_seed([5; 32]);
        let identity = Identity::new(&key, "induk").unwrap();
        assert_eq!(key_of_certificate(identity.certificate()), Some(key.public()));
        assert_eq!(key_of_certificate(&CertificateDer::from(vec![1, 2, 3])), None);
    }

    #[test]
    fn only_the_admitted_key_passes() {
        let key = SigningKey::from_seed([5; 32]);
        let identity = Identity::new(&key, "induk").unwrap();
        let pinned = |expected: PublicKey| Pinned {
            provider: Arc::new(ring::default_provider()),
            admits: Box::new(move |key| *key == expected),
        };
        assert!(pinned(key.public()).check(identity.certificate()).is_ok());
        assert!(pinned(SigningKey::from_seed([6; 32]).public()).check(identity.certificate()).is_err());
    }
}
