//! Taking a port.

use std::net::SocketAddr;

use rustix::io::Errno;
use tokio::net::TcpListener;

/// A port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {0}: {1}")]
pub struct Unusable(SocketAddr, std::io::Error);

/// Listens there; also the address that it has become, where the port was left open.
///
/// # Errors
/// When the address is not ours, or somebody else has the port.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Unusable> {
    let unusable = |error| Unusable(address, error);
    let bound = TcpListener::bind(address).await;
    let listener = match (bound, without_ipv6(address)) {
        (Err(error), Some(other)) if is_unsupported(&error) => {
            tracing::warn!(%address, instead = %other, "this host has no IPv6");
            TcpListener::bind(other).await.map_err(unusable)?
        }
        (bound, _) => bound.map_err(unusable)?,
    };
    let bound = listener.local_addr().map_err(unusable)?;
    Ok((listener, bound))
}

/// What `[::]` means on a host without IPv6.
fn without_ipv6(address: SocketAddr) -> Option<SocketAddr> {
    let any = address.is_ipv6() && address.ip().is_unspecified();
    any.then(|| SocketAddr::from(([0, 0, 0, 0], address.port())))
}

/// Whether the address's family is not there.
fn is_unsupported(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}
