// Package privateserver runs RabbitMQ, Redis and PostgreSQL servers from installed packages. Each server is private,
// which means that it listens on free loopback ports, has its own data directory and a random password, and does not
// affect other servers on the machine. When the process that started the server ends, the server ends too, even if that
// process is killed.
//
// The environment variables PARKING_RABBITMQ_ROOT and PARKING_REDIS_ROOT may contain the path of a root directory
// in which another Linux system is installed. Then the server of that system is started with chroot.
// PARKING_REDIS_SERVER may contain the name of the program to run as Redis, such as valkey-server.
package privateserver
