package timeline

import "time"

// Availability creates a Mark when a server stops responding, and another one when the server responds again. It
// assumes that servers respond at first. It is not safe for concurrent use.
type Availability struct {
	down map[string]bool
}

// Observe passes a Mark to the function mark if the availability of the server has changed. err is the result of the
// latest request to the server. The Mark does not contain err, because the text of err may contain the name of a server
// or a user.
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
