package memory

import "github.com/parking-operator/parking-operator/internal/store"

// claims are the latest claims of a run, so that they can be repeated and released.
type claims struct {
	byToken map[int64][]available
	tokens  queue[int64] // oldest first
}

func newClaims() *claims { return &claims{byToken: map[int64][]available{}} }

// remember keeps what a claim took, unless that is nothing, and forgets the oldest claim of too many.
func (c *claims) remember(token int64, taken []available) {
	if len(taken) == 0 {
		return
	}
	c.byToken[token] = taken
	c.tokens.push(token)
	if c.tokens.len() > store.ClaimsRemembered {
		delete(c.byToken, c.tokens.pop())
	}
}

// release returns what the claim took, the first time only.
func (c *claims) release(token int64) []available {
	taken, found := c.byToken[token]
	if found {
		c.byToken[token] = nil
	}
	return taken
}
