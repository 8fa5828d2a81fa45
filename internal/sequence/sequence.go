// Package sequence computes the content of events from the seed and a position. Entries and exits have separate
// positions. A seed always gives the same values.
//
// Each position belongs to one generator only, so replicas and restarted processes do not repeat plates.
package sequence

import "math/bits"

// Sequence computes the plates and the pseudo-random draws of the events for one seed. It is immutable and safe for
// concurrent use.
type Sequence struct {
	draws  uint64
	rounds [rounds]uint64
}

// New returns the sequence that a seed determines.
func New(seed uint64) *Sequence {
	s := &Sequence{draws: splitMix(seed, 0)}
	for i := range s.rounds {
		s.rounds[i] = splitMix(seed, uint64(i)+1)
	}
	return s
}

// Percent is the largest possible draw. A draw is a whole number from 1 to Percent.
const Percent = 100

// Draw returns a random number from 1 to Percent. All numbers are equally likely. Matched uses the number to decide
// whether the exit at the position is matched.
func (s *Sequence) Draw(position int64) int {
	// Lemire's method: the high 64 bits of n*Percent are the result. Without the loop, some results would be more
	// likely, because 2^64 is not a multiple of Percent.
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

// Matched reports whether the exit at a position uses the plate of a vehicle that has entered. On average,
// matchPercent percent of all exits are matched.
func (s *Sequence) Matched(position int64, matchPercent int) bool {
	return s.Draw(position) > Percent-matchPercent
}

// splitMix returns the random number with the index i, counted from 0, of the SplitMix64 generator with the given seed.
func splitMix(seed, i uint64) uint64 {
	return mix(seed + (i+1)*0x9e3779b97f4a7c15)
}

// mix is the final step of SplitMix64. Flipping one bit of z flips each bit of the result with a probability of
// about one half.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
