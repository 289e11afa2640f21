//! A TCP way to a server, on which things go wrong that no real server does on demand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Everything passes.
    None,
    /// Connections are closed, and those that are made.
    Away,
    /// Everything that the client sends comes that much later, and so does a new connection.
    Slow(Duration),
    /// Each request is answered 503 here.
    Unavailable,
    /// A connection is closed after that many bytes of the client.
    CutAfter(usize),
    /// A connection is closed after that many bytes of the server.
    CutAnswersAfter(usize),
}

/// The way; it ends when this is dropped.
pub struct Way {
    address: SocketAddr,
    trouble: watch::Sender<Trouble>,
    accepting: AbortHandle,
}

impl Way {
    /// One that leads to `host:port`, on a port of its own.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let trouble = watch::Sender::new(Trouble::None);
        let server: Arc<str> = server.into();
        let seen = trouble.subscribe();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, server.clone(), seen.clone()));
            }
        });
        Self { address, trouble, accepting: accepting.abort_handle() }
    }

    /// `http://127.0.0.1:<port>`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this happens; connections that are open notice it with their next byte.
    pub fn trouble(&self, trouble: Trouble) {
        self.trouble.send_replace(trouble);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(client: TcpStream, server: Arc<str>, mut trouble: watch::Receiver<Trouble>) {
    let now = *trouble.borrow();
    if let Trouble::Slow(delay) = now {
        tokio::time::sleep(delay).await;
    }
    let Ok(server) = TcpStream::connect(&*server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut away = trouble.clone();
    let up = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut sent = 0;
        loop {
            let Ok(read @ 1..) = from_client.read(&mut buffer).await else { return };
            let now = *trouble.borrow_and_update();
            sent += read;
            match now {
                Trouble::None => {}
                Trouble::Away | Trouble::Unavailable => return,
                Trouble::Slow(delay) => tokio::time::sleep(delay).await,
                Trouble::CutAfter(bytes) if sent > bytes => return,
                Trouble::CutAfter(_) | Trouble::CutAnswersAfter(_) => {}
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let answers = away.clone();
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut sent = 0;
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            sent += read;
            let is_cut = matches!(*answers.borrow(), Trouble::CutAnswersAfter(bytes) if sent > bytes);
            if is_cut || to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let gone = async {
        let ends = |trouble: &Trouble| matches!(trouble, Trouble::Away | Trouble::Unavailable);
        away.wait_for(ends).await.ok();
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        () = gone => {}
    }
    // What is asked on a new connection meanwhile is answered here.
    if *trouble.borrow() == Trouble::Unavailable {
        let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        to_client.write_all(answer.as_bytes()).await.ok();
    }
}
