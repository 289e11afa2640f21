# Images made here, for there is no registry to fetch them from: each from a folder alone.

pack() { # REF ARCHIVE FOLDER ENTRYPOINT...
  local ref=$1 archive=$2 folder=$3 work word options=() rootless=()
  shift 3
  [ "$(id -u)" = 0 ] || rootless=(--rootless)
  work=$(mktemp -d)
  umoci init --layout "$work/layout"
  umoci new --image "$work/layout:new"
  umoci unpack "${rootless[@]}" --image "$work/layout:new" "$work/bundle" >/dev/null 2>&1
  cp -a "$folder/." "$work/bundle/rootfs/"
  umoci repack --image "$work/layout:new" "$work/bundle" >/dev/null 2>&1
  for word; do options+=(--config.entrypoint "$word"); done
  umoci config --image "$work/layout:new" --config.user 65532:65532 "${options[@]}"
  rm -f "$archive"
  skopeo --insecure-policy copy -q "oci:$work/layout:new" "oci-archive:$archive:$ref"
  rm -rf "$work"
}

import() { # SOCKET ARCHIVE
  ctr --address "$1" --namespace k8s.io images import --all-platforms "$2" >/dev/null
}

# A shell and the usual commands, in an image that has nothing else.
busybox_in() { # FOLDER
  local name
  if ldd "$(command -v busybox)" >/dev/null 2>&1; then
    echo "busybox is not static, so it does not run alone in an image: apt-get install busybox-static" >&2
    return 1
  fi
  mkdir -p "$1/bin"
  cp "$(command -v busybox)" "$1/bin/busybox"
  busybox --list | while read -r name; do [ "$name" = busybox ] || ln -s busybox "$1/bin/$name"; done
}

# What a GitLab runner has beside each job, without git: no job of the tests has a repository.
runner_helper() { # ARCHIVE
  local folder
  folder=$(mktemp -d)
  busybox_in "$folder"
  # The runner asks for bash by its name here, and for /usr/bin/env.
  cp "$(command -v bash-static)" "$folder/bin/bash"
  ln -s . "$folder/usr"
  # The image that GitLab makes has the same: what the helper writes, the job may change.
  printf '#!/bin/bash\numask 0000\nexec /bin/bash\n' >"$folder/bin/gitlab-runner-build"
  chmod 755 "$folder" "$folder/bin/gitlab-runner-build"
  cp "$(tool gitlab-runner)" "$folder/bin/gitlab-runner-helper"
  pack localhost/gitlab-runner-helper:1 "$1" "$folder" /bin/sh
  rm -rf "$folder"
}

# What pods of the cluster itself run: pause, CoreDNS.
images() { # FOLDER
  local folder
  mkdir -p "$1"
  folder=$(mktemp -d)
  # It holds the network of a pod, and ends when it is told to.
  gcc -static -O2 -x c -o "$folder/pause" - <<'C'
#include <signal.h>
#include <unistd.h>
static void stop(int signal) { (void)signal; _exit(0); }
int main(void) { signal(SIGTERM, stop); signal(SIGINT, stop); for (;;) pause(); }
C
  pack localhost/pause:1 "$1/pause.tar" "$folder" /pause
  rm -rf "$folder"
  programs "$1" coredns
}

# What pods of tests run: an upstream registry, an S3 server, crane.
images_of_tests() { programs "$1" registry versitygw crane; } # FOLDER

programs() { # FOLDER NAME...
  local into=$1 name folder
  shift
  mkdir -p "$into"
  for name; do
    folder=$(mktemp -d)
    cp "$(tool "$name")" "$folder/"
    pack "localhost/$name:1" "$into/$name.tar" "$folder" "/$name"
    rm -rf "$folder"
  done
}
