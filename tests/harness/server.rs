//! The proxy in this process, from documents on a disk, with every port its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use proxy::{Clock, Running, Settings};
use tempfile::TempDir;
use url::Url;

use crate::documents::Documents;
use crate::hostile::Upstream;
use crate::pull::Client;

/// A running proxy.
pub struct Proxy {
    running: Option<Running>,
    settings: Settings,
    documents: Mutex<Documents>,
    /// Goes with the proxy.
    _folder: TempDir,
}

/// What a proxy is started with.
pub struct Builder {
    address: SocketAddr,
    documents: Documents,
    /// The upstream that groups use: the one named first.
    upstream: Option<String>,
    clock: Clock,
}

impl Proxy {
    pub fn builder() -> Builder {
        let address = free_address();
        let documents = Documents::new(&format!("http://{address}"));
        Builder { address, documents, upstream: None, clock: Clock::system() }
    }

    /// The usual one: this upstream under the name `upstream`, and the group `team-a` on it.
    pub async fn of(upstream: &Upstream) -> Self {
        Self::builder().upstream("upstream", upstream).group("team-a").start().await
    }

    pub fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().address()
    }

    pub fn url(&self) -> Url {
        Url::parse(&format!("http://{}/", self.address())).unwrap()
    }

    /// alice, a Guest of every group, pulling from `team-a`.
    pub fn client(&self) -> Client {
        Client::new(self.url()).user("alice", "alice-password").group("team-a")
    }

    /// Moves a manual clock.
    pub fn advance(&self, by: Duration) {
        self.settings.clock.advance(by);
    }

    /// Changes the documents on the disk; the proxy takes them within 2 s ([`Proxy::reload`] waits for it).
    pub fn edit(&self, change: impl FnOnce(&mut Documents)) {
        let mut documents = self.documents.lock().unwrap();
        change(&mut documents);
        documents.write(&self.settings.documents[0]);
    }

    /// Changes the documents and waits until the proxy serves them.
    ///
    /// # Panics
    /// After 5 s.
    pub async fn reload(&self, change: impl FnOnce(&mut Documents)) {
        let before = self.metric("dependency_proxy_config_info").await;
        self.edit(change);
        for _ in 0..250 {
            if self.metric("dependency_proxy_config_info").await != before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the proxy did not take the changed documents within 5 s");
    }

    /// The file that the documents are in, for changes that no [`Documents`] would write.
    pub fn file(&self) -> PathBuf {
        self.settings.documents[0].clone()
    }

    /// The folder of the cache.
    pub fn data_dir(&self) -> PathBuf {
        self.settings.data_dir.clone()
    }

    /// A text of the second port, such as `/metrics`.
    pub async fn admin(&self, path: &str) -> String {
        let base = format!("http://{}/", self.running.as_ref().unwrap().admin_address());
        Client::new(Url::parse(&base).unwrap()).plain(Method::GET, path, &[], "").await.text()
    }

    /// The lines of a metric, in the order they are printed.
    pub async fn metric(&self, name: &str) -> Vec<String> {
        let text = self.admin("/metrics").await;
        let named = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        text.lines().filter(named).map(str::to_owned).collect()
    }

    /// The sum of a metric's values over the lines that contain all of these label texts.
    pub async fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let lines = self.metric(name).await;
        let wanted = lines.iter().filter(|line| labels.iter().all(|label| line.contains(label)));
        wanted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Stops as on SIGTERM and starts again on the same port, documents and cache.
    pub async fn restart(&mut self) {
        self.restart_after(|| {}).await;
    }

    /// The same with something that happens while it is down.
    pub async fn restart_after(&mut self, meanwhile: impl FnOnce()) {
        self.running.take().unwrap().stop().await;
        meanwhile();
        self.running = Some(Running::start(self.settings.clone()).await.unwrap());
    }

    /// Stops as on SIGTERM; returns once all transfers have ended.
    pub async fn stop(mut self) {
        self.running.take().unwrap().stop().await;
    }
}

impl Builder {
    /// Adds a RegistryUpstream; the first one is what groups use.
    #[must_use]
    pub fn upstream(mut self, name: &str, upstream: &Upstream) -> Self {
        self.documents.upstream(name, upstream);
        self.upstream.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Adds a group of that path on the first upstream.
    #[must_use]
    pub fn group(mut self, path: &str) -> Self {
        self.documents.group(path, self.upstream.as_deref().unwrap());
        self
    }

    /// Adds a virtual registry `dp.<name>` of a group.
    #[must_use]
    pub fn registry(mut self, name: &str, group: &str, upstreams: &[&str]) -> Self {
        self.documents.registry(name, group, upstreams);
        self
    }

    /// Changes the documents before they are written.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Documents)) -> Self {
        change(&mut self.documents);
        self
    }

    /// Time stands still unless [`Proxy::advance`] moves it.
    #[must_use]
    pub fn manual_clock(mut self) -> Self {
        self.clock = Clock::manual(Timestamp::now());
        self
    }

    pub async fn start(self) -> Proxy {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("documents.yaml");
        self.documents.write(&file);
        let settings = Settings {
            documents: vec![file],
            listen: self.address,
            admin_listen: SocketAddr::new(self.address.ip(), 0),
            data_dir: folder.path().join("data"),
            clock: self.clock,
            // Nobody else sends requests here who would have to hear of a stop first.
            linger: Duration::ZERO,
            ..Settings::default()
        };
        let running = Running::start(settings.clone()).await.unwrap();
        Proxy { running: Some(running), settings, documents: Mutex::new(self.documents), _folder: folder }
    }
}

/// A loopback address of its own for every proxy: its port is known before it listens (the documents name it), and
/// nobody else takes it in between.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = u8::try_from(std::process::id() % 250).unwrap() + 2;
    let ip = IpAddr::V4(Ipv4Addr::new(127, process, high, low));
    std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}
