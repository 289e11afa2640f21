//! What each rule of the definitions accepts and refuses. A rule without a case fails `every_rule_has_a_case`.

use serde_json::{Value, json};

/// A rule, and two merge patches of the least object of its kind: one that it accepts, one that it refuses.
pub(crate) struct Case {
    pub(crate) kind: &'static str,
    /// Where the rule stands in the schema: `[]` is any item of a list.
    pub(crate) field: &'static str,
    pub(crate) message: &'static str,
    pub(crate) accepted: Value,
    pub(crate) refused: Value,
}

fn case(
    kind: &'static str,
    field: &'static str,
    message: &'static str,
    accepted: Value,
    refused: Value,
) -> Case {
    let spec = |patch: Value| if patch.get("metadata").is_some() { patch } else { json!({"spec": patch}) };
    Case { kind, field, message, accepted: spec(accepted), refused: spec(refused) }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [instance(), upstream(), group(), registry_and_binding()].into_iter().flatten().collect()
}

fn instance() -> Vec<Case> {
    let case = |field, message, accepted, refused| case("DependencyProxy", field, message, accepted, refused);
    let s3 = |rest: Value| {
        let mut s3 = json!({"bucket": "blobs"});
        merge(&mut s3, &rest);
        json!({"storage": {"s3": s3}})
    };
    let claim = |replicas: i32, modes: Value| {
        let claim = json!({"size": "10Gi", "accessModes": modes});
        json!({"replicas": replicas, "storage": {"s3": null, "persistentVolumeClaim": claim}})
    };
    let ephemeral = |rest: Value| {
        let mut spec = json!({"storage": {"s3": null, "ephemeral": {}}});
        merge(&mut spec, &rest);
        spec
    };
    let autoscaling = |least: i32, most: i32| json!({"minReplicas": least, "maxReplicas": most});
    let volume = "a volume is for one replica; use object storage for more";
    let one_replica = "ephemeral storage is for one replica; use object storage for more";
    let url = "must be an http or https URL";
    let root = "must have no path, query, fragment or user name: clients require the registry at the root of the host";
    let plain = "each must be an http or https URL without path, query, fragment or user name";
    let one_kind = "set exactly one of s3, gcs, azure, persistentVolumeClaim and ephemeral";
    let one_target = "set exactly one of groupRef and virtualRegistryRef";
    let selector = "selector is required with from: Selector and forbidden otherwise";
    let endpoint = "must be an http or https URL without user name";
    let prefix = "must have no slash at its ends and no empty part";
    let secretless = "must have no user name or password";
    let gigabytes = "must be a quantity above zero, such as 10Gi";
    let size = "must be a quantity above zero, such as 100Gi";
    let image = "tag and digest need repository";
    let node_port = "nodePort needs type NodePort or LoadBalancer";
    let certificate = "set exactly one of secretRef and issuerRef";
    let overlap = "signingKeys.overlapSeconds must be at least tokenTTLSeconds: tokens of the key before are still in use";
    vec![
        case(
            "",
            "name must have at most 40 characters, because names of other objects are made from it",
            json!({"metadata": {"name": "x".repeat(40)}}),
            json!({"metadata": {"name": "x".repeat(41)}}),
        ),
        case(
            "spec",
            "set replicas or autoscaling, not both",
            json!({"autoscaling": autoscaling(1, 3)}),
            json!({"replicas": 2, "autoscaling": autoscaling(1, 3)}),
        ),
        case("spec", one_replica, ephemeral(json!({"replicas": 1})), ephemeral(json!({"replicas": 2}))),
        case("spec", one_replica, ephemeral(json!({})), ephemeral(json!({"autoscaling": autoscaling(1, 2)}))),
        case("spec", volume, claim(1, json!([])), claim(2, json!([]))),
        case("spec", volume, claim(1, json!(["ReadWriteMany"])), claim(2, json!(["ReadWriteMany"]))),
        case(
            "spec.externalURL",
            url,
            json!({"externalURL": "http://x:5000"}),
            json!({"externalURL": "ftp://x"}),
        ),
        case(
            "spec.externalURL",
            url,
            json!({"externalURL": "https://x/"}),
            json!({"externalURL": "not a url"}),
        ),
        case("spec.externalURL", url, json!({"externalURL": "https://x"}), json!({"externalURL": "https:"})),
        case(
            "spec.externalURL",
            root,
            json!({"externalURL": "https://x/"}),
            json!({"externalURL": "https://x/reg"}),
        ),
        case(
            "spec.externalURL",
            root,
            json!({"externalURL": "https://x"}),
            json!({"externalURL": "https://x/?a=b"}),
        ),
        case(
            "spec.externalURL",
            root,
            json!({"externalURL": "https://[::1]:1"}),
            json!({"externalURL": "https://u@x"}),
        ),
        case(
            "spec.externalURL",
            root,
            json!({"externalURL": "https://x"}),
            json!({"externalURL": "https://x/#a"}),
        ),
        case(
            "spec.additionalURLs",
            plain,
            json!({"additionalURLs": ["http://main.svc:5000", "https://x/"]}),
            json!({"additionalURLs": ["https://x", "https://x/a"]}),
        ),
        case(
            "spec.additionalURLs",
            plain,
            json!({"additionalURLs": ["https://[::1]:5000"]}),
            json!({"additionalURLs": ["https:"]}),
        ),
        case(
            "spec.cleanup.schedule",
            "must be five fields of a CronJob's schedule, such as 0 3 * * *",
            json!({"cleanup": {"schedule": "*/30 0-5,22 * JAN MON-FRI"}}),
            json!({"cleanup": {"schedule": "once a day at three"}}),
        ),
        case(
            "spec.quota.storageBytes",
            "must be a quantity above zero, such as 500Gi",
            json!({"quota": {"storageBytes": "10Ti"}}),
            json!({"quota": {"storageBytes": "0"}}),
        ),
        case(
            "spec.aliases[]",
            one_target,
            json!({"aliases": [{"prefix": "a", "groupRef": {"name": "a"}}, {"prefix": "b", "virtualRegistryRef": {"name": "a"}}]}),
            json!({"aliases": [{"prefix": "a"}]}),
        ),
        case(
            "spec.mirrors[]",
            one_target,
            json!({"mirrors": [{"host": "a", "groupRef": {"name": "a"}}]}),
            json!({"mirrors": [{"host": "a", "groupRef": {"name": "a"}, "virtualRegistryRef": {"name": "a"}}]}),
        ),
        case(
            "spec.allowedGroups",
            selector,
            json!({"allowedGroups": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}),
            json!({"allowedGroups": {"from": "Selector"}}),
        ),
        case(
            "spec.allowedGroups",
            selector,
            json!({"allowedGroups": {}}),
            json!({"allowedGroups": {"selector": {}}}),
        ),
        case(
            "spec.auth",
            overlap,
            json!({"auth": {"tokenTTLSeconds": 3600}}),
            json!({"auth": {"tokenTTLSeconds": 3600, "signingKeys": {"overlapSeconds": 3599}}}),
        ),
        case(
            "spec.auth.signingKeys",
            "overlapSeconds must be less than rotationPeriodSeconds",
            json!({"auth": {"signingKeys": {"rotationPeriodSeconds": 7201}}}),
            json!({"auth": {"signingKeys": {"rotationPeriodSeconds": 7200}}}),
        ),
        case(
            "spec.autoscaling",
            "minReplicas must be at most maxReplicas",
            json!({"autoscaling": autoscaling(3, 3)}),
            json!({"autoscaling": autoscaling(4, 3)}),
        ),
        case(
            "spec.egress.httpProxy",
            secretless,
            json!({"egress": {"httpProxy": "http://proxy:3128"}}),
            json!({"egress": {"httpProxy": "http://u:p@proxy:3128"}}),
        ),
        case(
            "spec.egress.httpsProxy",
            secretless,
            json!({"egress": {"httpsProxy": "http://proxy:3128"}}),
            json!({"egress": {"httpsProxy": "http://u:p@proxy:3128"}}),
        ),
        case(
            "spec.expose.service",
            node_port,
            json!({"expose": {"service": {"type": "NodePort", "nodePort": 30500}}}),
            json!({"expose": {"service": {"nodePort": 30500}}}),
        ),
        case(
            "spec.image",
            image,
            json!({"image": {"repository": "a/b", "tag": "1"}}),
            json!({"image": {"tag": "1"}}),
        ),
        case(
            "spec.image",
            image,
            json!({"image": {"pullPolicy": "Always"}}),
            json!({"image": {"digest": "sha256:0"}}),
        ),
        case(
            "spec.localCache.sizeLimit",
            gigabytes,
            json!({"localCache": {"sizeLimit": "500Mi"}}),
            json!({"localCache": {"sizeLimit": "0"}}),
        ),
        case("spec.storage", one_kind, s3(json!({})), json!({"storage": {"gcs": {"bucket": "blobs"}}})),
        case("spec.storage", one_kind, ephemeral(json!({})), json!({"storage": {"s3": null}})),
        case(
            "spec.storage.persistentVolumeClaim.size",
            size,
            claim(1, json!([])),
            json!({"storage": {"s3": null, "persistentVolumeClaim": {"size": "many"}}}),
        ),
        case(
            "spec.storage.s3.endpoint",
            endpoint,
            s3(json!({"endpoint": "http://s3:7070"})),
            s3(json!({"endpoint": "s3:7070"})),
        ),
        case(
            "spec.storage.s3.endpoint",
            endpoint,
            s3(json!({"endpoint": "https://s3.example.com"})),
            s3(json!({"endpoint": "https://key:secret@s3.example.com"})),
        ),
        case(
            "spec.storage.s3.endpoint",
            endpoint,
            s3(json!({"endpoint": "http://[::1]:7070"})),
            s3(json!({"endpoint": "http://:7070"})),
        ),
        case("spec.storage.s3.prefix", prefix, s3(json!({"prefix": "a/b"})), s3(json!({"prefix": "/a"}))),
        case("spec.storage.s3.prefix", prefix, s3(json!({"prefix": "a"})), s3(json!({"prefix": "a//b"}))),
        case("spec.tls", certificate, json!({"tls": {"secretRef": {"name": "tls"}}}), json!({"tls": {}})),
        case(
            "spec.tls",
            certificate,
            json!({"tls": {"issuerRef": {"name": "ca"}}}),
            json!({"tls": {"secretRef": {"name": "tls"}, "issuerRef": {"name": "ca"}}}),
        ),
        case(
            "spec.upstreamNetworks.allowedCIDRs",
            "each must be a network such as 10.1.0.0/16",
            json!({"upstreamNetworks": {"allowedCIDRs": ["10.0.0.0/8", "fd00::/8"]}}),
            json!({"upstreamNetworks": {"allowedCIDRs": ["10.0.0.0"]}}),
        ),
    ]
}

fn upstream() -> Vec<Case> {
    let case =
        |field, message, accepted, refused| case("RegistryUpstream", field, message, accepted, refused);
    let url = |url: &str| json!({"url": url});
    vec![
        case(
            "spec",
            "an http upstream needs insecure: true",
            json!({"url": "http://x", "insecure": true}),
            json!({"url": "http://x"}),
        ),
        case(
            "spec.allowedGroups",
            "selector is required with from: Selector and forbidden otherwise",
            json!({"allowedGroups": {"from": "All"}}),
            json!({"allowedGroups": {"from": "All", "selector": {}}}),
        ),
        case("spec.url", "must be an http or https URL", url("https://x/path"), url("ftp://x")),
        case("spec.url", "must be an http or https URL", url("https://[::1]:5000"), url("https:")),
        case("spec.url", "must be an http or https URL", url("https://x"), url("https:///path")),
        case(
            "spec.url",
            "put credentials in credentialsSecretRef, never in the URL",
            url("https://x"),
            url("https://u:p@x"),
        ),
        case("spec.url", "must have no query and no fragment", url("https://x"), url("https://x?a")),
        case("spec.url", "must have no query and no fragment", url("https://x:5000"), url("https://x#a")),
    ]
}

fn group() -> Vec<Case> {
    let case =
        |field, message, accepted, refused| case("DependencyProxyGroup", field, message, accepted, refused);
    let path = |path: &str| json!({"path": path});
    let cadence = |days: i32| json!({"cleanup": {"virtualRegistries": {"cadenceDays": days}}});
    let member = |subject: Value| json!({"members": [{"name": "m", "role": "Guest", "subject": subject}]});
    let segments = "must be lower-case segments such as team-a or team-a/child";
    let reserved = "must not have the segments dependency_proxy and virtual_registries";
    let namespace = "namespace is required for a ServiceAccount and forbidden otherwise";
    vec![
        case(
            "spec.allowedConsumers",
            "selector is required with from: Selector and forbidden otherwise",
            json!({"allowedConsumers": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}),
            json!({"allowedConsumers": {"from": "Selector"}}),
        ),
        case(
            "spec.cleanup.virtualRegistries.cadenceDays",
            "must be one of 1, 7, 14, 30 and 90",
            cadence(90),
            cadence(2),
        ),
        case(
            "spec.members[].subject",
            namespace,
            member(json!({"kind": "ServiceAccount", "name": "runner", "namespace": "ci"})),
            member(json!({"kind": "ServiceAccount", "name": "runner"})),
        ),
        case(
            "spec.members[].subject",
            namespace,
            member(json!({"kind": "User", "name": "alice"})),
            member(json!({"kind": "User", "name": "alice", "namespace": "ci"})),
        ),
        case("spec.path", segments, path("a.b/c_d/e--f"), path("Team")),
        case("spec.path", segments, path("team-a/child"), path("team-a//child")),
        case("spec.path", segments, path(&vec!["a"; 20].join("/")), path(&vec!["a"; 21].join("/"))),
        case("spec.path", reserved, path("team-a/dependency"), path("team-a/dependency_proxy")),
        case("spec.path", reserved, path("registries"), path("virtual_registries/team-a")),
        case(
            "spec.quota.storageBytes",
            "must be a quantity above zero, such as 500Gi",
            json!({"quota": {"storageBytes": "1Gi"}}),
            json!({"quota": {"storageBytes": "-1"}}),
        ),
    ]
}

fn registry_and_binding() -> Vec<Case> {
    let registry = |upstreams: Value| json!({"upstreams": upstreams});
    let variables = json!({"configMapName": "variables", "secretName": "credentials"});
    let once = "each upstream may stand in the list once";
    let binding = |field, message, accepted, refused| case("PullBinding", field, message, accepted, refused);
    let name = "must be a name: lower-case letters, digits, '-' and '.'";
    let names = "each must be a name: lower-case letters, digits, '-' and '.'";
    let asked =
        |map: &str, secret: &str| json!({"ciVariables": {"configMapName": map, "secretName": secret}});
    vec![
        case(
            "VirtualRegistry",
            "spec.upstreams",
            once,
            registry(json!([{"name": "a"}, {"name": "a", "namespace": "other"}])),
            registry(json!([{"name": "a"}, {"name": "b"}, {"name": "a"}])),
        ),
        case(
            "PullBinding",
            "spec",
            "ask for at least one of pullSecretName and ciVariables",
            json!({"pullSecretName": null, "ciVariables": variables}),
            json!({"pullSecretName": null}),
        ),
        case(
            "PullBinding",
            "spec",
            "credentialsSecretRef is for documents in files: in a cluster the operator keeps credentials of its own; take it out",
            json!({}),
            json!({"credentialsSecretRef": {"name": "mine"}}),
        ),
        case(
            "PullBinding",
            "spec",
            "serviceAccounts need pullSecretName: that is the Secret that they get",
            json!({"serviceAccounts": ["default"]}),
            json!({"pullSecretName": null, "ciVariables": variables, "serviceAccounts": ["default"]}),
        ),
        binding(
            "spec.pullSecretName",
            name,
            json!({"pullSecretName": "pull.team-a"}),
            json!({"pullSecretName": "Pull"}),
        ),
        binding(
            "spec.pullSecretName",
            name,
            json!({"pullSecretName": "0"}),
            json!({"pullSecretName": "a/../b"}),
        ),
        binding(
            "spec.serviceAccounts",
            names,
            json!({"serviceAccounts": ["default", "ci.runner"]}),
            json!({"serviceAccounts": ["default", "-runner"]}),
        ),
        binding("spec.ciVariables.configMapName", name, asked("a", "b"), asked("a b", "b")),
        binding("spec.ciVariables.secretName", name, asked("a", "b"), asked("a", "b-")),
    ]
}

/// Fields that stay as they are created: kind, field, message, a change.
pub(crate) fn immutable() -> [(&'static str, &'static str, &'static str, Value); 3] {
    [
        (
            "DependencyProxyGroup",
            "spec.path",
            "path cannot be changed: it is part of every image name",
            json!({"path": "team-b"}),
        ),
        (
            "DependencyProxyGroup",
            "spec.proxyRef",
            "proxyRef cannot be changed",
            json!({"proxyRef": {"namespace": "other"}}),
        ),
        (
            "VirtualRegistry",
            "spec.groupRef",
            "groupRef cannot be changed",
            json!({"groupRef": {"name": "team-b"}}),
        ),
    ]
}

/// A JSON merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(fields), Value::Object(changes)) = (&mut *target, patch) else {
        *target = patch.clone();
        return;
    };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name).or_insert_with(|| json!({})), change);
        }
    }
}
