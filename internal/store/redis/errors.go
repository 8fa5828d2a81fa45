package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// failure wraps what went wrong while doing something: a caller's context that ended as it is, a server
// that refuses the command for good as a refusal, everything else as ErrUnavailable.
func (s *Store) failure(ctx context.Context, doing string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case refused(err):
		return fmt.Errorf("%s: the store at %s refused: %w", doing, s.where(), err)
	default:
		return fmt.Errorf("%s: %w at %s: %w", doing, store.ErrUnavailable, s.where(), err)
	}
}

// refused reports whether the server answered with an error that the same command would meet again. The
// others are states of the server, or of the network, that pass or that an administrator ends.
func refused(err error) bool {
	var reply goredis.Error
	if !errors.As(err, &reply) {
		return false
	}
	code, _, _ := strings.Cut(reply.Error(), " ")
	switch code {
	case "OOM", "MISCONF", "READONLY", "NOREPLICAS", // it takes no writes
		"LOADING", "MASTERDOWN", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", // it is not ready
		"NOAUTH", "WRONGPASS", "NOPERM": // it does not let us in
		return false
	}
	return !strings.HasPrefix(reply.Error(), "ERR max number of clients")
}

// where names the server without user, password and parameters.
func (s *Store) where() string {
	now, err := s.address()
	if err != nil {
		return "an unknown address"
	}
	return now.Redacted()
}
