//! What a binding's namespace gets. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use url::Url;

use crate::apply::{FIELD_MANAGER, Object};
use crate::world::{CREDENTIALS, credentials_secret, id_of};
use crds::PullBinding;

/// What is handed out.
pub(super) struct Grant<'a> {
    pub url: Url,
    /// Path of the group.
    pub path: &'a str,
    pub username: &'a str,
    pub password: &'a str,
}

impl Grant<'_> {
    /// Host and port, the port always stated, as GitLab's variables have it.
    fn server(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{host}:{}", self.url.port_or_known_default().unwrap_or(443))
    }

    /// The registry as clients write it: with the port only where the URL states one.
    fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    fn prefix(&self, path: &str) -> String {
        format!("{}/{}/dependency_proxy/containers", self.server(), path.to_lowercase())
    }

    /// The variables that are no secret.
    fn variables(&self) -> BTreeMap<String, String> {
        let top = self.path.split('/').next().unwrap_or_default();
        let variable = |name: &str, value: String| (format!("CI_DEPENDENCY_PROXY_{name}"), value);
        BTreeMap::from([
            variable("SERVER", self.server()),
            variable("GROUP_IMAGE_PREFIX", self.prefix(top)),
            variable("DIRECT_GROUP_IMAGE_PREFIX", self.prefix(self.path)),
        ])
    }

    /// A docker configuration: clients look a registry up with and without its port.
    pub(super) fn docker_config(&self) -> Value {
        let auth = data_encoding(&format!("{}:{}", self.username, self.password));
        let entry = json!({"username": self.username, "password": self.password, "auth": auth});
        json!({"auths": {self.host(): entry, self.server(): entry}})
    }

    /// `environment` of a GitLab runner's configuration: a runner expands `image:` from job and runner variables only.
    fn runner_environment(&self) -> String {
        let mut lines =
            self.variables().into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        lines.push(format!("CI_DEPENDENCY_PROXY_USER={}", self.username));
        lines.push(format!("CI_DEPENDENCY_PROXY_PASSWORD={}", self.password));
        lines.push(format!("DOCKER_AUTH_CONFIG={}", self.docker_config()));
        format!("environment = {}\n", json!(lines))
    }
}

/// What is handed out; nothing without a grant.
pub(super) fn all(binding: &PullBinding, grant: Option<&Grant<'_>>) -> Vec<Object> {
    let Some(grant) = grant else { return Vec::new() };
    let mut objects = Vec::new();
    objects.extend(binding.spec.pull_secret_name.as_ref().map(|name| pull_secret(binding, name, grant)));
    if let Some(names) = &binding.spec.ci_variables {
        objects.push(variables(binding, &names.config_map_name, grant));
        objects.push(secret_variables(binding, &names.secret_name, grant));
    }
    objects
}

/// The Secret in which the credentials are kept.
pub(super) fn kept(
    binding: &PullBinding,
    data: BTreeMap<String, ByteString>,
    annotations: BTreeMap<String, String>,
) -> Object {
    let name = credentials_secret(&id_of(binding)).name;
    Object::of(&Secret {
        metadata: ObjectMeta { annotations: Some(annotations), ..metadata(binding, &name) },
        type_: Some(CREDENTIALS.to_owned()),
        data: Some(data),
        ..Secret::default()
    })
}

fn pull_secret(binding: &PullBinding, name: &str, grant: &Grant<'_>) -> Object {
    let config = grant.docker_config().to_string().into_bytes();
    Object::of(&Secret {
        metadata: metadata(binding, name),
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        data: Some(BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(config))])),
        ..Secret::default()
    })
}

fn variables(binding: &PullBinding, name: &str, grant: &Grant<'_>) -> Object {
    Object::of(&ConfigMap {
        metadata: metadata(binding, name),
        data: Some(grant.variables()),
        ..ConfigMap::default()
    })
}

fn secret_variables(binding: &PullBinding, name: &str, grant: &Grant<'_>) -> Object {
    let entry = |name: &str, value: String| (name.to_owned(), ByteString(value.into_bytes()));
    let data = BTreeMap::from([
        entry("CI_DEPENDENCY_PROXY_USER", grant.username.to_owned()),
        entry("CI_DEPENDENCY_PROXY_PASSWORD", grant.password.to_owned()),
        entry("DOCKER_AUTH_CONFIG", grant.docker_config().to_string()),
        entry("runner-environment.toml", grant.runner_environment()),
    ]);
    Object::of(&Secret {
        metadata: metadata(binding, name),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    })
}

fn metadata(binding: &PullBinding, name: &str) -> ObjectMeta {
    let label = |key: &str, value: String| (format!("app.kubernetes.io/{key}"), value);
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: binding.namespace(),
        labels: Some(BTreeMap::from([
            label("managed-by", FIELD_MANAGER.to_owned()),
            label("part-of", "dependency-proxy".to_owned()),
            ("dependencyproxy.dev/binding".to_owned(), binding.name_any().chars().take(63).collect()),
        ])),
        owner_references: binding.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn data_encoding(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn grant(url: &str) -> Grant<'static> {
        Grant { url: Url::parse(url).unwrap(), path: "team-a/child", username: "ci.b", password: "p" }
    }

    #[test]
    fn variables_have_gitlabs_form_with_the_port_stated() {
        let variables = grant("https://proxy.example.com").variables();
        assert_eq!(variables["CI_DEPENDENCY_PROXY_SERVER"], "proxy.example.com:443");
        assert_eq!(
            variables["CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX"],
            "proxy.example.com:443/team-a/dependency_proxy/containers"
        );
        assert_eq!(
            variables["CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX"],
            "proxy.example.com:443/team-a/child/dependency_proxy/containers"
        );
    }

    #[test]
    fn a_pull_secret_is_found_with_and_without_the_port() {
        let config = grant("https://proxy.example.com").docker_config();
        let hosts = config["auths"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(hosts, ["proxy.example.com", "proxy.example.com:443"]);
        let config = grant("http://10.0.0.1:30500").docker_config();
        assert_eq!(config["auths"].as_object().unwrap().len(), 1);
        assert!(config["auths"]["10.0.0.1:30500"]["auth"].is_string());
    }

    #[test]
    fn a_runners_environment_is_one_line_of_toml() {
        let text = grant("https://proxy.example.com").runner_environment();
        let list = text.strip_prefix("environment = ").unwrap();
        let list = serde_json::from_str::<Vec<String>>(list).unwrap();
        assert!(list.iter().any(|line| line == "CI_DEPENDENCY_PROXY_USER=ci.b"));
        assert!(list.iter().any(|line| line.starts_with("DOCKER_AUTH_CONFIG={\"auths\":")));
    }
}
