# shellcheck shell=bash
#
# Sourced, after run.sh. A private, throw-away PostgreSQL server:
#
#   pg_start   starts it, exports TEST_DATABASE_URL and PGHOST, PGPORT, PGUSER,
#              PGDATABASE, has it stopped at exit
#   pg_start_durable
#              as pg_start, but the server writes through what it commits, and
#              can count what statements cost where pg_stat_statements is there
#   pg_crash   kills it and starts it again, with the same folder and port
#
# It is the newest that is found, or that of TEST_POSTGRES_BIN, a folder with
# initdb, pg_ctl and postgres.
#
# It only ever stops what it started, and it writes to no place but its own
# temporary folder (and the package system, where there is no PostgreSQL yet).

_pg_oldest=14
_pg_bin=
_pg_version=
_pg_dir=
_pg_user=
_pg_as=()
_pg_session=()
_pg_writes_through=off

_pg_say() {
  printf '%s\n' "$*" >&2
}

# PostgreSQL refuses to run as root.
_pg_choose_user() {
  if command -v setsid >/dev/null; then
    _pg_session=(setsid)
  fi
  if [[ $(id -u) != 0 ]]; then
    return 0
  fi
  for _pg_user in postgres nobody; do
    id -u "$_pg_user" >/dev/null 2>&1 || continue
    # Which of these exist, and which options they know, varies.
    _pg_as=(runuser -u "$_pg_user" --)
    if _pg_run true 2>/dev/null; then return 0; fi
    _pg_as=(setpriv "--reuid=$_pg_user" "--regid=$(id -g "$_pg_user")" --clear-groups --)
    if _pg_run true 2>/dev/null; then return 0; fi
    # shellcheck disable=SC2016 # for the inner shell to expand
    _pg_as=(su -s /bin/sh -c 'exec "$@"' -- "$_pg_user" sh)
    if _pg_run true 2>/dev/null; then return 0; fi
    _pg_as=(sudo -n -u "$_pg_user" --)
    if _pg_run true 2>/dev/null; then return 0; fi
  done
  _pg_say 'PostgreSQL does not run as root, and neither "postgres" nor "nobody" can be used instead: run this as another user, or set TEST_DATABASE_URL.'
  return 1
}

# Runs a command as the user of the server, out of the reach of the terminal's
# signals: Ctrl-C must not take the server away before the tests have ended, and
# a server that is half started is harder to stop than one that is up.
_pg_run() (
  # Root's HOME and working folder are closed to the other user.
  cd "${_pg_dir:-/}" || exit
  exec ${_pg_session[@]+"${_pg_session[@]}"} ${_pg_as[@]+"${_pg_as[@]}"} \
    env "HOME=${_pg_dir:-/}" LC_ALL=C "$@" </dev/null
)

# The newest version among the usual places; the first of several equal ones.
_pg_find() {
  local dir version program
  local dirs=()
  _pg_bin=
  _pg_version=0
  if [[ -n ${TEST_POSTGRES_BIN:-} ]]; then
    dirs=("$TEST_POSTGRES_BIN")
  else
    while IFS= read -r program; do
      dirs+=("${program%/*}")
    done < <(type -aP initdb || true)
    if command -v pg_config >/dev/null; then
      dirs+=("$(pg_config --bindir 2>/dev/null || true)")
    fi
    dirs+=(
      /usr/lib/postgresql/*/bin
      /usr/pgsql-*/bin
      /opt/homebrew/opt/postgresql*/bin
      /usr/local/opt/postgresql*/bin
      /usr/local/pgsql/bin
    )
  fi
  for dir in "${dirs[@]}"; do
    if [[ $dir != /* || ! -x $dir/initdb || ! -x $dir/pg_ctl || ! -x $dir/postgres ]]; then
      continue
    fi
    # Asked as the server's user, who might not be allowed into that folder.
    version=$(_pg_run "$dir/postgres" -V 2>/dev/null |
      sed -n 's/.*(PostgreSQL) \([0-9][0-9]*\).*/\1/p') || continue
    if [[ -n $version ]] && ((version >= _pg_oldest && version > _pg_version)); then
      _pg_bin=$dir
      _pg_version=$version
    fi
  done
  [[ -n $_pg_bin ]]
}

# Whether packages can be had here.
_pg_may_install() {
  [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null
}

_pg_apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

# Debian's package sets up and starts a server for the whole machine, unless
# told otherwise. That setting is the owner's where it was there before us.
_pg_install() {
  local conf=/etc/postgresql-common/createcluster.conf
  _pg_may_install || return
  if [[ ! -e $conf ]]; then
    _pg_apt update || return
    _pg_apt install -y --no-install-recommends postgresql-common || return
    printf '\ncreate_main_cluster = false\n' >>"$conf" || return
  elif ! grep -Eq '^[[:space:]]*create_main_cluster[[:space:]]*=[[:space:]]*'"'?(false|off|no)" "$conf"; then
    return 1
  else
    _pg_apt update || return
  fi
  _pg_apt install -y --no-install-recommends postgresql
}

# Under TMPDIR, or wherever the server's user can get at it.
_pg_make_dir() {
  local base
  for base in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
    [[ $base == /* ]] || continue
    _pg_dir=$(mktemp -d "${base%/}/pg-test.XXXXXX") || continue
    if [[ -z $_pg_user ]] || chown "$_pg_user" "$_pg_dir"; then
      if _pg_run test -w "$_pg_dir" 2>/dev/null; then
        return 0
      fi
    fi
    rm -rf "$_pg_dir"
    _pg_dir=
  done
  _pg_say 'No temporary folder can be made that the PostgreSQL server may write to.'
  return 1
}

# Prints the folder of the programs that were found, which may be links.
_pg_home() {
  dirname -- "$(readlink -f -- "$_pg_bin/postgres")"
}

# Prints settings for the library that counts what statements cost, if it is
# there. It counts nothing before a database is told that it shall.
_pg_counting() {
  local dir library
  dir=$(_pg_home)
  for library in "$("$dir/pg_config" --pkglibdir 2>/dev/null)" "${dir%/bin}"/lib{,/postgresql}; do
    if [[ -e $library/pg_stat_statements.so || -e $library/pg_stat_statements.dylib ]]; then
      printf '%s\n' "shared_preload_libraries = 'pg_stat_statements'" "pg_stat_statements.track = none"
      return
    fi
  done
}

_pg_init() {
  local locale counting= sockets=
  if [[ $_pg_writes_through == on ]]; then
    counting=$(_pg_counting)
  fi
  # Not every system has C.UTF-8.
  for locale in C.UTF-8 C; do
    rm -rf "$_pg_dir/data"
    if _pg_run "$_pg_bin/initdb" -D "$_pg_dir/data" -U postgres --auth=trust \
      --encoding=UTF8 --locale="$locale" --no-sync >"$_pg_dir/initdb.log" 2>&1; then
      # The path of a socket is limited to about 100 bytes.
      if [[ ${#_pg_dir} -le 80 && $_pg_dir =~ ^[[:alnum:]/._-]+$ ]]; then
        sockets=$_pg_dir
      fi
      # Mostly nothing has to survive a crash. Still, synchronous_commit stays
      # on: off is the one that changes when others see a commit.
      cat >>"$_pg_dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$sockets'
max_connections = 300
shared_buffers = 128MB
fsync = $_pg_writes_through
full_page_writes = $_pg_writes_through
synchronous_commit = on
jit = off
logging_collector = off
$counting
CONF
      return
    fi
  done
  _pg_say 'initdb failed:'
  tail -n 40 "$_pg_dir/initdb.log" >&2
  return 1
}

_pg_launch() {
  _pg_run "$_pg_bin/pg_ctl" start -w -t 60 -D "$_pg_dir/data" -o "-p $1" \
    -l "$_pg_dir/server.log" >"$_pg_dir/pg_ctl.log" 2>&1
}

_pg_say_it_did_not_start() {
  _pg_say 'The PostgreSQL server did not start:'
  cat "$_pg_dir/pg_ctl.log" >&2
  tail -n 40 "$_pg_dir/server.log" >&2
}

_pg_listen() {
  local port attempt
  for ((attempt = 0; attempt < 20; attempt++)); do
    # Below the ports that systems give to outgoing connections.
    port=$((10240 + RANDOM % 20000))
    if (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      continue
    fi
    : >"$_pg_dir/server.log"
    if [[ -n $_pg_user ]]; then
      chown "$_pg_user" "$_pg_dir/server.log"
    fi
    if _pg_launch "$port"; then
      TEST_DATABASE_URL=postgres://postgres@127.0.0.1:$port/postgres
      export TEST_DATABASE_URL
      # What was not told about a server ends up at this one as well, not at
      # the machine's.
      export PGHOST=127.0.0.1 PGPORT=$port PGUSER=postgres PGDATABASE=postgres
      _pg_say "PostgreSQL $_pg_version listens on 127.0.0.1:$port, for this run only."
      return
    fi
    # Somebody else may have taken the port in between.
    if ! grep -q 'could not bind' "$_pg_dir/server.log"; then
      break
    fi
  done
  _pg_say_it_did_not_start
  return 1
}

_pg_stop() {
  if [[ -z $_pg_dir ]]; then
    return
  fi
  # A server that this does not stop ends by itself, within a minute of having
  # lost its folder: better than to kill what may not be ours.
  if [[ -e $_pg_dir/data/postmaster.pid ]]; then
    _pg_run "$_pg_bin/pg_ctl" stop -w -t 30 -m immediate -D "$_pg_dir/data" >/dev/null 2>&1
  fi
  rm -rf "$_pg_dir"
}

# Prints the process id of the postmaster, and those of its children.
_pg_family() {
  ps -A -o pid= -o ppid= | awk -v postmaster="$1" '$1 == postmaster || $2 == postmaster { print $1 }'
}

# True while one of the processes runs. One that has ended may be listed for as
# long as nobody has asked how it ended.
_pg_any_runs() {
  ps -A -o pid= -o stat= | awk -v pids="$*" '
    BEGIN { n = split(pids, list); for (i = 1; i <= n; i++) asked[list[i]] }
    $1 in asked && $2 !~ /^Z/ { found = 1 }
    END { exit !found }
  '
}

# In a subshell with signals ignored: a postmaster that was stopped here and not
# killed could not be ended by pg_ctl.
_pg_kill() (
  trap '' HUP INT PIPE TERM
  postmaster=$(head -n 1 "$_pg_dir/data/postmaster.pid") || exit
  # So that it has no more children after those that are listed.
  kill -s STOP "$postmaster" || exit
  family=$(_pg_family "$postmaster")
  # shellcheck disable=SC2086 # one word each
  kill -s KILL $family 2>/dev/null # a child may have ended by itself
  for ((i = 0; i < 600; i++)); do
    # shellcheck disable=SC2086
    if ! _pg_any_runs $family; then
      # They name a process that may be listed still, or be somebody else's soon:
      # then the server would take itself for running already.
      rm -f "$_pg_dir/data/postmaster.pid" "$_pg_dir"/.s.PGSQL.*.lock
      exit 0
    fi
    sleep 0.05
  done
  _pg_say 'The PostgreSQL server did not go away.'
  exit 1
)

# After pg_start. Fails if the server cannot be killed or does not come back.
pg_crash() {
  _pg_kill || return
  if ! _pg_launch "$PGPORT"; then
    _pg_say_it_did_not_start
    return 1
  fi
}

# Finds the server's programs, or installs them. Ends the script if there is no way.
pg_prepare() {
  _pg_choose_user || exit 1
  if ! _pg_find; then
    if [[ -n ${TEST_POSTGRES_BIN:-} ]]; then
      _pg_say "TEST_POSTGRES_BIN has no PostgreSQL $_pg_oldest or newer that ${_pg_user:-this user} may run: $TEST_POSTGRES_BIN"
      exit 1
    fi
    if ! { _pg_install && _pg_find; }; then
      _pg_say "PostgreSQL $_pg_oldest or newer is needed: install its server with \`apt-get install postgresql\` (Debian, Ubuntu), \`dnf install postgresql-server\` (Fedora) or \`brew install postgresql\` (macOS), or set TEST_DATABASE_URL to a server that is there for tests."
      exit 1
    fi
    # The package may have brought the postgres user.
    _pg_choose_user || exit 1
  fi
  # These are for another server, both for PostgreSQL's programs and for ours.
  unset PGDATA PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGPASSFILE PGDATABASE \
    PGSERVICE PGSERVICEFILE PGOPTIONS PGAPPNAME PGSSLMODE PGSSLROOTCERT PGSSLCERT PGSSLKEY
}

# Needs handle_signals to have been called. Ends the script if there is no way.
pg_start() {
  pg_prepare
  at_exit _pg_stop
  _pg_make_dir && _pg_init && _pg_listen || exit 1
}

# As pg_start.
pg_start_durable() {
  _pg_writes_through=on
  pg_start
}
