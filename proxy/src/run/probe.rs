//! Looks at store, upstreams and other replicas while requests are served.

use std::sync::Arc;
use std::time::Duration;

use config::Config;
use futures_util::FutureExt as _;
use tokio::sync::{oneshot, watch};

use crate::cache::Cache;
use crate::http::Live;

/// How often it is looked for something to ask.
const BETWEEN_PROBES: Duration = Duration::from_secs(5);

/// Asks store and upstreams whether they work where nobody else does, and shares what is known, for ever: none of these
/// waits for the others, for an upstream that hangs holds up whoever asks it. Says when all upstreams have been asked once.
pub(super) async fn probe(cache: Arc<Cache>, live: watch::Receiver<Live>, asked: oneshot::Sender<()>) {
    let (store, upstreams) = (cache.clone(), cache.clone());
    let config = live.borrow().config.clone();
    let first = async {
        cache.upstreams.probe(&config).await;
        asked.send(()).ok();
    };
    tokio::join!(
        again_and_again(live.clone(), move |_| {
            let cache = store.clone();
            async move { cache.store.probe().await }
        }),
        first.then(|()| {
            again_and_again(live.clone(), move |config| {
                let cache = upstreams.clone();
                async move { cache.upstreams.probe(&config).await }
            })
        }),
        again_and_again(live.clone(), |config| {
            let cache = cache.clone();
            async move { cache.share(&config).await }
        }),
    );
}

async fn again_and_again<F>(mut live: watch::Receiver<Live>, work: impl Fn(Arc<Config>) -> F)
where
    F: Future<Output = ()>,
{
    loop {
        let config = live.borrow_and_update().config.clone();
        work(config).await;
        // Changed documents are looked at at once.
        if let Ok(Err(_)) = tokio::time::timeout(BETWEEN_PROBES, live.changed()).await {
            return;
        }
    }
}
