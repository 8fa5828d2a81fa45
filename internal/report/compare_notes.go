package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxNamed is the maximum number of differences or machine sizes in a note.
const maxNamed = 5

// notesOn returns the reasons why a comparison may be misleading, such as a run that was cut short, or different
// environments.
func notesOn(c *Comparison) []string {
	notes := []string{}
	if isSameRun(c.runs[0], c.runs[1]) {
		notes = append(notes, "both reports describe the same run: to compare two runs, name one report of each run")
	}
	for i, which := range []string{"first", "second"} {
		if cut := c.runs[i].CutShort; cut != "" {
			notes = append(notes, fmt.Sprintf("in the %s report, %s: outcomes that require a complete run are undecided", which, cut))
		}
	}
	before, after := &c.runs[0].Environment, &c.runs[1].Environment
	if isOneInMemory(before, after) {
		notes = append(notes, "only one of the runs used servers; the other ran in memory: their latencies and recoveries are not comparable")
	}
	if different := changedEnvironment(before, after); len(different) > 0 {
		notes = append(notes, "the runs had different environments: "+listed(different)+
			"; a change of a metric may result from the environment and not from the software")
	}
	if different := changedSpec(c); len(different) > 0 {
		notes = append(notes, "the runs had different settings: "+listed(different)+
			"; a change of a metric may result from the settings and not from the software")
	}
	return notes
}

// isOneInMemory reports whether exactly one of the runs was in memory, without servers.
func isOneInMemory(before, after *Environment) bool {
	return before.RabbitMQ != "" && after.RabbitMQ != "" && (before.RabbitMQ == InMemory) != (after.RabbitMQ == InMemory)
}

// changedEnvironment returns the machines and server versions that differ between the runs. It omits unknown values,
// and versions that a run in memory does not have.
func changedEnvironment(before, after *Environment) []Values {
	all := []Values{
		{"Kubernetes", before.Kubernetes, after.Kubernetes},
		{"machines", machines(before.Nodes), machines(after.Nodes)},
	}
	if !isOneInMemory(before, after) {
		all = append([]Values{{"RabbitMQ", before.RabbitMQ, after.RabbitMQ}, {"Redis", before.Redis, after.Redis}}, all...)
	}
	return slices.DeleteFunc(all, func(v Values) bool { return v.Before == "" || v.After == "" || v.Before == v.After })
}

// machines describes the sizes of machines without their names, such as "3 × 4 CPUs, 16 GiB".
func machines(nodes []Node) string {
	counts := map[string]int{}
	for _, n := range nodes {
		n.Name = ""
		counts[n.String()]++
	}
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		if len(nodes) > 1 {
			kind = fmt.Sprintf("%d × %s", counts[kind], kind)
		}
		kinds = append(kinds, kind)
	}
	return strings.Join(bounded(kinds), " and ")
}

// changedSpec returns the fields below spec in the manifest that differ between the runs. It returns nil if the
// manifest of a run is unknown.
func changedSpec(c *Comparison) []Values {
	if c.runs[0].Environment.Manifest == nil || c.runs[1].Environment.Manifest == nil {
		return nil
	}
	var changed []Values
	for _, v := range c.Settings {
		if name, isSpec := strings.CutPrefix(v.Name, "manifest.spec."); isSpec {
			changed = append(changed, Values{name, cmp.Or(v.Before, "unset"), cmp.Or(v.After, "unset")})
		}
	}
	return changed
}

// listed returns the name and both values of each difference as one text.
func listed(all []Values) string {
	var texts []string
	for _, v := range all {
		texts = append(texts, fmt.Sprintf("%s (before: %s; after: %s)", v.Name, v.Before, v.After))
	}
	return strings.Join(bounded(texts), ", ")
}

// bounded returns the first maxNamed texts. If there are more texts, it appends the number of omitted texts.
func bounded(texts []string) []string {
	if more := len(texts) - maxNamed; more > 0 {
		return append(texts[:maxNamed:maxNamed], fmt.Sprintf("%d more", more))
	}
	return texts
}
