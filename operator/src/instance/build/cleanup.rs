//! The job that keeps the bucket or the volume within its bounds.

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{Affinity, PodAffinity, PodSpec, PodTemplateSpec};
use kube::api::ObjectMeta;

use super::{metadata, pod};
use crate::apply::Object;
use crate::instance::plan::{Plan, has_cleanup};

/// Seconds after its time within which a missed run is still begun.
const LATE: i64 = 3600;
/// What Kubernetes shows of a container that has ended.
const MESSAGE: &str = "/dev/termination-log";

/// `None` where no other pod reaches what the proxy keeps: an ephemeral folder, or a volume for a single pod.
pub(super) fn cleanup(plan: &Plan) -> Option<Object> {
    let mut arguments = vec!["cleanup".to_owned()];
    arguments.push(format!("--termination-log={MESSAGE}"));
    if plan.spec.cleanup.verify_minutes > 0 {
        arguments.push("--verify".to_owned());
        arguments.push(format!("--verify-for={}m", plan.spec.cleanup.verify_minutes));
    }
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(plan.cleanup_labels()), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            restart_policy: Some("Never".to_owned()),
            // A volume is mostly one node's.
            affinity: plan.spec.storage.persistent_volume_claim.is_some().then(|| Affinity {
                pod_affinity: Some(PodAffinity {
                    required_during_scheduling_ignored_during_execution: Some(vec![pod::beside(
                        plan.selector(),
                    )]),
                    ..PodAffinity::default()
                }),
                ..Affinity::default()
            }),
            ..pod::pod(plan, pod::container(plan, "cleanup", arguments))
        }),
    };
    let job = JobSpec { backoff_limit: Some(2), template, ..JobSpec::default() };
    let mut metadata = metadata(plan, format!("{}-cleanup", plan.name()));
    metadata.labels = Some(plan.cleanup_labels());
    has_cleanup(&plan.spec.storage).then(|| {
        Object::of(&CronJob {
            metadata,
            spec: CronJobSpec {
                schedule: plan.spec.cleanup.schedule.clone(),
                time_zone: Some("Etc/UTC".to_owned()),
                suspend: Some(plan.spec.cleanup.suspend),
                concurrency_policy: Some("Forbid".to_owned()),
                starting_deadline_seconds: Some(LATE),
                successful_jobs_history_limit: Some(1),
                failed_jobs_history_limit: Some(1),
                job_template: JobTemplateSpec { spec: Some(job), ..JobTemplateSpec::default() },
            },
            ..CronJob::default()
        })
    })
}
