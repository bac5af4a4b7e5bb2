# shellcheck shell=bash
#
# Sourced, after run.sh and postgres.sh:
#
#   prom_get   exports PROMETHEUS, the program of a Prometheus, which the test of
#              the dashboard starts for itself
#
# It is, in this order: PROMETHEUS, `prometheus` on the PATH, what an earlier run
# has kept in target/tools, Debian's or Ubuntu's package. That is unpacked, not
# installed, so that no service is started for the machine.

_prom_unpack() {
  local work rc=0
  _pg_may_install || return
  mkdir -p "$1" && work=$(mktemp -d "${TMPDIR:-/tmp}/prometheus.XXXXXX") || return
  _pg_say 'Getting Prometheus, once.'
  _pg_apt update &&
    (cd "$work" && _pg_apt download -o APT::Sandbox::User=root prometheus) &&
    dpkg-deb -x "$work"/prometheus_*.deb "$work/root" &&
    cp "$work/root/usr/bin/prometheus" "$1/" || rc=$?
  rm -rf "$work"
  return "$rc"
}

# Fails, and says why, if there is no way.
prom_get() {
  if [[ -n ${PROMETHEUS:-} ]]; then
    return
  fi
  if PROMETHEUS=$(type -P prometheus); then
    export PROMETHEUS
  elif [[ -x $tools_folder/prometheus ]] || _prom_unpack "$tools_folder"; then
    export PROMETHEUS=$tools_folder/prometheus
  else
    unset PROMETHEUS
    _pg_say 'Prometheus could not be had, by which the dashboard is tried: set PROMETHEUS to one.'
    return 1
  fi
}
