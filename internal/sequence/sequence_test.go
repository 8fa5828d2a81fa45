package sequence

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPlates_HaveThreeLettersAndFourDigits(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(`^[A-Z]{3}-[0-9]{4}$`)
	rapid.Check(t, func(t *rapid.T) {
		s := New(rapid.Uint64().Draw(t, "seed"))
		position := rapid.Int64Min(0).Draw(t, "position")
		for _, plate := range []string{s.EntryPlate(position), s.UnmatchedPlate(position)} {
			if !pattern.MatchString(plate) {
				t.Fatalf("position %d has the plate %q, want a format like %s", position, plate, plateFormat)
			}
		}
	})
}

// No two numbers have the same plate, because numberOf recovers every number from its plate.
func TestPlate_DifferentNumbers_HaveDifferentPlates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := New(rapid.Uint64().Draw(t, "seed"))
		first := rapid.Uint32Max(2*PlateCapacity-1000).Draw(t, "first")
		for n := first; n < first+1000; n++ {
			if got := s.numberOf(s.plate(n)); got != n {
				t.Fatalf("number %d has plate %s, from which numberOf recovers %d", n, s.plate(n), got)
			}
		}
	})
}

// numberOf is the inverse of the method plate, which permutes numbers in several rounds.
func (s *Sequence) numberOf(plate string) uint32 {
	var letters, digits uint32
	for _, c := range plate[:3] {
		letters = letters*26 + uint32(c-'A')
	}
	for _, c := range plate[4:] {
		digits = digits*10 + uint32(c-'0')
	}
	for i := rounds - 2; i >= 0; i -= 2 {
		digits = (digits + digitGroups - below(s.rounds[i+1], letters, digitGroups)) % digitGroups
		letters = (letters + letterGroups - below(s.rounds[i], digits, letterGroups)) % letterGroups
	}
	return letters*digitGroups + digits
}

func TestUnmatchedPlate_IsNeverThePlateOfAnEntry(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := New(rapid.Uint64().Draw(t, "seed"))
		first := rapid.Int64Range(0, math.MaxInt64-5000).Draw(t, "first")
		entered := make(map[string]bool, 5000)
		for position := first; position < first+5000; position++ {
			plate := s.EntryPlate(position)
			if entered[plate] {
				t.Fatalf("plate %s enters twice within 5000 positions from %d", plate, first)
			}
			entered[plate] = true
		}
		other := rapid.Int64Range(0, math.MaxInt64-5000).Draw(t, "other")
		for position := other; position < other+5000; position++ {
			if plate := s.UnmatchedPlate(position); entered[plate] {
				t.Fatalf("plate %s of the unmatched exit at position %d is also the plate of an entry", plate, position)
			}
		}
	})
}

func TestEntryPlate_MorePositionsThanPlates_PlatesRepeat(t *testing.T) {
	t.Parallel()
	s := New(7)
	for position := range int64(100) {
		if got, want := s.EntryPlate(position+PlateCapacity), s.EntryPlate(position); got != want {
			t.Errorf("position %d has plate %s, want %s", position+PlateCapacity, got, want)
		}
	}
}

// Users set spec.seed to reproduce a simulation. So a seed must give the same values in every version of this program.
func TestSequence_SameSeed_YieldsTheSameValuesInEveryVersion(t *testing.T) {
	t.Parallel()
	s := New(42)
	var entries, unmatched []string
	var draws []int
	for position := range int64(5) {
		entries = append(entries, s.EntryPlate(position))
		unmatched = append(unmatched, s.UnmatchedPlate(position))
		draws = append(draws, s.Draw(position))
	}
	if diff := cmp.Diff(strings.Fields("HOX-8487 HLH-1767 CMP-4513 CFQ-5865 XCR-5350"), entries); diff != "" {
		t.Errorf("entry plates of seed 42 (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(strings.Fields("STS-5681 LJU-0922 USZ-9859 MTL-3894 NIN-5343"), unmatched); diff != "" {
		t.Errorf("unmatched plates of seed 42 (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{35, 96, 49, 7, 68}, draws); diff != "" {
		t.Errorf("draws of seed 42 (-want +got):\n%s", diff)
	}
}

func TestSequence_DifferentSeeds_YieldDifferentValues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		if a == b {
			t.Skip("equal seeds")
		}
		s, r := New(a), New(b)
		samePlates, sameDraws := 0, 0
		for position := range int64(1000) {
			if s.EntryPlate(position) == r.EntryPlate(position) {
				samePlates++
			}
			if s.Draw(position) == r.Draw(position) {
				sameDraws++
			}
		}
		if samePlates > 10 || sameDraws > 100 {
			t.Fatalf("seeds %d and %d share %d of 1000 plates and %d of 1000 draws", a, b, samePlates, sameDraws)
		}
	})
}

// The test counts several properties of the plates, such as equal letters in successive plates. The test fails if a
// count differs by more than five standard deviations from the mean for independent plates.
func TestPlates_SuccessivePositions_AreUncorrelated(t *testing.T) {
	t.Parallel()
	const n = 100_000
	for _, seed := range []uint64{0, 1, 42, math.MaxUint64} {
		s := New(seed)
		for name, plateAt := range map[string]func(int64) string{"entry": s.EntryPlate, "unmatched": s.UnmatchedPlate} {
			ascents, previous := 0, plateAt(0)
			var symbols [len(plateFormat)][256]int
			repeats := 0
			for position := int64(1); position <= n; position++ {
				plate := plateAt(position)
				if plate > previous {
					ascents++
				}
				if plate[:3] == previous[:3] {
					repeats++
				}
				for i := range len(plate) {
					symbols[i][plate[i]]++
				}
				previous = plate
			}
			expectCount(t, seed, name+" plates greater than the previous one", ascents, n, 1.0/2)
			expectCount(t, seed, name+" plates with the letters of the previous one", repeats, n, 1.0/letterGroups)
			for i := range plateFormat {
				first, last := byte('A'), byte('Z')
				switch {
				case i == 3:
					continue
				case i > 3:
					first, last = '0', '9'
				}
				for c := first; c <= last; c++ {
					expectCount(t, seed, name+" plates with one symbol at one place", symbols[i][c], n, 1/float64(last-first+1))
				}
			}
		}
	}
}

// expectCount fails the test if the number of successes is implausible for n independent trials with the success
// probability p.
func expectCount(t *testing.T, seed uint64, what string, got, n int, p float64) {
	t.Helper()
	mean, deviation := float64(n)*p, math.Sqrt(float64(n)*p*(1-p))
	if math.Abs(float64(got)-mean) > 5*deviation+1 {
		t.Errorf("seed %d: %d %s, want %.0f ± %.0f", seed, got, what, mean, 5*deviation)
	}
}

func TestDraw_ManyPositions_AllNumbersAreEquallyFrequent(t *testing.T) {
	t.Parallel()
	const n = 1_000_000
	for _, seed := range []uint64{0, 1, 42, math.MaxUint64} {
		s := New(seed)
		var counts [Percent + 1]int
		for position := range int64(n) {
			draw := s.Draw(position)
			if draw < 1 || draw > Percent {
				t.Fatalf("seed %d draws %d at position %d, want a number in [1, %d]", seed, draw, position, Percent)
			}
			counts[draw]++
		}
		for draw := 1; draw <= Percent; draw++ {
			expectCount(t, seed, "draws of one number", counts[draw], n, 1.0/Percent)
		}
	}
}

func TestMatched_ShareOfExits_EqualsMatchPercent(t *testing.T) {
	t.Parallel()
	const n = 100_000
	for _, tt := range []struct {
		name              string
		percent, from, to int
	}{
		{"no exit is matched at 0 percent", 0, 0, 0},
		{"one exit in a hundred is matched at 1 percent", 1, 500, 1_500},
		{"a fifth of the exits is matched at 20 percent", 20, 19_500, 20_500},
		{"nearly all exits are matched at 99 percent", 99, 98_500, 99_500},
		{"every exit is matched at 100 percent", 100, n, n},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, seed := range []uint64{0, 1, 2, 42, 1 << 63, math.MaxUint64} {
				s, matched := New(seed), 0
				for position := range int64(n) {
					if s.Matched(position, tt.percent) {
						matched++
					}
				}
				if matched < tt.from || matched > tt.to {
					t.Errorf("seed %d: %d of %d exits are matched, want %d to %d", seed, matched, n, tt.from, tt.to)
				}
			}
		})
	}
}

func BenchmarkEntryPlate(b *testing.B) {
	s := New(42)
	b.ReportAllocs()
	var position int64
	for b.Loop() {
		_ = s.EntryPlate(position)
		position++
	}
}

func BenchmarkDraw(b *testing.B) {
	s := New(42)
	b.ReportAllocs()
	var position int64
	for b.Loop() {
		_ = s.Draw(position)
		position++
	}
}
