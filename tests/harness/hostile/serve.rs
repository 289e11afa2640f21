//! The port, and TLS on it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::Registry;
use super::answer::answer;

pub(super) struct Listener {
    pub(super) address: SocketAddr,
    tls: Option<TlsAcceptor>,
    waiting: Mutex<Option<TcpListener>>,
    /// Owns every connection: aborting it breaks them all.
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    pub(super) async fn bind(address: Ipv4Addr, ca: Option<&Ca>) -> (Self, String) {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if ca.is_some() { "https" } else { "http" };
        let tls = ca.map(Ca::acceptor);
        let this = Self { address, tls, waiting: Mutex::new(Some(listener)), running: Mutex::new(None) };
        (this, format!("{scheme}://{address}"))
    }

    pub(super) fn serve(&self, registry: Arc<Registry>) {
        let listener = self.waiting.lock().unwrap().take().unwrap();
        let task = tokio::spawn(accept(listener, self.tls.clone(), registry));
        *self.running.lock().unwrap() = Some(task);
    }

    pub(super) async fn stop(&self) {
        let task = self.running.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }

    pub(super) async fn reopen(&self) {
        for _ in 0..100 {
            if let Ok(listener) = TcpListener::bind(self.address).await {
                *self.waiting.lock().unwrap() = Some(listener);
                return;
            }
            // Somebody else's outgoing connection may sit on the port for a moment.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("port {} did not become free again", self.address.port());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = self.running.lock().unwrap().take() {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, registry: Arc<Registry>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        connections.spawn(connection(stream, tls.clone(), registry.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, registry: Arc<Registry>) {
    match tls {
        None => http1(stream, registry).await,
        Some(tls) => {
            // Clients that distrust the certificate hang up here; that is their right.
            if let Ok(stream) = tls.accept(stream).await {
                http1(stream, registry).await;
            }
        }
    }
}

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, registry: Arc<Registry>) {
    let service = service_fn(move |request| answer(registry.clone(), request));
    // Errors are the faults themselves, and clients that leave.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A private certificate authority.
pub struct Ca {
    /// What clients are to trust.
    pub pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Ca {
    /// A new one, which nobody trusts yet.
    #[must_use]
    pub fn generate() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "the harness's CA");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    /// A certificate for 127.0.0.1 and localhost, and its key.
    #[must_use]
    pub fn issue(&self) -> (rcgen::Certificate, rcgen::KeyPair) {
        self.issue_for(&["127.0.0.1", "localhost"])
    }

    /// The same for these names and addresses.
    #[must_use]
    pub fn issue_for(&self, names: &[&str]) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let certificate =
            rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }

    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.issue();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
