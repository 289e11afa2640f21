#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::super::rendering::tests::{Cluster, id, paths};
use super::*;

const BASIC: &str = "kubernetes.io/basic-auth";

/// A bucket with credentials, an upstream with an account, a group with a deploy token, a registry and a binding.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.secret("s3", "Opaque", "{accessKeyID: key, secretAccessKey: secret-of-the-bucket}");
    cluster.proxy("storage: {s3: {bucket: blobs, region: us-east-1, credentialsSecretRef: {name: s3}}}");
    cluster.secret("hub", BASIC, "{username: robot, password: secret-of-the-hub}");
    cluster.upstream("up", ", credentialsSecretRef: {name: hub}");
    cluster.secret("ci", BASIC, "{username: ci, password: pass-ci}");
    cluster.group("a", &a("up"));
    cluster.group("b", "");
    cluster
}

fn a(upstream: &str) -> String {
    let token = "{name: ci, secretRef: {name: ci}, scopes: [read_registry]}";
    format!(", upstreamRef: {{name: {upstream}}}, deployTokens: [{token}]")
}

/// The Secrets of what was rendered for the instance with this uid.
fn written(rendering: &Rendering, uid: &str) -> (Secret, Secret) {
    let secret = |name: &str, data: &[u8]| {
        let owner = json!({"apiVersion": "v", "kind": "k", "name": "main", "uid": uid});
        let data = json!({name: ByteString(data.to_vec())});
        let value = json!({"metadata": {"ownerReferences": [owner]}, "data": data});
        serde_json::from_value(value).unwrap()
    };
    (secret(DOCUMENTS, &rendering.documents), secret(STORAGE, rendering.storage.as_bytes()))
}

/// What the next operator knows of it.
fn recalled(cluster: &Cluster, written: &(Secret, Secret)) -> Option<Arc<Rendering>> {
    let proxy = cluster.members.proxy.clone().unwrap();
    let upstream = |id: &ObjectId| cluster.upstreams.get(id).cloned();
    read(&proxy, &cluster.members, upstream, (&written.0, Some(&written.1))).map(Arc::new)
}

fn digests(pages: &Pages) -> Vec<&str> {
    pages.values().map(|page| page.digest.as_str()).collect()
}

#[test]
fn what_was_rendered_is_read_back_as_it_was() {
    let mut cluster = cluster();
    let first = cluster.render(None);
    let again = recalled(&cluster, &written(&first, "p")).unwrap();
    assert!(first.hash().is_some());
    assert_eq!(again.hash(), first.hash());
    assert_eq!(digests(&again.pages), digests(&first.pages));
    assert_eq!(digests(&again.stored), digests(&first.stored));
    assert_eq!((&again.documents, &again.storage), (&first.documents, &first.storage));
    assert_eq!(again.key, first.key);
    assert!(!again.key.is_empty());
}

#[test]
fn what_is_bad_now_stays_as_with_the_operator_that_saw_it_good() {
    type Fault = fn(&mut Cluster);
    let faults: [Fault; 6] = [
        |cluster| cluster.group("a", &a("typo")),
        |cluster| cluster.group("a", ", upstreamRef: {name: typo}"),
        |cluster| cluster.upstream("up", ", credentialsSecretRef: {name: typo}"),
        |cluster| drop(cluster.contents.secrets.remove(&id("hub"))),
        |cluster| cluster.proxy("storage: {gcs: {bucket: later}}"),
        |cluster| {
            cluster.proxy("storage: {gcs: {bucket: later}}");
            cluster.contents.secrets.remove(&id("s3"));
            cluster.contents.secrets.remove(&id("main-dependency-proxy-keys"));
        },
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        let mut cluster = cluster();
        let first = cluster.render(None);
        fault(&mut cluster);
        let saw_it = cluster.render(Some(&first));
        assert_eq!(paths(&saw_it), ["a", "b"], "{index}");
        let before = recalled(&cluster, &written(&first, "p")).unwrap();
        let next = cluster.render(Some(&before));
        assert_eq!((&next.documents, &next.storage), (&saw_it.documents, &saw_it.storage), "{index}");
        assert_eq!(next.older, saw_it.older, "{index}");
        // And with the one after that, which reads what this one has written.
        let before = recalled(&cluster, &written(&next, "p")).unwrap();
        let third = cluster.render(Some(&before));
        assert_eq!((&third.documents, &third.older), (&next.documents, &next.older), "{index}");
    }
}

#[test]
fn what_was_deleted_and_what_was_made_again_are_not_remembered() {
    let mut cluster = cluster();
    let first = cluster.render(None);
    let secrets = written(&first, "p");
    cluster.members.groups.remove(&id("b"));
    cluster.group("a", &a("typo"));
    let mut again = cluster.members.groups[&id("a")].as_ref().clone();
    again.metadata.creation_timestamp = Some(serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap());
    cluster.members.groups.insert(id("a"), Arc::new(again));
    let before = recalled(&cluster, &secrets).unwrap();
    assert_eq!(before.served.groups.len(), 0);
    assert_eq!(paths(&cluster.render(Some(&before))), Vec::<&str>::new());
    assert!(recalled(&cluster, &written(&first, "of one with its name before")).is_none());
}

#[test]
fn what_cannot_be_read_is_nothing() {
    let mut cluster = cluster();
    let (mut documents, storage) = written(&cluster.render(None), "p");
    for data in [json!({}), json!({DOCUMENTS: ""}), json!({DOCUMENTS: "bm9uc2Vuc2U="})] {
        documents.data = serde_json::from_value(data).unwrap();
        assert!(recalled(&cluster, &(documents.clone(), storage.clone())).is_none());
    }
}
