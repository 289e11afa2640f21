//! Who may pull: the token service of the Docker token specification, or HTTP Basic.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use serde_json::json;

pub(super) struct Access(Mutex<State>);

struct State {
    scheme: Scheme,
    realm: Option<String>,
    lifetime: u64,
    /// Tokens that are good, with what they open and until when.
    tokens: HashMap<String, (Vec<String>, Instant)>,
    issued: u64,
}

enum Scheme {
    Open,
    /// The `Authorization` that the token service wants, if it wants any.
    Bearer(Option<String>),
    /// The `Authorization` that repositories want.
    Basic(String),
}

impl Default for Access {
    fn default() -> Self {
        let state =
            State { scheme: Scheme::Open, realm: None, lifetime: 300, tokens: HashMap::new(), issued: 0 };
        Self(Mutex::new(state))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn authorization(request: &Parts) -> Option<&str> {
    request.headers.get("authorization").and_then(|v| v.to_str().ok())
}

impl Access {
    pub(super) fn require_bearer(&self, credentials: Option<(&str, &str)>) {
        let wanted = credentials.map(|(user, password)| basic(user, password));
        self.0.lock().unwrap().scheme = Scheme::Bearer(wanted);
    }

    pub(super) fn require_basic(&self, user: &str, password: &str) {
        self.0.lock().unwrap().scheme = Scheme::Basic(basic(user, password));
    }

    pub(super) fn set_realm(&self, url: &str) {
        self.0.lock().unwrap().realm = Some(url.to_owned());
    }

    pub(super) fn set_lifetime(&self, seconds: u64) {
        self.0.lock().unwrap().lifetime = seconds;
    }

    pub(super) fn revoke(&self) {
        self.0.lock().unwrap().tokens.clear();
    }

    /// The challenge, where the request may not pass. `repository` is `None` for `/v2/` itself.
    pub(super) fn challenge(&self, request: &Parts, repository: Option<&str>, base: &str) -> Option<String> {
        let state = self.0.lock().unwrap();
        match &state.scheme {
            Scheme::Open => None,
            Scheme::Basic(wanted) => {
                let good = authorization(request) == Some(wanted);
                (!good).then(|| r#"Basic realm="the fake registry""#.to_owned())
            }
            Scheme::Bearer(_) => {
                let scope = repository.map(|name| format!("repository:{name}:pull"));
                let token = authorization(request).and_then(|a| a.strip_prefix("Bearer "));
                let known =
                    token.and_then(|t| state.tokens.get(t)).filter(|(_, until)| Instant::now() < *until);
                let opens = |scopes: &Vec<String>| scope.as_ref().is_none_or(|s| scopes.contains(s));
                if known.is_some_and(|(scopes, _)| opens(scopes)) {
                    return None;
                }
                let realm = state.realm.clone().unwrap_or_else(|| format!("{base}/token"));
                let scope = scope.map(|s| format!(r#",scope="{s}""#)).unwrap_or_default();
                Some(format!(r#"Bearer realm="{realm}",service="fake"{scope}"#))
            }
        }
    }

    /// The answer of `/token`: a document, or `None` for 401.
    pub(super) fn issue(&self, request: &Parts) -> Option<String> {
        let mut state = self.0.lock().unwrap();
        if let Scheme::Bearer(Some(wanted)) = &state.scheme
            && authorization(request) != Some(wanted)
        {
            return None;
        }
        let query = request.uri.query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let scopes = pairs.filter(|(key, _)| key == "scope").map(|(_, value)| value.into_owned());
        let scopes = scopes.flat_map(|s| s.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
        state.issued += 1;
        let token = format!("fake-token-{}", state.issued);
        let until = Instant::now() + Duration::from_secs(state.lifetime);
        let document = json!({"token": token, "access_token": token, "expires_in": state.lifetime});
        state.tokens.insert(token, (scopes, until));
        Some(document.to_string())
    }
}
