//! One operator leads; another takes over when it ends.

use std::process::Command;
use std::time::{Duration, Instant};

use harness::api_server::ApiServer;
use harness::operator::{Arguments, Operator};
use harness::tool;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};

use crate::ground::Ground;
use crate::relay::Relay;
use crate::stage::{Stage, group, proxy};

/// A second operator of the same place.
fn standby(stage: &Stage) -> (Operator, Arguments) {
    let arguments = Arguments { pod_name: "standby".to_owned(), ..stage.arguments.clone() };
    (Operator::launch(&arguments), arguments)
}

#[tokio::test]
async fn an_operator_that_is_told_to_stop_hands_over_within_seconds() {
    let Some(mut stage) = Stage::new().await else { return };
    let (mut second, _) = standby(&stage);
    second.is_ready().await;
    assert_eq!(second.metric("leader").await, Some(0.0), "two lead:\n{}", second.log());
    assert_eq!(stage.operator.metric("leader").await, Some(1.0));
    let told = Instant::now();
    let status = stage.operator.terminate().await;
    assert!(status.success(), "{}", stage.operator.log());
    second.leads().await;
    assert!(told.elapsed() < Duration::from_secs(8), "it took {:?}\n{}", told.elapsed(), second.log());
    stage.operator = second;
    stage.apply(proxy("main")).await;
    stage.apply(group("team", "team-a")).await;
    stage.says("DependencyProxyGroup", "team", "Accepted", "True", "Accepted").await;
}

#[tokio::test]
async fn a_lease_that_is_given_back_while_a_standby_begins_is_taken_at_once() {
    let Some(mut stage) = Stage::new().await else { return };
    let Some(server) = ApiServer::shared().await else { return };
    // The standby learns what the Lease is before, and what becomes of it not yet.
    let relay = Relay::start(server, None).await;
    relay.hold_lists_of("leases");
    let kubeconfig = relay.kubeconfig().to_owned();
    let arguments = Arguments { pod_name: "standby".to_owned(), kubeconfig, ..stage.arguments.clone() };
    let mut second = Operator::launch(&arguments);
    relay.is_asked("coordination.k8s.io", "leases", "list").await;
    stage.operator.terminate().await;
    let given_back = Instant::now();
    relay.resume();
    second.leads().await;
    let took = given_back.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}\n{}", second.log());
}

#[tokio::test]
async fn the_lease_is_the_charts_and_stays_away_when_it_is_deleted() {
    let Some(ground) = Ground::new().await else { return };
    let Some(server) = ApiServer::shared().await else { return };
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/dependency-proxy");
    let mut helm = Command::new(tool::built("helm"));
    helm.args(["template", "dependency-proxy", chart, "--namespace", &ground.namespace]);
    helm.args(["--kube-version", "1.34.0", "--show-only", "templates/lease.yaml"]);
    let rendered = helm.output().expect("helm runs");
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    ground.kubectl.apply(&String::from_utf8(rendered.stdout).unwrap()).await;
    let leases = Api::<Lease>::namespaced(ground.client.clone(), &ground.namespace);
    let arguments = Arguments::new(server.kubeconfig(), &ground.namespace);
    let mut operator = Operator::start(&arguments).await;
    let all = leases.list(&ListParams::default()).await.unwrap().items;
    let [lease] = all.as_slice() else { panic!("one Lease, not {all:?}") };
    assert_eq!(lease.labels().get("app.kubernetes.io/instance").unwrap(), "dependency-proxy");
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    assert_eq!(holder, Some(arguments.pod_name));

    // As an uninstall does, while the operator still ends.
    leases.delete(&lease.name_any(), &DeleteParams::default()).await.unwrap();
    operator.ended().await;
    assert_eq!(leases.list(&ListParams::default()).await.unwrap().items, []);
}

#[tokio::test]
async fn an_operator_that_is_killed_is_replaced_when_its_lease_has_ended() {
    let Some(mut stage) = Stage::new().await else { return };
    let (mut second, _) = standby(&stage);
    second.is_ready().await;
    stage.operator.kill();
    let killed = Instant::now();
    second.leads().await;
    // The lease has 15 s, and whoever waits looks every few.
    assert!(killed.elapsed() < Duration::from_secs(25), "it took {:?}\n{}", killed.elapsed(), second.log());
    stage.operator = second;
    stage.apply(proxy("main")).await;
    stage.comes("Deployment", "main-dependency-proxy").await;
}

#[tokio::test]
async fn an_operator_that_is_started_again_under_its_name_leads_at_once() {
    let Some(mut stage) = Stage::new().await else { return };
    let killed = Instant::now();
    stage.operator.start_again();
    stage.operator.leads().await;
    assert!(killed.elapsed() < Duration::from_secs(10), "it took {:?}", killed.elapsed());
}
