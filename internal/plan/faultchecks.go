package plan

import (
	"cmp"
	"fmt"
	"regexp"

	"github.com/parking-operator/parking-operator/internal/field"
)

var faultName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// FaultNames checks that the names of faults are valid and unique. The parameter path is the path of the list of
// faults.
func (c *Checks) FaultNames(path field.Path, names []string) {
	first := make(map[string]int, len(names))
	for i, name := range names {
		at := path.Index(i).Child("name")
		other, taken := first[name]
		switch {
		case name == "":
			c.Add(field.Required(at, `give the fault a name, such as "redis-crash"`))
		case len(name) > MaxFaultName || !faultName.MatchString(name):
			c.Invalid(at, name, "must have at most %d characters of a-z, 0-9 and '-', and start and end with a letter or digit", MaxFaultName)
		case taken:
			c.Invalid(at, name, "must differ from the name of %s", path.Index(other))
		default:
			first[name] = i
		}
	}
}

// FaultTarget checks that the target of a fault is one of the Target constants.
func (c *Checks) FaultTarget(path field.Path, target FaultTarget) {
	c.OneOf(path, string(target), string(TargetRabbitMQ), string(TargetRabbitMQLeader), string(TargetRedis), string(TargetSummaryAPI),
		string(TargetProcessor), string(TargetEntryGenerator), string(TargetExitGenerator))
}

// FaultLeader rejects the target RabbitMQLeader for classic queues, which have no leader. In errors, queueTypeName is
// the name of the field with the queue type.
func (c *Checks) FaultLeader(path field.Path, target FaultTarget, queueType QueueType, queueTypeName string) {
	if target == TargetRabbitMQLeader && queueType == QueueTypeClassic {
		c.Invalid(path, string(target), "requires quorum queues, because classic queues have no leader: set the target to RabbitMQ, or %s to Quorum", queueTypeName)
	}
}

// FaultAction checks the action of a fault.
func (c *Checks) FaultAction(path field.Path, action FaultAction) {
	c.OneOf(path, string(action), string(ActionKill), string(ActionRestart), string(ActionEvict), string(ActionPause), string(ActionIsolate))
}

// FaultTimes contains the times of a fault, and the duration of the simulation. If a time is not set, its field Text is
// empty.
type FaultTimes struct{ At, Every, Jitter, For, Simulation Length }

// FaultTimes checks that the durations of a fault are consistent with each other. The caller must already have checked
// each duration on its own.
func (c *Checks) FaultTimes(path field.Path, action FaultAction, t FaultTimes) {
	if action.Lasts() && t.For.Text == "" {
		c.Add(field.Required(path.Child("for"), fmt.Sprintf(`say how long %s lasts, such as "20s"`, action)))
	}
	if !action.Lasts() && t.For.Text != "" {
		c.Add(field.Forbidden(path.Child("for"), "is only for Pause and Isolate, because the other actions do not last: remove it"))
	}
	if t.Jitter.Value > t.At.Value {
		c.Invalid(path.Child("jitter"), t.Jitter.Text, `must not exceed "at", which is %s, or the fault begins before the simulation does: lower "jitter" or raise "at"`, t.At.Text)
	}
	if t.Every.Text != "" {
		c.faultInterval(path.Child("every"), t)
	}
	f := Fault{At: Duration(t.At.Value), Jitter: Duration(t.Jitter.Value), For: Duration(t.For.Value)}
	if t.Simulation.Value > 0 && f.LatestEnd() >= t.Simulation.Value {
		name, text := "at", t.At.Text
		// The error names a field to lower. "at" must be at least "jitter", so lowering "at" does not help if "for"
		// plus twice "jitter" reaches "duration".
		switch {
		case t.For.Value >= t.Simulation.Value:
			name, text = "for", t.For.Text
		case t.For.Value+2*t.Jitter.Value >= t.Simulation.Value:
			name, text = "jitter", t.Jitter.Text
		}
		c.Invalid(path.Child(name), text, `the sum of "at", "for" and "jitter" must be less than "duration", which is %s, or the simulation ends before the fault does: `+
			`raise "duration" or lower %q`, t.Simulation.Text, name)
	}
}

func (c *Checks) faultInterval(path field.Path, t FaultTimes) {
	if t.Every.Value < MinFaultInterval {
		c.Invalid(path, t.Every.Text, "must be at least %s; remove it to inject the fault once", MinFaultInterval)
		return
	}
	if t.Every.Value <= t.For.Value+2*t.Jitter.Value {
		c.Invalid(path, t.Every.Text, `must be longer than "for" plus twice "jitter", which is %s + 2 × %s, so that an occurrence ends before the next one begins: `+
			`raise "every", or lower "for" or "jitter"`, cmp.Or(t.For.Text, "0s"), cmp.Or(t.Jitter.Text, "0s"))
	}
}

func (c *checks) faults(path field.Path, p *Plan) {
	if len(p.Faults) > MaxFaults {
		c.Add(field.TooMany(path, len(p.Faults), MaxFaults))
		return
	}
	names := make([]string, len(p.Faults))
	for i := range p.Faults {
		f := &p.Faults[i]
		names[i] = f.Name
		c.fault(path.Index(i), f, p)
	}
	c.FaultNames(path, names)
}

func (c *checks) fault(path field.Path, f *Fault, p *Plan) {
	c.FaultTarget(path.Child("target"), f.Target)
	c.FaultLeader(path.Child("target"), f.Target, p.QueueType, "queueType")
	c.FaultAction(path.Child("action"), f.Action)
	switch {
	case f.Percent == 0:
		c.Number(path.Child("instances"), int64(f.Instances), 1, MaxFaultInstances, "instances; or set percent")
	case f.Instances == 0:
		c.Number(path.Child("percent"), int64(f.Percent), 1, 100, "percent")
	default:
		c.Invalid(path.Child("percent"), f.Percent, "instances and percent cannot be combined: remove one of them")
	}
	at, every := c.length(path.Child("at"), f.At), c.length(path.Child("every"), f.Every)
	jitter, lasts := c.length(path.Child("jitter"), f.Jitter), c.length(path.Child("for"), f.For)
	before := len(c.Errors)
	c.Duration(path.Child("at"), at, true, "2m")
	c.Duration(path.Child("every"), every, true, "5m")
	c.Duration(path.Child("jitter"), jitter, true, "30s")
	c.DurationUpTo(MaxFaultLength, path.Child("for"), lasts, true, "20s")
	if len(c.Errors) == before {
		c.FaultTimes(path, f.Action, FaultTimes{
			At: at, Every: unlessZero(every), Jitter: unlessZero(jitter), For: unlessZero(lasts), Simulation: c.length("duration", p.Duration),
		})
	}
}

// unlessZero returns an unset Length, which has an empty text, if d is 0.
func unlessZero(d Length) Length {
	if d.Value == 0 {
		return Length{}
	}
	return d
}
