//! `freeze`: nothing is asked of an upstream for a while.

use std::process::ExitCode;

use super::status::client;
use crate::args::Freeze;

pub(super) async fn run(freeze: Freeze) -> ExitCode {
    match tell(&freeze).await {
        Ok(answer) => {
            print!("{answer}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{}: {}", freeze.admin.url, why.trim_end());
            ExitCode::FAILURE
        }
    }
}

async fn tell(freeze: &Freeze) -> Result<String, String> {
    let mut url = freeze.admin.url.join("/freeze").map_err(|error| error.to_string())?;
    url.query_pairs_mut()
        .append_pair("upstream", &freeze.upstream)
        .append_pair("seconds", &freeze.length.as_secs().to_string());
    let response = client()?.put(url).send().await.map_err(|error| super::innermost(&error))?;
    let is_done = response.status().is_success();
    let text = response.text().await.map_err(|error| super::innermost(&error))?;
    if is_done { Ok(text) } else { Err(text) }
}
