package plan

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
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
	// MaxFaults bounds the faults of a simulation.
	MaxFaults = 20
	// MaxFaultName bounds the length of a fault's name.
	MaxFaultName = 40
	// MaxFaultInstances bounds the instances that one occurrence of a fault hits.
	MaxFaultInstances = 999
	// MinFaultInterval is the shortest interval between the occurrences of a fault.
	MinFaultInterval = time.Second
	// MaxDuration bounds every duration: a year.
	MaxDuration = 365 * 24 * time.Hour
)

// owner is the syntax of Plan.Owner, which becomes part of the name of an exchange.
var owner = regexp.MustCompile(`^[A-Za-z0-9-]{0,64}$`)

// Syntax of URLs. The rules of the CRD repeat the patterns.
const (
	// URLPattern is the syntax of an absolute http or https URL without credentials and fragment.
	URLPattern = `^[hH][tT][tT][pP][sS]?://(([A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?[.])*[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?[.]?|[[][0-9A-Fa-f:.]+[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?([/?]([-A-Za-z0-9._~:/?@!$&()*+,;=]|%[0-9A-Fa-f]{2})*)?$`
	// URLCredentialsPattern matches a URL with a user name or password, however malformed the URL is.
	URLCredentialsPattern = `^([A-Za-z]+:)?[^A-Za-z0-9?#]*[^/?#]*@`
)

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

// Length is a duration together with the text that a message shows.
type Length struct {
	Value time.Duration
	Text  string
}

// Duration checks that a duration is positive, or not negative if zero is allowed, and at most MaxDuration.
func (c *Checks) Duration(path field.Path, d Length, zeroAllowed bool, example string) {
	low := "above 0s and up to"
	if zeroAllowed {
		low = "from 0s to"
	}
	if d.Value < 0 || (d.Value == 0 && !zeroAllowed) || d.Value > MaxDuration {
		c.Invalid(path, d.Text, "must be a duration %s %dh, such as %q", low, MaxDuration/time.Hour, example)
	}
}

// Stay checks that a car may leave before it is forgotten. The name of maxStay's field is for the message.
func (c *Checks) Stay(path field.Path, minStay, maxStay Length, maxStayName string) {
	if minStay.Value >= maxStay.Value {
		c.Invalid(path, minStay.Text, "must be less than %s, which is %s, or every car is forgotten before it may leave: "+
			"lower exit.minStay or raise %s", maxStayName, maxStay.Text, maxStayName)
	}
}

// Capacity checks that there are enough plates for the cars that enter at a rate and stay for maxStay.
func (c *Checks) Capacity(path field.Path, rate int64, maxStay Length, maxStayName string) {
	if rate > MaxRate || maxStay.Value > MaxDuration { // another error says so
		return
	}
	if rate*int64(maxStay.Value/time.Second) > sequence.PlateCapacity {
		c.Invalid(path, rate, "times %s, %s, must not exceed %d, the number of plates: lower the rate or %s",
			maxStayName, maxStay.Text, sequence.PlateCapacity, maxStayName)
	}
}

var (
	urlSyntax      = regexp.MustCompile(URLPattern)
	urlCredentials = regexp.MustCompile(URLCredentialsPattern)
)

// HTTPURL checks an absolute URL without credentials. Errors never quote a URL, because it may hold a password even
// where it does not look like it; instead says where credentials go.
func (c *Checks) HTTPURL(path field.Path, text, instead string) {
	if urlCredentials.MatchString(text) {
		c.Add(field.Forbidden(path, "must not hold a user name or password: put them into "+instead))
		return
	}
	if _, err := url.ParseRequestURI(text); err != nil || !urlSyntax.MatchString(text) {
		c.Add(field.InvalidSecret(path, text, `must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`))
	}
}
