package plan

import (
	"fmt"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of a plan, and of the spec that it is made from. The rules of the CRD state the same ones.
const (
	// MaxRate bounds the events a second of one schedule.
	MaxRate = 1_000_000
	// MaxStages bounds the stages of a schedule.
	MaxStages = 100
	// MaxGenerators bounds the processes that share a schedule.
	MaxGenerators = 64
	// MaxPartitions bounds the entry queues, and the exit queues.
	MaxPartitions = 64
	// MaxConcurrency bounds the messages in progress per queue; it is what a prefetch count can say.
	MaxConcurrency = 1<<16 - 1
	// MaxDuration bounds every duration: a year.
	MaxDuration = 365 * 24 * time.Hour
)

// maxFileBytes bounds plan files and manifests.
const maxFileBytes = 1 << 20

// simulationName is the syntax of Plan.Simulation, which becomes part of queue names and Redis keys.
var simulationName = regexp.MustCompile(`^[A-Za-z0-9]([-._A-Za-z0-9]{0,126}[A-Za-z0-9])?$`)

// faults collects what is wrong with a plan or a spec.
type faults struct{ list field.ErrorList }

func (f *faults) invalid(path *field.Path, value any, format string, args ...any) {
	f.list = append(f.list, field.Invalid(path, value, fmt.Sprintf(format, args...)))
}

// number checks that a whole number is in [low, high]; what says of what it is one.
func (f *faults) number(path *field.Path, value, low, high int64, what string) {
	if value < low || value > high {
		f.invalid(path, value, "must be from %d to %d %s", low, high, what)
	}
}

// rate checks a rate.
func (f *faults) rate(path *field.Path, value int64) {
	f.number(path, value, 0, MaxRate, "events a second")
}

// duration checks that a duration is above 0, or not below it if zero is allowed, and not over MaxDuration.
func (f *faults) duration(path *field.Path, value time.Duration, zeroAllowed bool, example string) {
	low := "above 0s"
	if zeroAllowed {
		low = "from 0s"
	}
	if value < 0 || (value == 0 && !zeroAllowed) || value > MaxDuration {
		f.invalid(path, value.String(), "must be a duration %s and up to %s, such as %q", low, hours(MaxDuration), example)
	}
}

// stays checks that a car may leave before it is forgotten.
func (f *faults) stays(path *field.Path, minStay, maxStay time.Duration, maxStayName string) {
	if minStay >= maxStay {
		f.invalid(path, minStay.String(), "must be less than %s, which is %s, else every car would be forgotten before it may leave: "+
			"lower exit.minStay or raise %s", maxStayName, maxStay, maxStayName)
	}
}

// hours writes a duration of whole hours without the "0m0s" that time.Duration appends.
func hours(d time.Duration) string { return fmt.Sprintf("%dh", d/time.Hour) }
