//! `check`: what is wrong with documents, and where.

use harness::documents::Documents;
use harness::hostile::Upstream;
use serde_json::json;

use crate::ground::{documents, printed, run};

/// Runs `check` on these documents: exit code and standard output.
fn check(documents: &Documents) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.yaml");
    documents.write(&file);
    let file = file.to_str().unwrap();
    let output = run(&["check", "-f", file]);
    (output.status.code(), printed(&output), file.to_owned())
}

#[tokio::test]
async fn good_documents_have_no_problems() {
    let upstream = Upstream::start().await;
    let (code, text, _) = check(&documents("http://127.0.0.1:5000", &upstream));
    assert_eq!((code, text.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn each_problem_is_one_line_with_file_line_document_field_and_what_to_do() {
    let upstream = Upstream::start().await;
    let mut documents = documents("http://127.0.0.1:5000", &upstream);
    documents.spec("RegistryUpstream", "upstream")["cacheValidityHours"] = json!(-1);
    documents.group("team-b", "absent");
    let (code, text, file) = check(&documents);
    assert_eq!(code, Some(1));
    let yaml = documents.yaml();
    let line_of = |text: &str| yaml.lines().position(|line| line.contains(text)).unwrap() + 1;
    let validity = format!(
        "{file}:{} RegistryUpstream dp/upstream spec.cacheValidityHours: ",
        line_of("cacheValidityHours")
    );
    let found = text.lines().filter(|line| line.starts_with(&validity)).count();
    assert_eq!(found, 1, "{validity}\n{text}");
    let dangling = "DependencyProxyGroup dp/team-b spec.upstreamRef";
    let dangling = text.lines().find(|line| line.contains(dangling)).unwrap_or_else(|| panic!("{text}"));
    assert!(dangling.starts_with(&format!("{file}:")), "{dangling}");
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let output = run(&["check", "-f", "absent.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).starts_with("absent.yaml File: cannot be read"), "{}", printed(&output));
}

#[test]
fn without_documents_it_says_how_it_is_used() {
    let output = run(&["check"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("dependency-proxy check -f FILE_OR_FOLDER"));
}

#[tokio::test]
async fn documents_that_would_not_be_served_at_all_stop_serve_with_the_same_lines() {
    let upstream = Upstream::start().await;
    let mut documents = documents("not a URL", &upstream);
    documents.spec("DependencyProxy", "main")["externalURL"] = json!("not a URL");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.yaml");
    documents.write(&file);
    let data = folder.path().join("data");
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    let checked = run(&["check", "-f", file]);
    assert_eq!(checked.status.code(), Some(1));
    let first = printed(&checked).lines().next().unwrap().to_owned();
    let served = run(&[
        "serve",
        "-f",
        file,
        "--data-dir",
        data,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    assert_eq!(served.status.code(), Some(1));
    let said = String::from_utf8_lossy(&served.stderr).into_owned();
    assert!(said.contains(&first), "{first:?} is not in {said}");
}

#[test]
fn no_problem_quotes_a_secret() {
    let text = r#"
apiVersion: v1
kind: Secret
metadata: {name: number, namespace: dp}
type: kubernetes.io/basic-auth
stringData: {username: robot, password: 48151623421}
---
apiVersion: v1
kind: Secret
metadata: {name: base64, namespace: dp}
type: kubernetes.io/basic-auth
data: {username: cm9ib3Q=, password: "XnotbaseX sixtyfour!"}
---
apiVersion: v1
kind: Secret
metadata: {name: whole, namespace: dp}
stringData: XwholeX
---
apiVersion: v1
kind: Secret
metadata: {name: users, namespace: dp}
stringData: {users: "alice:XplainX\nXjunkX"}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxy
metadata: {name: main, namespace: dp}
spec:
  externalURL: "http://user:XurlX@127.0.0.1:5000"
  storage: {s3: {bucket: abc, endpoint: "http://user:XendpointX@s3.example"}}
  auth: {staticUsersSecretRef: {name: users}}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: RegistryUpstream
metadata: {name: upstream, namespace: dp}
spec: {url: "https://user:XupstreamX@registry.example", credentialsSecretRef: {name: number}}
---
{kind: "XbrokenX
"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.yaml");
    std::fs::write(&file, text).unwrap();
    let output = run(&["check", "-f", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = printed(&output) + &String::from_utf8_lossy(&output.stderr);
    assert!(said.lines().count() >= 8, "each of them is a problem: {said}");
    let secrets = [
        "48151623421",
        "XnotbaseX",
        "XwholeX",
        "XplainX",
        "XjunkX",
        "XurlX",
        "XendpointX",
        "XupstreamX",
        "XbrokenX",
    ];
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} is in {said}");
    }
}
