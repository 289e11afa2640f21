//! Replicas are replaced one after the other, as a rolling update does it.

use std::time::Duration;

use harness::balancer::Balancer;
use harness::hostile::{Fault, noise};
use harness::pull::Client;
use harness::replicas::Plan;
use http::Method;
use serde_json::json;
use url::Url;

use crate::MIB;
use crate::crowd::Crowd;

#[tokio::test(flavor = "multi_thread")]
async fn no_pull_fails_and_nothing_is_downloaded_twice_while_replicas_are_replaced() {
    let service = Balancer::start().await;
    let host = service.host();
    let mut plan = Plan::new().await;
    let urls = &mut plan.documents.spec("DependencyProxy", "main")["additionalURLs"];
    urls.as_array_mut().unwrap().push(json!(format!("http://{host}")));
    let mut it = plan.start().await;
    it.replicas.iter().for_each(|replica| service.add(&replica.proxy.host()));
    let crowd = Crowd::at(&it.upstream, std::slice::from_ref(&host)).await;
    let client = Client::new(Url::parse(&format!("http://{host}")).unwrap());
    let client = client.user("alice", "alice-password").group("team-a");

    let mut gets = 0;
    for replaced in 0..3 {
        let repository = format!("library/slow-{replaced}");
        let bytes = noise(10 + replaced as u64, 8 * MIB);
        let digest = it.upstream.blob(&repository, bytes.clone());
        it.upstream.on(&repository).method(Method::GET).fault(Fault::Throttle(4 * MIB as u64));
        // Connections of their own: two of them on each replica.
        let pulls: Vec<_> = (0..6)
            .map(|_| {
                let (client, repository) = (client.fresh(), repository.clone());
                tokio::spawn(async move { client.blob(&repository, digest).await })
            })
            .collect();
        it.upstream.wait_for_count(1, Method::GET, &repository).await;
        let old = &mut it.replicas[replaced].proxy;
        service.remove(&old.host());
        // Until everybody has heard that it is leaving, it still takes connections: `--linger-seconds` in a cluster.
        tokio::time::sleep(Duration::from_millis(500)).await;
        old.sigterm();
        assert!(old.ended().await.success(), "{}", old.log());
        for pull in pulls {
            assert!(pull.await.unwrap().bytes() == &bytes);
        }
        it.replicas[replaced].proxy.restart().await;
        service.add(&it.replicas[replaced].proxy.host());
        gets += it.upstream.count(Method::GET, &repository);
    }
    harness::say!("3 replicas replaced: 0 of 18 slow pulls failed, {gets} GETs upstream for 3 blobs");
    assert_eq!(gets, 3, "{}", it.logs());
    crowd.end(None).await.all_well();
}
