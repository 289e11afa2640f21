//! The process: reach the API server, win the lease, run the controllers, hand the lease over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use config::Kind;
use crds::{DependencyProxy, DependencyProxyGroup, RegistryUpstream, VirtualRegistry};
use futures_util::future::join_all;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Client;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::apply::{Applier, FIELD_MANAGER};
use crate::args::Arguments;
use crate::context::{Context, Memory};
use crate::drive::drive;
use crate::metrics::Metrics;
use crate::watch::{Feed, Scope, Sight, Watched};
use crate::world::{self, Maker, Reports, World};
use crate::{binding, group, instance, lease, registry, upstream};

/// How long reconciles that have begun may take when the operator stops. A controller that has not listed its objects
/// yet does not end at all.
const LAST_WORK: Duration = Duration::from_secs(3);

/// Why the operator stops.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no way to the API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error("the API server does not know {0}; install deploy/crds.yaml or the chart first")]
    NoDefinitions(String),
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    #[error("the lease: {0}")]
    Lease(#[from] kube_lease_manager::LeaseManagerError),
    #[error("the lease was lost; stopping, so that there are never two")]
    LeaseLost,
    #[error("signals cannot be heard: {0}")]
    Signals(std::io::Error),
    #[error("the HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    #[error("a part of it broke: {0}")]
    Broken(#[from] JoinError),
}

/// Runs until SIGTERM, SIGINT, or until the lease is lost.
///
/// # Errors
/// When it cannot begin, or the lease was lost: whoever starts it again begins anew.
pub async fn run(arguments: Arguments) -> Result<(), StartError> {
    let stop = stop_on_signal()?;
    let client = Client::try_default().await?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let admin = Arc::new(Admin {
        registry,
        is_ready: AtomicBool::new(false),
        metrics: metrics.clone(),
        sight: Mutex::default(),
    });
    listen(&arguments, admin.clone()).await?;
    let scope = Scope::of(&arguments.watch_namespaces);
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        checked = has_definitions(&client, &scope) => checked?,
    }
    admin.is_ready.store(true, Ordering::Relaxed);

    let mut leadership = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        won = lease::win(&client, &arguments) => won?,
    };
    tracing::info!(namespace = %arguments.namespace, "leading");
    metrics.leader.set(1);

    // Reconciles that have begun end; no new ones begin.
    let end = stop.child_token();
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_WORK).await;
    };
    let operating = operate(&client, &arguments, &scope, &metrics, &admin, end.clone());
    let result = tokio::select! {
        ended = operating => ended,
        () = overdue => Ok(()),
        () = leadership.lost() => Err(StartError::LeaseLost),
    };
    metrics.leader.set(0);
    leadership.give_back().await;
    result
}

fn stop_on_signal() -> Result<CancellationToken, StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        told.cancel();
    });
    Ok(stop)
}

async fn listen(arguments: &Arguments, admin: Arc<Admin>) -> Result<(), StartError> {
    let address = arguments.admin_listen;
    let listener = TcpListener::bind(address).await.map_err(|error| StartError::Listen(address, error))?;
    tokio::spawn(async move {
        axum::serve(listener, admin::router(admin)).await.ok();
    });
    Ok(())
}

/// Waits for the API server, and fails where it answers that it does not have our kinds.
async fn has_definitions(client: &Client, scope: &Scope) -> Result<(), StartError> {
    loop {
        let mut failure = None;
        for api in scope.apis::<DependencyProxy>(client) {
            match api.list_metadata(&ListParams::default().limit(1)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    return Err(StartError::NoDefinitions("DependencyProxy".to_owned()));
                }
                Err(error @ kube::Error::Api(_)) => return Err(error.into()),
                Err(error) => failure = Some(error),
            }
        }
        let Some(error) = failure else { return Ok(()) };
        tracing::warn!(%error, "the API server does not answer; trying again");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Watches, makes the world, and runs a controller for each kind.
async fn operate(
    client: &Client,
    arguments: &Arguments,
    scope: &Scope,
    metrics: &Metrics,
    admin: &Admin,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let changes = Arc::new(Notify::new());
    let memory = Memory {
        statuses: Arc::default(),
        applier: Arc::new(Applier::new(client.clone())),
        reports: Reports::new(changes.clone()),
        progress: Arc::default(),
        taken: Arc::default(),
        failures: Arc::default(),
    };
    let (sight, feeds, background) = Sight::open(client, scope, &changes, &memory);
    let sight = Arc::new(sight);
    *admin.sight.lock() = Some(sight.clone());
    let (publish, worlds) = watch::channel(Arc::new(World::default()));
    let maker = Maker::new(client.clone(), sight, memory.reports.clone(), metrics.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(maker.run(changes, publish));
    for watch in background {
        tasks.spawn(watch.collect::<()>());
    }
    let reporter = Reporter { controller: FIELD_MANAGER.into(), instance: Some(arguments.pod_name.clone()) };
    let context = Arc::new(Context {
        client: client.clone(),
        http: reqwest::Client::builder().no_proxy().build().unwrap_or_default(),
        world: worlds.clone(),
        memory,
        recorder: Recorder::new(client.clone(), reporter),
        metrics: metrics.clone(),
        discovery: crate::optional::Discovery::default(),
        proxy_image: arguments.proxy_image.clone(),
        namespace: arguments.namespace.clone(),
    });

    let mut controllers = Vec::new();
    for feed in feeds.proxies {
        let news = world::changed_instances(worlds.clone());
        let controller = with_children(controller(feed, news), client, scope);
        controllers.push(drive(controller, "DependencyProxy", instance::reconcile, &context, &stop).boxed());
    }
    macro_rules! controllers {
        ($($feeds:ident, $kind:ident, $reconcile:path;)*) => {$(
            for feed in feeds.$feeds {
                let news = world::changed::<$kind>(worlds.clone(), Kind::$kind);
                let controller = controller(feed, news);
                controllers.push(drive(controller, stringify!($kind), $reconcile, &context, &stop).boxed());
            }
        )*};
    }
    controllers! {
        groups, DependencyProxyGroup, group::reconcile;
        upstreams, RegistryUpstream, upstream::reconcile;
        registries, VirtualRegistry, registry::reconcile;
    }
    let children = feeds.secrets.into_iter().zip(feeds.config_maps).zip(scope.apis(client));
    for (feed, ((secrets, config_maps), accounts)) in feeds.bindings.into_iter().zip(children) {
        let applier = || context.memory.applier.clone();
        let secrets = binding::drift::of_objects(secrets, feed.store.clone(), applier());
        let config_maps = binding::drift::of_objects(config_maps, feed.store.clone(), applier());
        let accounts = binding::drift::of_service_accounts(accounts, feed.store.clone());
        let drift = stream::select_all([secrets.boxed(), config_maps.boxed(), accounts.boxed()]);
        let news = world::changed(worlds.clone(), Kind::PullBinding);
        let controller = controller(feed, news).reconcile_on(running(drift, &mut tasks));
        controllers.push(drive(controller, "PullBinding", binding::reconcile, &context, &stop).boxed());
    }
    let result = tokio::select! {
        _ = join_all(controllers) => Ok(()),
        error = broken(&mut tasks) => Err(error.into()),
    };
    tasks.shutdown().await;
    result
}

/// A stream that goes on in a task of its own: the world is made of the watches in it, whatever controllers do.
fn running<T: Send + 'static>(
    stream: impl Stream<Item = T> + Send + 'static,
    tasks: &mut JoinSet<()>,
) -> impl Stream<Item = T> + Send + 'static {
    let (sender, receiver) = mpsc::unbounded_channel();
    tasks.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(item) = stream.next().await {
            // Nobody receives when the operator ends.
            sender.send(item).ok();
        }
    });
    stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
}

/// Waits until a task panics. Without one the operator would lead and do nothing.
async fn broken(tasks: &mut JoinSet<()>) -> JoinError {
    loop {
        match tasks.join_next().await {
            Some(Err(error)) => return error,
            Some(Ok(())) => {}
            None => std::future::pending().await,
        }
    }
}

fn controller<K: Watched>(
    feed: Feed<K>,
    news: impl Stream<Item = ObjectRef<K>> + Send + 'static,
) -> Controller<K> {
    let store = feed.store.clone();
    Controller::for_stream(feed.objects(), store).reconcile_on(news)
}

/// What somebody changes of an instance's objects is mended at once, and what becomes of its pods is told.
fn with_children(
    controller: Controller<DependencyProxy>,
    client: &Client,
    scope: &Scope,
) -> Controller<DependencyProxy> {
    let ours = || watcher::Config::default().labels("app.kubernetes.io/managed-by=dependency-proxy-operator");
    let mut controller = controller;
    for api in scope.apis::<Deployment>(client) {
        controller = controller.owns(api, ours());
    }
    for api in scope.apis::<Service>(client) {
        controller = controller.owns(api, ours());
    }
    for api in scope.apis::<CronJob>(client) {
        controller = controller.owns(api, ours());
    }
    for api in scope.apis::<PartialObjectMeta<Secret>>(client) {
        controller = controller.owns(api, ours());
    }
    controller
}

#[cfg(test)]
#[allow(clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_noticed_among_those_that_run_and_end() {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async {});
        tasks.spawn(async { panic!("the world") });
        let error = tokio::time::timeout(Duration::from_secs(10), broken(&mut tasks)).await;
        assert!(error.is_ok_and(|error| error.is_panic()));
    }
}
