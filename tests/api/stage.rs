//! An operator at work in a namespace of its own, and what it makes of objects.

use std::time::Duration;

use harness::api_server::ApiServer;
use harness::kubectl::Kubectl;
use harness::operator::{Arguments, Operator};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::ground::Ground;

/// How long something may take that takes moments. Long, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace, and an operator that watches it.
pub(crate) struct Stage {
    pub(crate) kubectl: Kubectl,
    pub(crate) namespace: String,
    pub(crate) client: Client,
    pub(crate) operator: Operator,
    pub(crate) arguments: Arguments,
}

impl Stage {
    /// None where there is no API server to start.
    pub(crate) async fn new() -> Option<Self> {
        Self::with(&[]).await
    }

    /// One whose operator watches these namespaces too.
    pub(crate) async fn with(more: &[&str]) -> Option<Self> {
        let ground = Ground::new().await?;
        let kubeconfig = ApiServer::shared().await?.kubeconfig();
        let mut arguments = Arguments::new(kubeconfig, &ground.namespace);
        arguments.watched.extend(more.iter().map(|name| (*name).to_owned()));
        let operator = Operator::start(&arguments).await;
        let Ground { kubectl, namespace, client } = ground;
        Some(Self { kubectl, namespace, client, operator, arguments })
    }

    /// The objects of a kind in this namespace.
    pub(crate) fn of(&self, kind: &str) -> Api<DynamicObject> {
        self.within(&self.namespace, kind)
    }

    /// An object is named `name`, or `namespace/name` where it lies elsewhere.
    fn place<'n>(&self, kind: &str, name: &'n str) -> (Api<DynamicObject>, &'n str) {
        let (namespace, name) = name.split_once('/').unwrap_or((&self.namespace, name));
        (self.within(namespace, kind), name)
    }

    fn within(&self, namespace: &str, kind: &str) -> Api<DynamicObject> {
        let resource = resource(kind);
        match kind {
            "Namespace" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), namespace, &resource),
        }
    }

    /// Server-side apply, in this namespace unless the object names one.
    pub(crate) async fn apply(&self, object: Value) {
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let kind = word(&object["kind"]).unwrap();
        let namespace = word(&object["metadata"]["namespace"]).unwrap_or_else(|| self.namespace.clone());
        let api = self.within(&namespace, &kind);
        let parameters = PatchParams::apply("test").force();
        let name = word(&object["metadata"]["name"]).unwrap();
        let result = api.patch(&name, &parameters, &Patch::Apply(&object)).await;
        result.unwrap_or_else(|e| panic!("{kind} {name} is not taken: {e}"));
    }

    /// Whether the API server takes an object that may be refused by its schema.
    pub(crate) async fn try_apply(&self, object: &Value) -> bool {
        let api = self.of(object["kind"].as_str().unwrap());
        let name = object["metadata"]["name"].as_str().unwrap();
        api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await.is_ok()
    }

    /// A merge patch.
    pub(crate) async fn patch(&self, kind: &str, name: &str, patch: Value) {
        let (api, name) = self.place(kind, name);
        let result = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        result.unwrap_or_else(|e| panic!("{kind} {name} is not changed: {e}"));
    }

    /// A merge patch of what others say of an object.
    pub(crate) async fn patch_status(&self, kind: &str, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let result = self.of(kind).patch_status(name, &PatchParams::default(), &patch).await;
        result.unwrap_or_else(|e| panic!("the status of {kind} {name} is not changed: {e}"));
    }

    /// Deletes an object, and waits for nothing.
    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        let (api, name) = self.place(kind, name);
        api.delete(name, &DeleteParams::background()).await.unwrap();
    }

    /// The object, if it is there.
    pub(crate) async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let (api, name) = self.place(kind, name);
        let found = api.get_opt(name).await.unwrap();
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    /// Waits until the object is as `right` wants it; `null` where it is not there.
    ///
    /// # Panics
    /// With the object and the operator's log, after a minute.
    pub(crate) async fn until(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        right: impl Fn(&Value) -> bool,
    ) -> Value {
        let value = |object: Option<&DynamicObject>| object.map_or(Value::Null, |o| json!(o));
        let condition = |object: Option<&DynamicObject>| right(&value(object));
        let (api, plain) = self.place(kind, name);
        let waiting = await_condition(api, plain, condition);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => value(found.unwrap().as_ref()),
            Err(_) => {
                let now = self.get(kind, name).await.unwrap_or_default();
                let log = self.operator.log();
                let from = log.len().saturating_sub(6000);
                let tail = String::from_utf8_lossy(&log.as_bytes()[from..]).into_owned();
                panic!("{kind} {name} never: {what}\n{:#}\n{tail}", shown(now));
            }
        }
    }

    /// Waits until a condition has this status and reason, and gives its message.
    pub(crate) async fn says(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        status: &str,
        reason: &str,
    ) -> String {
        let what = format!("{condition}={status} {reason}");
        let is_right = |object: &Value| {
            let found = condition_of(object, condition);
            found["status"] == status && found["reason"] == reason
        };
        let object = self.until(kind, name, &what, is_right).await;
        condition_of(&object, condition)["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an object is there.
    pub(crate) async fn comes(&self, kind: &str, name: &str) -> Value {
        self.until(kind, name, "is there", |object| !object.is_null()).await
    }

    /// Waits until an object is gone.
    pub(crate) async fn goes(&self, kind: &str, name: &str) {
        self.until(kind, name, "is gone", Value::is_null).await;
    }

    /// All objects of these kinds in this namespace, by kind and name.
    pub(crate) async fn all(&self, kinds: &[&str]) -> Vec<Value> {
        let mut all = Vec::new();
        for kind in kinds {
            let list = self.of(kind).list(&ListParams::default()).await.unwrap();
            all.extend(list.items.into_iter().map(|object| {
                let mut object = json!(object);
                object["kind"] = json!(kind);
                object
            }));
        }
        all
    }
}

/// An object of ours, or of Kubernetes, with a specification.
pub(crate) fn object(kind: &str, name: &str, spec: Value) -> Value {
    let resource = resource(kind);
    json!({"apiVersion": resource.api_version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A Secret of a user name and a password.
pub(crate) fn account(name: &str, username: &str, password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": name}, "stringData": {"username": username, "password": password},
    })
}

/// The least instance, without a bucket.
pub(crate) fn proxy(name: &str) -> Value {
    let spec = json!({"externalURL": "https://proxy.example.com", "storage": {"ephemeral": {}}});
    object("DependencyProxy", name, spec)
}

/// A group of the instance `main` under this path.
pub(crate) fn group(name: &str, path: &str) -> Value {
    object("DependencyProxyGroup", name, json!({"proxyRef": {"name": "main"}, "path": path}))
}

/// An upstream.
pub(crate) fn upstream(name: &str) -> Value {
    object("RegistryUpstream", name, json!({"url": format!("https://{name}.example.com")}))
}

/// One condition of an object; null where it does not have it.
pub(crate) fn condition_of(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.cloned().unwrap_or_default()
}

/// An object without what nobody reads.
fn shown(mut object: Value) -> Value {
    object["metadata"].as_object_mut().map(|metadata| metadata.remove("managedFields"));
    object
}

/// What the API server calls a kind.
pub(crate) fn resource(kind: &str) -> ApiResource {
    let optional = |group: &str| ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    match kind {
        "DependencyProxy" => ApiResource::erase::<crds::DependencyProxy>(&()),
        "RegistryUpstream" => ApiResource::erase::<crds::RegistryUpstream>(&()),
        "DependencyProxyGroup" => ApiResource::erase::<crds::DependencyProxyGroup>(&()),
        "VirtualRegistry" => ApiResource::erase::<crds::VirtualRegistry>(&()),
        "PullBinding" => ApiResource::erase::<crds::PullBinding>(&()),
        "Secret" => ApiResource::erase::<Secret>(&()),
        "ConfigMap" => ApiResource::erase::<ConfigMap>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        "ServiceAccount" => ApiResource::erase::<ServiceAccount>(&()),
        "PersistentVolumeClaim" => ApiResource::erase::<PersistentVolumeClaim>(&()),
        "Pod" => ApiResource::erase::<Pod>(&()),
        "Namespace" => ApiResource::erase::<Namespace>(&()),
        "Lease" => ApiResource::erase::<Lease>(&()),
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "CronJob" => ApiResource::erase::<CronJob>(&()),
        "PodDisruptionBudget" => ApiResource::erase::<PodDisruptionBudget>(&()),
        "HorizontalPodAutoscaler" => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        "NetworkPolicy" => ApiResource::erase::<NetworkPolicy>(&()),
        "Ingress" => ApiResource::erase::<Ingress>(&()),
        "HTTPRoute" => optional("gateway.networking.k8s.io"),
        "Certificate" => optional("cert-manager.io"),
        "ServiceMonitor" | "PrometheusRule" => optional("monitoring.coreos.com"),
        other => panic!("no kind {other}"),
    }
}
