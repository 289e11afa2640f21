//! One address for several servers, as a Service is: each connection goes to the next of those that take part.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// It ends when this is dropped.
pub struct Balancer {
    address: SocketAddr,
    servers: Arc<Mutex<Vec<String>>>,
    accepting: AbortHandle,
}

impl Balancer {
    /// One without servers, on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let servers = Arc::<Mutex<Vec<String>>>::default();
        let known = servers.clone();
        let accepting = tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((client, _)) = listener.accept().await {
                let all = known.lock().expect("no holder panics").clone();
                turn += 1;
                let Some(server) = all.get(turn % all.len().max(1)).cloned() else { continue };
                tokio::spawn(connection(client, server));
            }
        });
        Self { address, servers, accepting: accepting.abort_handle() }
    }

    /// `127.0.0.1:<port>`
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// From now on connections go to `host:port` too.
    pub fn add(&self, server: &str) {
        self.servers.lock().expect("no holder panics").push(server.to_owned());
    }

    /// From now on no connection goes there; those that are open stay.
    pub fn remove(&self, server: &str) {
        self.servers.lock().expect("no holder panics").retain(|known| known != server);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(mut client: TcpStream, server: String) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
    }
}
