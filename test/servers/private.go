package servers

import (
	"context"

	"github.com/parking-operator/parking-operator/internal/privateserver"
	"github.com/parking-operator/parking-operator/internal/privateserver/port"
)

type (
	// Redis is a Redis or Valkey server for a single test or program.
	Redis = privateserver.Redis
	// RedisOptions configures a Redis server.
	RedisOptions = privateserver.RedisOptions
	// RabbitMQOptions configures a RabbitMQ server.
	RabbitMQOptions = privateserver.RabbitMQOptions
	// Postgres is a PostgreSQL server for a single test.
	Postgres = privateserver.Postgres
	// PostgresOptions configures a PostgreSQL server.
	PostgresOptions = privateserver.PostgresOptions
	// Address is a loopback address that is reserved for a server.
	Address = port.Address
	// NotInstalledError reports that a program is not installed.
	NotInstalledError = privateserver.NotInstalledError
)

// RabbitMQ is a RabbitMQ node for a single test or program.
type RabbitMQ struct{ *privateserver.RabbitMQ }

// StartRabbitMQ starts a new node. See privateserver.StartRabbitMQ.
func StartRabbitMQ(ctx context.Context, dir string, opts RabbitMQOptions) (*RabbitMQ, error) {
	r, err := privateserver.StartRabbitMQ(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	return &RabbitMQ{r}, nil
}

// StartRedis starts a new server. See privateserver.StartRedis.
func StartRedis(ctx context.Context, dir string, opts RedisOptions) (*Redis, error) {
	return privateserver.StartRedis(ctx, dir, opts)
}

// ReserveAddress reserves a loopback address for a server that the caller starts.
func ReserveAddress() (*Address, error) { return port.ReserveAddress() }
