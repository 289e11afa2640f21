//! TLS on the port for clients. The files are read again when they change: a renewed certificate needs no restart.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::metrics::Metrics;

/// For a client's side of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(1);

/// Where certificate and key are, both PEM; the certificate with its chain.
#[derive(Clone, Debug)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why a pair cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("{0} has no PEM certificate")]
    NoCertificate(PathBuf),
    #[error("{0} has no PEM private key")]
    NoKey(PathBuf),
    #[error("{0} is no certificate: {1}")]
    NotX509(PathBuf, String),
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The pair that is used now.
pub struct Tls {
    files: Files,
    acceptor: Mutex<TlsAcceptor>,
    metrics: Metrics,
}

/// What was read from the files.
struct Pair {
    config: ServerConfig,
    /// When the first certificate of the chain ends, in seconds of Unix time.
    expires: i64,
}

impl Tls {
    /// Reads the pair; gives what [`Self::watch`] compares with.
    ///
    /// # Errors
    /// When it cannot be used: there is nothing to serve with.
    pub fn load(files: Files, metrics: Metrics, registry: &mut Registry) -> Result<(Self, String), Error> {
        metrics.register_tls(registry);
        let found = Found::read(&files)?;
        let pair = found.pair(&files)?;
        metrics.tls_certificate_expiry.set(pair.expires);
        metrics.tls_reload_success.set(1);
        let acceptor = Mutex::new(TlsAcceptor::from(Arc::new(pair.config)));
        Ok((Self { files, acceptor, metrics }, found.fingerprint()))
    }

    /// Takes changes of the files, for ever. A bad pair leaves the last good one.
    pub async fn watch(self: Arc<Self>, mut fingerprint: String) {
        let mut unread = false;
        loop {
            tokio::time::sleep(EVERY).await;
            let files = self.files.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || Found::read(&files)).await else { continue };
            let pair = match found {
                Ok(found) if found.fingerprint() == fingerprint && !unread => continue,
                Ok(found) => {
                    fingerprint = found.fingerprint();
                    unread = false;
                    found.pair(&self.files)
                }
                Err(_) if unread => continue,
                Err(error) => {
                    unread = true;
                    Err(error)
                }
            };
            self.take(pair);
        }
    }

    fn take(&self, pair: Result<Pair, Error>) {
        self.metrics.tls_reload_success.set(i64::from(pair.is_ok()));
        match pair {
            Ok(Pair { config, expires }) => {
                *self.acceptor.lock() = TlsAcceptor::from(Arc::new(config));
                self.metrics.tls_certificate_expiry.set(expires);
                tracing::info!("the TLS certificate changed; new connections use it");
            }
            Err(error) => {
                tracing::warn!(%error, "the TLS certificate changed and cannot be used; the last good one is");
            }
        }
    }

    /// Shakes hands with a client, with the pair of this moment. `None` where it does not come to an end.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Option<TlsStream<S>> {
        let acceptor = self.acceptor.lock().clone();
        match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => None,
        }
    }
}

/// The bytes of both files.
struct Found {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Found {
    fn read(files: &Files) -> Result<Self, Error> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| Error::Read(path.clone(), error));
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    fn fingerprint(&self) -> String {
        config::fingerprint(&[&self.certificate, &self.key])
    }

    fn pair(&self, files: &Files) -> Result<Pair, Error> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| Error::NoCertificate(files.certificate.clone()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| Error::NoKey(files.key.clone()))?;
        let ends = chain.iter().map(expiry).collect::<Result<Vec<_>, _>>();
        let ends = ends.map_err(|error| Error::NotX509(files.certificate.clone(), error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Pair { config, expires: ends.into_iter().min().unwrap_or_default() })
    }
}

/// When a certificate ends, in seconds of Unix time.
fn expiry(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.validity().not_after.timestamp())
}
