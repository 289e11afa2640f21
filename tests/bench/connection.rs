//! A client that costs next to nothing, so that what is measured is the server: one connection, bodies thrown away.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// What is asked for.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
}

impl Target {
    pub(crate) fn new(host: &str, path: impl Into<String>) -> Self {
        Self { address: host.parse().unwrap(), path: path.into(), token: None }
    }

    /// The headers, one per line.
    pub(crate) fn headers(&self) -> Vec<String> {
        let token = self.token.iter().map(|token| format!("Authorization: Bearer {token}"));
        token.chain([format!("Accept: {}", oci::media::ACCEPT)]).collect()
    }
}

/// A kept-alive HTTP/1.1 connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer whose body was read to its end.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    /// When the first byte of the body was here.
    pub(crate) first: Instant,
    /// From sending the request to the last byte.
    pub(crate) took: Duration,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::with_buffer(TcpSocket::new_v4().unwrap(), address, 256 * 1024).await
    }

    /// A client of little memory, on both sides of the system's boundary.
    pub(crate) async fn open_small(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(128 * 1024).unwrap();
        Self::with_buffer(socket, address, 64 * 1024).await
    }

    async fn with_buffer(socket: TcpSocket, address: SocketAddr, size: usize) -> Self {
        let stream = socket.connect(address).await.expect("the server accepts");
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; size] }
    }

    /// Asks and reads the whole answer.
    pub(crate) async fn get(&mut self, target: &Target) -> Got {
        self.get_at(target, None).await
    }

    /// The same, reading the body at no more than `rate` bytes per second.
    pub(crate) async fn get_at(&mut self, target: &Target, rate: Option<u64>) -> Got {
        let began = Instant::now();
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", target.path, target.address);
        for header in target.headers() {
            request = request + &header + "\r\n";
        }
        self.stream.write_all((request + "\r\n").as_bytes()).await.expect("the server reads");
        let (status, length, mut have) = self.head().await;
        let mut first = (have > 0).then(Instant::now);
        while have < length {
            if let Some(rate) = rate {
                let due = began + Duration::from_secs_f64(have as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
            }
            let room = self.buffer.len().min(usize::try_from(length - have).unwrap());
            let read = self.stream.read(&mut self.buffer[..room]).await.expect("the body arrives");
            assert!(read > 0, "the body of {} broke off after {have} of {length} bytes", target.path);
            first.get_or_insert_with(Instant::now);
            have += read as u64;
        }
        Got { status, bytes: have, first: first.unwrap_or_else(Instant::now), took: began.elapsed() }
    }

    /// Status, the body's length, and how much of the body came along.
    async fn head(&mut self) -> (u16, u64, u64) {
        let mut have = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[have..]).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            have += read;
            let Some(end) = self.buffer[..have].windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let length = length.unwrap_or_else(|| panic!("no length in {head}"));
            return (status, length, (have - end - 4) as u64);
        }
    }
}

/// One request on a connection of its own; it must be answered with 200.
pub(crate) async fn fetch(target: &Target) -> Got {
    let got = Connection::open(target.address).await.get(target).await;
    assert_eq!(got.status, 200, "{}", target.path);
    got
}
