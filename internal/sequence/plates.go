package sequence

import "math/bits"

const (
	letterGroups = 26 * 26 * 26
	digitGroups  = 10 * 10 * 10 * 10
)

// PlateCapacity is the number of plates available to entries, and also the number available to unmatched exits. It
// is half of all plates with three letters and four digits. The entries at positions n and n+PlateCapacity have the
// same plate, so all parked vehicles have different plates as long as at most PlateCapacity vehicles enter within
// maxStay.
const PlateCapacity = letterGroups * digitGroups / 2

// plateFormat is an example of a plate. It shows the positions of letters and digits.
const plateFormat = "ABC-1234"

// EntryPlate returns the plate of the entry at a position, such as "KQX-0417". The position must not be
// negative.
func (s *Sequence) EntryPlate(position int64) string {
	return s.plate(uint32(position % PlateCapacity))
}

// UnmatchedPlate returns the plate of the unmatched exit at a position. No entry ever has this plate. The position
// must not be negative.
func (s *Sequence) UnmatchedPlate(position int64) string {
	return s.plate(uint32(position%PlateCapacity) + PlateCapacity)
}

// rounds is the number of rounds of the Feistel network. Each half changes in three of them.
const rounds = 6

// plate returns plate number n of all 2×PlateCapacity plates, in an order that the seed determines.
//
// The order is a permutation, so different numbers have different plates. It is a Feistel network whose
// halves are the group of letters and the group of digits. Each round adds a pseudo-random function of one
// group to the other group, modulo the size of that group. This is reversible because the first group
// remains known.
func (s *Sequence) plate(n uint32) string {
	letters, digits := n/digitGroups, n%digitGroups
	for i := 0; i < rounds; i += 2 {
		letters = (letters + below(s.rounds[i], digits, letterGroups)) % letterGroups
		digits = (digits + below(s.rounds[i+1], letters, digitGroups)) % digitGroups
	}
	return formatPlate(letters, digits)
}

// below returns a pseudo-random number in [0, limit) that is a function of v.
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
