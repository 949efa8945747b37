# Private servers for tests and CI. Sourced by bash scripts; starts nothing by itself.
#
# Everything a server writes lies in $scratch, everything started is in $servers, and stop_servers
# (set as a trap by the caller) ends it all. Nothing of the system's own services is touched.

scratch=""
servers=()

say() { printf '%s\n' "$*"; }

# One clear line, then the end.
give_up() {
    printf 'scripts/test: %s\n' "$*" >&2
    exit 3
}

make_scratch() {
    # Not below the project: it may lie where only root may enter, and servers run as somebody else.
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/stepwise.XXXXXX")
    chmod 755 "$scratch"
}

# The user that Postgres runs as: it refuses root.
unprivileged_user() {
    if [ "$(id -u)" != 0 ]; then
        id -un
    elif id postgres >/dev/null 2>&1; then
        echo postgres
    else
        echo nobody
    fi
}

# become <user>: sets $becoming, the words that run a command as that user.
become() {
    becoming=()
    [ "$(id -un)" = "$1" ] ||
        becoming=(setpriv --reuid "$1" --regid "$(id -g "$1")" --clear-groups)
}

is_listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 12000))
        is_listening "$port" || { echo "$port"; return; }
    done
    give_up "no free port between 20000 and 32000"
}

# The newest directory with initdb and postgres of version 15 or later; nothing if there is none.
postgres_bin() {
    local dir major
    for dir in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -rn) \
        "$(pg_config --bindir 2>/dev/null)" "$(dirname "$(command -v initdb 2>/dev/null)" 2>/dev/null)" \
        /opt/homebrew/opt/postgresql@*/bin; do
        [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
        major=$("$dir/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
        if [ "${major:-0}" -ge 15 ]; then
            echo "$dir"
            return
        fi
    done
}

# Past Debian's wrapper, which insists on the user rabbitmq.
rabbitmq_bin() {
    local dir
    for dir in /usr/lib/rabbitmq/bin /usr/local/sbin /opt/homebrew/opt/rabbitmq/sbin; do
        if [ -x "$dir/rabbitmq-server" ]; then
            echo "$dir"
            return
        fi
    done
}

# The connection pooler that some put before Postgres; nothing if there is none.
pgbouncer_bin() { PATH=$PATH:/usr/sbin:/usr/local/sbin command -v pgbouncer || true; }

# The library that gives a process a wrong clock; nothing if there is none.
faketime_library() { ls /usr/lib/*/faketime/libfaketimeMT.so.1 2>/dev/null | head -n 1; }

# wait_until <seconds> <what> <command...>
wait_until() {
    local seconds=$1 what=$2
    shift 2
    local end=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$end" ]; then
            tail -n 20 "$scratch"/*.log >&2
            give_up "$what did not start within $seconds s"
        fi
        sleep 0.2
    done
}

# Sets DATABASE_URL. Durable like a real one: some tests prove durability.
start_postgres() {
    local bin user port data=$scratch/postgres letters=C
    bin=$(postgres_bin)
    user=$(unprivileged_user)
    port=$(free_port)
    become "$user"
    install -d -m 700 -o "$user" "$data"
    # As in a cluster of `stepwise up`: the letters of all scripts, if the system has the locale.
    if locale -a 2>/dev/null | grep -ix 'c\.utf-\?8' >/dev/null; then letters=C.UTF-8; fi
    (cd / && "${becoming[@]}" "$bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C --lc-ctype="$letters") \
        >"$scratch/initdb.log" 2>&1 || { tail -n 5 "$scratch/initdb.log" >&2; give_up "initdb failed"; }
    (cd / && exec "${becoming[@]}" setsid "$bin/postgres" -D "$data" -p "$port" -h 127.0.0.1 -k '' \
        -c max_connections=500 -c max_wal_size=1GB -c autovacuum_naptime=5s) \
        >"$scratch/postgres.log" 2>&1 &
    servers+=("$!")
    wait_until 30 "Postgres" "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"
    export DATABASE_URL="postgres://postgres@127.0.0.1:$port/postgres"
}

# Sets AMQP_URL and RABBITMQ_CTL (a command that controls the private node).
start_rabbitmq() {
    local bin port epmd_port dir=$scratch/rabbitmq
    bin=$(rabbitmq_bin)
    port=$(free_port)
    epmd_port=$(free_port)
    # A port mapper of our own, as our child: the one a node starts by itself would stay behind.
    setsid epmd -port "$epmd_port" -address 127.0.0.1 >"$scratch/epmd.log" 2>&1 &
    servers+=("$!")
    wait_until 10 "epmd" is_listening "$epmd_port"
    mkdir -p "$dir/home"
    printf '[].\n' >"$dir/plugins"
    cat >"$dir/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$port
disk_free_limit.absolute = 50MB
log.console = false
CONF
    cat >"$scratch/rabbitmqctl" <<CTL
#!/usr/bin/env bash
export HOME=$dir/home RABBITMQ_NODENAME=stepwise-$port@localhost ERL_EPMD_PORT=$epmd_port
export RABBITMQ_CONF_ENV_FILE=/dev/null ERL_EPMD_ADDRESS=127.0.0.1
exec $bin/rabbitmqctl "\$@"
CTL
    chmod +x "$scratch/rabbitmqctl"
    HOME=$dir/home RABBITMQ_NODENAME=stepwise-$port@localhost RABBITMQ_CONF_ENV_FILE=/dev/null \
        RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$dir/plugins \
        RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/log RABBITMQ_NODE_PORT=$port \
        RABBITMQ_DIST_PORT=$(free_port) ERL_EPMD_PORT=$epmd_port ERL_EPMD_ADDRESS=127.0.0.1 \
        setsid "$bin/rabbitmq-server" >"$scratch/rabbitmq.log" 2>&1 &
    servers+=("$!")
    wait_until 90 "RabbitMQ" "$scratch/rabbitmqctl" await_startup --timeout 1
    export AMQP_URL="amqp://guest:guest@127.0.0.1:$port/%2f" RABBITMQ_CTL=$scratch/rabbitmqctl
}

# start_pgbouncer <host=.. port=.. user=.. of Postgres> <lines of settings>: sets pgbouncer_port. Everybody is let in.
start_pgbouncer() {
    local bin file=$scratch/pgbouncer.ini
    bin=$(pgbouncer_bin)
    [ -n "$bin" ] || give_up "pgbouncer is missing: apt-get install pgbouncer"
    pgbouncer_port=$(free_port)
    cat >"$file" <<INI
[databases]
* = $1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $pgbouncer_port
unix_socket_dir =
auth_type = any
$2
INI
    chmod 644 "$file"
    become "$(unprivileged_user)"
    (cd / && exec "${becoming[@]}" setsid "$bin" -q "$file") >"$scratch/pgbouncer.log" 2>&1 &
    servers+=("$!")
    wait_until 10 "pgbouncer" is_listening "$pgbouncer_port"
}

stop_servers() {
    local pid
    # Nothing here is kept, so the quick way out; each leads a process group of its own.
    for pid in "${servers[@]}"; do
        kill -QUIT "$pid" 2>/dev/null || true
    done
    for pid in "${servers[@]}"; do
        for _ in $(seq 10); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    servers=()
    [ -z "$scratch" ] || rm -rf "$scratch"
}
