#!/usr/bin/env bash
# Installs what the tests run: Debian packages if any is missing (as root), and the programs of
# tools.list, each built once into ~/.cache/dependency-proxy-tools/<name>-<version>/.
# Safe to run again, and from several shells at once. DEPENDENCY_PROXY_TOOLS moves the folder.
#
#   tests/tools.sh            install everything
#   tests/tools.sh NAME...    build only these programs of tools.list
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${DEPENDENCY_PROXY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/dependency-proxy-tools}

# Daemons lie where only root's PATH leads, network plugins where no PATH does.
PATH=$PATH:/usr/sbin:/sbin:/usr/lib/cni

# command:package, where they differ
commands=(cc:build-essential go:golang-go curl jq ab:apache2-utils wrk docker-registry
          skopeo buildah podman dockerd:docker.io containerd runc umoci
          etcd:etcd-server host-local:containernetworking-plugins iptables conntrack socat
          ip:iproute2 openssl promtool:prometheus busybox:busybox-static bash-static)
policy=/usr/sbin/policy-rc.d

packages() {
  local entry missing=() lost=()
  for entry in "${commands[@]}"; do
    command -v "${entry%%:*}" >/dev/null || { missing+=("${entry##*:}"); lost+=("${entry%%:*}"); }
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Not installed: ${lost[*]}. Tests that need them are left out."
    echo "To run them too, as root on Debian: apt-get install --no-install-recommends ${missing[*]}"
    return 0
  fi
  echo "Installing Debian packages: ${missing[*]}"
  # Debian asks this script whether a new package's service starts: docker-registry would take the proxy's port 5000,
  # Prometheus its 9090, etcd the one of a test's cluster.
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    trap 'rm -f $policy' EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Go 1.21 is the first that fetches by itself the newer toolchain that a module asks for.
has_go() {
  local version
  version=$(go env GOVERSION 2>/dev/null) && [ "$(printf 'go1.21\n%s\n' "$version" | sort -V | head -n 1)" = go1.21 ]
}

# Builds a package of a module that replaces modules, which `go install` refuses: the replacements are made here. What
# the module replaces by a folder beside it (all parts of Kubernetes) was released together with it.
build_replaced() { # NAME VERSION MODULE PACKAGE FOLDER
  local name=$1 version=$2 module=$3 package=$4 folder=$5 manifest old new info=k8s.io/component-base/version.git
  mkdir "$folder/module" && cd "$folder/module"
  go mod init tools 2>/dev/null
  go mod edit -require "$module@$version"
  manifest=$(go mod download -json "$module@$version" | jq -r .GoMod)
  while read -r old new; do
    case $new in ./*) new=$old@v0.${version#v1.} ;; esac
    go mod edit -replace "$old=$new"
  done < <(go mod edit -json "$manifest" |
    jq -r '.Replace[]? | "\(.Old.Path) \(.New.Path)\(if .New.Version then "@" + .New.Version else "" end)"')
  CGO_ENABLED=0 nice go build -mod=mod -trimpath -o "$folder/$name" \
    -ldflags "-s -w -X ${info}Version=$version -X ${info}Major=1 -X ${info}Minor=$(cut -d. -f2 <<<"$version")" \
    "$module/$package" 2>"$folder/log" || { cat "$folder/log" >&2; return 1; }
  rm -rf "$folder/module" "$folder/log"
}

# Builds a program of this folder around a module. Folders beside it stand in for the modules that they are named like.
build_around() { # NAME VERSION MODULE PROGRAM FOLDER
  local name=$1 version=$2 module=$3 program=$4 folder=$5 path replaced=()
  cp -r "$here/$program" "$folder/module" && cd "$folder/module" || return 1
  for path in $(find . -name go.mod -printf '%h '); do replaced+=("-replace=${path#./}=$path"); done
  go mod init tools 2>/dev/null
  go mod edit -require "$module@$version" "${replaced[@]}"
  CGO_ENABLED=0 nice go build -mod=mod -trimpath -ldflags "-s -w" -o "$folder/$name" . 2>"$folder/log" ||
    { cat "$folder/log" >&2; return 1; }
  rm -rf "$folder/module" "$folder/log"
}

build() { # NAME VERSION SOURCE [PACKAGE]
  local name=$1 version=$2 source=$3 package=${4:-} room=$cache/$1-$2 staging=$cache/.$1-$2.building
  [ ! -e "$room/$name" ] || return 0
  if [ "$source" != cargo ] && ! has_go; then
    echo "Not built: $name. It needs Go 1.21 or newer, from go.dev/dl; tests that need $name will fail." >&2
    return 1
  fi
  echo "Building $name $version (once; kept in $room)"
  rm -rf "$staging" && mkdir -p "$staging"
  if [ "$source" = cargo ]; then
    nice cargo install --locked --quiet --root "$staging" --target-dir "$staging/target" --version "$version" "$name"
    mv "$staging/bin/$name" "$staging/$name"
    rm -rf "$staging/target" "$staging/bin"
  elif [[ $package = *.yaml ]]; then
    go mod download "$source@$version" && cp "$(go env GOMODCACHE)/$source@$version/$package" "$staging/$name"
  elif [[ $package = ./* ]]; then
    (build_around "$name" "$version" "$source" "$package" "$staging")
  elif [ -n "$package" ]; then
    (build_replaced "$name" "$version" "$source" "$package" "$staging")
  else
    CGO_ENABLED=0 GOBIN="$staging" nice go install -trimpath -ldflags "-s -w" "$source@$version"
  fi
  [ -e "$staging/$name" ] || return 1
  # Renamed when complete: a build cut in the middle leaves nothing that looks finished.
  rm -rf "$room" && mv "$staging" "$room"
}

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
[ $# -gt 0 ] || packages
failed=0
while read -r name version source package; do
  case $name in '' | '#'*) continue ;; esac
  [ $# = 0 ] || [[ " $* " = *" $name "* ]] || continue
  build "$name" "$version" "$source" "$package" && continue
  # What is built around a module needs many others, which not every network gives.
  if [[ $package = ./* ]]; then echo "Not built: $name. Tests that need it are left out." >&2; else failed=1; fi
done <"$here/tools.list"
exit $failed
