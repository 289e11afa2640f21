//! A forward proxy as companies have them: `CONNECT` for TLS, absolute URLs for plain HTTP. It records what it is asked.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// A running forward proxy; it stops when it is dropped.
pub struct EgressProxy {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// `METHOD target`, in the order they came.
    lines: Vec<String>,
    authorization: Option<String>,
}

impl EgressProxy {
    /// Starts one on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let seen = Arc::<Mutex<Seen>>::default();
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let seen = seen.clone();
                    // Errors are clients and servers that hang up.
                    tokio::spawn(async move { pass(client, &seen).await.ok() });
                }
            }
        });
        Self { address, seen, task }
    }

    /// What `HTTP_PROXY` and `HTTPS_PROXY` are set to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `CONNECT host:port` for each tunnel, `METHOD URL` for each plain request.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no holder panics").lines.clone()
    }

    /// The last `Proxy-Authorization`.
    #[must_use]
    pub fn authorization(&self) -> Option<String> {
        self.seen.lock().expect("no holder panics").authorization.clone()
    }
}

impl Drop for EgressProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One tunnel, or one plain request: its connection is closed after the answer.
async fn pass(client: TcpStream, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let mut words = head[0].split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_own = |line: &&String| line.to_ascii_lowercase().starts_with("proxy-authorization:");
    {
        let mut seen = seen.lock().expect("no holder panics");
        seen.lines.push(format!("{method} {target}"));
        if let Some((_, value)) = head.iter().find(is_own).and_then(|line| line.split_once(": ")) {
            seen.authorization = Some(value.to_owned());
        }
    }
    let mut server;
    if method == "CONNECT" {
        server = TcpStream::connect(target).await?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        let url = Url::parse(target).map_err(io::Error::other)?;
        let host = url.host_str().unwrap_or_default();
        server = TcpStream::connect((host, url.port_or_known_default().unwrap_or(80))).await?;
        let origin = &url[url::Position::BeforePath..];
        let headers = head[1..].iter().filter(|line| !is_own(line)).cloned().collect::<Vec<_>>();
        let request =
            format!("{method} {origin} HTTP/1.1\r\n{}\r\nconnection: close\r\n\r\n", headers.join("\r\n"));
        server.write_all(request.as_bytes()).await?;
    }
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
