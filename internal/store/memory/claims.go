package memory

import (
	"github.com/parking-operator/parking-operator/internal/ring"
	"github.com/parking-operator/parking-operator/internal/store"
)

// claims stores the latest claims of plates by one generator process, so that the process can repeat or release them.
type claims struct {
	byToken map[int64][]available
	tokens  ring.Ring[int64] // oldest first
}

func newClaims() *claims { return &claims{byToken: map[int64][]available{}} }

// remember stores the plates of a claim. It ignores a claim without plates. If there are too many claims, it evicts
// the oldest.
func (c *claims) remember(token int64, claimed []available) {
	if len(claimed) == 0 {
		return
	}
	c.byToken[token] = claimed
	c.tokens.PushBack(token)
	if c.tokens.Len() > store.ClaimsRemembered {
		delete(c.byToken, c.tokens.PopFront())
	}
}

// release marks a claim as released and returns its plates. It returns nil if the claim is unknown or already released.
func (c *claims) release(token int64) []available {
	claimed, found := c.byToken[token]
	if found {
		c.byToken[token] = nil
	}
	return claimed
}
