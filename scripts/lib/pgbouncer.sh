# shellcheck shell=bash
#
# Sourced, after run.sh and postgres.sh. A private, throw-away PgBouncer in
# transaction mode before the server of TEST_DATABASE_URL:
#
#   pgb_start  starts it, exports TEST_POOLER (host:port), has it stopped at exit
#   pgb_get    only has a PgBouncer there
#   pgb_check_logs
#              fails if it, or a server of pg_start, complained of a prepared
#              statement or of the protocol
#
# Settings, which the caller may set before:
#
#   pgb_pool_size     server connections for each database and role
#   pgb_statements    max_prepared_statements
#
# PgBouncer 1.21 or newer is needed, the first that knows prepared statements in
# transaction mode. It is, in this order: PGBOUNCER, `pgbouncer` on the PATH, what
# an earlier run has kept in target/tools, Debian's or Ubuntu's package where that
# is new enough, else the source package of a newer release, built here. Packages
# are unpacked, not installed, so that no service is started for the machine.

_pgb_oldest=1.21
_pgb_program=
_pgb_version=
_pgb_dir=
pgb_pool_size=8
pgb_statements=50

# The releases whose source package is new enough.
_pgb_debian=trixie
_pgb_ubuntu=noble

# Prints the version of a program, if it is new enough.
_pgb_is_usable() {
  local version
  [[ -x $1 ]] || return 1
  version=$("$1" -V 2>/dev/null | sed -n 's/^PgBouncer \([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p')
  [[ -n $version ]] || return 1
  _pgb_is_new_enough "$version" || return 1
  printf '%s\n' "$version"
}

_pgb_is_new_enough() {
  [[ $1 =~ ^([0-9]+)\.([0-9]+) ]] || return 1
  ((BASH_REMATCH[1] > ${_pgb_oldest%.*} || (BASH_REMATCH[1] == ${_pgb_oldest%.*} && BASH_REMATCH[2] >= ${_pgb_oldest#*.})))
}

_pgb_take() {
  _pgb_version=$(_pgb_is_usable "$1") || return 1
  _pgb_program=$1
}

_pgb_find() {
  local program
  if [[ -n ${PGBOUNCER:-} ]]; then
    _pgb_take "$PGBOUNCER" && return
    _pg_say "PGBOUNCER names no PgBouncer $_pgb_oldest or newer: $PGBOUNCER"
    return 1
  fi
  while IFS= read -r program; do
    _pgb_take "$program" && return
  done < <(type -aP pgbouncer || true)
  for program in /usr/sbin/pgbouncer "$1/pgbouncer"; do
    _pgb_take "$program" && return
  done
  return 1
}

# The package's program, beside what it needs. Arguments: the folder to put it in, a folder to work in.
_pgb_unpack_package() {
  local candidate needed
  candidate=$(LC_ALL=C apt-cache policy pgbouncer | sed -n 's/^ *Candidate: //p')
  _pgb_is_new_enough "${candidate#*:}" || return 1
  (cd "$2" && _pg_apt download pgbouncer) || return
  dpkg-deb -x "$2"/pgbouncer_*.deb "$2/root" || return
  needed=$(dpkg-deb -f "$2"/pgbouncer_*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ |(]*\).*/\1/p')
  # shellcheck disable=SC2086 # one word each
  _pg_apt install -y --no-install-recommends $needed || return
  cp "$2/root/usr/sbin/pgbouncer" "$1/"
}

# Prints the line of a newer release's source packages, at the mirror that the machine uses.
_pgb_source() {
  local origin codename component=main
  # shellcheck disable=SC1091
  origin=$(. /etc/os-release && printf '%s' "${ID:-}")
  case $origin in
    debian) origin=Debian codename=$_pgb_debian ;;
    ubuntu) origin=Ubuntu codename=$_pgb_ubuntu component=universe ;;
    *) return 1 ;;
  esac
  # The security archive is another place, and has no such release's packages.
  apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' "Origin: $origin" 'Component: main' |
    awk -v release="$codename" -v component="$component" \
      '$2 !~ /-/ { print "deb-src", $1, release, component; found = 1; exit } END { exit !found }'
}

# Arguments as of _pgb_unpack_package. It knows of the other release by lists of its own, so that the machine's packages stay what they are.
_pgb_build() {
  local line private
  line=$(_pgb_source) || return
  mkdir -p "$2/lists/partial" "$2/cache/archives/partial" || return
  printf '%s\n' "$line" >"$2/sources.list"
  private=(-o "Dir::Etc::SourceList=$2/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$2/lists" -o "Dir::Cache=$2/cache" -o APT::Sandbox::User=root)
  _pg_apt install -y --no-install-recommends gcc make libc6-dev libevent-dev libssl-dev pkg-config dpkg-dev || return
  _pg_apt "${private[@]}" update || return
  (cd "$2" && _pg_apt "${private[@]}" source --download-only pgbouncer) || return
  tar -xzf "$2"/pgbouncer_*.orig.tar.gz -C "$2" || return
  (
    cd "$2"/pgbouncer-*/ || exit
    { ./configure --without-cares --without-pam --without-systemd && make -j2 pgbouncer; } >"$2/build.log" 2>&1 </dev/null ||
      {
        tail -n 20 "$2/build.log" >&2
        exit 1
      }
  ) || return
  cp "$2"/pgbouncer-*/pgbouncer "$1/"
}

# Into the folder that it is given.
_pgb_get() {
  local work rc=0
  _pg_may_install || return
  mkdir -p "$1" && work=$(mktemp -d "${TMPDIR:-/tmp}/pgbouncer-build.XXXXXX") || return
  _pg_say "Getting PgBouncer $_pgb_oldest or newer, once."
  _pg_apt update || rc=$?
  if ((rc == 0)); then
    _pgb_unpack_package "$1" "$work" || _pgb_build "$1" "$work" || rc=$?
  fi
  rm -rf "$work"
  return "$rc"
}

_pgb_configure() {
  local host port user
  # scheme://user:password@host:port/database
  host=${TEST_DATABASE_URL#*://}
  host=${host%%/*}
  user=${host%@*}
  host=${host##*@}
  if [[ $user == "$host" ]]; then user=postgres; else user=${user%%:*}; fi
  port=${host##*:}
  if [[ $port == "$host" ]]; then port=5432; fi
  host=${host%:*}
  printf '"%s" ""\n' "$user" >"$_pgb_dir/users.txt"
  # Hundreds of databases, each used for a moment: connections nobody uses are closed soon.
  cat >"$_pgb_dir/pgbouncer.ini" <<CONF
[databases]
* = host=$host port=$port

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $1
unix_socket_dir =
logfile = $_pgb_dir/pgbouncer.log
pidfile = $_pgb_dir/pgbouncer.pid
auth_type = trust
auth_file = $_pgb_dir/users.txt
auth_user = $user
auth_dbname = postgres
admin_users = $user
pool_mode = transaction
default_pool_size = $pgb_pool_size
max_prepared_statements = $pgb_statements
max_client_conn = 2000
query_wait_timeout = 15
server_idle_timeout = 2
log_connections = 0
log_disconnections = 0
CONF
  if [[ -n $_pg_user ]]; then
    chown -R "$_pg_user" "$_pgb_dir"
  fi
}

_pgb_listens() {
  (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

_pgb_launch() {
  local i
  # It puts itself into the background, and tells what went wrong there in its log alone.
  if ! _pg_run "$_pgb_dir/pgbouncer" -q -d "$_pgb_dir/pgbouncer.ini" >"$_pgb_dir/start.log" 2>&1; then
    return 1
  fi
  for ((i = 0; i < 400; i++)); do
    if _pgb_pid >/dev/null && _pgb_listens "$1"; then return 0; fi
    if grep -q FATAL "$_pgb_dir/pgbouncer.log" 2>/dev/null; then return 1; fi
    sleep 0.05
  done
  return 1
}

# Its process, while it runs: nobody else's has this configuration.
_pgb_pid() {
  local pid
  pid=$(cat "$_pgb_dir/pgbouncer.pid" 2>/dev/null) || return
  [[ $(ps -o args= -p "$pid" 2>/dev/null) == *"$_pgb_dir/pgbouncer.ini"* ]] && printf '%s\n' "$pid"
}

_pgb_stop() {
  local pid i
  if [[ -z $_pgb_dir ]]; then
    return
  fi
  if pid=$(_pgb_pid); then
    # At once, whoever is connected.
    kill -s QUIT "$pid" 2>/dev/null
    for ((i = 0; i < 100; i++)); do
      _pgb_pid >/dev/null || break
      sleep 0.05
    done
  fi
  rm -rf "$_pgb_dir"
}

_pgb_make_dir() {
  local kept=$_pg_dir
  # As the server's, but a folder of its own.
  _pg_make_dir || return
  _pgb_dir=$_pg_dir
  _pg_dir=$kept
  # The program's own folder may be closed to the user that it runs as.
  cp "$_pgb_program" "$_pgb_dir/pgbouncer" && chmod 755 "$_pgb_dir/pgbouncer"
}

# Only has it there. Fails, and says why, if there is no way.
pgb_get() {
  if ! _pgb_find "$tools_folder"; then
    if [[ -n ${PGBOUNCER:-} ]] || ! { _pgb_get "$tools_folder" && _pgb_find "$tools_folder"; }; then
      _pg_say "PgBouncer $_pgb_oldest or newer is needed and could not be had: set PGBOUNCER to one."
      return 1
    fi
  fi
}

# Needs TEST_DATABASE_URL, and handle_signals to have been called. Fails, and says why, if there is no way.
pgb_start() {
  local attempt port
  # PgBouncer does not run as root either.
  _pg_choose_user || return
  pgb_get || return
  at_exit _pgb_stop
  _pgb_make_dir || return
  for ((attempt = 0; attempt < 20; attempt++)); do
    port=$((10240 + RANDOM % 20000))
    if _pgb_listens "$port"; then
      continue
    fi
    _pgb_configure "$port"
    if _pgb_launch "$port"; then
      export TEST_POOLER=127.0.0.1:$port
      _pg_say "PgBouncer $_pgb_version listens on $TEST_POOLER, for this run only: $pgb_pool_size server connections, $pgb_statements prepared statements on each."
      return
    fi
    if ! grep -q 'Address already in use' "$_pgb_dir/pgbouncer.log" 2>/dev/null; then
      break
    fi
  done
  _pg_say 'PgBouncer did not start:'
  cat "$_pgb_dir/start.log" >&2
  tail -n 20 "$_pgb_dir/pgbouncer.log" >&2 || true
  return 1
}

# What a client was not told of, or took for something else.
pgb_check_logs() {
  local log found=0
  for log in "$_pgb_dir/pgbouncer.log" "${_pg_dir:-$_pgb_dir}/server.log"; do
    if [[ -e $log ]] && grep -aEi 'prepared statement|unnamed portal|protocol (violation|synchronization)|bad packet' "$log" |
      grep -v 'STATEMENT:' | head -n 20 >&2; then
      found=1
    fi
  done
  if ((found != 0)); then
    _pg_say 'The lines above are in the logs of the servers.'
    return 1
  fi
}
