package servers

import (
	"context"

	"github.com/parking-operator/parking-operator/internal/privateserver"
)

type (
	// Redis is a private Redis or Valkey server.
	Redis = privateserver.Redis
	// RedisOptions configures a Redis.
	RedisOptions = privateserver.RedisOptions
	// RabbitMQOptions configures a RabbitMQ.
	RabbitMQOptions = privateserver.RabbitMQOptions
	// Address is a reserved loopback address.
	Address = privateserver.Address
	// NotInstalledError reports that a program is not installed.
	NotInstalledError = privateserver.NotInstalledError
)

// RabbitMQ is a private RabbitMQ node.
type RabbitMQ struct{ *privateserver.RabbitMQ }

// StartRabbitMQ starts a new node, as privateserver.StartRabbitMQ does.
func StartRabbitMQ(ctx context.Context, dir string, opts RabbitMQOptions) (*RabbitMQ, error) {
	r, err := privateserver.StartRabbitMQ(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	return &RabbitMQ{r}, nil
}

// StartRedis starts a new server, as privateserver.StartRedis does.
func StartRedis(ctx context.Context, dir string, opts RedisOptions) (*Redis, error) {
	return privateserver.StartRedis(ctx, dir, opts)
}

// ReserveAddress reserves a loopback address for a server of the caller.
func ReserveAddress() (*Address, error) { return privateserver.ReserveAddress() }
