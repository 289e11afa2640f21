//! The rights that the chart gives the operator: enough for everything, and nothing that it never uses.

use std::collections::BTreeSet;

use harness::api_server::ApiServer;
use harness::operator::{Arguments, Operator};
use serde_json::{Value, json};

use crate::chart::template;
use crate::exposure::{OPTIONAL, apply_optional_kinds};
use crate::ground::own_server;
use crate::pod::FakePod;
use crate::relay::{Call, Relay};
use crate::stage::{Stage, condition_of, group, object, proxy, upstream};

const CHILD: &str = "main-dependency-proxy";

/// What is granted and not used here: API group, resources, verbs. Why it is granted stands above each.
const RESERVED: &[(&str, &[&str], &[&str])] = &[
    // Where OwnerReferencesPermissionEnforcement is on, owner references that block deletion need it.
    ("dependencyproxy.dev", &["dependencyproxies/finalizers", "pullbindings/finalizers"], &["update"]),
    // An Event that is told again is patched.
    ("events.k8s.io", &["events"], &["patch"]),
];

#[tokio::test]
async fn the_charts_role_is_enough_for_everything_and_no_wider() {
    // The operator here watches the whole cluster.
    let Some(server) = own_server().await else { return };
    let kubectl = server.kubectl();
    let (namespace, client) = tokio::join!(server.namespace(), server.client());
    let rules = install_role(&server, &namespace).await;
    let relay = Relay::start(&server, Some(&format!("{namespace}:dependency-proxy-operator"))).await;
    let mut arguments = Arguments::new(relay.kubeconfig(), &namespace);
    arguments.watched.clear();
    let operator = Operator::start(&arguments).await;
    let stage = Stage { kubectl, namespace, client, operator, arguments };
    let stage = journey(stage).await;

    assert!(relay.refused().is_empty(), "too few rights:\n{}", relay.refused().join("\n"));
    let known = RESERVED.iter().flat_map(|(group, resources, verbs)| {
        let pairs = resources.iter().flat_map(|resource| verbs.iter().map(move |verb| (resource, verb)));
        pairs.map(|(resource, verb)| call(group, resource, verb))
    });
    let used = relay.asked().into_iter().chain(known).collect::<BTreeSet<_>>();
    let unused = rules.difference(&used).map(|(group, resource, verb)| format!("{group} {resource} {verb}"));
    let unused = unused.collect::<Vec<_>>();
    assert!(unused.is_empty(), "granted and never used:\n{}", unused.join("\n"));
    drop(stage);
}

/// Applies the chart's rights, and gives them one by one.
async fn install_role(server: &ApiServer, namespace: &str) -> BTreeSet<Call> {
    let text = template(namespace, &["--show-only", "templates/rbac.yaml"]);
    server.kubectl().apply(&text).await;
    let documents = serde_yaml::Deserializer::from_str(&text);
    let documents = documents.map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap());
    let rules = documents.flat_map(|document| document["rules"].as_array().cloned().unwrap_or_default());
    rules.flat_map(|rule| expanded(&rule)).collect()
}

fn expanded(rule: &Value) -> Vec<Call> {
    let words = |key: &str| {
        let list = rule[key].as_array().into_iter().flatten();
        list.map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut calls = Vec::new();
    for group in words("apiGroups") {
        for resource in words("resources") {
            calls.extend(words("verbs").iter().map(|verb| call(&group, &resource, verb)));
        }
    }
    calls
}

fn call(group: &str, resource: &str, verb: &str) -> Call {
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}

/// Everything that an operator does: all objects come, change, are mended, and go.
async fn journey(mut stage: Stage) -> Stage {
    let mut main = proxy("main");
    main["spec"]["expose"] = json!({"gateway": {"parentRefs": [{"name": "web"}]}, "ingress": {}});
    main["spec"]["tls"] = json!({"issuerRef": {"name": "ca"}});
    main["spec"]["storage"] = json!({"s3": {
        "bucket": "blobs", "region": "us-east-1", "credentialsSecretRef": {"name": "s3"},
        "caConfigMapRef": {"name": "s3"},
    }});
    main["spec"]["autoscaling"] = json!({"minReplicas": 1, "maxReplicas": 2});
    let data = json!({"accessKeyID": "a", "secretAccessKey": "b", "username": "a", "password": "b"});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": data});
    stage.apply(secret).await;
    let ca = rcgen::generate_simple_self_signed(vec!["s3.example.com".to_owned()]).unwrap().cert.pem();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s3"}, "data": {"ca.crt": ca},
    });
    stage.apply(map).await;
    stage.apply(main.clone()).await;
    stage.says("DependencyProxy", "main", "Exposed", "False", "NoGatewayAPI").await;
    stage.apply(upstream("hub")).await;
    let mut team = group("team", "team-a");
    team["spec"]["upstreamRef"] = json!({"name": "hub"});
    stage.apply(team).await;
    let registry = json!({"groupRef": {"name": "team"}, "upstreams": [{"name": "hub"}]});
    stage.apply(object("VirtualRegistry", "all", registry)).await;
    let binding = json!({
        "groupRef": {"name": "team"}, "pullSecretName": "pull", "serviceAccounts": ["default"],
        "ciVariables": {"configMapName": "variables", "secretName": "secret-variables"},
    });
    stage.apply(object("PullBinding", "ci", binding)).await;
    let pod = FakePod::of(&stage, "main").await;
    stage.says("PullBinding", "ci", "Ready", "True", "Programmed").await;

    // With the optional kinds, which an operator that starts sees at once.
    apply_optional_kinds(&stage.kubectl).await;
    stage.operator.terminate().await;
    stage.operator.start_again();
    for (kind, _) in OPTIONAL {
        stage.comes(kind, CHILD).await;
    }
    let route = stage.comes("HTTPRoute", CHILD).await;
    assert_eq!(route["spec"]["hostnames"], json!(["proxy.example.com"]));
    let certificate = stage.comes("Certificate", CHILD).await;
    assert_eq!(certificate["spec"]["secretName"], "main-dependency-proxy-tls");
    stage.says("DependencyProxy", "main", "Exposed", "True", "Exposed").await;
    an_issuer_that_does_not_issue_is_told(&stage).await;

    // What is no longer asked for goes.
    main["spec"]["expose"] = json!({});
    main["spec"]["metrics"] = json!({"serviceMonitor": "Never", "prometheusRule": "Never"});
    main["spec"]["networkPolicy"] = json!({"enabled": false});
    main["spec"].as_object_mut().unwrap().remove("tls");
    main["spec"].as_object_mut().unwrap().remove("autoscaling");
    main["spec"]["storage"] = json!({"persistentVolumeClaim": {"size": "1Gi"}});
    stage.apply(main.clone()).await;
    for kind in [
        "HTTPRoute",
        "Certificate",
        "ServiceMonitor",
        "PrometheusRule",
        "Ingress",
        "NetworkPolicy",
        "HorizontalPodAutoscaler",
    ] {
        stage.goes(kind, CHILD).await;
    }
    stage.comes("PersistentVolumeClaim", CHILD).await;
    // The bucket's credentials too, and nothing else that is secret.
    stage.goes("Secret", "main-dependency-proxy-storage").await;
    stage.comes("Secret", "main-dependency-proxy-keys").await;
    stage.comes("Secret", "main-dependency-proxy-documents").await;
    main["spec"]["storage"] = json!({"ephemeral": {}});
    stage.apply(main).await;
    stage.goes("CronJob", "main-dependency-proxy-cleanup").await;
    let rename = json!({"spec": {"pullSecretName": "renamed", "ciVariables": null}});
    stage.patch("PullBinding", "ci", rename).await;
    stage.goes("Secret", "pull").await;
    stage.goes("ConfigMap", "variables").await;
    stage.delete("PullBinding", "ci").await;
    stage.goes("PullBinding", "ci").await;
    stage.operator.terminate().await;
    drop(pod);
    stage
}

/// What cert-manager would write into the status of a Certificate reaches the DependencyProxy.
async fn an_issuer_that_does_not_issue_is_told(stage: &Stage) {
    let mut late = proxy("late");
    late["spec"]["tls"] = json!({"issuerRef": {"name": "ca"}});
    stage.apply(late).await;
    let name = "late-dependency-proxy";
    stage.comes("Certificate", name).await;
    let failed = json!({"type": "Issuing", "status": "False", "reason": "Failed", "message": "the CA says no",
        "lastTransitionTime": "2026-01-02T03:04:05Z"});
    stage.patch_status("Certificate", name, json!({"conditions": [failed]})).await;
    let expected = format!(
        "cert-manager has not written Secret {}/late-dependency-proxy-tls yet: Failed the CA says no",
        stage.namespace
    );
    let says = |object: &Value| {
        let message = condition_of(object, "Available")["message"].clone();
        message.as_str().is_some_and(|message| message.contains(&expected))
    };
    stage.until("DependencyProxy", "late", &expected, says).await;
    stage.delete("DependencyProxy", "late").await;
}
