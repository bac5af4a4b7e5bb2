# sh -c THIS sh PROGRAMS FOLDER: a PostgreSQL server for as long as standard input is open. Prints `ready`, or what went wrong.
trap '' HUP INT
programs=$1 folder=$2
cd "$folder" || exit 1
failed() {
  cat "$folder"/*.log
  rm -rf "$folder"
  exit 1
}
# Not every system has C.UTF-8.
"$programs/initdb" -D data -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync >initdb.log 2>&1 </dev/null || {
  rm -rf data
  "$programs/initdb" -D data -U postgres --auth=trust --encoding=UTF8 --locale=C --no-sync >initdb.log 2>&1 </dev/null || failed
}
# Nothing has to survive a crash. Still, synchronous_commit stays on: off changes when others see a commit.
cat >>data/postgresql.conf <<CONF
listen_addresses = ''
port = 5432
unix_socket_directories = '$folder'
unix_socket_permissions = 0777
max_connections = 300
# Databases are made and dropped within the cache.
shared_buffers = 256MB
bgwriter_lru_maxpages = 0
checkpoint_timeout = 1h
max_wal_size = 4GB
wal_level = minimal
max_wal_senders = 0
fsync = off
full_page_writes = off
autovacuum = off
jit = off
logging_collector = off
CONF
"$programs/pg_ctl" start -w -t 60 -D data -l server.log >pg_ctl.log 2>&1 </dev/null || failed
echo ready
# Ends when whoever asked for the server ends, by whatever end.
while read -r _; do :; done
"$programs/pg_ctl" stop -m immediate -w -t 30 -D data >/dev/null 2>&1 </dev/null
rm -rf "$folder"
