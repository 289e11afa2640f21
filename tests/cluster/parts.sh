# What the other files of this folder use: tools, processes, waiting.

# The path of a program of tests/tools.list.
tool() {
  local version cache=${DEPENDENCY_PROXY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/dependency-proxy-tools}
  version=$(awk -v name="$1" '$1 == name {print $2}' "$here/../tools.list")
  [ -x "$cache/$1-$version/$1" ] || { echo "$1 $version is not built: run make tools" >&2; return 1; }
  echo "$cache/$1-$version/$1"
}

k() { "$(tool kubectl)" --kubeconfig "$kubeconfig" "$@"; }

in_network() { # NAME CMD...
  nsenter --net="/run/netns/$prefix-$1" "${@:2}"
}

# Starts a program that stays, in a network, in a session of its own. It takes the processors that pods leave over.
start() { # NETWORK NAME CMD...
  local network=$1 name=$2
  shift 2
  # nsenter itself and no function, so that $! is the program.
  nsenter --net="/run/netns/$prefix-$network" setsid \
    sh -c 'echo $$ >"$0"; exec "$@"' "$(cat "$state/daemons")" "$@" >"$state/log/$name.log" 2>&1 8>&- </dev/null &
  echo $! >"$state/pid/$name"
}

# Ends a process of this cluster: its command line names the cluster's folder. Nothing of it is kept, so by force.
end() { # PID
  ! grep -qsF -- "$state/" "/proc/$1/cmdline" || kill -KILL "$1"
}

# Tries until it succeeds, for two minutes: foreign programs offer no event to wait on while they start.
within() { # WHAT CMD...
  local what=$1 until=$((SECONDS + 120)) said
  shift
  until said=$("$@" 2>&1); do
    [ $SECONDS -lt $until ] || { echo "Not within two minutes: $what. $said See $state/log" >&2; return 1; }
    sleep 0.1
  done
}
