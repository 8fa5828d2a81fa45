package sequence

import "math/bits"

const (
	letterGroups = 26 * 26 * 26
	digitGroups  = 10 * 10 * 10 * 10
)

// PlateCapacity is the number of entry plates, half of all plates; the other half is for unmatched exits. Plates
// repeat after PlateCapacity entries.
const PlateCapacity = letterGroups * digitGroups / 2

// plateFormat is an example of a plate. It shows where letters and digits are.
const plateFormat = "ABC-1234"

// EntryPlate returns the plate of the entry at a position, such as "KQX-0417". The position must not be
// negative.
func (s *Sequence) EntryPlate(position int64) string {
	return s.plate(uint32(position % PlateCapacity))
}

// UnmatchedPlate returns the plate of the unmatched exit at a position. No entry has this plate. The position
// must not be negative.
func (s *Sequence) UnmatchedPlate(position int64) string {
	return s.plate(uint32(position%PlateCapacity) + PlateCapacity)
}

// rounds is the number of rounds of the Feistel network in the method plate. It is even, because the rounds change the
// letters and the digits in turn. Four rounds give a pseudo-random permutation (Luby and Rackoff).
//
// The number must not change, because a seed must give the same plates in every version.
const rounds = 6

// plate returns plate number n, in an order that the seed determines. Different numbers have different plates.
//
// The order is a Feistel network whose halves are the letters and the digits.
func (s *Sequence) plate(n uint32) string {
	letters, digits := n/digitGroups, n%digitGroups
	for i := 0; i < rounds; i += 2 {
		letters = (letters + below(s.rounds[i], digits, letterGroups)) % letterGroups
		digits = (digits + below(s.rounds[i+1], letters, digitGroups)) % digitGroups
	}
	return formatPlate(letters, digits)
}

// below returns a pseudo-random number in [0, limit), which depends only on the arguments.
func below(key uint64, v, limit uint32) uint32 {
	n, _ := bits.Mul64(splitMix(key, uint64(v)), uint64(limit))
	return uint32(n)
}

func formatPlate(letters, digits uint32) string {
	var b [len(plateFormat)]byte
	for i := 2; i >= 0; i-- {
		b[i] = byte('A' + letters%26)
		letters /= 26
	}
	b[3] = '-'
	for i := 7; i >= 4; i-- {
		b[i] = byte('0' + digits%10)
		digits /= 10
	}
	return string(b[:])
}
