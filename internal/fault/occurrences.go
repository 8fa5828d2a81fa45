package fault

import (
	"cmp"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Occurrences returns the planned occurrences ordered by due time, possibly without end. Each depends only on the seed,
// its fault and its number, so editing one fault leaves the others unchanged.
func Occurrences(p *plan.Plan) iter.Seq[Occurrence] {
	return func(yield func(Occurrence) bool) {
		var upcoming []*series
		for i := range p.Faults {
			s := newSeries(p, &p.Faults[i])
			if s.advance() {
				upcoming = append(upcoming, s)
			}
		}
		for len(upcoming) > 0 {
			first := slices.MinFunc(upcoming, func(a, b *series) int {
				return cmp.Or(cmp.Compare(a.next.At, b.next.At), cmp.Compare(a.next.Fault, b.next.Fault))
			})
			if !yield(first.next) {
				return
			}
			if !first.advance() {
				upcoming = slices.DeleteFunc(upcoming, func(s *series) bool { return s == first })
			}
		}
	}
}

type series struct {
	fault *plan.Fault
	seed  uint64
	// end is the duration of the plan, or 0 if the plan does not end.
	end time.Duration

	// The field next is the occurrence that is due next.
	next   Occurrence
	base   time.Duration // when next would be due without jitter
	number int
}

func newSeries(p *plan.Plan, f *plan.Fault) *series {
	name := fnv.New64a()
	_, _ = name.Write([]byte(f.Name)) // never fails
	return &series{fault: f, seed: p.Seed ^ name.Sum64(), end: p.Duration.D()}
}

// advance computes the next occurrence. It returns false if there are no more occurrences, or if the next would outlast
// the plan.
func (s *series) advance() bool {
	f := s.fault
	if s.number == 0 {
		s.base = f.At.D()
	} else {
		s.base += f.Every.D()
	}
	random := rand.New(rand.NewPCG(s.seed, uint64(s.number)))
	at := s.base + jitter(random, f.Jitter.D())
	s.next = Occurrence{
		Fault: f.Name, Number: s.number, Target: f.Target, Action: f.Action,
		At: max(at, 0), For: f.For.D(), Instances: f.Instances, Percent: f.Percent, Draw: random.Uint64(),
	}
	s.number++
	again := s.number == 1 || f.Every > 0
	overflow := s.base < 0
	return again && !overflow && (s.end == 0 || s.next.At+s.next.For < s.end)
}

func jitter(random *rand.Rand, maxShift time.Duration) time.Duration {
	// Always draw a number, so that the instances selected by the next number do not depend on maxShift.
	draw := random.Uint64()
	if maxShift <= 0 {
		return 0
	}
	return time.Duration(draw%(2*uint64(maxShift)+1)) - maxShift
}

// Pick returns the indexes, in ascending order, of the instances to hit among n instances. If the plan asks for more
// than n, Pick returns all.
func (o *Occurrence) Pick(n int) []int {
	random := rand.New(rand.NewPCG(o.Draw, 0))
	picked := random.Perm(n)[:min(o.count(n), n)]
	slices.Sort(picked)
	return picked
}

// count returns how many of n instances the occurrence hits according to the plan. The result may exceed n.
func (o *Occurrence) count(n int) int {
	if o.Percent > 0 {
		return (n*o.Percent + 99) / 100
	}
	return max(o.Instances, 1)
}
