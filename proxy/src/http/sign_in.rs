//! The token endpoint: `GET` with Basic, `POST` with an OAuth2 form.
//!
//! Source: Docker token authentication specification, "token" and "oauth".

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, Method, header};
use serde_json::json;

use super::access::Note;
use super::error::Problem;
use super::request::Head;
use super::router::login_host;
use super::{Api, Live, response};
use crate::auth::{Caller, Presented, Refusal, SERVICE, pull_scopes};
use crate::metrics::TokenLabels;

/// The largest form that is read.
const MAX_FORM: usize = 64 * 1024;
/// For the whole form: a client that sends it byte by byte holds a connection no longer than one that sends headers so.
const FORM: Duration = Duration::from_secs(30);

/// What a client asks for.
struct Ask {
    service: Option<String>,
    scopes: Vec<String>,
    password: Option<(String, String)>,
}

/// Issues a token to who shows a good credential. Rights are looked at when the token is used: the scope is what it
/// opens at most.
pub(super) async fn token(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    request: Request,
    note: &mut Note,
) -> Result<Response, Problem> {
    let issued = issue(api, live, head, request, note).await;
    let result = match &issued {
        Ok(_) => "ok",
        Err(problem) if problem.challenge.is_some() => "denied",
        Err(_) => "error",
    };
    api.metrics.tokens_issued.get_or_create(&TokenLabels { result }).inc();
    issued
}

async fn issue(
    api: &Arc<Api>,
    live: &Live,
    head: &Head,
    request: Request,
    note: &mut Note,
) -> Result<Response, Problem> {
    let ask = match head.method {
        Method::GET => query(head),
        Method::POST => form(request).await?,
        _ => return Err(Problem::not_allowed("Tokens are asked for with GET or POST.", "GET, POST")),
    };
    if ask.service.as_deref().is_some_and(|service| service != SERVICE) {
        return Err(Problem::name_unknown(&format!("Tokens are issued for the service {SERVICE} only.")));
    }
    let host = login_host(api, live, head);
    let now = api.clock.now();
    let refused = |refusal| Problem::refused(refusal, None, &host).by_token_service();
    let caller = caller(live, head, &ask, now).await.map_err(refused)?;
    note.caller = Some(caller.identity.name().to_owned());
    let repositories = pull_scopes(ask.scopes.iter().map(String::as_str));
    let ttl = live.config.instance.token_ttl;
    let token = live.auth.signer.issue(&caller, &repositories, now, ttl).map_err(|error| {
        tracing::error!(%error, "a token could not be signed");
        Problem::internal()
    })?;
    let body = json!({
        "token": token,
        "access_token": token,
        "expires_in": ttl.as_secs(),
        "issued_at": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let mut answer = response::json(&body);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

async fn caller(live: &Live, head: &Head, ask: &Ask, now: jiff::Timestamp) -> Result<Caller, Refusal> {
    if let Some((user, password)) = &ask.password {
        return live.password(user, password, now).await;
    }
    match live.present(head, now).await? {
        Presented::Password(caller) => Ok(caller),
        // A token is for pulling; it buys no longer life.
        Presented::Token(_) => Err(Refusal::WrongCredentials),
    }
}

fn query(head: &Head) -> Ask {
    let scopes = form_urlencoded::parse(head.query.as_bytes()).filter(|(key, _)| key == "scope");
    Ask {
        service: head.parameter("service"),
        scopes: scopes.map(|(_, scope)| scope.into_owned()).collect(),
        password: None,
    }
}

async fn form(request: Request) -> Result<Ask, Problem> {
    let body = tokio::time::timeout(FORM, to_bytes(request.into_body(), MAX_FORM)).await;
    let body = body.map_err(|_| Problem::bad_request("the form did not come within 30 s"))?;
    let body = body.map_err(|_| Problem::bad_request("the form is larger than 64 KiB or was cut off"))?;
    let mut ask = Ask { service: None, scopes: Vec::new(), password: None };
    let (mut grant, mut user, mut password) = (None, None, None);
    for (key, value) in form_urlencoded::parse(&body) {
        match key.as_ref() {
            "grant_type" => grant = Some(value.into_owned()),
            "service" => ask.service = Some(value.into_owned()),
            "scope" => ask.scopes.push(value.into_owned()),
            "username" => user = Some(value.into_owned()),
            "password" => password = Some(value.into_owned()),
            _ => {}
        }
    }
    match grant.as_deref() {
        Some("password") => ask.password = user.zip(password),
        // Clients fall back to GET with their password.
        _ => {
            return Err(Problem::bad_request(
                "grant_type must be password; there are no refresh tokens here",
            ));
        }
    }
    if ask.password.is_none() {
        return Err(Problem::bad_request("username and password are required"));
    }
    Ok(ask)
}
