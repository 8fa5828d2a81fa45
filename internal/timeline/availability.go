package timeline

import "time"

// Availability returns a mark when a server stops answering, and when it answers again. The zero value takes all
// servers to answer. It is not safe for concurrent use.
type Availability struct {
	down map[string]bool
}

// Observe passes a mark to mark if the server has changed: err is nil if it answers. The mark does not contain err,
// which may name a server or a user.
func (a *Availability) Observe(server string, err error, mark func(Mark)) {
	down := err != nil
	if a.down[server] == down {
		return
	}
	if a.down == nil {
		a.down = map[string]bool{}
	}
	a.down[server] = down
	m := Mark{At: time.Now(), Kind: MarkAvailable, Subject: server, Message: "answers again"}
	if down {
		m.Kind, m.Message = MarkUnavailable, "does not answer"
	}
	mark(m)
}
