package sequence

import "math/bits"

const (
	letterGroups = 26 * 26 * 26
	digitGroups  = 10 * 10 * 10 * 10
)

// PlateCapacity is the number of different plates that can enter, and the number of those that never do:
// half of all plates of three letters and four digits. Position n+PlateCapacity has the plate of position
// n, so two parked cars have different plates as long as no more than PlateCapacity cars enter within
// maxStay.
const PlateCapacity = letterGroups * digitGroups / 2

// plateFormat shows the length of a plate and where its dash is.
const plateFormat = "ABC-1234"

// EntryPlate returns the plate, such as "KQX-0417", that enters at a position, which must not be negative.
func (s *Sequence) EntryPlate(position int64) string {
	return s.plate(uint32(position % PlateCapacity))
}

// UnmatchedPlate returns a plate that never enters: the plate of the exit at a position, which must not be
// negative, when its draw is not a match.
func (s *Sequence) UnmatchedPlate(position int64) string {
	return s.plate(uint32(position%PlateCapacity) + PlateCapacity)
}

// rounds is the number of rounds of the permutation: three changes of each half.
const rounds = 6

// plate returns plate number n of all 2×PlateCapacity in the order that the seed determines.
//
// The order is a permutation, so that different numbers have different plates: a Feistel network whose
// two halves are the group of letters and the group of digits. Each round adds to one group a pseudo-random
// function of the other, modulo the group's size; given the other group, that can be undone.
func (s *Sequence) plate(n uint32) string {
	letters, digits := n/digitGroups, n%digitGroups
	for i := 0; i < rounds; i += 2 {
		letters = (letters + below(s.rounds[i], digits, letterGroups)) % letterGroups
		digits = (digits + below(s.rounds[i+1], letters, digitGroups)) % digitGroups
	}
	return formatPlate(letters, digits)
}

// below returns a pseudo-random function of v with values in [0, limit).
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
