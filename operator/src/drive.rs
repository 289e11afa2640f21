//! How a controller is run: what its reconciles take and come to is counted, and what failed is tried again.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kube::ResourceExt;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
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
    let stop = stop.clone();
    let store = controller.store();
    controller
        .with_config(Config::default().concurrency(AT_ONCE))
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(
            move |object: Arc<K>, context: Arc<Context>| {
                let (reconcile, store) = (reconcile.clone(), store.clone());
                async move {
                    let began = Instant::now();
                    let result = reconcile(object.clone(), context.clone()).await;
                    let uid = object.uid().unwrap_or_default();
                    context.memory.failures.note(&uid, result.is_err());
                    // The watch forgets what is gone, and this may have ended after that.
                    let now = store.get(&ObjectRef::from_obj(object.as_ref()));
                    if now.is_none_or(|now| now.uid() != object.uid()) {
                        context.memory.forget(&uid);
                    }
                    let labels = metrics::Reconcile { kind, result: outcome(&result) };
                    context.metrics.reconciles.get_or_create_owned(&labels).inc();
                    let duration =
                        context.metrics.reconcile_duration.get_or_create_owned(&metrics::Kind { kind });
                    duration.observe(began.elapsed().as_secs_f64());
                    result
                }
            },
            move |object, error, context: Arc<Context>| {
                tracing::warn!(kind, object = %world::id_of(object.as_ref()), %error, "trying again");
                Action::requeue(context.memory.failures.wait(&object.uid().unwrap_or_default()))
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

/// How often each object failed in a row, by uid: kube has no back-off of its own per object.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    fn note(&self, uid: &str, has_failed: bool) {
        let mut failures = self.0.lock();
        if has_failed {
            *failures.entry(uid.to_owned()).or_default() += 1;
        } else {
            failures.remove(uid);
        }
    }

    fn wait(&self, uid: &str) -> Duration {
        let count = self.0.lock().get(uid).copied().unwrap_or_default();
        Duration::from_millis(250) * 2_u32.pow(count.saturating_sub(1).min(7))
    }

    /// The object is no more.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use crds::DependencyProxyGroup;
    use futures_util::stream;
    use kube::runtime::watcher::Event;
    use kube::runtime::{WatchStreamExt, reflector, watcher};
    use serde_json::json;
    use tokio::sync::{Notify, mpsc};

    use super::*;

    fn group(uid: &str) -> DependencyProxyGroup {
        let spec = json!({"proxyRef": {"name": "main"}, "path": "a"});
        let metadata = json!({"name": "team", "namespace": "n", "uid": uid});
        let value = json!({"apiVersion": crds::API_VERSION, "kind": "k", "metadata": metadata, "spec": spec});
        serde_json::from_value(value).unwrap()
    }

    #[tokio::test]
    async fn of_an_object_that_is_deleted_while_it_is_reconciled_nothing_is_remembered() {
        let (events, received) = mpsc::unbounded_channel::<Event<_>>();
        let received =
            stream::unfold(received, async |mut received| Some((received.recv().await?, received)));
        let (store, writer) = reflector::store();
        let objects = received.map(Ok::<_, watcher::Error>).reflect(writer).touched_objects();
        let controller = Controller::for_stream(objects, store.clone());
        let (context, stop) = (Arc::new(Context::example()), CancellationToken::new());
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let told = (begun.clone(), go_on.clone());
        let reconcile = move |group: Arc<DependencyProxyGroup>, context: Arc<Context>| {
            let (begun, go_on) = told.clone();
            async move {
                begun.notify_one();
                go_on.notified().await;
                let uid = group.uid().unwrap();
                context.memory.progress.note_keys(&uid, BTreeSet::from(["key".to_owned()]));
                Err(Error::Unnamed("it goes wrong".to_owned()))
            }
        };
        let running = tokio::spawn(drive(controller, "DependencyProxyGroup", reconcile, &context, &stop));
        for event in [Event::Init, Event::InitApply(group("1")), Event::InitDone] {
            events.send(event).unwrap();
        }
        begun.notified().await;
        events.send(Event::Delete(group("1"))).unwrap();
        while !store.is_empty() {
            tokio::task::yield_now().await;
        }
        // As the watch does.
        context.memory.forget("1");
        events.send(Event::Apply(group("2"))).unwrap();
        go_on.notify_one();
        begun.notified().await;
        stop.cancel();
        go_on.notify_one();
        running.await.unwrap();
        assert_eq!(context.memory.progress.known(), ["2"]);
        let failures = &context.memory.failures;
        assert_eq!(failures.0.lock().keys().collect::<Vec<_>>(), ["2"]);
    }

    #[test]
    fn the_more_often_an_object_failed_in_a_row_the_longer_it_waits() {
        let failures = Failures::default();
        let fails = || {
            failures.note("1", true);
            failures.wait("1").as_millis()
        };
        let waits = (0..10).map(|_| fails()).collect::<Vec<_>>();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 32000, 32000]);
        assert_eq!(failures.wait("2").as_millis(), 250);
        failures.note("1", false);
        assert_eq!(failures.wait("1").as_millis(), 250);
    }
}
