#!/usr/bin/env bash
# Installs the programs that the tests start, if they are missing: RabbitMQ, Redis, PostgreSQL, Prometheus for its promtool,
# and Chromium with axe-core for the live page. Starts no service. If it lacks the rights to install, it exits with 1 and
# prints the command to run.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
[[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || command -v rabbitmq-server >/dev/null || missing+=(rabbitmq-server)
command -v redis-server >/dev/null || missing+=(redis-server)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
command -v promtool >/dev/null || missing+=(prometheus)
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)

((${#missing[@]} == 0)) || ./apt-install.sh "${missing[@]}"
./web.sh ..
