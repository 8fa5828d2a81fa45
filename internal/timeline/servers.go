package timeline

import (
	"context"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
)

const (
	// pingInterval is the interval at which WatchServer pings a server. pingTimeout is the timeout of one ping.
	pingInterval = time.Second
	pingTimeout  = 2 * time.Second
)

// These constants name the server in the marks that say that a server is unavailable or available.
const (
	SubjectBroker = "broker"
	SubjectStore  = "store"
)

// WatchServer pings a server once a second until ctx ends, and marks failures and recoveries.
func WatchServer(ctx context.Context, server string, ping func(context.Context) error, mark func(Mark)) {
	isDown := false
	async.Every(ctx, pingInterval, func() {
		attempt, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		err := ping(attempt)
		if ctx.Err() != nil || isDown == (err != nil) {
			return
		}
		isDown = err != nil
		// Omit the error, because its text may contain the name of a server or a user.
		m := Mark{At: time.Now(), Kind: MarkAvailable, Subject: server, Message: "answers again"}
		if isDown {
			m.Kind, m.Message = MarkUnavailable, "connection lost, or no answer"
		}
		mark(m)
	})
}
