//! `probe`: whether a registry, or whatever a URL with a path names, answers. For images without a shell.

use std::process::ExitCode;
use std::time::Duration;

use http::{StatusCode, header};
use url::Url;

use super::innermost;
use crate::args::Probe;

/// For the whole answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(probe: Probe) -> ExitCode {
    match answer(&probe.url).await {
        Ok(what) => {
            println!("{} answers: {what}.", probe.url);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{} does not answer as it should: {why}.", probe.url);
            ExitCode::FAILURE
        }
    }
}

async fn answer(url: &str) -> Result<&'static str, String> {
    let client = reqwest::Client::builder().http1_only().timeout(PATIENCE).build();
    let client = client.map_err(|error| innermost(&error))?;
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    if parsed.path() != "/" {
        let response = client.get(parsed).send().await.map_err(|error| innermost(&error))?;
        let status = response.status();
        return if status.is_success() { Ok("all is well") } else { Err(status.to_string()) };
    }
    let request = client.get(format!("{}/v2/", url.trim_end_matches('/')));
    let response = request.send().await.map_err(|error| innermost(&error))?;
    let challenge = response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    let wants_token = challenge.is_some_and(|text| text.to_ascii_lowercase().starts_with("bearer "));
    match response.status() {
        StatusCode::OK => Ok("it lets everybody in"),
        StatusCode::UNAUTHORIZED if wants_token => Ok("it asks for a token"),
        StatusCode::UNAUTHORIZED => Err("401 without a Bearer challenge".to_owned()),
        status => Err(status.to_string()),
    }
}
