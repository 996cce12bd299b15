//! Certificates for a fake upstream, made on the spot.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A server's certificate with the authority that signed it.
pub struct Identity {
    /// The authority, for the client to trust or not.
    pub root: CertificateDer<'static>,
    key: Arc<CertifiedKey>,
}

impl Identity {
    /// Valid for `name` (a host name or an address).
    pub fn valid(name: &str) -> Self {
        Self::signed(CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// For `name`, but its time has passed.
    pub fn expired(name: &str) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        Self::signed(params)
    }

    fn signed(params: CertificateParams) -> Self {
        let mut authority = CertificateParams::new([]).unwrap();
        let pair = KeyPair::generate().unwrap();
        // Authorities of one name would be taken for each other.
        authority.distinguished_name.push(DnType::CommonName, hex::encode(&pair.public_key_raw()[..8]));
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, pair).unwrap();
        let pair = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&pair, &issuer).unwrap();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let signer = rustls::crypto::ring::sign::any_supported_type(&secret).unwrap();
        Self { root: issuer.der().clone(), key: Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer)) }
    }

    /// The server's side; `offers` takes the protocols each client offers by ALPN.
    pub(super) fn server(&self, offers: Arc<Mutex<Vec<Vec<Vec<u8>>>>>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Listening { key: Arc::clone(&self.key), offers }));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// Hands out one certificate and notes what clients offer.
#[derive(Debug)]
struct Listening {
    key: Arc<CertifiedKey>,
    offers: Arc<Mutex<Vec<Vec<Vec<u8>>>>>,
}

impl ResolvesServerCert for Listening {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = hello.alpn().map(|protocols| protocols.map(<[u8]>::to_vec).collect()).unwrap_or_default();
        self.offers.lock().unwrap().push(offered);
        Some(Arc::clone(&self.key))
    }
}
