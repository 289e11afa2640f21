//! A real GitLab runner, whose only knowledge of the proxy is the line that a PullBinding writes for it.

use std::path::Path;

use harness::tool;

use crate::gitlab::{GitLab, Job};
use crate::installation::Installation;
use crate::kubelet::{allow_http, consumer};

/// As in `.gitlab-ci.yml`: a runner expands it.
const IMAGE: &str = "${CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX}/busybox";
const SCRIPT: [&str; 2] = [r#"echo "server: $CI_DEPENDENCY_PROXY_SERVER""#, r#"echo "image: $CI_JOB_IMAGE""#];

/// Lets a runner with this `environment` line take its job, and waits until both have ended.
async fn run(
    (installation, runner): (&Installation, &Path),
    gitlab: &GitLab,
    name: &str,
    environment: &str,
) -> Job {
    // Nothing of this machine's own logins.
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config.toml");
    let text = format!(
        r#"
[[runners]]
name = "{name}"
url = "{url}"
token = "{name}"
executor = "kubernetes"
{environment}
[runners.kubernetes]
namespace = "runner-ci"
service_account = "jobs"
helper_image = "localhost/gitlab-runner-helper:1"
poll_interval = 1
cleanup_grace_period_seconds = 0
"#,
        url = gitlab.url
    );
    std::fs::write(&config, text).unwrap();
    gitlab.add(name, IMAGE, &SCRIPT);
    let words = [
        &format!("HOME={}", home.path().display()),
        runner.to_str().unwrap(),
        "run-single",
        "--max-builds=1",
        &format!("--config={}", config.display()),
        &format!("--runner={name}"),
    ];
    // Also where the job fails: that is told to GitLab alone.
    installation.kubectl.program(Path::new("env"), &words).await.succeeds();
    gitlab.job(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_runner_pulls_its_jobs_image_with_nothing_but_the_bindings_line() {
    let Some(runner) = tool::built_or_left_out("gitlab-runner") else { return };
    if tool::left_out(&["bash-static"], false) {
        return;
    }
    let Some(installation) = Installation::on_our_nodes().await else { return };
    let (instance, ()) =
        tokio::join!(installation.instance("runner", 30520, 1), installation.cluster.runner_helper());
    let registry = instance.host(1);
    allow_http(&installation, &registry).await;
    consumer(&installation, &instance, "runner-ci").await;
    // Jobs do not run as the account that the binding gave its pull secret.
    let kubectl = &installation.kubectl;
    kubectl.run(&["create", "serviceaccount", "-n", "runner-ci", "jobs"]).await.succeeds();
    let template = r#"go-template={{index .data "runner-environment.toml" | base64decode}}"#;
    let line = kubectl.run(&["get", "secret", "-n", "runner-ci", "credentials", "-o", template]).await;
    let line = line.succeeds().text;
    let without = line.replace("DOCKER_AUTH_CONFIG=", "SOMETHING_ELSE=");
    assert_ne!(line, without);

    let gitlab = GitLab::start().await;
    let (pulled, refused) = tokio::join!(
        run((&installation, &runner), &gitlab, "runner-of-team", &line),
        run((&installation, &runner), &gitlab, "runner-without-login", &without),
    );
    let prefix = format!("{registry}/runner/dependency_proxy/containers");
    assert_eq!(pulled.state, "success", "{}", pulled.log);
    assert!(pulled.log.contains(&format!("server: {registry}")), "{}", pulled.log);
    assert!(pulled.log.contains(&format!("image: {prefix}/busybox")), "{}", pulled.log);
    assert_eq!(refused.state, "failed", "{}", refused.log);
    assert!(refused.log.contains(&format!("Failed to pull image \"{prefix}/busybox\"")), "{}", refused.log);
    assert!(refused.log.contains("401 Unauthorized"), "{}", refused.log);

    let log = kubectl.run(&["logs", "-n", "runner", "deployment/main-dependency-proxy"]).await;
    let log = log.succeeds().text;
    let parts =
        ["/containers/busybox/manifests/latest", r#""status":200"#, r#""caller":"binding runner-ci/team""#];
    assert!(log.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{log}");
    kubectl.run(&["delete", "namespace", "runner-ci", "--wait=false"]).await.succeeds();
    instance.end().await;
}
