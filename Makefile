# Everything that a person or a CI job runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

TOOLS := $(or $(DEPENDENCY_PROXY_TOOLS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dependency-proxy-tools)
DENY = $(TOOLS)/cargo-deny-$(shell awk '$$1 == "cargo-deny" {print $$2}' tests/tools.list)/cargo-deny

IMAGE := $(or $(CARGO_TARGET_DIR),target)/image/dependency-proxy.tar
# Nodes of a cluster need root; without it, their tests are left out.
NODES := $(if $(filter 0,$(shell id -u)),image)
# Programs that are built for release: as root those of the image.
RELEASE := $(abspath $(or $(CARGO_TARGET_DIR),target))/$(if $(NODES),$(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')/)release

.PHONY: help run test lint unit figures e2e demo bench image cluster cluster-down tools advisories rust

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: rust ## build and start the proxy; arguments: make run ARGS="-f documents.yaml --listen 127.0.0.1:5001"
	cargo build --release --locked --bin dependency-proxy
	@exec "$${CARGO_TARGET_DIR:-target}/release/dependency-proxy" serve $(ARGS)

test: lint unit figures ## install what the tests need and run all of them

lint: tools rust ## formatting, clippy, documentation, banned crates, licences, sources
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	$(DENY) --locked check bans licenses sources

unit: tools rust $(NODES) ## every test, with the real registries, stores, clients, API server and nodes
	cargo build --locked --workspace --bins
	@log=$$(mktemp); status=0; set -o pipefail; \
	cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$$log" || status=$$?; \
	grep -o 'left out: .*' "$$log" | sort -u; rm -f "$$log"; exit $$status

figures: tools rust $(NODES) ## what is promised of several replicas on one bucket, measured beside what is asked
	$(if $(NODES),,cargo build --release --locked --bin dependency-proxy)
	DEPENDENCY_PROXY_PROGRAMS=$(RELEASE) cargo bench --profile dev --locked --workspace --bench figures -- shared killed day sweep

e2e: tools rust $(NODES) ## the tests on real nodes alone, as root; one: make e2e ARGS=quickstart
	cargo build --locked --workspace --bins
	cargo test --locked --package dependency-proxy-tests --test e2e -- $(ARGS)

demo: rust ## the whole job on this machine: a real registry, a real image, real clients
	tests/tools.sh registry
	cargo build --release --locked --bin dependency-proxy
	cargo build --locked --package dependency-proxy-tests --bins
	tests/demo.sh

bench: tools rust ## measure, and print each figure beside the one asked for; one alone: make bench ARGS=memory
	cargo build --release --locked --bin dependency-proxy
	cargo bench --locked --package dependency-proxy-tests --bench figures -- $(ARGS)

image: tools rust ## both programs, static, in an image from scratch: target/image/dependency-proxy.tar
	deploy/image.sh

cluster: image ## start a cluster of two real nodes on this machine, as root, and print what to do next
	tests/cluster/quickstart $(IMAGE)

cluster-down: ## remove that cluster
	tests/cluster/cluster down

tools: ## install the programs that the tests run (Debian packages as root, the rest from source)
	tests/tools.sh

advisories: tools ## known vulnerabilities of our dependencies; fetches a database from the network
	$(DENY) --locked check advisories

rust:
	@command -v cargo >/dev/null || { echo "Rust is needed: install it with rustup, then run make again." >&2; exit 1; }
	@command -v cc >/dev/null || { echo "A C compiler is needed (Debian: gcc libc6-dev), then run make again." >&2; exit 1; }
