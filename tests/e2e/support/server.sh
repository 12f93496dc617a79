# shellcheck shell=bash
# server.sh - a server started and stopped; for scripts that have a function fail and, in `pids`, what to kill at the end.

# serve OPTIONS...: start a server on a free port; sets `base` and `pid`.
serve() {
    : >address
    kith serve "$@" --port 0 --quiet >address 2>errors &
    pid=$!
    pids+=("$pid")
    for _ in {1..200}; do
        base=$(head -n 1 address)
        if [ -n "$base" ]; then
            base=${base%/}
            return 0
        fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    fail "it does not start: $(cat errors)"
}
stop() {
    kill -TERM "$pid"
    wait "$pid" || fail "status $? after SIGTERM: $(cat errors)"
    if grep -q MHD_USE errors; then fail "$(cat errors)"; fi # it was started in another way than it is stopped
}
