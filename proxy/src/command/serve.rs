//! `serve`: print where everything is, serve until a signal, then drain. A second signal ends it at once.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::Serve;
use crate::clock::Clock;
use crate::http::tls::Files;
use crate::run::{Running, Settings};
use crate::telemetry;

pub(super) async fn run(serve: Serve) -> ExitCode {
    let log_level = match telemetry::begin(&serve.log, serve.log_format) {
        Ok(level) => level,
        Err(error) => {
            eprintln!("--log {}: {error}", serve.log);
            return ExitCode::from(64);
        }
    };
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        eprintln!("Signals cannot be received.");
        return ExitCode::FAILURE;
    };
    let data_dir = serve.data_dir.clone();
    let without_documents = serve.documents.file.is_empty();
    let settings = Settings {
        documents: serve.documents.file,
        instance: serve.documents.instance,
        listen: serve.listen,
        tls: serve.tls_certificate.zip(serve.tls_key).map(|(certificate, key)| Files { certificate, key }),
        admin_listen: serve.admin_listen,
        replica_address: serve.replica_address,
        data_dir: serve.data_dir,
        clock: serve.clock_offset.map_or_else(Clock::system, Clock::ahead),
        log_level: Some(log_level),
        linger: Duration::from_secs(serve.linger_seconds),
        probes: true,
    };
    let running = match Running::start(settings).await {
        Ok(running) => running,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "Serving {}://{}   metrics http://{}/metrics   cache {}",
        running.scheme(),
        running.address(),
        running.admin_address(),
        data_dir.display()
    );
    if without_documents {
        greet(&running, &data_dir);
    } else {
        list_groups(&running);
    }
    let at_once = any(&mut terminate, &mut interrupt).await;
    if at_once {
        return ExitCode::SUCCESS;
    }
    tracing::info!("stopping: running transfers may end; a second signal cuts them");
    tokio::select! {
        () = running.stop() => ExitCode::SUCCESS,
        _ = any(&mut terminate, &mut interrupt) => ExitCode::FAILURE,
    }
}

/// Waits for a signal; whether it came from a keyboard, which waits for no Service to forget us.
async fn any(terminate: &mut Signal, interrupt: &mut Signal) -> bool {
    tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => true,
    }
}

fn greet(running: &Running, data_dir: &std::path::Path) {
    let address = running.address();
    println!("Group default -> Docker Hub, anonymous");
    match running.token() {
        Some(token) => {
            println!("Token, shown once: {token}");
            println!("  echo {token} | docker login {address} -u default --password-stdin");
        }
        None => println!(
            "Token: as shown at the first start; delete {} for a new one",
            data_dir.join("default.yaml").display()
        ),
    }
    println!("  docker pull {address}/default/dependency_proxy/containers/alpine");
}

fn list_groups(running: &Running) {
    let config = running.config();
    for group in config.groups.values() {
        println!("Group {} -> {} ({})", group.path, group.upstream.id.name, group.upstream.url);
    }
    for (id, registry) in &config.registries {
        let upstreams: Vec<_> = registry.upstreams.iter().map(|upstream| upstream.id.name.as_str()).collect();
        println!("Virtual registry {id} -> {}", upstreams.join(", "));
    }
}
