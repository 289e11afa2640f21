//! The cluster itself does what the other tests build on.

use harness::cluster::Cluster;
use harness::tool;

#[tokio::test]
async fn each_node_runs_a_pod_whose_image_kubelet_pulled_from_the_upstream_registry() {
    let Some(cluster) = Cluster::with_nodes().await else { return };
    cluster.upstream("library/busybox").await;
    for node in ["node1", "node2"] {
        // By its name: pods, DNS and Services work across nodes.
        let command = r#"[wget, -q, -O-, "http://registry.upstream.svc:5000/v2/_catalog"]"#;
        let said = run(cluster, node, "localhost:30501/library/busybox", command).await;
        assert!(said.contains("library/busybox"), "{said}");
    }
}

#[tokio::test]
async fn a_registry_that_is_not_at_localhost_is_asked_by_http_where_a_hosts_file_says_so() {
    let Some(cluster) = Cluster::with_nodes().await else { return };
    cluster.upstream("tools/crane").await;
    let registry = "198.19.0.12:30501";
    cluster.hosts(registry, &format!("[host.\"http://{registry}\"]")).await;
    let said = run(cluster, "node1", &format!("{registry}/tools/crane"), "[crane, version]").await;
    assert!(said.starts_with('v'), "{said}");
}

/// What a pod prints that runs this command to its end.
async fn run(cluster: &Cluster, node: &str, image: &str, command: &str) -> String {
    let kubectl = cluster.kubectl();
    let pod = format!("ground-{}", hex::encode(tool::random::<4>()));
    let document = format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: default}}
spec:
  nodeName: {node}
  restartPolicy: Never
  containers: [{{name: command, image: "{image}", command: {command}}}]
"#
    );
    kubectl.apply(&document).await;
    kubectl.wait("default", &format!("pod/{pod}"), "jsonpath={.status.phase}=Succeeded").await;
    let said = kubectl.run(&["logs", "-n", "default", &pod]).await.succeeds();
    kubectl.run(&["delete", "pod", "-n", "default", &pod, "--wait=false"]).await.succeeds();
    said.text
}

#[tokio::test]
async fn a_node_reaches_a_registry_by_its_node_port() {
    let Some(cluster) = Cluster::with_nodes().await else { return };
    cluster.upstream("library/busybox").await;
    for node in [1, 2] {
        let answer =
            cluster.node(node, &["curl", "-sS", "http://localhost:30501/v2/_catalog"]).await.succeeds();
        assert!(answer.text.contains("library/busybox"), "{}", answer.text);
    }
}
