// Package sequence says what a simulation does at each position of its two counters: the plate of an
// entry, and the draw and the unmatched plate of an exit. All of it is a pure function of the seed and
// the position, with random access and without state, so that replicas and restarts, which lease disjoint
// positions, never repeat a plate, and the same seed gives the same plates and draws.
package sequence

import "math/bits"

// Sequence is the sequence that one seed determines. It is immutable and safe for concurrent use.
type Sequence struct {
	draws  uint64
	rounds [rounds]uint64
}

// New returns the sequence of a seed.
func New(seed uint64) *Sequence {
	s := &Sequence{draws: splitMix(seed, 0)}
	for i := range s.rounds {
		s.rounds[i] = splitMix(seed, uint64(i)+1)
	}
	return s
}

// Percent is the number of values that a draw can have.
const Percent = 100

// Draw returns the draw of the exit at a position: a number in [1, Percent], each equally likely.
func (s *Sequence) Draw(position int64) int {
	// Percent does not divide 2^64: so many numbers too many would make some draws likelier than others.
	// They are those with the smallest remainders, and are replaced.
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

// Matched reports whether the exit at a position leaves with a plate that entered, when matchPercent of
// the exits shall: n > 100 - matchPercent.
func (s *Sequence) Matched(position int64, matchPercent int) bool {
	return s.Draw(position) > Percent-matchPercent
}

// splitMix returns number i of the stream that the generator SplitMix64 produces from a seed.
func splitMix(seed, i uint64) uint64 {
	return mix(seed + (i+1)*0x9e3779b97f4a7c15)
}

// mix is the finalizer of SplitMix64: each bit of z changes each bit of the result with a probability of
// about one half.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
