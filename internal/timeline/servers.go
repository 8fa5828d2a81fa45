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

// WatchServer calls ping once a second until ctx ends. Each time that ping begins to fail, or succeeds again,
// WatchServer passes a Mark (an event for the timeline) to mark. The Mark does not contain the error of ping, because
// its text may contain the name of a server or a user.
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
		m := Mark{At: time.Now(), Kind: MarkAvailable, Subject: server, Message: "answers again"}
		if isDown {
			m.Kind, m.Message = MarkUnavailable, "connection lost, or no answer"
		}
		mark(m)
	})
}
