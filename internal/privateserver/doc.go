// Package privateserver runs RabbitMQ, Redis and PostgreSQL servers from installed packages. A private server has
// its own loopback ports, data and password. It ends with the process that started it, even after a SIGKILL.
//
// PARKING_RABBITMQ_ROOT and PARKING_REDIS_ROOT can name the root directory of another Linux system, in which the
// server runs. PARKING_REDIS_SERVER can name another program, such as valkey-server.
package privateserver
