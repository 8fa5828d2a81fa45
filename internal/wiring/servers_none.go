//go:build noservers

package wiring

import (
	"errors"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// ErrNoServers is the error for servers in a binary with the build tag noservers.
var ErrNoServers = errors.New("this binary was built with the tag noservers, so it contains neither clients of servers nor SQLite: use a parking binary that was built without this tag (make build)")

func openRabbitMQ(*plan.Plan, binding.Source, Options) (*Broker, error) { return nil, ErrNoServers }

func openRedis(*plan.Plan, binding.Source, Options) (*Store, error) { return nil, ErrNoServers }
