//! Accepting connections, with limits, and letting them go.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use super::tls::Tls;

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;
/// For a request's headers, from the first byte or the end of the answer before.
const HEADERS: Duration = Duration::from_secs(30);
/// Between two bytes that a client takes. A paused `docker pull` is given some time.
const STALLED: Duration = Duration::from_secs(300);
/// Bytes of headers, and of an answer that wait for a slow client.
const BUFFER: usize = 80 * 1024;

/// Serves until `stop`, then lets running requests end until `abort`.
pub async fn serve<S, F>(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
    abort: CancellationToken,
    handler: S,
) where
    S: Fn(SocketAddr, axum::extract::Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: some connection will end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let handler = handler.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            // On a port for both families an IPv4 client is written as one.
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let answer = handler(peer, request.map(Body::new));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let (abort, watcher, tls) = (abort.clone(), graceful.watcher(), tls.clone());
        tokio::spawn(async move {
            let connection = async {
                let stream = Box::pin(with_limits(stream));
                // How a connection ends is the client's business; what was asked on it has its own line in the log.
                match tls {
                    None => drop(watcher.watch(speak(stream, service)).await),
                    Some(tls) => {
                        let Some(stream) = tls.accept(stream).await else { return };
                        drop(watcher.watch(speak(stream, service)).await);
                    }
                }
            };
            tokio::select! {
                () = connection => {}
                () = abort.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = abort.cancelled() => {}
    }
}

/// HTTP/1.1 on a connection.
fn speak<S, H>(stream: S, service: H) -> http1::Connection<TokioIo<S>, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: HttpService<Incoming, ResBody = Body>,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
}

fn with_limits(stream: TcpStream) -> TimeoutStream<TcpStream> {
    // Small answers go out at once.
    stream.set_nodelay(true).ok();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALLED));
    stream
}
