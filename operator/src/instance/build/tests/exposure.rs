//! Who reaches the pods, and how.

use serde_json::{Value, json};

use super::{built, has};

#[test]
fn a_load_balancer_listens_at_the_port_that_clients_use() {
    let registry = json!({"name": "registry", "port": 5000, "targetPort": "registry", "protocol": "TCP"});
    let external =
        |port: u16| json!({"name": "external", "port": port, "targetPort": "registry", "protocol": "TCP"});
    for (kind, url, expected) in [
        ("LoadBalancer", "https://registry.example.com", json!([registry, external(443)])),
        ("LoadBalancer", "http://registry.example.com", json!([registry, external(80)])),
        ("LoadBalancer", "https://registry.example.com:8443", json!([registry, external(8443)])),
        ("LoadBalancer", "http://registry.example.com:5000", json!([registry])),
        ("ClusterIP", "https://registry.example.com", json!([registry])),
        ("NodePort", "https://registry.example.com", json!([registry])),
    ] {
        let objects = built(&format!(
            "{{externalURL: '{url}', tls: {{secretRef: {{name: t}}}}, expose: {{service: {{type: {kind}}}}}}}"
        ));
        has(&objects, "Service", &[("/spec/type", json!(kind)), ("/spec/ports", expected)]);
    }
}

#[test]
fn the_registry_is_open_to_all_and_the_other_ports_to_those_who_need_them() {
    let pods = json!({
        "app.kubernetes.io/name": "dependency-proxy",
        "app.kubernetes.io/instance": "main",
        "app.kubernetes.io/component": "proxy",
    });
    let port = |port: u16| json!([{"port": port, "protocol": "TCP"}]);
    let namespace = |label: &str, value: &str| json!({"namespaceSelector": {"matchLabels": {label: value}}});
    let operator = namespace("kubernetes.io/metadata.name", "operators");
    let own = namespace("kubernetes.io/metadata.name", "n");
    let metrics = namespace("dependencyproxy.dev/metrics", "true");
    has(
        &built("{}"),
        "NetworkPolicy",
        &[
            ("/spec/podSelector/matchLabels", pods.clone()),
            ("/spec/policyTypes", json!(["Ingress"])),
            ("/spec/ingress/0", json!({"ports": port(5000)})),
            ("/spec/ingress/1", json!({"ports": port(9090), "from": [operator, own, metrics]})),
            (
                "/spec/ingress/2",
                json!({"ports": port(5001), "from": [{"podSelector": {"matchLabels": pods}}]}),
            ),
            ("/spec/ingress/3", Value::Null),
        ],
    );
    assert!(!built("networkPolicy: {enabled: false}").contains_key("NetworkPolicy"));
}

#[test]
fn a_certificate_of_ones_own_is_mounted_and_served() {
    let tls = built("tls: {secretRef: {name: own}}");
    let pod = "/spec/template/spec";
    let arguments = tls["Deployment"].pointer(&format!("{pod}/containers/0/args")).unwrap();
    let folder = "/etc/dependency-proxy/tls";
    for argument in [format!("--tls-certificate={folder}/tls.crt"), format!("--tls-key={folder}/tls.key")] {
        assert!(arguments.as_array().unwrap().contains(&json!(argument)), "{arguments}");
    }
    let rows = [
        ("/spec/template/spec/volumes/1", json!({"name": "tls", "secret": {"secretName": "own"}})),
        (
            "/spec/template/spec/containers/0/volumeMounts/1",
            json!({"name": "tls", "mountPath": folder, "readOnly": true}),
        ),
    ];
    has(&tls, "Deployment", &rows);
    assert!(!tls.contains_key("Certificate"));
    let issued = "{additionalURLs: ['https://10.1.2.3:8443', 'https://other.example.com'], \
                  tls: {issuerRef: {name: ca, kind: ClusterIssuer}}}";
    let names = [
        "main-dependency-proxy.n.svc",
        "main-dependency-proxy.n.svc.cluster.local",
        "other.example.com",
        "proxy.example.com",
    ];
    let rows = [
        ("/spec/secretName", json!("main-dependency-proxy-tls")),
        ("/spec/dnsNames", json!(names)),
        ("/spec/ipAddresses", json!(["10.1.2.3"])),
        ("/spec/issuerRef", json!({"name": "ca", "kind": "ClusterIssuer"})),
    ];
    has(&built(issued), "Certificate", &rows);
}

#[test]
fn prometheus_finds_the_pods_and_the_alerts() {
    let objects = built("{}");
    let labels = |component: &str| {
        json!({
            "app.kubernetes.io/name": "dependency-proxy",
            "app.kubernetes.io/instance": "main",
            "app.kubernetes.io/component": component,
        })
    };
    let monitor = [
        ("/spec/selector/matchLabels", labels("metrics")),
        ("/spec/endpoints", json!([{"port": "metrics", "interval": "30s"}])),
    ];
    has(&objects, "ServiceMonitor", &monitor);
    let service = [
        ("/metadata/labels/app.kubernetes.io~1component", json!("metrics")),
        ("/spec/clusterIP", json!("None")),
        ("/spec/selector", labels("proxy")),
        ("/spec/ports/0/name", json!("metrics")),
        ("/spec/ports/0/port", json!(9090)),
    ];
    has(&objects, "Service-metrics", &service);
    let rules = objects["PrometheusRule"]["spec"]["groups"].as_array().unwrap();
    let alerts = rules.iter().flat_map(|group| group["rules"].as_array().unwrap());
    let alerts = alerts.filter_map(|rule| rule["alert"].as_str()).collect::<Vec<_>>();
    assert!(alerts.contains(&"UpstreamDown") && alerts.contains(&"OwnErrors"), "{alerts:?}");
    let without = built("metrics: {serviceMonitor: Never, prometheusRule: Never}");
    assert!(!without.contains_key("ServiceMonitor") && !without.contains_key("PrometheusRule"));
}

#[test]
fn an_ingress_and_a_route_lead_to_the_registry() {
    let objects = built(
        "expose: {ingress: {className: web, annotations: {a: b}, tlsSecretName: tls}, \
         gateway: {parentRefs: [{name: web, sectionName: https}]}}",
    );
    let service = json!({"service": {"name": "main-dependency-proxy", "port": {"name": "registry"}}});
    let ingress = [
        ("/metadata/annotations", json!({"a": "b"})),
        ("/spec/ingressClassName", json!("web")),
        ("/spec/tls", json!([{"hosts": ["proxy.example.com"], "secretName": "tls"}])),
        ("/spec/rules/0/host", json!("proxy.example.com")),
        ("/spec/rules/0/http/paths", json!([{"path": "/", "pathType": "Prefix", "backend": service}])),
    ];
    has(&objects, "Ingress", &ingress);
    let route = [
        ("/spec/parentRefs", json!([{"name": "web", "sectionName": "https"}])),
        ("/spec/hostnames", json!(["proxy.example.com"])),
        ("/spec/rules/0/matches", json!([{"path": {"type": "PathPrefix", "value": "/"}}])),
        ("/spec/rules/0/backendRefs", json!([{"name": "main-dependency-proxy", "port": 5000}])),
        ("/spec/rules/0/timeouts", json!({"request": "0s"})),
    ];
    has(&objects, "HTTPRoute", &route);
}

#[test]
fn every_host_that_clients_use_from_outside_is_routed() {
    let fields = |mirrors: &[String]| {
        let mirrors = mirrors.iter().map(|host| json!({"host": host, "groupRef": {"name": "team"}}));
        json!({
            "additionalURLs": ["https://second.example.com:8443", "http://plain.example.com", "https://10.1.2.3",
                "http://main-dependency-proxy.n.svc:5000"],
            "mirrors": mirrors.collect::<Vec<_>>(),
            "expose": {"ingress": {}, "gateway": {"parentRefs": [{"name": "web"}]}},
            "tls": {"issuerRef": {"name": "ca"}},
        })
    };
    let of = |fields: Value| built(&fields.to_string());
    let objects = of(fields(&["hub.example.com:443".to_owned(), "proxy.example.com".to_owned()]));
    let rules = objects["Ingress"]["spec"]["rules"].as_array().unwrap();
    let hosts = rules.iter().map(|rule| rule["host"].as_str().unwrap()).collect::<Vec<_>>();
    let all = ["proxy.example.com", "second.example.com", "plain.example.com", "hub.example.com"];
    assert_eq!(hosts, all);
    assert!(rules.iter().all(|rule| rule["http"] == rules[0]["http"]), "{rules:?}");
    let encrypted = json!([{"hosts": ["proxy.example.com", "second.example.com", "hub.example.com"]}]);
    has(&objects, "Ingress", &[("/spec/tls", encrypted)]);
    has(&objects, "HTTPRoute", &[("/spec/hostnames", json!(all))]);
    let names = objects["Certificate"]["spec"]["dnsNames"].as_array().unwrap();
    assert!(names.contains(&json!("hub.example.com")), "{names:?}");

    let many = (0..30).map(|number| format!("mirror-{number}.example.com")).collect::<Vec<_>>();
    let objects = of(fields(&many));
    let routes = ["HTTPRoute", "HTTPRoute-2", "HTTPRoute-3"].map(|route| {
        let hosts = objects[route]["spec"]["hostnames"].as_array().unwrap().clone();
        assert_eq!(objects[route]["spec"]["rules"], objects["HTTPRoute"]["spec"]["rules"]);
        hosts
    });
    assert_eq!(routes.each_ref().map(Vec::len), [16, 16, 1], "no more than the Gateway API takes");

    // An address is the host of no rule: then whatever host is asked for is meant.
    let address = built(
        "{externalURL: 'https://10.1.2.3', expose: {ingress: {}, gateway: {parentRefs: [{name: web}]}}}",
    );
    has(&address, "Ingress", &[("/spec/rules/0/host", Value::Null), ("/spec/tls", json!([{}]))]);
    has(&address, "HTTPRoute", &[("/spec/hostnames", Value::Null)]);
}
