package plan

import (
	"cmp"

	"github.com/parking-operator/parking-operator/internal/field"
)

// Validate checks the fields that must be valid in every process. The error is one line.
func (p *Plan) Validate() error { return p.validate(nil) }

// validate is like Validate, but its errors show durations as in the plan file. texts contains the strings in the file
// by the path of their field. If texts is nil, errors show the decoded durations.
func (p *Plan) validate(texts map[field.Path]string) error {
	c := checks{texts: texts}
	if !simulationName.MatchString(p.Simulation) {
		c.Invalid("simulation", p.Simulation, "must be the simulation's name: 1 to 128 letters, digits, dots, dashes and underscores, the first and the last a letter or digit")
	}
	if !owner.MatchString(p.Owner) {
		c.Invalid("owner", p.Owner, "must be empty or the owner's identifier: up to 64 letters, digits and dashes")
	}
	c.Number("partitions", int64(p.Partitions), 1, MaxPartitions, "partitions")
	c.OneOf("queueType", string(p.QueueType), string(QueueTypeQuorum), string(QueueTypeClassic))
	c.OneOf("durability", string(p.Durability), string(DurabilityWritten), string(DurabilitySynced))
	c.duration("duration", p.Duration, true, "30m")
	c.duration("drainTimeout", p.DrainTimeout, true, "5m")
	c.schedule("entry", p.Entry.Schedule)
	c.schedule("exit", p.Exit.Schedule)
	c.Percent("exit.matchPercent", int64(p.Exit.MatchPercent))
	c.duration("exit.minStay", p.Exit.MinStay, true, "2s")
	c.duration("maxStay", p.MaxStay, false, "1h")
	maxStay := c.length("maxStay", p.MaxStay)
	c.Stay("exit.minStay", c.length("exit.minStay", p.Exit.MinStay), maxStay, "maxStay")
	c.Capacity("entry.rate", p.Entry.Rate, maxStay, "maxStay")
	c.Number("processor.concurrency", int64(p.Processor.Concurrency), 1, MaxConcurrency, "messages")
	c.faults("faults", p)
	c.objectives("objectives", p.Objectives)
	c.summaryAPI("summaryAPI", p.SummaryAPI)
	return c.Errors.Err()
}

// checks extends Checks with methods for the structs in a plan.
type checks struct {
	Checks

	texts map[field.Path]string
}

// length returns the duration of the field at a path, together with the text of the field in the plan file.
func (c *checks) length(path field.Path, d Duration) Length {
	return Length{Value: d.D(), Text: cmp.Or(c.texts[path], d.String())}
}

func (c *checks) duration(path field.Path, d Duration, zeroAllowed bool, example string) {
	c.Duration(path, c.length(path, d), zeroAllowed, example)
}

func (c *checks) schedule(path field.Path, s Schedule) {
	c.Rate(path.Child("rate"), s.Rate)
	c.OneOf(path.Child("arrivals"), string(s.Arrivals), string(ArrivalsUniform), string(ArrivalsPoisson))
	c.Number(path.Child("replicas"), int64(s.Replicas), 0, MaxGenerators, "generators")
	stages := path.Child("stages")
	if len(s.Stages) > MaxStages {
		c.Add(field.TooMany(stages, len(s.Stages), MaxStages))
		return
	}
	for i, stage := range s.Stages {
		c.duration(stages.Index(i).Child("duration"), stage.Duration, false, "5m")
		c.Rate(stages.Index(i).Child("rate"), stage.Rate)
	}
}

func (c *checks) objectives(path field.Path, o Objectives) {
	c.phaseObjectives(path, o.PhaseObjectives)
	c.phaseObjectives(path.Child("withoutFaults"), o.WithoutFaults)
	c.phaseObjectives(path.Child("underFaults"), o.UnderFaults)
	c.duration(path.Child("maxRecovery"), o.MaxRecovery, true, "30s")
	c.NotNegative(path.Child("maxLost"), o.MaxLost)
	c.NotNegative(path.Child("maxUnexpected"), o.MaxUnexpected)
}

func (c *checks) phaseObjectives(path field.Path, o PhaseObjectives) {
	c.duration(path.Child("processingP99"), o.ProcessingP99, true, "5ms")
	c.duration(path.Child("endToEndP99"), o.EndToEndP99, true, "1s")
	c.duration(path.Child("maxLag"), o.MaxLag, true, "5s")
	c.Percent(path.Child("minAchievedPercent"), int64(o.MinAchievedPercent))
}

func (c *checks) summaryAPI(path field.Path, a SummaryAPI) {
	if a.External && a.URL == "" {
		c.Add(field.Required(path.Child("url"), "must be the URL of the external API"))
	}
	if a.URL != "" {
		c.HTTPURL(path.Child("url"), a.URL, "put the credentials into files of a directory, and write the path of the directory into secretDir")
	}
}
