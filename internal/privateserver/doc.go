// Package privateserver runs RabbitMQ and Redis servers from installed packages. Each server is private: it
// listens on free loopback ports, has its own data folder and a random password, and does not affect other
// servers on the machine. It ends with the process that started it, even if that process is killed.
//
// The environment variables PARKING_RABBITMQ_ROOT and PARKING_REDIS_ROOT may name the root folder of another
// system, whose server is then started with chroot. PARKING_REDIS_SERVER names the program to run as Redis,
// such as valkey-server.
package privateserver
