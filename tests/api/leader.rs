//! One operator leads; another takes over when it ends.

use std::time::{Duration, Instant};

use harness::api_server::ApiServer;
use harness::operator::{Arguments, Operator};

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
