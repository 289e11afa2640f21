//! An upstream of a known speed, which tells when it wrote the first byte of a body. It has blobs and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::blob::Blob;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is written at once.
const PIECE: usize = 64 * 1024;

pub(crate) struct Limited {
    /// `127.0.0.1:<port>`
    pub(crate) host: String,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    /// Bytes per second of one response.
    rate: Option<u64>,
    /// By digest.
    blobs: Mutex<HashMap<String, Bytes>>,
    first: Mutex<Option<Instant>>,
}

impl Limited {
    /// An upstream that sends each body at `rate` bytes per second, or as fast as it is taken.
    pub(crate) async fn start(rate: Option<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State { rate, blobs: Mutex::default(), first: Mutex::default() });
        let serving = tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection(stream, state.clone()));
                }
            }
        });
        Self { host, state, serving }
    }

    /// The only blob that it has from now on.
    pub(crate) fn replace(&self, blob: &Blob) {
        *self.state.blobs.lock().unwrap() = HashMap::from([(blob.digest.to_string(), blob.bytes.clone())]);
    }

    /// When the last body began to be written.
    pub(crate) fn first(&self) -> Instant {
        self.state.first.lock().unwrap().expect("a body was written")
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves one connection until the client leaves.
async fn connection(stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            if !matches!(stream.read_line(&mut request).await, Ok(1..)) {
                return;
            }
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if state.answer(method, path, stream.get_mut()).await.is_err() {
            return;
        }
    }
}

impl State {
    async fn answer(&self, method: &str, path: &str, stream: &mut TcpStream) -> std::io::Result<()> {
        let digest = path.rsplit('/').next().unwrap_or_default();
        let found = self.blobs.lock().unwrap().get(digest).cloned();
        let (status, body) = found.map_or(("404 Not Found", Bytes::new()), |body| ("200 OK", body));
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        if method == "HEAD" { Ok(()) } else { self.write(body, stream).await }
    }

    async fn write(&self, mut body: Bytes, stream: &mut TcpStream) -> std::io::Result<()> {
        let began = Instant::now();
        // Before it is written, not after: the delay that is measured can only come out too long.
        *self.first.lock().unwrap() = Some(began);
        let mut sent = 0;
        while !body.is_empty() {
            let piece = body.split_to(PIECE.min(body.len()));
            stream.write_all(&piece).await?;
            sent += piece.len();
            if let Some(rate) = self.rate {
                // By the clock from the beginning: a late wake-up is made up for.
                let due = began + Duration::from_secs_f64(sent as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
            }
        }
        Ok(())
    }
}
