//! How a controller is run: what its reconciles take and come to is counted, and what failed is tried again.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kube::Resource;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Error};
use crate::metrics;
use crate::watch::Watched;
use crate::world;

/// Reconciles of a kind at once.
const AT_ONCE: u16 = 16;

/// Runs a controller until it is told to stop and its last reconcile has ended.
pub fn drive<K, F, R>(
    controller: Controller<K>,
    kind: &'static str,
    reconcile: F,
    context: &Arc<Context>,
    stop: &CancellationToken,
) -> impl Future<Output = ()> + Send + 'static
where
    K: Watched,
    F: Fn(Arc<K>, Arc<Context>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let failures = Arc::new(Failures::default());
    let remembered = failures.clone();
    let stop = stop.clone();
    controller
        .with_config(Config::default().concurrency(AT_ONCE))
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(
            move |object: Arc<K>, context: Arc<Context>| {
                let (reconcile, failures) = (reconcile.clone(), failures.clone());
                async move {
                    let began = Instant::now();
                    let key = key(object.as_ref());
                    let result = reconcile(object, context.clone()).await;
                    if result.is_ok() {
                        failures.forget(&key);
                    }
                    let labels = metrics::Reconcile { kind, result: outcome(&result) };
                    context.metrics.reconciles.get_or_create_owned(&labels).inc();
                    let duration =
                        context.metrics.reconcile_duration.get_or_create_owned(&metrics::Kind { kind });
                    duration.observe(began.elapsed().as_secs_f64());
                    result
                }
            },
            move |object, error, _| {
                let key = key(object.as_ref());
                tracing::warn!(kind, object = %key, %error, "trying again");
                Action::requeue(remembered.wait(&key))
            },
            context.clone(),
        )
        .for_each(move |result| {
            // What failed in a reconcile was told above.
            if let Err(kube::runtime::controller::Error::QueueError(error)) = result {
                tracing::warn!(kind, %error, "a watch broke off; it is taken up again");
            }
            std::future::ready(())
        })
}

/// As the metric says it.
fn outcome(result: &Result<Action, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) if error.is_passing() => "retry",
        Err(_) => "error",
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    world::id_of(object).to_string()
}

/// How often each object failed in a row: kube has no back-off of its own per object.
#[derive(Default)]
struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    fn wait(&self, key: &str) -> Duration {
        let mut failures = self.0.lock();
        let count = failures.entry(key.to_owned()).or_default();
        *count += 1;
        Duration::from_millis(250) * 2_u32.pow((*count - 1).min(7))
    }

    fn forget(&self, key: &str) {
        self.0.lock().remove(key);
    }
}
