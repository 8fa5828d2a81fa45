package plan

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/sequence"
)

// The limits of the values in plans and manifests. The rules in the CRD contain the same limits.
const (
	// MaxRate is the maximum rate of a schedule, in events per second.
	MaxRate = 1_000_000
	// MaxStages is the maximum number of stages of a schedule. The API server estimates the cost of the CRD's rules
	// from this number, and rejects a CRD whose rules are too expensive.
	MaxStages = 100
	// MaxGenerators is the maximum number of generator processes that share a schedule.
	MaxGenerators = 64
	// MaxPartitions is the maximum number of partitions. Each partition has one entry queue and one exit queue.
	MaxPartitions = 64
	// MaxConcurrency is the maximum number of messages of one queue that a processor processes at the same
	// time. It is the largest prefetch count that AMQP allows.
	MaxConcurrency = 1<<16 - 1
	// MaxFaults is the maximum number of faults in a plan.
	MaxFaults = 20
	// MaxFaultName is the maximum length of a fault's name, in bytes.
	MaxFaultName = 40
	// MaxFaultInstances is the maximum number of instances that one occurrence of a fault hits. It is the largest
	// number that the pattern of v1alpha1.FaultPods allows.
	MaxFaultInstances = 999
	// MinFaultInterval is the minimum time between two occurrences of a fault. A row of the timeline covers one second,
	// so the effects of more frequent occurrences could not be told apart.
	MinFaultInterval = time.Second
	// MaxFaultLength is the longest duration of a single pause or isolation.
	MaxFaultLength = 24 * time.Hour
	// MaxDuration is the longest duration that any field may have: one year.
	MaxDuration = 365 * 24 * time.Hour
)

// owner is the pattern of valid values of Plan.Owner. The owner becomes part of the name of an exchange.
var owner = regexp.MustCompile(`^[A-Za-z0-9-]{0,64}$`)

// Patterns for URLs. The rules in the CRD contain copies of these patterns.
const (
	// URLPattern matches absolute http and https URLs without credentials and without a fragment.
	URLPattern = `^[hH][tT][tT][pP][sS]?://(([A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?[.])*[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?[.]?|[[][0-9A-Fa-f.]*:[0-9A-Fa-f:.]*[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?([/?]([-A-Za-z0-9._~:/?@!$&()*+,;=]|%[0-9A-Fa-f]{2})*)?$`
	// URLLongHostPattern matches URLs whose host has more than 253 characters. A dot at the end does not count.
	URLLongHostPattern = `^[^/]*//[^/?:]{253}([^/?:.]|[.][^/?:])`
	// URLNumericHostPattern matches URLs whose host ends with a number. A valid URL that matches must also match
	// URLIPv4Pattern, because programs disagree on the meaning of hosts such as 127.1.
	URLNumericHostPattern = `^[^/]*//([^/?]*[.])?([0-9]+|0[xX][0-9A-Fa-f]*)[.]?(:[0-9]*)?([/?]|$)`
	// URLIPv4Pattern matches URLs whose host is an IPv4 address.
	URLIPv4Pattern = `^[^/]*//((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(:[0-9]*)?([/?]|$)`
	// URLCredentialsPattern matches URLs with a user name or password, even if the rest of the URL is malformed.
	URLCredentialsPattern = `^([A-Za-z]+:)?[^A-Za-z0-9?#]*[^/?#]*@`
)

// simulationName matches valid values of Plan.Simulation, which becomes part of the names of queues and Redis
// keys.
var simulationName = regexp.MustCompile(`^[A-Za-z0-9]([-._A-Za-z0-9]{0,126}[A-Za-z0-9])?$`)

// Checks collects the errors of a plan or a manifest. The zero value is ready to use.
type Checks struct {
	Errors field.ErrorList
	// Source returns the value at a path as the document contains it, for errors. If Source is nil, errors show the
	// decoded value.
	Source func(path field.Path, decoded any) any
}

// Add adds an error to Errors.
func (c *Checks) Add(err field.Error) { c.Errors = append(c.Errors, err) }

// Invalid adds an error for an invalid value. The formatted text describes the valid values.
func (c *Checks) Invalid(path field.Path, value any, format string, args ...any) {
	if c.Source != nil {
		value = c.Source(path, value)
	}
	c.Add(field.Invalid(path, value, fmt.Sprintf(format, args...)))
}

// OneOf checks that a value is one of the allowed values.
func (c *Checks) OneOf(path field.Path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.Add(field.NotSupported(path, value, allowed))
	}
}

// Number checks that an integer is in the range [low, high]. The parameter unit is the unit of the integer, for errors.
func (c *Checks) Number(path field.Path, value, low, high int64, unit string) {
	if value < low || value > high {
		c.Invalid(path, value, "must be from %d to %d %s", low, high, unit)
	}
}

// NotNegative checks that a limit for a number of events is not negative.
func (c *Checks) NotNegative(path field.Path, value int64) {
	if value < 0 {
		c.Invalid(path, value, "must not be negative; the strictest limit is 0 events")
	}
}

// Rate checks that a rate, in events per second, is in the allowed range.
func (c *Checks) Rate(path field.Path, value int64) {
	c.Number(path, value, 0, MaxRate, "events per second")
}

// Percent checks that a percentage is from 0 to 100.
func (c *Checks) Percent(path field.Path, value int64) { c.Number(path, value, 0, 100, "percent") }

// Length is a duration and its text in the document. Errors show the text.
type Length struct {
	Value time.Duration
	Text  string
}

// Duration checks that a duration is greater than 0 and at most MaxDuration. If zeroAllowed is true, the duration may
// also be 0.
func (c *Checks) Duration(path field.Path, d Length, zeroAllowed bool, example string) {
	c.DurationUpTo(MaxDuration, path, d, zeroAllowed, example)
}

// DurationUpTo is like Duration, but with another limit. The limit must be a whole number of hours, because the error
// shows hours.
func (c *Checks) DurationUpTo(limit time.Duration, path field.Path, d Length, zeroAllowed bool, example string) {
	message := "must be a duration above 0s and up to %dh, such as %q"
	if zeroAllowed {
		message = "must be a duration from 0s to %dh, such as %q"
	}
	if d.Value < 0 || (d.Value == 0 && !zeroAllowed) || d.Value > limit {
		c.Invalid(path, d.Text, message, limit/time.Hour, example)
	}
}

// Stay checks that minStay is less than maxStay, because otherwise every visit would expire before its exit. In errors,
// maxStayName is the name of the field with maxStay.
func (c *Checks) Stay(path field.Path, minStay, maxStay Length, maxStayName string) {
	if minStay.Value >= maxStay.Value {
		c.Invalid(path, minStay.Text, "must be less than %s, which is %s, or every vehicle is forgotten before it may leave: "+
			"lower exit.minStay or raise %s", maxStayName, maxStay.Text, maxStayName)
	}
}

// Capacity checks that there are enough plates. Vehicles that are parked at the same time need different plates.
func (c *Checks) Capacity(path field.Path, rate int64, maxStay Length, maxStayName string) {
	// Other checks report values above their maximum. With such values, the product below could overflow.
	if rate > MaxRate || maxStay.Value > MaxDuration {
		return
	}
	if rate*int64(maxStay.Value/time.Second) > sequence.PlateCapacity {
		c.Invalid(path, rate, "the rate times %s (%s) must not exceed %d, the number of plates: lower the rate or %s",
			maxStayName, maxStay.Text, sequence.PlateCapacity, maxStayName)
	}
}

var (
	urlSyntax      = regexp.MustCompile(URLPattern)
	urlLongHost    = regexp.MustCompile(URLLongHostPattern)
	urlNumericHost = regexp.MustCompile(URLNumericHostPattern)
	urlIPv4        = regexp.MustCompile(URLIPv4Pattern)
	urlCredentials = regexp.MustCompile(URLCredentialsPattern)
	urlCharacter   = regexp.MustCompile(`^([-A-Za-z0-9._~:/?@!$&()*+,;=]|%[0-9A-Fa-f]{2})`)
)

// HTTPURL checks that a text is an absolute http or https URL without credentials. The parameter instead says where
// credentials belong. No error quotes the text, which may contain a password.
func (c *Checks) HTTPURL(path field.Path, text, instead string) {
	if urlCredentials.MatchString(text) {
		c.Add(field.Forbidden(path, "must not hold a user name or password: "+instead))
		return
	}
	if !isHTTPURL(text) {
		expected := `must be an absolute http or https URL such as "https://example.com/v1/visits"`
		if trimmed := strings.TrimSpace(text); !isHTTPURL(trimmed) {
			expected += ": " + urlProblem(trimmed)
		}
		c.Add(field.InvalidSecret(path, text, expected))
	}
}

func isHTTPURL(text string) bool {
	_, err := url.ParseRequestURI(text)
	return err == nil && urlSyntax.MatchString(text) && !urlLongHost.MatchString(text) && (!urlNumericHost.MatchString(text) || urlIPv4.MatchString(text))
}

// urlProblem says which part of a URL is invalid. It quotes at most one character, because the URL may contain a
// password.
func urlProblem(text string) string {
	const hostExpected = `the host must be a name such as "example.com", or an IP address such as "192.0.2.1" or "[2001:db8::1]"`
	scheme, rest, hasScheme := strings.Cut(text, "://")
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	host, port, hasPort := strings.Cut(authority, ":")
	if end := strings.LastIndex(authority, "]"); end >= 0 { // an IPv6 address in brackets
		host = authority[:end+1]
		port, hasPort = strings.TrimPrefix(authority[end+1:], ":"), authority[end+1:] != ""
	}
	switch number, err := strconv.ParseUint(port, 10, 16); {
	case !hasScheme || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https"):
		return `begin it with "https://" or "http://"`
	case !strings.Contains(host, "]") && strings.Count(authority, ":") > 1: // an IPv6 address without brackets
		return hostExpected
	case host == "":
		return "the host is missing"
	case hasPort && (err != nil || number == 0 || port[0] == '0'):
		return "the port must be from 1 to 65535"
	case hasLongPart(host):
		return "the host must have at most 253 characters, and at most 63 between dots"
	case !isHTTPURL("http://" + host):
		return hostExpected
	}
	return pathProblem(path)
}

// hasLongPart reports whether a host name, or one of its labels, is longer than DNS allows.
func hasLongPart(host string) bool {
	if strings.HasPrefix(host, "[") { // an IPv6 address
		return false
	}
	return len(strings.TrimSuffix(host, ".")) > 253 || slices.ContainsFunc(strings.Split(host, "."), func(part string) bool { return len(part) > 63 })
}

// pathProblem says what is wrong with the path or the query of an invalid URL.
func pathProblem(path string) string {
	for path != "" {
		end := len(urlCharacter.FindString(path))
		if end == 0 {
			break
		}
		path = path[end:]
	}
	switch {
	case strings.HasPrefix(path, "#"):
		return `remove the fragment, which begins with "#"`
	case strings.HasPrefix(path, "%"):
		return `write two hexadecimal digits after "%"`
	}
	character, _ := utf8.DecodeRuneInString(path)
	return fmt.Sprintf("write the character %q as %q", character, url.PathEscape(string(character)))
}
