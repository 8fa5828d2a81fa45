#!/usr/bin/env bash
# Installs what the tests start when it is missing: RabbitMQ, Redis, Prometheus for its promtool, and Chromium with
# axe-core for the live page. Starts no service. Exits 1 and prints the command to run when it may not install.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
[[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || command -v rabbitmq-server >/dev/null || missing+=(rabbitmq-server)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v promtool >/dev/null || missing+=(prometheus)
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)

((${#missing[@]} == 0)) || ./apt-install.sh "${missing[@]}"
./web.sh ..
