package plan

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/sequence"
)

// Bounds of a plan, and of the manifest that it is derived from. The rules of the CRD state the same bounds.
const (
	// MaxRate bounds the events per second of one schedule.
	MaxRate = 1_000_000
	// MaxStages bounds the stages of a schedule.
	MaxStages = 100
	// MaxGenerators bounds the processes that share a schedule.
	MaxGenerators = 64
	// MaxPartitions bounds the entry queues, and the exit queues.
	MaxPartitions = 64
	// MaxConcurrency bounds the messages in progress per queue: the largest AMQP prefetch count.
	MaxConcurrency = 1<<16 - 1
	// MaxDuration bounds every duration: a year.
	MaxDuration = 365 * 24 * time.Hour
)

// owner is the syntax of Plan.Owner, which becomes part of the name of an exchange.
var owner = regexp.MustCompile(`^[A-Za-z0-9-]{0,64}$`)

// simulationName is the syntax of Plan.Simulation, which becomes part of queue names and Redis keys.
var simulationName = regexp.MustCompile(`^[A-Za-z0-9]([-._A-Za-z0-9]{0,126}[A-Za-z0-9])?$`)

// Checks collects the errors of a plan or of a manifest. The methods check a value against the bounds that both
// have, and add an error if the value is out of bounds. The zero Checks is ready to use.
type Checks struct{ Errors field.ErrorList }

// Add adds an error.
func (c *Checks) Add(err field.Error) { c.Errors = append(c.Errors, err) }

// Invalid adds an error for a value. The format and its arguments say what is expected.
func (c *Checks) Invalid(path field.Path, value any, format string, args ...any) {
	c.Add(field.Invalid(path, value, fmt.Sprintf(format, args...)))
}

// OneOf checks that a value is one of those allowed.
func (c *Checks) OneOf(path field.Path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.Add(field.NotSupported(path, value, allowed))
	}
}

// Number checks that a whole number is in [low, high]. The unit is for the message.
func (c *Checks) Number(path field.Path, value, low, high int64, unit string) {
	if value < low || value > high {
		c.Invalid(path, value, "must be from %d to %d %s", low, high, unit)
	}
}

// NotNegative checks a number of events that an objective allows.
func (c *Checks) NotNegative(path field.Path, value int64) {
	if value < 0 {
		c.Invalid(path, value, "must not be negative; 0 allows none")
	}
}

// Rate checks a number of events per second.
func (c *Checks) Rate(path field.Path, value int64) {
	c.Number(path, value, 0, MaxRate, "events per second")
}

// Percent checks a percentage.
func (c *Checks) Percent(path field.Path, value int64) { c.Number(path, value, 0, 100, "percent") }

// Duration checks that a duration is positive, or not negative if zero is allowed, and at most MaxDuration.
func (c *Checks) Duration(path field.Path, d time.Duration, zeroAllowed bool, example string) {
	low := "above 0s and up to"
	if zeroAllowed {
		low = "from 0s to"
	}
	if d < 0 || (d == 0 && !zeroAllowed) || d > MaxDuration {
		c.Invalid(path, d.String(), "must be a duration %s %dh, such as %q", low, MaxDuration/time.Hour, example)
	}
}

// Stay checks that a car may leave before it is forgotten. The name of maxStay's field is for the message.
func (c *Checks) Stay(path field.Path, minStay, maxStay time.Duration, maxStayName string) {
	if minStay >= maxStay {
		c.Invalid(path, minStay.String(), "must be less than %s, which is %s, or every car is forgotten before it may leave: "+
			"lower exit.minStay or raise %s", maxStayName, maxStay, maxStayName)
	}
}

// Capacity checks that there are enough plates for the cars that enter at a rate and stay for maxStay.
func (c *Checks) Capacity(path field.Path, rate int64, maxStay time.Duration, maxStayName string) {
	if rate > MaxRate || maxStay > MaxDuration { // another error says so
		return
	}
	if rate*int64(maxStay/time.Second) > sequence.PlateCapacity {
		c.Invalid(path, rate, "times %s, %s, must not exceed %d, the number of plates: lower the rate or %s",
			maxStayName, maxStay, sequence.PlateCapacity, maxStayName)
	}
}

// HTTPURL checks an absolute URL without credentials, of which an error shows nothing if it has any; instead
// says where these go.
func (c *Checks) HTTPURL(path field.Path, text, instead string) {
	const want = `must be an absolute http or https URL such as "https://example.com/v1/visits"`
	if hasUserInfo(text) {
		c.Add(field.Forbidden(path, "must not hold a user name or password: put them into "+instead))
		return
	}
	u, err := url.ParseRequestURI(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		c.Invalid(path, text, want)
	}
}

// hasUserInfo reports whether the authority of a URL, however malformed, has something before an "@".
func hasUserInfo(text string) bool {
	_, authority, found := strings.Cut(text, "//")
	if !found {
		authority = text
	}
	if end := strings.IndexAny(authority, "/?#"); end >= 0 {
		authority = authority[:end]
	}
	return strings.Contains(authority, "@")
}
