//! What a runner sees of GitLab: jobs to fetch, their log, their end. No GitLab server can be started here.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{patch, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// It ends when this is dropped.
pub(crate) struct GitLab {
    pub(crate) url: String,
    jobs: Jobs,
    server: AbortHandle,
}

/// A job's id is its place here.
type Jobs = Arc<Mutex<Vec<Job>>>;

/// A job, and what its runner told of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// The token of the runner that shall have it.
    runner: String,
    /// As `image:` of `.gitlab-ci.yml` has it.
    image: String,
    script: Vec<String>,
    is_fetched: bool,
    pub(crate) log: String,
    /// `running`, then `success` or `failed`.
    pub(crate) state: String,
}

impl GitLab {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let jobs = Jobs::default();
        let router = Router::new()
            .route("/api/v4/jobs/request", post(request))
            .route("/api/v4/jobs/{id}/trace", patch(append))
            .route("/api/v4/jobs/{id}", put(update))
            .with_state(jobs.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, jobs, server: server.abort_handle() }
    }

    /// Has a job ready for the runner with this token.
    pub(crate) fn add(&self, runner: &str, image: &str, script: &[&str]) {
        let script = script.iter().copied().map(str::to_owned).collect();
        let job = Job { runner: runner.to_owned(), image: image.to_owned(), script, ..Job::default() };
        self.jobs.lock().unwrap().push(job);
    }

    /// The job of this runner as it is now.
    pub(crate) fn job(&self, runner: &str) -> Job {
        self.jobs.lock().unwrap().iter().find(|job| job.runner == runner).unwrap().clone()
    }
}

impl Drop for GitLab {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A runner asks for work.
async fn request(State(jobs): State<Jobs>, Json(asked): Json<Value>) -> (StatusCode, Json<Value>) {
    let mut jobs = jobs.lock().unwrap();
    let next = jobs.iter_mut().enumerate().find(|(_, job)| !job.is_fetched && asked["token"] == *job.runner);
    let Some((id, job)) = next else { return (StatusCode::NO_CONTENT, Json(Value::Null)) };
    job.is_fetched = true;
    (StatusCode::CREATED, Json(payload(id, job)))
}

/// A job as GitLab hands it out, without its variables: those of the dependency proxy come from the runner alone.
fn payload(id: usize, job: &Job) -> Value {
    let commit = "0".repeat(40);
    json!({
        "id": id,
        "token": format!("token-of-job-{id}"),
        "job_info": {"name": "test", "stage": "test", "project_id": 1, "project_name": "app"},
        "git_info": {
            "repo_url": "http://gitlab.invalid/team/app.git",
            "ref": "main", "ref_type": "branch", "sha": commit, "before_sha": commit,
        },
        "runner_info": {"timeout": 120},
        "variables": [{"key": "GIT_STRATEGY", "value": "none", "public": true}],
        "steps": [{"name": "script", "script": job.script, "timeout": 120, "when": "on_success"}],
        "image": {"name": job.image},
    })
}

/// A runner sends the next piece of a job's log: `Content-Range` says where it begins.
async fn append(
    State(jobs): State<Jobs>,
    Path(id): Path<usize>,
    headers: HeaderMap,
    piece: String,
) -> (StatusCode, [(&'static str, String); 1]) {
    let log = &mut jobs.lock().unwrap()[id].log;
    let range = headers["content-range"].to_str().unwrap();
    let fits = range.split('-').next() == Some(&log.len().to_string());
    if fits {
        log.push_str(&piece);
    }
    let status = if fits { StatusCode::ACCEPTED } else { StatusCode::RANGE_NOT_SATISFIABLE };
    (status, [("range", format!("0-{}", log.len()))])
}

/// A runner tells how a job is.
async fn update(State(jobs): State<Jobs>, Path(id): Path<usize>, Json(told): Json<Value>) {
    told["state"].as_str().unwrap_or_default().clone_into(&mut jobs.lock().unwrap()[id].state);
}
