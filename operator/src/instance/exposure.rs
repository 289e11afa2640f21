//! What gateways and ingress controllers say of the objects that were made for them, in words.
//!
//! Who says nothing keeps nobody from being ready: not all of them write a status.

use crds::DependencyProxy;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::plan::child;
use crate::optional::{Optional, http_route};
use crate::world::id_of;

/// What is said of one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    Yes,
    /// Nothing, or something that one should know.
    Remark(String),
    /// Clients do not come through: our reason, and theirs.
    No(&'static str, String),
}

/// What is said of all of them.
#[derive(Debug, Default)]
pub(super) struct Exposure {
    pub refusal: Option<(&'static str, String)>,
    pub remarks: Vec<String>,
}

impl Exposure {
    pub(super) fn add(&mut self, word: Word) {
        match word {
            Word::Yes => {}
            Word::Remark(text) => self.remarks.push(text),
            Word::No(reason, text) => self.refusal = self.refusal.take().or(Some((reason, text))),
        }
    }
}

/// Looks at all objects that somebody else has to do something about.
///
/// # Errors
/// When the API server cannot be asked.
pub(super) async fn look(
    proxy: &DependencyProxy,
    optional: Optional,
    client: &Client,
) -> Result<Exposure, kube::Error> {
    let id = id_of(proxy);
    let name = child(&id);
    let spec = &proxy.spec;
    let mut exposure = Exposure::default();
    if spec.expose.gateway.is_some() && optional.gateway {
        let api = Api::namespaced_with(client.clone(), &id.namespace, &http_route());
        let routes = api.list(&ListParams::default().labels(&super::labels(&id))).await?;
        routes.iter().for_each(|route| exposure.add(of_route(route)));
    }
    if spec.expose.ingress.is_some() {
        let api = Api::<Ingress>::namespaced(client.clone(), &id.namespace);
        if let Some(ingress) = api.get_opt(&name).await? {
            exposure.add(of_ingress(&ingress));
        }
    }
    Ok(exposure)
}

/// One gateway that does not take a route is enough: it was asked to.
fn of_route(route: &DynamicObject) -> Word {
    let name = route.name_any();
    let list = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let mut takers = Vec::new();
    for parent in list(&route.data["status"]["parents"]) {
        let gateway = gateway(&parent["parentRef"], route);
        for condition in conditions(&parent["conditions"], route) {
            let is_known = matches!(condition.type_.as_str(), "Accepted" | "ResolvedRefs");
            if is_known && condition.status == "False" {
                let text = format!("HTTPRoute {name}: {gateway} says {}", because(&condition));
                return Word::No("RouteNotAccepted", text);
            }
            if condition.type_ == "Accepted" && condition.status == "True" {
                takers.push(gateway.clone());
            }
        }
    }
    if takers.is_empty() {
        return Word::Remark(format!("no gateway has said yet whether it takes HTTPRoute {name}"));
    }
    let asked = list(&route.data["spec"]["parentRefs"]);
    let asked = asked.iter().map(|reference| gateway(reference, route));
    let silent = asked.filter(|gateway| !takers.contains(gateway)).collect::<Vec<_>>();
    if silent.is_empty() {
        return Word::Yes;
    }
    Word::Remark(format!("nothing is said yet of whether HTTPRoute {name} is taken by {}", silent.join(", ")))
}

/// A gateway, or a listener of it.
fn gateway(reference: &Value, route: &DynamicObject) -> String {
    let text = |key: &str| reference[key].as_str();
    let namespace = text("namespace").map_or_else(|| route.namespace().unwrap_or_default(), str::to_owned);
    let listener = text("sectionName").map(|name| format!(" ({name})")).unwrap_or_default();
    let (kind, name) = (text("kind").unwrap_or("Gateway"), text("name").unwrap_or_default());
    format!("{kind} {namespace}/{name}{listener}")
}

fn of_ingress(ingress: &Ingress) -> Word {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let addresses = status.and_then(|status| status.ingress.as_ref());
    if addresses.is_some_and(|addresses| !addresses.is_empty()) {
        return Word::Yes;
    }
    Word::Remark(format!("Ingress {} has no address yet", ingress.name_any()))
}

/// Those that are said of the object as it is now.
pub(super) fn conditions(list: &Value, object: &DynamicObject) -> Vec<Condition> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let list = list.iter().filter_map(|value| serde_json::from_value::<Condition>(value.clone()).ok());
    let is_current = |condition: &Condition| {
        condition.observed_generation.is_none() || condition.observed_generation >= object.metadata.generation
    };
    list.filter(is_current).collect()
}

fn because(condition: &Condition) -> String {
    format!("{}: {}", condition.reason, condition.message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn condition((kind, status, reason, generation): (&str, &str, &str, Option<i64>)) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("what {reason} means"),
            "observedGeneration": generation, "lastTransitionTime": "2026-01-02T03:04:05Z"})
    }

    /// A route that asks these gateways, and what is said of it.
    fn route(asked: &Value, status: Value) -> DynamicObject {
        let metadata = json!({"name": "main", "namespace": "n", "generation": 2});
        let spec = json!({"parentRefs": asked});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    type Said = (&'static str, &'static str, &'static str, Option<i64>);

    fn said_of(conditions: &[Said]) -> Vec<Value> {
        conditions.iter().copied().map(condition).collect()
    }

    #[test]
    fn a_route_is_as_its_gateways_say() {
        let parent = |reference: Value, said: &[Said]| json!({"parentRef": reference, "controllerName": "example.com/gateway", "conditions": said_of(said)});
        let web = |said: &[Said]| parent(json!({"name": "web"}), said);
        let other =
            |said: &[Said]| parent(json!({"name": "b", "namespace": "infra", "kind": "XListenerSet"}), said);
        let yes = ("Accepted", "True", "Accepted", Some(2));
        let silence = || Word::Remark("no gateway has said yet whether it takes HTTPRoute main".to_owned());
        let no = |text: &str| Word::No("RouteNotAccepted", format!("HTTPRoute main: {text}"));
        let asked = json!([{"name": "web"}]);
        assert_eq!(of_route(&route(&asked, Value::Null)), silence());
        for (parents, expected) in [
            (vec![], silence()),
            (vec![web(&[])], silence()),
            (vec![web(&[yes, ("ResolvedRefs", "True", "ResolvedRefs", Some(2))])], Word::Yes),
            (vec![web(&[yes, ("PartiallyInvalid", "False", "x", Some(2))])], Word::Yes),
            (
                vec![web(&[("Accepted", "False", "NotAllowedByListeners", Some(2))])],
                no("Gateway n/web says NotAllowedByListeners: what NotAllowedByListeners means"),
            ),
            (
                vec![web(&[yes, ("ResolvedRefs", "False", "BackendNotFound", None)])],
                no("Gateway n/web says BackendNotFound: what BackendNotFound means"),
            ),
            (
                vec![web(&[yes]), other(&[("Accepted", "False", "NoMatchingParent", Some(2))])],
                no("XListenerSet infra/b says NoMatchingParent: what NoMatchingParent means"),
            ),
            // Of the route as it was before.
            (vec![web(&[("Accepted", "False", "NoMatchingParent", Some(1))])], silence()),
        ] {
            assert_eq!(of_route(&route(&asked, json!({"parents": parents}))), expected);
        }
    }

    #[test]
    fn of_several_gateways_the_silent_ones_are_named() {
        let silent = |names: &str| {
            Word::Remark(format!("nothing is said yet of whether HTTPRoute main is taken by {names}"))
        };
        let yes = said_of(&[("Accepted", "True", "Accepted", Some(2))]);
        let old = said_of(&[("Accepted", "True", "Accepted", Some(1))]);
        let (web, tls) = (json!({"name": "web"}), json!({"name": "web", "sectionName": "tls"}));
        let infra = json!({"name": "b", "namespace": "infra"});
        let taken = |reference: &Value| json!({"parentRef": reference, "conditions": yes});
        let was_taken = json!({"parentRef": tls, "conditions": old});
        // As a controller may write it.
        let whole =
            json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "n", "name": "web"});
        let all = json!([web, tls, infra]);
        for (parents, expected) in [
            (vec![taken(&whole)], silent("Gateway n/web (tls), Gateway infra/b")),
            (vec![taken(&web), taken(&infra), was_taken], silent("Gateway n/web (tls)")),
            (vec![taken(&tls), taken(&infra), taken(&web)], Word::Yes),
        ] {
            assert_eq!(of_route(&route(&all, json!({"parents": parents}))), expected);
        }
    }

    #[test]
    fn an_ingress_without_an_address_is_only_remarked_on() {
        let ingress = |status: Value| {
            of_ingress(
                &serde_json::from_value(json!({"metadata": {"name": "main"}, "status": status})).unwrap(),
            )
        };
        let remark = Word::Remark("Ingress main has no address yet".to_owned());
        assert_eq!(ingress(json!({})), remark);
        assert_eq!(ingress(json!({"loadBalancer": {"ingress": []}})), remark);
        assert_eq!(ingress(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})), Word::Yes);
    }
}
