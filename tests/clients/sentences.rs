//! What a person reads when a pull is refused.

use harness::client::{Crane, Ctr, Docker, Regctl, Skopeo, Store};
use harness::image::Image;
use harness::tool;

use crate::ground::Ground;

const DENIED: &str = "HTTP Basic: Access denied. The user name, password or token is wrong or has expired.";
const SIGN_IN: &str = "Sign in first: docker login ";

async fn ground_with_an_image() -> (Ground, String) {
    let ground = Ground::new().await;
    ground.registry.repository("library/app").push(&Image::oci(), "1").await;
    let name = format!("{}:1", ground.in_group("library/app"));
    (ground, name)
}

#[tokio::test]
async fn docker_says_what_is_wrong_with_a_login() {
    if tool::left_out(&["dockerd", "docker", "containerd"], true) {
        return;
    }
    let ((ground, name), docker) = tokio::join!(ground_with_an_image(), Docker::start());
    docker.login(&ground.proxy.host(), &Ground::wrong_login()).await.fails_with(DENIED);
    docker.pull(&name).await.fails_with(SIGN_IN);
}

#[tokio::test]
async fn skopeo_says_what_is_wrong_with_a_login() {
    if tool::left_out(&["skopeo"], false) {
        return;
    }
    let (ground, name) = ground_with_an_image().await;
    let skopeo = Skopeo::new();
    skopeo.login(&ground.proxy.host(), &Ground::wrong_login()).await.fails_with("");
    skopeo.copy(&name, Some(&Ground::wrong_login())).await.0.fails_with(DENIED);
    skopeo.copy(&name, None).await.0.fails_with(SIGN_IN);
}

#[tokio::test]
async fn crane_says_what_is_wrong_with_a_login() {
    let (ground, name) = ground_with_an_image().await;
    let crane = Crane::new();
    crane.pull(&name).await.0.fails_with(SIGN_IN);
    // It only writes the credentials down; the pull tries them.
    crane.login(&ground.proxy.host(), &Ground::wrong_login()).await.succeeds();
    crane.pull(&name).await.0.fails_with(DENIED);
}

#[tokio::test]
async fn buildah_and_podman_say_what_is_wrong_with_a_login() {
    if tool::left_out(&["buildah", "podman"], true) {
        return;
    }
    let (ground, name) = ground_with_an_image().await;
    for client in [Store::buildah(), Store::podman()] {
        client.login(&ground.proxy.host(), &Ground::wrong_login()).await.fails_with("");
        client.pull(&name, Some(&Ground::wrong_login())).await.fails_with(DENIED);
    }
}

/// These two print the status and not the sentence.
#[tokio::test]
async fn containerd_and_regctl_refuse_a_wrong_login() {
    let (ground, name) = ground_with_an_image().await;
    Regctl::new().login(&ground.proxy.host(), &Ground::wrong_login()).await.fails_with("unauthorized");
    if !tool::left_out(&["containerd", "ctr"], true) {
        Ctr::start().await.pull(&name, &Ground::wrong_login()).await.fails_with("401 Unauthorized");
    }
}

#[tokio::test]
async fn a_group_without_a_role_and_no_group_are_refused_with_the_same_words() {
    if tool::left_out(&["skopeo"], false) {
        return;
    }
    let (ground, _) = ground_with_an_image().await;
    let name = format!("{}/team-b/dependency_proxy/containers/library/app:1", ground.proxy.host());
    let (output, _) = Skopeo::new().copy(&name, Some(&Ground::login())).await;
    // Its log format escapes the quotes around team-b.
    output.fails_with("or ci has no role in it. Check the path, or ask its owner for the Guest role.");
}

#[tokio::test]
async fn an_unknown_image_is_told_apart_from_an_outage() {
    let (mut ground, _) = ground_with_an_image().await;
    let regctl = Regctl::new();
    regctl.login(&ground.proxy.host(), &Ground::login()).await.succeeds();
    let name = format!("{}:1", ground.in_virtual_registry("library/none"));
    regctl.copy(&name).await.0.fails_with("was not found. empty: 404; local: 404.");
    ground.registry.stop();
    regctl.copy(&name).await.0.fails_with("library/none:1 is not cached. Cached images still work.");
}
