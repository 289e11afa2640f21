//! The cleanup of a bucket or volume, as the operator runs it.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::stage::{Stage, proxy};

const JOB: &str = "main-dependency-proxy-cleanup";

fn with_bucket() -> Value {
    let mut main = proxy("main");
    main["spec"]["storage"] = json!({"s3": {"bucket": "blobs", "credentialsSecretRef": {"name": "s3"}}});
    main["spec"]["cleanup"] = json!({"schedule": "5 4 * * *"});
    main
}

fn with_volume() -> Value {
    let mut main = proxy("main");
    main["spec"]["storage"] = json!({"persistentVolumeClaim": {"size": "5Gi"}});
    main
}

async fn stage() -> Option<Stage> {
    let stage = Stage::new().await?;
    let data = json!({"accessKeyID": "a", "secretAccessKey": "b"});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": data});
    stage.apply(secret).await;
    stage.apply(with_bucket()).await;
    Some(stage)
}

#[tokio::test]
async fn a_bucket_and_a_volume_are_cleaned_up_by_a_job_of_their_own_and_what_is_ephemeral_by_none() {
    let Some(stage) = stage().await else { return };
    let job = stage.comes("CronJob", JOB).await;
    assert_eq!(job["spec"]["schedule"], "5 4 * * *");
    assert_eq!(job["spec"]["concurrencyPolicy"], "Forbid");
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"];
    let arguments = pod["spec"]["containers"][0]["args"].as_array().unwrap();
    assert_eq!(arguments[0], "cleanup");
    assert!(arguments.contains(&json!("--verify-for=10m")), "{arguments:?}");
    assert_ne!(pod["metadata"]["labels"]["app.kubernetes.io/component"], "proxy", "no Service finds it");
    stage.patch("DependencyProxy", "main", json!({"spec": {"cleanup": {"suspend": true}}})).await;
    stage.until("CronJob", JOB, "is suspended", |job| job["spec"]["suspend"] == true).await;
    stage.patch("DependencyProxy", "main", json!({"spec": {"cleanup": {"verifyMinutes": 0}}})).await;
    let reads = |job: &Value| job.to_string().contains("--verify");
    stage.until("CronJob", JOB, "reads no blobs", |job| !reads(job)).await;
    stage.apply(proxy("main")).await;
    stage.goes("CronJob", JOB).await;
    stage.apply(with_volume()).await;
    let job = stage.comes("CronJob", JOB).await;
    let affinity = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["affinity"]["podAffinity"];
    assert!(affinity.to_string().contains("kubernetes.io/hostname"), "{job:#}");
}

#[tokio::test]
async fn what_the_last_run_did_is_told_in_the_status() {
    let Some(stage) = Stage::new().await else { return };
    stage.apply(with_volume()).await;
    let job = stage.comes("CronJob", JOB).await;
    let labels = &job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"];
    let pods = Api::<Pod>::namespaced(stage.client.clone(), &stage.namespace);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "run", "labels": labels},
        "spec": {"restartPolicy": "Never", "serviceAccountName": "main-dependency-proxy", "containers": [{"name": "cleanup", "image": "example.com/none"}]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let message = json!({"blobs": {"examined": 9, "deleted": 3, "bytes": 30, "keptBytes": 60}}).to_string();
    let status = json!({"status": {"phase": "Succeeded", "containerStatuses": [{
        "name": "cleanup", "image": "example.com/none", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {
            "exitCode": 0, "finishedAt": "2026-01-02T03:04:05Z", "message": message,
        }},
    }]}});
    pods.patch_status("run", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    // A controller of CronJobs would say that the run has ended.
    stage.patch("CronJob", JOB, json!({"metadata": {"annotations": {"test": "ended"}}})).await;
    let told = |main: &Value| {
        let cleanup = &main["status"]["cleanup"];
        cleanup["freedBytes"] == 30 && cleanup["keptBytes"] == 60 && cleanup["succeeded"] == true
    };
    stage.until("DependencyProxy", "main", "tells of the run", told).await;
}
