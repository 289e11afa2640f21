#!/usr/bin/env bash
# Packs what deploy/Containerfile builds, without a builder's image: localhost/dependency-proxy:e2e in
# target/image/dependency-proxy.tar. `make image` calls it; it needs umoci and skopeo.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/cluster/images.sh
built=${CARGO_TARGET_DIR:-target}
archive=$built/image/dependency-proxy.tar
target=$(rustc -vV | sed -n 's/^host: //p')
programs=("$built/$target/release/dependency-proxy" "$built/$target/release/dependency-proxy-operator")

# The target is named, so that build scripts, which need a dynamic linker, are built without the flag.
RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" \
  --bin dependency-proxy --bin dependency-proxy-operator
if [ ! -e "$archive" ] || [ "${programs[0]}" -nt "$archive" ] || [ "${programs[1]}" -nt "$archive" ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  chmod 755 "$folder"
  install --strip --target-directory="$folder" "${programs[@]}"
  # What public upstreams' certificates are checked against.
  install -D --mode=644 --target-directory="$folder/etc/ssl/certs" /etc/ssl/certs/ca-certificates.crt
  mkdir -p "$(dirname "$archive")"
  pack localhost/dependency-proxy:e2e "$archive" "$folder" /dependency-proxy
fi
echo "$archive"
