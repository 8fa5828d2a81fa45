#!/usr/bin/env bash
# Installs RabbitMQ and Redis for the tests, which start private instances of them, and Prometheus for its
# promtool, when they are missing. Services are not started. Exits 1, and says what to type, when it may not install.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
[[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || command -v rabbitmq-server >/dev/null || missing+=(rabbitmq-server)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v promtool >/dev/null || missing+=(prometheus)

((${#missing[@]} == 0)) || ./apt-install.sh "${missing[@]}"
