//! The cluster itself does what the other tests build on.

use harness::cluster::Cluster;

#[tokio::test]
async fn each_node_runs_a_pod_whose_image_kubelet_pulled_from_the_upstream_registry() {
    let Some(cluster) = Cluster::with_nodes().await else { return };
    cluster.upstream("library/busybox").await;
    let kubectl = cluster.kubectl();
    for node in ["node1", "node2"] {
        let pod = format!("ground-{node}");
        kubectl
            .apply(&format!(
                r#"
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: default}}
spec:
  nodeName: {node}
  restartPolicy: Never
  containers:
  - name: look
    image: localhost:30501/library/busybox
    # By its name: pods, DNS and Services work across nodes.
    command: [wget, -q, -O-, "http://registry.upstream.svc:5000/v2/_catalog"]
"#
            ))
            .await;
        kubectl.wait("default", &format!("pod/{pod}"), "jsonpath={.status.phase}=Succeeded").await;
        let said = kubectl.run(&["logs", "-n", "default", &pod]).await.succeeds();
        assert!(said.text.contains("library/busybox"), "{}", said.text);
        kubectl.run(&["delete", "pod", "-n", "default", &pod, "--wait=false"]).await.succeeds();
    }
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
