//! The process: every part is built in reading order, ports are bound, then it serves until it is told to stop.

mod probe;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use config::{Config, ObjectId, Options, Problem, Storage};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::auth::{Auth, Credentials, OwnKey, Signer};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::documents::{Settled, read, settle, standalone};
use crate::http::tls::{Files, Tls};
use crate::http::{Api, Live, handle, replica, serve, tls};
use crate::listen::bind;
use crate::metrics::Metrics;
use crate::replica::Replica;
use crate::store::Store;
use crate::telemetry::LogLevel;
use crate::upstream::Upstreams;

/// How long a start waits for store and upstreams to answer: no outage of theirs keeps a replica from serving.
const WARM_UP: Duration = Duration::from_millis(500);

/// What `serve` is told.
#[derive(Clone)]
pub struct Settings {
    /// Files and folders; none: the documents of a laptop.
    pub documents: Vec<PathBuf>,
    /// The DependencyProxy to serve, where the documents have several.
    pub instance: Option<ObjectId>,
    pub listen: SocketAddr,
    /// Certificate and key of that port; none: plain http.
    pub tls: Option<Files>,
    pub admin_listen: SocketAddr,
    /// Where other replicas reach this one; none: it shares nothing.
    pub replica_address: Option<SocketAddr>,
    pub data_dir: PathBuf,
    pub clock: Clock,
    pub log_level: Option<LogLevel>,
    /// How long connections are still accepted after the order to stop: until every kube-proxy has heard of it.
    pub linger: Duration,
    /// Whether store and upstreams that nobody uses are asked if they work. `serve` does; tests count what is asked.
    pub probes: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            documents: Vec::new(),
            instance: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 5000)),
            tls: None,
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            replica_address: None,
            data_dir: PathBuf::from("data"),
            clock: Clock::system(),
            log_level: None,
            linger: Duration::from_secs(10),
            probes: false,
        }
    }
}

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data folder {0}: {1}")]
    DataDir(PathBuf, std::io::Error),
    #[error("the data folder {0} is in use by another proxy; give each its own --data-dir")]
    DataDirInUse(PathBuf),
    #[error("{0}")]
    Listen(#[from] crate::listen::Unusable),
    #[error("--tls-certificate and --tls-key: {0}")]
    Tls(#[from] tls::Error),
    #[error("no document can be served:\n{}", .0.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n"))]
    Documents(Vec<Problem>),
    #[error("--replica-address: {0}")]
    Replica(&'static str),
    #[error("the HTTP client for replicas: {0}")]
    ReplicaClient(#[from] reqwest::Error),
    #[error("{0}")]
    Store(#[from] crate::store::Error),
}

/// A proxy that serves.
pub struct Running {
    address: SocketAddr,
    admin_address: SocketAddr,
    config: Arc<Config>,
    token: Option<String>,
    tls: bool,
    admin: Arc<Admin>,
    linger: Duration,
    live: watch::Receiver<Live>,
    cache: Arc<Cache>,
    stop: CancellationToken,
    abort: CancellationToken,
    serving: JoinHandle<()>,
    /// The port for other replicas.
    sharing: Option<JoinHandle<()>>,
    /// Ends with the process: reloading and the second port.
    background: Vec<JoinHandle<()>>,
    _lock: File,
}

impl Running {
    /// Builds every part, binds both ports and begins to serve.
    ///
    /// # Errors
    /// When a port, the data folder, the documents or the store's settings cannot be used.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let data_dir = settings.data_dir.clone();
        let in_data_dir = |error| StartError::DataDir(data_dir.clone(), error);
        std::fs::create_dir_all(&data_dir).map_err(in_data_dir)?;
        let lock = lock(&data_dir)?;

        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let (documents, token) = documents(&settings).map_err(in_data_dir)?;
        let options = options(settings.instance.clone());
        let found = read(&documents);
        let fingerprint = found.fingerprint.clone();
        let settled = settle(found, &Settled::nothing(), &options);
        crate::documents::report(&settled, &metrics);
        let Some(config) = settled.config.clone() else {
            return Err(StartError::Documents(settled.problems));
        };

        let own_key = OwnKey::load(&data_dir).map_err(in_data_dir)?;
        let credentials = Arc::new(Credentials::default());
        let clock = settings.clock.clone();
        let store = Arc::new(Store::open(&config.instance, &data_dir, metrics.clone(), clock.clone())?);
        let upstreams = Upstreams::new(metrics.clone(), clock.clone());
        let among = among_others(&settings, &config).await?;
        let replica = among.as_ref().map(|(replica, _)| replica.clone());
        let cache = Cache::new(store, upstreams, replica.clone(), metrics.clone(), clock.clone());

        if settings.probes {
            // Before the first request: what an earlier start learned about upstreams.
            cache.share(&config).await;
        }
        let tls = settings.tls.clone();
        let tls = tls.map(|files| Tls::load(files, metrics.clone(), &mut registry)).transpose()?;
        let (tls, pair) = tls.map(|(tls, pair)| (Arc::new(tls), pair)).unzip();
        let (listener, address) = bind(settings.listen).await?;
        let (admin_listener, admin_address) = bind(settings.admin_listen).await?;

        let make_live = {
            let clock = clock.clone();
            move |config: &Arc<Config>| Live {
                auth: Arc::new(Auth {
                    signer: Signer::new(config, &own_key),
                    credentials: credentials.clone(),
                }),
                config: config.clone(),
                loaded_at: clock.now(),
            }
        };
        let (publish, live) = watch::channel(make_live(&config));
        let admin = Arc::new(Admin {
            registry,
            live: live.clone(),
            cache: cache.clone(),
            ready: AtomicBool::new(true),
            problems: Mutex::new(settled.problems.iter().map(ToString::to_string).collect()),
            storage: storage(&config, &data_dir),
            clock: clock.clone(),
            log_level: settings.log_level.clone(),
        });
        let reloading = tokio::spawn({
            let (admin, cache, booted) = (admin.clone(), cache.clone(), config.clone());
            let replica = replica.clone();
            crate::documents::watch(
                documents,
                options,
                settled,
                fingerprint,
                metrics.clone(),
                move |config, settled| {
                    *admin.problems.lock() = settled.problems.iter().map(ToString::to_string).collect();
                    warn_of_boot_fields(&booted, config);
                    cache.upstreams.retain(config);
                    replica.iter().for_each(|replica| replica.retain(config));
                    publish.send_replace(make_live(config));
                },
            )
        });

        let mut background = vec![reloading];
        if settings.probes {
            let (has_asked, asked) = oneshot::channel();
            background.push(tokio::spawn(probe::probe(cache.clone(), live.clone(), has_asked)));
            // What the first pulls would wait for: connections, and how upstreams want to be asked.
            let warm = async { tokio::join!(cache.store.connect(), asked) };
            tokio::time::timeout(WARM_UP, warm).await.ok();
        }

        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let shown = metrics.clone();
        let api = Api {
            live: live.clone(),
            cache: cache.clone(),
            metrics,
            clock,
            listen: address,
            tls: tls.is_some(),
        };
        let api = Arc::new(api);
        let serving = tokio::spawn(serve::serve(
            listener,
            tls.clone(),
            stop.clone(),
            abort.clone(),
            move |peer, request| handle(api.clone(), peer, request),
        ));
        let sharing = among.map(|(replica, listener)| {
            let (cache, admin, live) = (cache.clone(), admin.clone(), live.clone());
            tokio::spawn(serve::serve(listener, None, stop.clone(), abort.clone(), move |_, request| {
                let (cache, replica, admin) = (cache.clone(), replica.clone(), admin.clone());
                let config = live.borrow().config.clone();
                async move { replica::handle(cache, replica, &config, || admin.status(), request).await }
            }))
        });
        let second = admin::router(admin.clone());
        let second = async move {
            axum::serve(admin_listener, second).await.ok();
        };
        background.push(tokio::spawn(second));
        if settings.probes {
            background.push(tokio::spawn(crate::cleanup::show(cache.store.clone(), shown)));
        }
        background.extend(tls.clone().zip(pair).map(|(tls, pair)| tokio::spawn(tls.watch(pair))));
        Ok(Self {
            address,
            admin_address,
            config,
            token,
            tls: tls.is_some(),
            admin,
            linger: settings.linger,
            live,
            cache,
            stop,
            abort,
            serving,
            sharing,
            background,
            _lock: lock,
        })
    }

    /// Where clients reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https` where that port has a certificate.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Where metrics and status are.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What it began with.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The token that the first start without documents made.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Stops: unready at once, still accepting for a while, then letting running transfers end.
    pub async fn stop(mut self) {
        self.admin.ready.store(false, Ordering::Relaxed);
        tokio::time::sleep(self.linger).await;
        self.stop.cancel();
        let drain = self.live.borrow().config.instance.drain;
        let ended = async {
            (&mut self.serving).await.ok();
            if let Some(sharing) = &mut self.sharing {
                sharing.await.ok();
            }
            // What is downloaded is kept: the clients of the next start are glad of it.
            self.cache.idle().await;
        };
        if tokio::time::timeout(drain, ended).await.is_err() {
            tracing::warn!(seconds = drain.as_secs(), "transfers that still run are cut");
            self.abort();
        }
    }

    /// Cuts everything.
    pub fn abort(&self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abort();
        for task in &self.background {
            task.abort();
        }
    }
}

/// What documents are judged with in this process.
#[must_use]
pub fn options(instance: Option<ObjectId>) -> Options {
    let first = |names: [&str; 4]| names.iter().find_map(|name| std::env::var(name).ok());
    Options {
        instance,
        https_proxy: first(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
        http_proxy: first(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
    }
}

fn documents(settings: &Settings) -> std::io::Result<(Vec<PathBuf>, Option<String>)> {
    if !settings.documents.is_empty() {
        return Ok((settings.documents.clone(), None));
    }
    let made = standalone(&settings.data_dir)?;
    Ok((vec![made.file], made.token))
}

/// This replica among others, and the port on which they reach it; `None` where it was given no address.
async fn among_others(
    settings: &Settings,
    config: &Config,
) -> Result<Option<(Arc<Replica>, TcpListener)>, StartError> {
    let Some(address) = settings.replica_address else { return Ok(None) };
    if !matches!(config.instance.storage, Storage::S3(_)) {
        return Err(StartError::Replica("replicas share downloads through a bucket; set spec.storage.s3"));
    }
    if address.ip().is_unspecified() {
        return Err(StartError::Replica("others reach this one there; name an address of this machine"));
    }
    if config.instance.keys.replica.is_none() {
        tracing::warn!(
            "no `replica` key in the Secret of auth.keysSecretRef: downloads are not shared until it is there"
        );
    }
    let (listener, address) = bind(address).await?;
    let replica = Replica::new(address, config, settings.clock.clone())?;
    Ok(Some((Arc::new(replica), listener)))
}

/// Two proxies in one data folder would wipe each other's downloads.
fn lock(data_dir: &Path) -> Result<File, StartError> {
    let in_data_dir = |error| StartError::DataDir(data_dir.to_owned(), error);
    let file = File::create(data_dir.join("lock")).map_err(in_data_dir)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::DataDirInUse(data_dir.to_owned())),
        Err(error) => Err(in_data_dir(error.into())),
    }
}

/// Where blobs are kept, in a word for people.
fn storage(config: &Config, data_dir: &Path) -> String {
    match &config.instance.storage {
        Storage::Folder => data_dir.display().to_string(),
        Storage::S3(s3) => format!("s3://{}", s3.bucket),
    }
}

fn warn_of_boot_fields(booted: &Config, now: &Config) {
    let boot = |config: &Config| {
        (config.instance.id.clone(), config.instance.storage.clone(), config.instance.local_size_limit)
    };
    if boot(booted) != boot(now) {
        tracing::warn!("storage or localCache changed: restart needed, until then the old ones are used");
    }
}
