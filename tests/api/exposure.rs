//! What gateways, ingress controllers and cert-manager say of the operator's objects, under their own definitions.

use harness::kubectl::Kubectl;
use harness::operator::{Arguments, Operator};
use harness::tool;
use serde_json::{Value, json};

use crate::ground::own_server;
use crate::pod::FakePod;
use crate::stage::{Stage, condition_of, proxy};

const KIND: &str = "DependencyProxy";
const CHILD: &str = "main-dependency-proxy";

/// Kinds that a cluster may or may not have, and their definitions in `tests/tools.list`.
pub(crate) const OPTIONAL: [(&str, &str); 4] = [
    ("HTTPRoute", "httproutes.yaml"),
    ("Certificate", "certificates.yaml"),
    ("ServiceMonitor", "servicemonitors.yaml"),
    ("PrometheusRule", "prometheusrules.yaml"),
];

/// The definitions of the optional kinds, established.
pub(crate) async fn apply_optional_kinds(kubectl: &Kubectl) {
    for (_, file) in OPTIONAL {
        let file = tool::built(file).display().to_string();
        kubectl.run(&["apply", "--server-side", "-f", &file]).await.succeeds();
        kubectl.run(&["wait", "--for=condition=Established", "-f", &file, "--timeout=60s"]).await.succeeds();
    }
}

#[tokio::test]
async fn an_instance_is_exposed_unless_a_gateway_or_cert_manager_says_no() {
    // The kinds would be there for the tests beside this one too.
    let Some(server) = own_server().await else { return };
    let kubectl = server.kubectl();
    apply_optional_kinds(&kubectl).await;
    let (namespace, client) = tokio::join!(server.namespace(), server.client());
    let arguments = Arguments::new(server.kubeconfig(), &namespace);
    let operator = Operator::start(&arguments).await;
    let stage = Stage { kubectl, namespace, client, operator, arguments };

    let mut main = proxy("main");
    main["spec"]["expose"] =
        json!({"gateway": {"parentRefs": [{"name": "web", "namespace": "infra"}]}, "ingress": {}});
    main["spec"]["tls"] = json!({"issuerRef": {"name": "ca"}});
    stage.apply(main).await;
    let _pod = FakePod::of(&stage, "main").await;
    // Where they say nothing, nobody waits for them.
    stage.says(KIND, "main", "Ready", "True", "AllReplicasReady").await;
    let message = stage.says(KIND, "main", "Exposed", "True", "Exposed").await;
    let silence = "no gateway has said yet whether it takes HTTPRoute main-dependency-proxy; Ingress \
        main-dependency-proxy has no address yet; cert-manager has not said yet whether Certificate \
        main-dependency-proxy is ready";
    assert_eq!(message, silence);

    // The API server drops what a definition does not know.
    let route = stage.get("HTTPRoute", CHILD).await.unwrap();
    assert_eq!(route["spec"]["rules"][0]["timeouts"]["request"], "0s", "{route:#}");

    says(&stage, "HTTPRoute", "Accepted", "False", "NotAllowedByListeners").await;
    let message = stage.says(KIND, "main", "Exposed", "False", "RouteNotAccepted").await;
    let expected =
        "HTTPRoute main-dependency-proxy: Gateway infra/web says NotAllowedByListeners: in its words";
    assert_eq!(message, expected);
    assert_eq!(stage.says(KIND, "main", "Ready", "False", "RouteNotAccepted").await, expected);
    says(&stage, "HTTPRoute", "Accepted", "True", "Accepted").await;
    stage.says(KIND, "main", "Exposed", "True", "Exposed").await;

    says(&stage, "Certificate", "Ready", "False", "DoesNotExist").await;
    let message = stage.says(KIND, "main", "Exposed", "False", "CertificateNotReady").await;
    assert_eq!(message, "Certificate main-dependency-proxy: DoesNotExist in its words");
    let tls = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "main-dependency-proxy-tls"},
        "stringData": {"tls.crt": "a certificate", "tls.key": "its key"}});
    stage.apply(tls).await;
    says(&stage, "Certificate", "Ready", "False", "RequestChanged").await;
    stage.says(KIND, "main", "Ready", "True", "AllReplicasReady").await;
    let message = stage.says(KIND, "main", "Exposed", "True", "Exposed").await;
    let awaited = "the certificate is served as it was, a new one is awaited: Certificate main-dependency-proxy: \
        RequestChanged in its words";
    assert!(message.contains(awaited), "{message}");
    says(&stage, "Certificate", "Ready", "True", "Ready").await;
    let address = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    stage.patch_status("Ingress", CHILD, address).await;
    look(&stage).await;
    let is_well = |object: &Value| {
        let exposed = condition_of(object, "Exposed");
        exposed["status"] == "True" && exposed["message"] == ""
    };
    stage.until(KIND, "main", "has nothing to remark", is_well).await;
    stage.says(KIND, "main", "Ready", "True", "AllReplicasReady").await;
}

/// What its controller says of an object as it is now.
async fn says(stage: &Stage, kind: &str, condition: &str, status: &str, reason: &str) {
    let generation = stage.get(kind, CHILD).await.unwrap()["metadata"]["generation"].clone();
    let conditions = json!([{"type": condition, "status": status, "reason": reason, "message": "in its words",
        "observedGeneration": generation, "lastTransitionTime": "2026-01-02T03:04:05Z"}]);
    let parent = json!({"name": "web", "namespace": "infra"});
    let said = match kind {
        "HTTPRoute" => json!({"parents": [
            {"parentRef": parent, "controllerName": "example.com/gateway", "conditions": conditions},
        ]}),
        _ => json!({"conditions": conditions}),
    };
    stage.patch_status(kind, CHILD, said).await;
    look(stage).await;
}

/// The operator looks every few seconds by itself.
async fn look(stage: &Stage) {
    let annotations = json!({"test.example.com/look": hex::encode(tool::random::<4>())});
    stage.patch(KIND, "main", json!({"metadata": {"annotations": annotations}})).await;
}
