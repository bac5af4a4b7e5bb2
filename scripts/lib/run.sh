# shellcheck shell=bash
#
# Sourced. Runs commands so that a signal to the script reaches everything it
# started, and so that its cleanup happens however the script ends.
# Works with bash 3.2, which is what macOS has.

# What scripts get once and keep: programs that the machine lacks.
tools_folder=$(unset CDPATH && cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)/target/tools

_cleanups=()
_child=
_group=
_caught=0
_signals=0

# Cleanup functions run in reverse order, when the script ends.
at_exit() {
  _cleanups+=("$1")
}

# Once, before anything that needs a cleanup.
handle_signals() {
  trap _on_exit EXIT
  trap '_on_signal 1' HUP
  trap '_on_signal 2' INT
  # Without a trap, a reader that goes away (`| head`) ends bash on the spot.
  trap '_on_signal 13' PIPE
  trap '_on_signal 15' TERM
}

_on_exit() {
  local rc=$? i
  # A second Ctrl-C must not cut the cleanup short.
  trap '' HUP INT PIPE TERM
  set +e
  _kill_child KILL
  for ((i = ${#_cleanups[@]} - 1; i >= 0; i--)); do
    "${_cleanups[i]}"
  done
  exit "$rc"
}

_on_signal() {
  _signals=$((_signals + 1))
  if ((_caught == 0)); then
    _caught=$1
  fi
  case $_child in
    '') exit $((128 + _caught)) ;;
    starting) ;; # run_child looks at _caught as soon as it has the process id
    *) _forward "$1" ;;
  esac
}

# The child may have a server to stop: it gets the signal that came, never KILL.
_forward() {
  if (($1 == 13)); then
    _kill_child TERM # the closed output was ours
  else
    _kill_child "$1"
  fi
}

_kill_child() {
  case $_child in
    '' | starting) ;;
    *) kill -s "$1" -- "${_group:-$_child}" 2>/dev/null || true ;; # gone already
  esac
}

# run_child COMMAND [ARG...]: runs a command or a function, returns its status.
#
# A trap waits for the end of a foreground command, but not for the end of
# `wait`, hence the background. The child leads a process group, because
# stopping `cargo` alone would leave the test programs running. Not on a
# terminal, though: a background group may not read from it.
run_child() {
  local rc seen
  _child=starting
  if [[ -t 0 ]]; then
    _group=
    # Bash has commands in the background ignore these two.
    (
      trap - INT QUIT
      "$@"
    ) <&0 &
    _child=$!
  else
    set -m
    "$@" &
    _child=$!
    set +m
    _group=-$_child
  fi
  if ((_caught != 0)); then
    _forward "$_caught"
  fi

  # A signal ends `wait` early: what counts is the one that no signal ended.
  while :; do
    seen=$_signals
    rc=0
    wait "$_child" 2>/dev/null || rc=$?
    if ((seen == _signals)); then
      break
    fi
  done

  if ((_caught != 0)); then
    if [[ -z $_group ]]; then
      _child=
    fi
    exit $((128 + _caught)) # _on_exit ends what is left of the group
  fi
  _child=
  _group=
  return "$rc"
}

# count_results LOG: prints how many tests passed, failed and were ignored, of all harnesses in it.
count_results() {
  LC_ALL=C awk '
    /^test result: / {
      for (i = 4; i <= NF; i++) {
        if ($i == "passed;") passed += $(i - 1)
        if ($i == "failed;") failed += $(i - 1)
        if ($i == "ignored;") ignored += $(i - 1)
      }
    }
    END { print passed + 0, failed + 0, ignored + 0 }
  ' "$1"
}
