//! What keeps an instance's pods from starting, or from their store: the status says it.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::pod::FakePod;
use crate::stage::{Stage, condition_of, proxy};

const CHILD: &str = "main-dependency-proxy";

/// Waits until Available is false and says this.
async fn is_unavailable(stage: &Stage, name: &str, expected: &str) {
    let says = |object: &Value| {
        let condition = condition_of(object, "Available");
        condition["status"] == "False" && condition["message"].as_str().is_some_and(|m| m.contains(expected))
    };
    stage.until("DependencyProxy", name, expected, says).await;
}

#[tokio::test]
async fn an_image_that_does_not_start_is_told_and_then_forgotten() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(proxy("main")).await;
    // The Deployment's own pod: kubelet would write its status.
    let replica_made = |object: &Value| object["status"]["replicas"] == 1;
    stage.until("Deployment", CHILD, "has a pod", replica_made).await;
    let pods = Api::<Pod>::namespaced(stage.client.clone(), &stage.namespace);
    let name = pods.list(&ListParams::default()).await.unwrap().items[0].metadata.name.clone().unwrap();
    let becomes = async |is_ready: &str, state: Value| {
        let status = json!({"status": {
            "conditions": [{"type": "Ready", "status": is_ready}],
            "containerStatuses": [{"name": "proxy", "image": "none", "imageID": "", "ready": false,
                "restartCount": 0, "state": state}],
        }});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    };
    let backs_off = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"none\""});
    becomes("False", json!({"waiting": backs_off})).await;
    is_unavailable(&stage, "main", "0 of 1 pods are ready: ImagePullBackOff Back-off pulling image \"none\"")
        .await;
    let ready = stage.says("DependencyProxy", "main", "Ready", "False", "MinimumReplicasUnavailable").await;
    assert!(ready.contains("ImagePullBackOff"), "the column MESSAGE says it: {ready}");
    becomes("False", json!({"waiting": null, "terminated": {"exitCode": 64}})).await;
    is_unavailable(&stage, "main", "it ended with exit code 64").await;
    becomes("True", json!({"terminated": null, "running": {}})).await;
    stage.says("DependencyProxy", "main", "Available", "True", "MinimumReplicasAvailable").await;
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told_and_then_that_it_is() {
    let Some(stage) = Stage::new().await else { return };
    let data = json!({"accessKeyID": "a", "secretAccessKey": "b"});
    stage
        .apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": data}))
        .await;
    let mut main = proxy("main");
    main["spec"]["storage"] = json!({"s3": {"bucket": "blobs", "credentialsSecretRef": {"name": "s3"}}});
    stage.apply(main).await;
    let pod = FakePod::of(&stage, "main").await;
    pod.says(json!({"store": {"reachable": null}}));
    stage.says("DependencyProxy", "main", "StorageReachable", "Unknown", "Pending").await;
    let message = "there is no bucket blobs";
    pod.says(json!({"store": {"reachable": false, "reason": "BucketNotFound", "message": message}}));
    let said = stage.says("DependencyProxy", "main", "StorageReachable", "False", "BucketNotFound").await;
    assert_eq!(said, message);
    let said = stage.says("DependencyProxy", "main", "Ready", "False", "BucketNotFound").await;
    assert_eq!(said, message);
    let main = stage.get("DependencyProxy", "main").await.unwrap();
    assert_eq!(main["status"]["ready"], "BucketNotFound", "the column READY");
    pod.says(json!({"store": {"reachable": true}}));
    stage.says("DependencyProxy", "main", "Ready", "True", "AllReplicasReady").await;
}

#[tokio::test]
async fn a_certificate_that_pods_wait_for_is_told() {
    let Some(stage) = Stage::new().await else { return };
    let mut main = proxy("main");
    main["spec"]["tls"] = json!({"secretRef": {"name": "own"}});
    stage.apply(main).await;
    let id = format!("{}/own", stage.namespace);
    is_unavailable(&stage, "main", &format!("there is no Secret {id} with the certificate; create it")).await;
    let secret = |keys: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "stringData": keys});
    stage.apply(secret(json!({"tls.key": "key"}))).await;
    is_unavailable(&stage, "main", &format!("Secret {id} has no tls.crt; add it")).await;
    stage.apply(secret(json!({"tls.key": "key", "tls.crt": "certificate"}))).await;
    is_unavailable(&stage, "main", "pods are starting").await;
    let mut issued = proxy("issued");
    issued["spec"]["tls"] = json!({"issuerRef": {"name": "ca"}});
    stage.apply(issued).await;
    is_unavailable(&stage, "issued", "this cluster has no cert-manager").await;
}
