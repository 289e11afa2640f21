//! How clients reach the pods.

use crds::ServiceType;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use url::Url;

use super::metadata;
use crate::apply::Object;
use crate::instance::plan::{Plan, REGISTRY_PORT};
use crate::optional::{self, Optional};
use crate::pods::ADMIN_PORT;

/// The hosts that an HTTPRoute may have (`gateway.networking.k8s.io`, `HTTPRouteSpec`).
const ROUTE_HOSTS: usize = 16;

pub(super) fn service(plan: &Plan) -> Object {
    let wanted = &plan.spec.expose.service;
    let kind = match wanted.kind {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let mut metadata = metadata(plan, plan.name());
    metadata.annotations = Some(wanted.annotations.clone()).filter(|annotations| !annotations.is_empty());
    Object::of(&Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            selector: Some(plan.selector()),
            traffic_distribution: wanted.traffic_distribution.clone(),
            ports: Some(ports(plan)),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

/// The port that the cluster's own clients know, and at a load balancer the one that `externalURL` states or means.
fn ports(plan: &Plan) -> Vec<ServicePort> {
    let wanted = &plan.spec.expose.service;
    let mut ports = vec![ServicePort { node_port: wanted.node_port, ..port("registry", REGISTRY_PORT) }];
    let external = plan.url.port_or_known_default().map_or(REGISTRY_PORT, i32::from);
    if wanted.kind == ServiceType::LoadBalancer && external != REGISTRY_PORT {
        ports.push(ServicePort {
            name: Some("external".to_owned()),
            port: external,
            ..port("registry", REGISTRY_PORT)
        });
    }
    ports
}

/// Each pod by its own address, for Prometheus.
pub(super) fn metrics_service(plan: &Plan) -> Object {
    let mut metadata = metadata(plan, format!("{}-metrics", plan.name()));
    if let Some(labels) = &mut metadata.labels {
        labels.insert("app.kubernetes.io/component".to_owned(), "metrics".to_owned());
    }
    Object::of(&Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(plan.selector()),
            ports: Some(vec![port("metrics", ADMIN_PORT.into())]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

/// Where clients come to: mirrors have a host only, and are asked as `externalURL` is.
fn urls(plan: &Plan) -> Vec<Url> {
    let mirrors = plan.spec.mirrors.iter().map(|mirror| format!("{}://{}", plan.url.scheme(), mirror.host));
    let more = plan.spec.additional_urls.iter().cloned().chain(mirrors);
    std::iter::once(plan.url.clone()).chain(more.filter_map(|url| Url::parse(&url).ok())).collect()
}

/// The names of these URLs that lead to the cluster from outside, each once.
fn names<'a>(plan: &Plan, urls: impl Iterator<Item = &'a Url>) -> Vec<String> {
    let is_internal = |name: &str| name.split('.').any(|label| label == "svc");
    let mut names = Vec::<String>::new();
    for name in urls.filter_map(Url::domain) {
        let is_wanted = plan.url.domain() == Some(name) || !is_internal(name);
        if is_wanted && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

pub(super) fn ingress(plan: &Plan) -> Option<Object> {
    let wanted = plan.spec.expose.ingress.as_ref()?;
    let urls = urls(plan);
    // An address is no host of a rule: then all hosts are meant.
    let hosts = match plan.url.domain() {
        Some(_) => names(plan, urls.iter()).into_iter().map(Some).collect(),
        None => vec![None],
    };
    let encrypted = urls.iter().filter(|url| url.scheme() == "https");
    let mut metadata = metadata(plan, plan.name());
    metadata.annotations = Some(wanted.annotations.clone()).filter(|annotations| !annotations.is_empty());
    let path = HTTPIngressPath {
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: plan.name(),
                port: Some(ServiceBackendPort { name: Some("registry".to_owned()), number: None }),
            }),
            ..IngressBackend::default()
        },
    };
    Some(Object::of(&Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.clone(),
            tls: encrypted.clone().next().map(|_| {
                vec![IngressTLS {
                    hosts: Some(names(plan, encrypted)).filter(|names| !names.is_empty()),
                    secret_name: wanted.tls_secret_name.clone(),
                }]
            }),
            rules: Some(
                hosts
                    .into_iter()
                    .map(|host| IngressRule {
                        host,
                        http: Some(HTTPIngressRuleValue { paths: vec![path.clone()] }),
                    })
                    .collect(),
            ),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    }))
}

/// More than one where there are more hosts than a route may have.
pub(super) fn routes(plan: &Plan, optional: &Optional) -> Vec<Object> {
    let Some(wanted) = plan.spec.expose.gateway.as_ref().filter(|_| optional.gateway) else {
        return Vec::new();
    };
    let hosts = plan.url.domain().map(|_| names(plan, urls(plan).iter())).unwrap_or_default();
    let route = |name: String, hosts: &[String]| {
        let mut value = json!({
            "metadata": metadata(plan, name),
            "spec": {
                "parentRefs": wanted.parent_refs,
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"name": plan.name(), "port": REGISTRY_PORT}],
                    // A blob takes as long as it takes.
                    "timeouts": {"request": "0s"},
                }],
            },
        });
        if !hosts.is_empty() {
            value["spec"]["hostnames"] = json!(hosts);
        }
        Object::dynamic(optional::http_route(), value)
    };
    let (first, more) = hosts.split_at(hosts.len().min(ROUTE_HOSTS));
    let more = more.chunks(ROUTE_HOSTS).enumerate();
    let more = more.map(|(index, hosts)| route(format!("{}-{}", plan.name(), index + 2), hosts));
    std::iter::once(route(plan.name(), first)).chain(more).collect()
}

/// What cert-manager is asked for; it writes the Secret and renews it.
pub(super) fn certificate(plan: &Plan, optional: &Optional) -> Option<Object> {
    let issuer = plan.spec.tls.as_ref()?.issuer_ref.as_ref().filter(|_| optional.cert_manager)?;
    let namespace = &plan.id.namespace;
    let name = plan.name();
    let mut names = vec![format!("{name}.{namespace}.svc"), format!("{name}.{namespace}.svc.cluster.local")];
    let mut addresses = Vec::new();
    for url in urls(plan) {
        match url.host() {
            Some(url::Host::Domain(host)) => names.push(host.to_owned()),
            Some(url::Host::Ipv4(address)) => addresses.push(address.to_string()),
            Some(url::Host::Ipv6(address)) => addresses.push(address.to_string()),
            None => {}
        }
    }
    names.sort();
    names.dedup();
    let mut spec = json!({
        "secretName": plan.tls_secret,
        "dnsNames": names,
        "issuerRef": serde_json::to_value(issuer).unwrap_or_default(),
    });
    if !addresses.is_empty() {
        spec["ipAddresses"] = json!(addresses);
    }
    Some(Object::dynamic(optional::certificate(), json!({"metadata": metadata(plan, name), "spec": spec})))
}
