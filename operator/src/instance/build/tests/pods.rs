//! What the pods are made of, and how many may be away.

use serde_json::{Value, json};

use super::{built, has};

#[test]
fn as_few_pods_as_possible_are_away_at_once() {
    let selector = json!({
        "app.kubernetes.io/name": "dependency-proxy",
        "app.kubernetes.io/instance": "main",
        "app.kubernetes.io/component": "proxy",
    });
    let objects = built("{replicas: 3, podDisruptionBudget: {maxUnavailable: 2}, drainSeconds: 60}");
    let budget = [
        ("/spec/maxUnavailable", json!(2)),
        ("/spec/selector/matchLabels", selector.clone()),
        ("/spec/unhealthyPodEvictionPolicy", json!("AlwaysAllow")),
    ];
    has(&objects, "PodDisruptionBudget", &budget);
    has(&built("{}"), "PodDisruptionBudget", &[("/spec/maxUnavailable", json!(1))]);
    let spread = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
    }]);
    let deployment = [
        ("/spec/replicas", json!(3)),
        ("/spec/strategy/rollingUpdate", json!({"maxUnavailable": 0, "maxSurge": 1})),
        ("/spec/template/spec/topologySpreadConstraints", spread),
        // Beside the seconds for transfers, those in which connections are still accepted.
        ("/spec/template/spec/terminationGracePeriodSeconds", json!(80)),
    ];
    has(&objects, "Deployment", &deployment);
}

/// The pods that serve, and those that clean up.
const PODS: [(&str, &str); 2] =
    [("Deployment", "/spec/template/spec"), ("CronJob-cleanup", "/spec/jobTemplate/spec/template/spec")];

/// Asserts what pods of both kinds have.
#[track_caller]
fn pods_have(fields: &str, rows: &[(&str, Value)]) {
    let objects = built(fields);
    for (object, place) in PODS {
        let paths = rows.iter().map(|(path, _)| format!("{place}{path}")).collect::<Vec<_>>();
        let rows = paths.iter().zip(rows).map(|(path, (_, expected))| (path.as_str(), expected.clone()));
        has(&objects, object, &rows.collect::<Vec<_>>());
    }
}

#[test]
fn pods_may_do_nothing_that_they_do_not_need() {
    let rows = [
        ("/automountServiceAccountToken", json!(false)),
        ("/enableServiceLinks", json!(false)),
        ("/serviceAccountName", json!("main-dependency-proxy")),
        ("/securityContext/runAsNonRoot", json!(true)),
        ("/securityContext/runAsUser", json!(65532)),
        ("/securityContext/runAsGroup", json!(65532)),
        ("/securityContext/fsGroup", json!(65532)),
        ("/securityContext/seccompProfile", json!({"type": "RuntimeDefault"})),
        ("/containers/0/securityContext/readOnlyRootFilesystem", json!(true)),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(false)),
        ("/containers/0/securityContext/capabilities", json!({"drop": ["ALL"]})),
        ("/containers/0/securityContext/privileged", Value::Null),
        ("/containers/1", Value::Null),
        ("/hostNetwork", Value::Null),
        ("/volumes/0/secret/secretName", json!("main-dependency-proxy-documents")),
        ("/volumes/1", json!({"name": "data", "emptyDir": {}})),
    ];
    pods_have("{}", &rows);
    has(&built("{}"), "ServiceAccount", &[("/automountServiceAccountToken", json!(false))]);
}

#[test]
fn pods_get_what_the_specification_says() {
    let toleration = json!({"key": "spot", "operator": "Exists", "effect": "NoSchedule"});
    let fields = json!({
        "image": {"repository": "registry.example.com/own", "tag": "1", "digest": "sha256:abc",
            "pullPolicy": "Always", "pullSecrets": [{"name": "one"}, {"name": "two"}]},
        "podTemplate": {"tolerations": [toleration], "priorityClassName": "high", "serviceAccountName": "bucket",
            "nodeSelector": {"disk": "fast"}, "resources": {"limits": {"memory": "1Gi"}}},
    });
    let rows = [
        ("/containers/0/image", json!("registry.example.com/own@sha256:abc")),
        ("/containers/0/imagePullPolicy", json!("Always")),
        ("/imagePullSecrets", json!([{"name": "one"}, {"name": "two"}])),
        ("/tolerations", json!([toleration])),
        ("/priorityClassName", json!("high")),
        ("/serviceAccountName", json!("bucket")),
        ("/nodeSelector", json!({"disk": "fast"})),
        ("/containers/0/resources", json!({"limits": {"memory": "1Gi"}})),
    ];
    pods_have(&fields.to_string(), &rows);
    assert!(!built(&fields.to_string()).contains_key("ServiceAccount"), "the user's own is not made");
    for (image, expected) in [
        ("{}", "registry.example.com/default:1"),
        ("{repository: r.example.com/own}", "r.example.com/own"),
        ("{repository: r.example.com/own, tag: v2}", "r.example.com/own:v2"),
    ] {
        pods_have(&format!("image: {image}"), &[("/containers/0/image", json!(expected))]);
    }
    let labelled =
        built("podTemplate: {labels: {team: a, app.kubernetes.io/name: b}, annotations: {note: c}}");
    let metadata = [
        ("/spec/template/metadata/labels/team", json!("a")),
        // Pods of another name would be found by no Service.
        ("/spec/template/metadata/labels/app.kubernetes.io~1name", json!("dependency-proxy")),
        ("/spec/template/metadata/annotations/note", json!("c")),
    ];
    has(&labelled, "Deployment", &metadata);
}

#[test]
fn upstreams_are_reached_through_the_egress_proxy() {
    let variables = |fields: &str| {
        PODS.map(|(object, place)| -> Vec<String> {
            let objects = built(fields);
            let all = objects[object].pointer(&format!("{place}/containers/0/env")).unwrap().clone();
            let egress =
                all.as_array().unwrap().iter().filter(|v| v["name"].as_str().unwrap().ends_with("_PROXY"));
            egress
                .map(|v| format!("{}={}", v["name"].as_str().unwrap(), v["value"].as_str().unwrap()))
                .collect()
        })
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(variables("{}"), [none.clone(), none]);
    let egress = "egress: {httpsProxy: 'http://a:1', httpProxy: 'http://b:2', noProxy: [.svc, 10.0.0.0/8]}";
    let expected = ["HTTPS_PROXY=http://a:1", "HTTP_PROXY=http://b:2", "NO_PROXY=.svc,10.0.0.0/8"];
    let expected = expected.map(str::to_owned).to_vec();
    assert_eq!(variables(egress), [expected.clone(), expected]);
}

#[test]
fn a_volume_is_cleaned_up_by_a_pod_on_its_node_and_what_no_other_pod_reaches_by_none() {
    let on_node_of = |labels: Value| json!({"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"});
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let objects = built("storage: {persistentVolumeClaim: {size: 5Gi}}");
    let proxy = objects["Deployment"]["spec"]["selector"]["matchLabels"].clone();
    let template = &objects["CronJob-cleanup"]["spec"]["jobTemplate"]["spec"]["template"];
    let cleaning = template["metadata"]["labels"].clone();
    assert_eq!(cleaning["app.kubernetes.io/component"], "cleanup");
    let pod = "/spec/jobTemplate/spec/template/spec";
    let cleanup = [
        ("/affinity", json!({"podAffinity": {required: [on_node_of(proxy)]}})),
        ("/volumes/1/persistentVolumeClaim", json!({"claimName": "main-dependency-proxy"})),
        ("/containers/0/volumeMounts/1", json!({"name": "data", "mountPath": "/var/lib/dependency-proxy"})),
        ("/containers/0/args/0", json!("cleanup")),
        ("/securityContext/fsGroup", json!(65532)),
        ("/securityContext/fsGroupChangePolicy", json!("OnRootMismatch")),
    ];
    for (path, expected) in cleanup {
        has(&objects, "CronJob-cleanup", &[(&format!("{pod}{path}"), expected)]);
    }
    let beside = json!([{"weight": 100, "podAffinityTerm": on_node_of(cleaning)}]);
    let affinity = ("/spec/template/spec/affinity", json!({"podAffinity": {preferred: beside}}));
    has(&objects, "Deployment", &[affinity]);

    let bucket = built("storage: {s3: {bucket: blobs}}");
    has(&bucket, "CronJob-cleanup", &[(&format!("{pod}/affinity"), Value::Null)]);
    has(&bucket, "Deployment", &[("/spec/template/spec/affinity", Value::Null)]);
    for storage in ["ephemeral: {}", "persistentVolumeClaim: {size: 5Gi, accessModes: [ReadWriteOncePod]}"] {
        assert!(!built(&format!("storage: {{{storage}}}")).contains_key("CronJob-cleanup"), "{storage}");
    }
}
