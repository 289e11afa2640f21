//! The one place where errors become HTTP: a status, an OCI code, and a sentence that tells the person what to do.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use oci::Name;
use serde_json::json;

use crate::auth::{Refusal, SERVICE};
use crate::cache::{Attempt, Error, Failure};
use crate::metrics::Outcome;
use crate::resolve;
use crate::upstream::{Class, Reason};

/// When to try again where nobody says, in seconds.
const AGAIN: u64 = 30;

/// An answer that is no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub sentence: String,
    pub outcome: Outcome,
    pub challenge: Option<Challenge>,
    pub retry_after: Option<u64>,
    /// The methods that there are, with 405 (RFC 9110 §15.5.6).
    pub allow: Option<&'static str>,
    /// `Content-Range` of a range that cannot be met.
    pub size: Option<u64>,
}

/// How credentials are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token; with the repository that it would have to open.
    Bearer(Option<String>),
    /// User name and password: the token service takes nothing else.
    Basic,
}

/// What sentences need to know of the request.
pub(super) struct Context<'a> {
    /// As the client wrote it, such as `alpine:3`.
    pub image: &'a str,
    /// The OCI code of what is not there.
    pub unknown: &'static str,
    /// Whether a short name is taken as written and Docker Hub is among the upstreams.
    pub hints_at_library: bool,
    /// Mirrors retry 429 at once, up to five times: they get 503.
    pub is_mirror: bool,
    pub now: Timestamp,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, sentence: String) -> Self {
        let outcome = if status.is_server_error() { Outcome::UpstreamError } else { Outcome::ClientError };
        Self { status, code, sentence, outcome, challenge: None, retry_after: None, allow: None, size: None }
    }

    pub(super) fn name_invalid(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", capital(why))
    }

    pub(super) fn digest_invalid(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", capital(why))
    }

    pub(super) fn manifest_invalid(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", capital(why))
    }

    pub(super) fn bad_request(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", capital(why))
    }

    pub(super) fn name_unknown(sentence: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", sentence.to_owned())
    }

    pub(super) fn unsupported(sentence: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", sentence.to_owned())
    }

    pub(super) fn read_only() -> Self {
        let sentence = "This is a pull-through cache: images are pushed to the upstream registry, not here.";
        Self::not_allowed(sentence, "GET, HEAD")
    }

    pub(super) fn not_allowed(sentence: &str, allow: &'static str) -> Self {
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", sentence.to_owned());
        Self { allow: Some(allow), ..problem }
    }

    /// There is a copy, and the store does not give it; `error` is what upstream said when it was asked instead.
    pub(super) fn store_failed(image: &str, error: Option<&Error>) -> Self {
        let instead =
            error.map(|error| format!(", and no upstream could help ({error})")).unwrap_or_default();
        let sentence = format!(
            "The store failed and {image} could not be read from it{instead}. Try again in {AGAIN} s."
        );
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", sentence);
        Self { retry_after: Some(AGAIN), outcome: Outcome::StoreError, ..problem }
    }

    /// The same refusal by the token service.
    pub(super) fn by_token_service(self) -> Self {
        let challenge = self.challenge.map(|_| Challenge::Basic);
        Self { challenge, ..self }
    }

    pub(super) fn range(size: u64) -> Self {
        let sentence = format!("The Range header is malformed or outside the blob's {size} bytes.");
        Self { size: Some(size), ..Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", sentence) }
    }

    /// Too many purges wait.
    pub(super) fn crowded() -> Self {
        let sentence = "Too many purges wait for their turn. Try again in 60 s.".to_owned();
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", sentence);
        Self { retry_after: Some(60), ..problem }
    }

    pub(super) fn internal() -> Self {
        let sentence = "Something went wrong here, and it was logged. Try again.".to_owned();
        Self {
            outcome: Outcome::InternalError,
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", sentence)
        }
    }

    /// `scope`: the repository that a token would have to open; `host`: what `docker login` takes.
    pub(super) fn refused(refusal: Refusal, scope: Option<&Name>, host: &str) -> Self {
        let unauthorized = |sentence: String| Self {
            challenge: Some(Challenge::Bearer(scope.map(Name::to_string))),
            outcome: Outcome::Denied,
            ..Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", sentence)
        };
        let denied = |sentence: String| Self {
            outcome: Outcome::Denied,
            ..Self::new(StatusCode::FORBIDDEN, "DENIED", sentence)
        };
        match refusal {
            Refusal::Anonymous => unauthorized(format!("Sign in first: docker login {host}. Anonymous pulls are not allowed.")),
            Refusal::WrongCredentials => unauthorized(format!(
                "HTTP Basic: Access denied. The user name, password or token is wrong or has expired. Sign in again: docker login {host}."
            )),
            Refusal::TokenExpired => unauthorized(
                "This token has expired; the client should fetch a new one. If this repeats, check the machine's clock.".to_owned(),
            ),
            Refusal::OtherScope => unauthorized(
                "This token does not open this repository; the client should fetch one that does.".to_owned(),
            ),
            Refusal::NoRole { group, caller } => {
                let names = match scope {
                    Some(name) if !resolve::has_form(name) => format!(" {}", resolve::NAMES),
                    _ => String::new(),
                };
                denied(format!(
                    "No group \"{group}\", or {caller} has no role in it. Check the path, or ask its owner for the Guest role.{names}"
                ))
            }
            Refusal::Busy => Self {
                retry_after: Some(5),
                outcome: Outcome::ClientError,
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "TOOMANYREQUESTS",
                    "Too many sign-ins are being checked. Try again in 5 s.".to_owned(),
                )
            },
            Refusal::RoleTooLow { group, caller, needed } => denied(format!(
                "Purging takes the role {needed:?} in group \"{group}\", and {caller} has a lower one. Ask its owner."
            )),
            Refusal::NoPullScope { token } => denied(format!("Deploy token \"{token}\" has no scope read_registry.")),
        }
    }

    pub(super) fn unresolved(error: resolve::Error) -> Self {
        let sentence = match error {
            resolve::Error::InstanceDisabled => {
                "The dependency proxy is switched off. Its administrator can set spec.enabled of the DependencyProxy to true.".to_owned()
            }
            resolve::Error::GroupDisabled(group) => {
                format!("Group \"{group}\" is switched off. Its owner can set spec.enabled to true.")
            }
            resolve::Error::NoUpstreams(id) => {
                format!("Virtual registry {id} has no upstreams. Add one to spec.upstreams.")
            }
            resolve::Error::OtherNamespace(ns) => format!("No upstream here is {ns}."),
            resolve::Error::TooLong => return Self::name_invalid("a repository name has at most 255 characters"),
        };
        Self::name_unknown(&sentence)
    }

    /// No upstream served, and there is no copy. What is worst decides: an outage is never "not found".
    pub(super) fn not_served(error: &Error, context: &Context<'_>) -> Self {
        let attempts = &error.0;
        let of = |class| {
            attempts
                .iter()
                .find(|a| matches!(&a.failure, Failure::Upstream(reason) if reason.class() == class))
        };
        if let Some(attempt) = of(Class::Outage) {
            return Self::outage(attempt, context);
        }
        if attempts.iter().any(|a| matches!(a.failure, Failure::Upstream(Reason::NoHead))) {
            let sentence = "The upstream registry answers no HEAD requests; send a GET.";
            return Self::not_allowed(sentence, "GET");
        }
        if let Some(attempt) = of(Class::Wrong) {
            let sentence = format!("{}: {}. Nothing of it was kept.", attempt.upstream, attempt.failure);
            return Self::new(StatusCode::BAD_GATEWAY, "UNKNOWN", sentence);
        }
        let rejected = |a: &&Attempt| matches!(a.failure, Failure::Upstream(Reason::CredentialsRejected));
        if let Some(attempt) = attempts.iter().find(rejected) {
            let sentence = format!(
                "{} refused this group's credentials. Cached images still work. Ask the group's owner to renew them.",
                attempt.upstream
            );
            return Self::new(StatusCode::BAD_GATEWAY, "DENIED", sentence);
        }
        if attempts.iter().any(|attempt| matches!(attempt.failure, Failure::Internal)) {
            return Self::internal();
        }
        Self::by_rules(attempts).unwrap_or_else(|| Self::not_found(error, context))
    }

    /// Where the rules of every upstream refuse the repository.
    fn by_rules(attempts: &[Attempt]) -> Option<Self> {
        let sentences: Option<Vec<_>> = attempts.iter().map(rule).collect();
        let sentence = sentences.filter(|sentences| !sentences.is_empty())?.join(" ");
        Some(Self { outcome: Outcome::Denied, ..Self::new(StatusCode::FORBIDDEN, "DENIED", sentence) })
    }

    fn not_found(error: &Error, context: &Context<'_>) -> Self {
        let image = context.image;
        let name = image.split([':', '@']).next().unwrap_or(image);
        let short = !name.contains('/');
        let hint = if short && context.hints_at_library {
            format!(" On Docker Hub, did you mean library/{name}?")
        } else {
            String::new()
        };
        let sentence = format!("{image} was not found. {error}.{hint}");
        Self { code: context.unknown, ..Self::name_unknown(&sentence) }
    }

    fn outage(attempt: &Attempt, context: &Context<'_>) -> Self {
        let (upstream, image) = (&attempt.upstream, context.image);
        if let Failure::Upstream(Reason::QuotaUsedUp { until, remaining, limit }) = &attempt.failure {
            let left = limit.map_or_else(|| remaining.to_string(), |limit| format!("{remaining} of {limit}"));
            let until = until.unwrap_or(context.now);
            let sentence = format!(
                "{upstream}'s quota is used up ({left}) and {image} is not cached. Cached images still work. Try again after {} UTC.",
                until.strftime("%H:%M")
            );
            let status = if context.is_mirror {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::TOO_MANY_REQUESTS
            };
            let seconds = crate::clock::since(until, context.now).as_secs().max(1);
            let problem = Self::new(status, "TOOMANYREQUESTS", sentence);
            return Self { retry_after: Some(seconds), outcome: Outcome::UpstreamError, ..problem };
        }
        if let Failure::Upstream(Reason::Frozen(until)) = &attempt.failure {
            let seconds = crate::clock::since(*until, context.now).as_secs().max(1);
            let sentence = format!(
                "{upstream} is frozen until {} UTC and {image} is not cached. Cached images still work. `dependency-proxy freeze` with `--for 0s` ends it.",
                until.strftime("%Y-%m-%d %H:%M")
            );
            let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", sentence);
            return Self { retry_after: Some(seconds), outcome: Outcome::UpstreamError, ..problem };
        }
        let what = match &attempt.failure {
            Failure::Upstream(Reason::Timeout(after)) => {
                format!("{upstream} gave no answer in {} s", after.as_secs())
            }
            failure => format!("{upstream} is not available ({failure})"),
        };
        let again = match &attempt.failure {
            Failure::Upstream(Reason::Resting(left)) => left.as_secs().max(1),
            _ => AGAIN,
        };
        let sentence =
            format!("{what} and {image} is not cached. Cached images still work. Try again in {again} s.");
        Self {
            retry_after: Some(again),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", sentence)
        }
    }

    /// The answer. `realm`: where tokens are to be had.
    pub(super) fn into_response(self, id: &str, realm: &str) -> Response {
        let message = format!("{} (request {id})", self.sentence);
        let body = json!({"errors": [{"code": self.code, "message": message, "detail": {"requestId": id}}]})
            .to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut add = |name: header::HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        let challenge = self.challenge.map(|challenge| match challenge {
            Challenge::Basic => format!("Basic realm=\"{SERVICE}\""),
            Challenge::Bearer(scope) => {
                let scope =
                    scope.map(|name| format!(",scope=\"repository:{name}:pull\"")).unwrap_or_default();
                format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\"{scope}")
            }
        });
        if let Some(challenge) = challenge {
            add(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(methods) = self.allow {
            add(header::ALLOW, methods.to_owned());
        }
        if let Some(seconds) = self.retry_after {
            add(header::RETRY_AFTER, seconds.to_string());
        }
        if let Some(size) = self.size {
            add(header::CONTENT_RANGE, format!("bytes */{size}"));
        }
        response
    }
}

/// Why an upstream's rules refuse the repository, if it is they who do.
fn rule(Attempt { upstream, failure }: &Attempt) -> Option<String> {
    match failure {
        Failure::Rule(rule) => {
            Some(format!("Rule \"{rule}\" of upstream {upstream} refuses this repository."))
        }
        Failure::NotAllowed => Some(format!("No allow rule of upstream {upstream} matches this repository.")),
        Failure::Upstream(_) | Failure::Internal => None,
    }
}

fn capital(why: &str) -> String {
    let mut letters = why.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
