// Package sequence defines the content of the events that a simulation publishes. Entries and exits are numbered
// separately; the number of an event is called its position. The position of an entry determines its plate. The
// position of an exit determines a random number, called its draw, which decides whether the exit is matched. If the
// exit is unmatched, its position also determines its plate.
//
// Plates and draws depend only on the seed and the position, so a seed always gives the same values. The store leases
// each position to only one generator, so replicas and restarted processes do not repeat plates.
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

// Draw returns the random number that decides whether the exit at a position is matched. All numbers from 1 to Percent
// are equally likely.
func (s *Sequence) Draw(position int64) int {
	// This is Lemire's method. It turns a random 64-bit number n into a number from 0 to Percent-1: the high 64 bits of
	// n*Percent. If the low 64 bits are less than 2^64 mod Percent, the method replaces n by another random number.
	// Without this step, some numbers would be slightly more likely, because 2^64 is not a multiple of Percent.
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

// Matched reports whether the exit at a position is matched, that is, whether the exit uses the plate of a vehicle that
// has entered. On average, matchPercent percent of all exits are matched.
func (s *Sequence) Matched(position int64, matchPercent int) bool {
	return s.Draw(position) > Percent-matchPercent
}

// splitMix returns the random number with the index i, counted from 0, of the SplitMix64 generator with the given seed.
func splitMix(seed, i uint64) uint64 {
	return mix(seed + (i+1)*0x9e3779b97f4a7c15)
}

// mix is the final step of the SplitMix64 generator. If one bit of z is flipped, each bit of the result flips with a
// probability of about one half.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
