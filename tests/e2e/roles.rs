//! What people may do who have the cluster's own roles.

use std::time::Duration;

use crate::installation::{Installation, within};

const NAMESPACE: &str = "roles";

#[tokio::test(flavor = "multi_thread")]
async fn a_team_may_write_its_own_kinds_and_only_a_platform_admin_an_instance() {
    let Some(installation) = Installation::alone().await else { return };
    let kubectl = &installation.kubectl;
    kubectl.run(&["create", "namespace", NAMESPACE]).await.succeeds();
    for role in ["view", "edit", "admin", "dependency-proxy-platform-admin"] {
        let (role_of, user) = (format!("--clusterrole={role}"), format!("--user={role}"));
        let binding = ["create", "rolebinding", role, &role_of, &user, "-n", NAMESPACE];
        kubectl.run(&binding).await.succeeds();
    }
    let may = async |user: &str, verb: &str, kind: &str| {
        let kind = format!("{kind}.dependencyproxy.dev");
        kubectl.run(&["auth", "can-i", verb, &kind, "-n", NAMESPACE, "--as", user]).await.success
    };
    // Kubernetes adds to its roles in its own time.
    let has_been_added = async || may("view", "get", "pullbindings").await;
    within(Duration::from_secs(30), "the roles are added to", has_been_added).await;
    for kind in ["dependencyproxygroups", "registryupstreams", "virtualregistries", "pullbindings"] {
        assert!(may("edit", "create", kind).await, "edit: {kind}");
        assert!(may("admin", "deletecollection", kind).await, "admin: {kind}");
        assert!(!may("view", "create", kind).await, "view: {kind}");
    }
    for user in ["view", "edit", "admin"] {
        assert!(!may(user, "update", "dependencyproxies").await, "{user} may write an instance");
    }
    assert!(may("dependency-proxy-platform-admin", "create", "dependencyproxies").await);
    kubectl.run(&["delete", "namespace", NAMESPACE, "--wait=false"]).await.succeeds();
}
