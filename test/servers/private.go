package servers

import (
	"context"

	"github.com/parking-operator/parking-operator/internal/privateserver"
)

// The servers are those of package privateserver.
type (
	Redis             = privateserver.Redis
	RedisOptions      = privateserver.RedisOptions
	RabbitMQOptions   = privateserver.RabbitMQOptions
	Address           = privateserver.Address
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
