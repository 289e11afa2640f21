//! Upstreams whose certificate comes from a private CA.

use harness::hostile::{Ca, Upstream, noise};
use serde_json::json;

use crate::ground::{client, prepared, proxy_of};

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_behind_a_private_ca_is_used_where_the_documents_bring_the_ca() {
    let (upstream, ca) = Upstream::start_tls().await;
    let image = upstream.image("library/a", "1", &[noise(1, 1000)]);
    let proxy = prepared(&upstream, |d| {
        d.config_map("ca", json!({"ca.crt": ca.pem}));
        let spec = d.spec("RegistryUpstream", "upstream");
        spec["caConfigMapRef"] = json!({"name": "ca"});
        spec["insecure"] = json!(false);
    });
    let proxy = proxy.start().await;
    assert_eq!(client(&proxy).manifest("library/a", "1").await.bytes(), &image.manifest);
    client(&proxy).pull("library/a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_ca_nothing_is_sent_and_the_error_says_why() {
    let (upstream, _ca) = Upstream::start_tls().await;
    upstream.image("library/a", "1", &[]);
    upstream.require_basic("robot", "robot-password");
    let another = Ca::generate();
    let with_another = |d: &mut harness::documents::Documents| {
        d.config_map("ca", json!({"ca.crt": another.pem}));
        d.spec("RegistryUpstream", "upstream")["caConfigMapRef"] = json!({"name": "ca"});
    };
    for wrong in [false, true] {
        let proxy = proxy_of(&upstream, |d| {
            d.credentials("upstream", "robot", "robot-password");
            if wrong {
                with_another(d);
            }
        })
        .await;
        let answer = client(&proxy).manifest("library/a", "1").await;
        answer.refused(503, "UNAVAILABLE", "invalid peer certificate");
    }
    assert_eq!(upstream.requests().len(), 0, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_none_is_a_problem_of_that_upstream_alone() {
    let upstream = Upstream::start().await;
    upstream.image("library/a", "1", &[]);
    let proxy = proxy_of(&upstream, |d| {
        d.upstream("broken", &upstream);
        d.config_map("ca", json!({"ca.crt": "no PEM"}));
        d.spec("RegistryUpstream", "broken")["caConfigMapRef"] = json!({"name": "ca"});
        d.group("team-b", "broken");
    })
    .await;
    client(&proxy).pull("library/a", "1").await;
    assert!(proxy.metric("config_problems").await >= 1.0);
    let log = proxy.log();
    assert!(log.contains("RegistryUpstream dp/broken spec.caConfigMapRef"), "{log}");
}
