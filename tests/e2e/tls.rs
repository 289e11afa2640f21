//! Pods that speak TLS themselves, with a certificate out of a Secret.

use std::time::Duration;

use harness::hostile::Ca;
use harness::tool;
use reqwest::{Certificate, Client};
use serde_json::json;

use crate::installation::{Installation, Instance, within};
use crate::kubelet::consumer;

const PODS: &str = "app.kubernetes.io/component=proxy";

/// Writes the Secret of the pods' certificate, anew, with one of this CA.
async fn issue(instance: &Instance<'_>, ca: &Ca) {
    let hosts = [1, 2].map(|node| instance.host(node));
    let addresses = hosts.each_ref().map(|host| host.split(':').next().unwrap());
    let (certificate, key) = ca.issue_for(&addresses);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "certificate", "namespace": instance.name},
        "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()},
    });
    instance.kubectl().apply(&secret.to_string()).await;
}

/// A client that trusts this CA alone and makes a connection for each request.
fn client(ca: &Ca) -> Client {
    let root = Certificate::from_pem(ca.pem.as_bytes()).unwrap();
    Client::builder().no_proxy().pool_max_idle_per_host(0).tls_certs_only([root]).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_pulls_over_tls_and_a_renewed_certificate_needs_no_restart() {
    let Some(installation) = Installation::on_our_nodes().await else { return };
    let instance = installation.instance("encrypted", 30522, 1).await;
    let kubectl = instance.kubectl();
    let (old, new) = (Ca::generate(), Ca::generate());
    issue(&instance, &old).await;
    let [url, other] = [1, 2].map(|node| format!("https://{}", instance.host(node)));
    let tls = json!({"secretRef": {"name": "certificate"}});
    let spec = json!({"spec": {"externalURL": url, "additionalURLs": [other], "tls": tls}});
    instance.change(&spec.to_string()).await;
    kubectl.wait(&instance.name, "dependencyproxy/main", "condition=Ready").await;
    let ping = format!("{url}/v2/");
    let answers = async || client(&old).get(&ping).send().await.is_ok_and(|answer| answer.status() == 401);
    within(Duration::from_secs(30), "it answers over TLS", answers).await;

    // A node that trusts the CA pulls with what the binding made of the new address.
    consumer(&installation, &instance, "encrypted-ci").await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &old.pem).unwrap();
    let (registry, ca) = (instance.host(1), ca.display());
    let toml = format!(
        "server = \"{url}\"\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = \"{ca}\"\n"
    );
    installation.cluster.hosts(&registry, &toml).await;
    kubectl
        .apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: pulls, namespace: encrypted-ci}}
spec:
  restartPolicy: Never
  containers: [{{name: app, image: "{registry}/encrypted/dependency_proxy/containers/busybox", imagePullPolicy: Always, command: ["true"]}}]
"#
        ))
        .await;
    kubectl.wait("encrypted-ci", "pod/pulls", "jsonpath={.status.phase}=Succeeded").await;

    let before = containers(&instance).await;
    issue(&instance, &new).await;
    let renewed = client(&new);
    let is_served = async || {
        // Kubelet brings it within a minute or two by itself, and when an annotation changes.
        let look = format!("test.example.com/look={}", hex::encode(tool::random::<4>()));
        let annotate = ["annotate", "pods", "-n", &instance.name, "-l", PODS, "--overwrite", &look];
        kubectl.run(&annotate).await.succeeds();
        renewed.get(&ping).send().await.is_ok()
    };
    let took = within(Duration::from_secs(60), "the renewed certificate is served", is_served).await;
    harness::say!(
        "a renewed certificate is served {took:.1?} after its Secret, with kubelet looking at once"
    );
    assert!(client(&old).get(&ping).send().await.is_err(), "the old certificate is served no more");
    assert_eq!(containers(&instance).await, before, "the same containers run");
    kubectl.run(&["delete", "namespace", "encrypted-ci", "--wait=false"]).await.succeeds();
    instance.end().await;
}

/// The ids of the containers that serve.
async fn containers(instance: &Instance<'_>) -> Vec<String> {
    let pods = instance.kubectl().json(&["get", "pods", "-n", &instance.name, "-l", PODS]).await;
    let living = pods["items"].as_array().unwrap().iter();
    let living = living.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    living.map(|pod| pod["status"]["containerStatuses"][0]["containerID"].to_string()).collect()
}
