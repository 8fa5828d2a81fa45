// Package sequence defines the content of the events that a simulation publishes. Entries and exits are counted
// separately. The position of an entry determines its plate. The position of an exit determines its draw, which
// decides whether the exit is matched, and its plate if it is unmatched.
//
// These are pure functions of the seed and the position. Replicas and restarted processes lease disjoint positions,
// so they never repeat a plate. The same seed yields the same plates and draws.
package sequence

import "math/bits"

// Sequence defines the events of one seed. It is immutable and safe for concurrent use.
type Sequence struct {
	draws  uint64
	rounds [rounds]uint64
}

// New returns the sequence that belongs to a seed.
func New(seed uint64) *Sequence {
	s := &Sequence{draws: splitMix(seed, 0)}
	for i := range s.rounds {
		s.rounds[i] = splitMix(seed, uint64(i)+1)
	}
	return s
}

// Percent is the largest draw. Draws are percentages.
const Percent = 100

// Draw returns the draw of the exit at a position: a number in [1, Percent], uniformly distributed.
func (s *Sequence) Draw(position int64) int {
	// 2^64 is not a multiple of Percent, so some draws would be slightly more likely than others. Replace the
	// surplus numbers, which are those with the smallest remainders.
	const surplus = (1 << 64) % Percent
	n := splitMix(s.draws, uint64(position))
	for {
		quotient, remainder := bits.Mul64(n, Percent)
		if remainder >= surplus {
			return int(quotient) + 1
		}
		n = splitMix(n, 0)
	}
}

// Matched reports whether the exit at a position is matched, that is, whether it has the plate of a vehicle that
// has entered. This is the case for matchPercent of all exits on average: those with draw > 100 - matchPercent.
func (s *Sequence) Matched(position int64, matchPercent int) bool {
	return s.Draw(position) > Percent-matchPercent
}

// splitMix returns number i of the SplitMix64 random number stream of a seed.
func splitMix(seed, i uint64) uint64 {
	return mix(seed + (i+1)*0x9e3779b97f4a7c15)
}

// mix is the finalizer of the SplitMix64 generator. Flipping any bit of z flips each bit of the result with a
// probability of about one half.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
