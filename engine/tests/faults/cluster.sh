#!/usr/bin/env bash
# A Postgres of a fault test's own: `make <folder>`, `run <folder> <port>` (in the foreground), `crash <folder>`.
set -euo pipefail
. "$(dirname "$0")/../../../scripts/lib.sh"

bin=$(postgres_bin)
[ -n "$bin" ] || give_up "PostgreSQL 15 or later is missing: apt-get install postgresql"
user=$(unprivileged_user)
become "$user"
case $1 in
make)
    install -d -m 700 -o "$user" "$2"
    cd / && "${becoming[@]}" "$bin/initdb" -D "$2" -U postgres -A trust -E UTF8 --locale=C >/dev/null
    ;;
run)
    cd / && exec "${becoming[@]}" "$bin/postgres" -D "$2" -p "$3" -h 127.0.0.1 -k '' -c max_wal_size=1GB
    ;;
crash)
    cd / && "${becoming[@]}" "$bin/pg_ctl" -D "$2" -m immediate -w stop >/dev/null
    ;;
esac
