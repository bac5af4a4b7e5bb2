# shellcheck shell=bash
#
# Sourced, after run.sh and postgres.sh:
#
#   browser_get     exports CHROMIUM and CHROMEDRIVER, a browser and the program
#                   that tests drive it by
#   browser_start   starts the driver on a free port for this run only, with
#                   profiles in a temporary folder that is gone afterwards, and
#                   exports its address as WEBDRIVER and the browser's
#                   arguments, a line each, as BROWSER_ARGUMENTS
#
# They are, in this order: CHROMIUM and CHROMEDRIVER; `chromium` and
# `chromedriver` on the PATH; Debian's packages, which are installed when root.

_browser_folder=
_browser_driver=

_browser_find() {
  : "${CHROMIUM:=$(type -P chromium || type -P chromium-browser || type -P google-chrome || true)}"
  : "${CHROMEDRIVER:=$(type -P chromedriver || true)}"
  [[ -x ${CHROMIUM:-} && -x ${CHROMEDRIVER:-} ]]
}

# Fails, and says why, if there is no way.
browser_get() {
  if ! _browser_find; then
    if _pg_may_install; then
      _pg_say 'Installing Chromium and its driver, once.'
      _pg_apt update && _pg_apt install -y --no-install-recommends chromium chromium-driver fonts-dejavu-core >&2 || true
    fi
    if ! _browser_find; then
      unset CHROMIUM CHROMEDRIVER
      _pg_say 'There is no browser to try the pages in: install Chromium and chromedriver, or set CHROMIUM and CHROMEDRIVER.'
      return 1
    fi
  fi
  export CHROMIUM CHROMEDRIVER
}

_browser_stop() {
  if [[ -n $_browser_driver ]]; then
    # Its browsers end with it.
    kill -KILL "$_browser_driver" 2>/dev/null || true
    wait "$_browser_driver" 2>/dev/null || true
  fi
  rm -rf "$_browser_folder"
}

# After browser_get.
browser_start() {
  local port='' log
  _browser_folder=$(mktemp -d "${TMPDIR:-/tmp}/browser.XXXXXX")
  at_exit _browser_stop
  log=$_browser_folder/log
  : >"$log"
  # Home, too: the browser writes beside its profile.
  HOME=$_browser_folder TMPDIR=$_browser_folder "$CHROMEDRIVER" --port=0 >"$log" 2>&1 &
  _browser_driver=$!
  for _ in {1..100}; do
    port=$(sed -n 's/.*started successfully on port \([0-9]*\).*/\1/p' "$log")
    if [[ -n $port ]]; then break; fi
    sleep 0.1
  done
  if [[ -z $port ]]; then
    cat "$log" >&2
    _pg_say 'chromedriver did not start.'
    return 1
  fi
  export WEBDRIVER=http://127.0.0.1:$port
  BROWSER_ARGUMENTS=$'--headless=new\n--disable-gpu\n--disable-dev-shm-usage\n--no-first-run\n--force-prefers-reduced-motion\n--window-size=1200,640'
  # Chromium's sandbox refuses to run as root.
  if ((EUID == 0)); then
    BROWSER_ARGUMENTS+=$'\n--no-sandbox'
  fi
  export BROWSER_ARGUMENTS
}
