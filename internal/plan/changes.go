package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// changes returns the paths of the fields in which two plans differ. entry.rate is an example of a path.
func (p *Plan) changes(next *Plan) ([]string, error) {
	before, err := p.tree()
	if err != nil {
		return nil, err
	}
	after, err := next.tree()
	if err != nil {
		return nil, err
	}
	return differences("", before, after), nil
}

// tree returns the plan in its JSON form, decoded into nested maps.
func (p *Plan) tree() (tree map[string]any, err error) {
	text, err := p.Marshal()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("read back the plan of %s: %w", p.Simulation, err)
	}
	return tree, nil
}

// differences returns the paths of the fields in which two objects differ. It compares nested objects field by
// field. Lists are compared as a whole.
func differences(path string, before, after map[string]any) (paths []string) {
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, isObject := before[name].(map[string]any)
		b, isStill := after[name].(map[string]any)
		switch {
		case isObject && isStill:
			paths = append(paths, differences(path+name+".", a, b)...)
		case !reflect.DeepEqual(before[name], after[name]):
			paths = append(paths, path+name)
		}
	}
	return paths
}

// Role says what a process does in a simulation. It determines which fields of the plan the process uses.
type Role int

// The roles of the processes that watch a plan file.
const (
	RoleGenerator Role = iota + 1
	RoleProcessor
)

// needsRestart reports whether a process with this role must restart before an edit of the field at path takes effect.
func (r Role) needsRestart(path string) bool {
	return hasAnyPrefix(path, "owner", "durability", "rabbitmq.", "redis.") || r == RoleProcessor && waitsForStart(path)
}

// waitsForStart reports whether processes read the field at path only when they start, so that an edit has no
// effect on a running process.
func waitsForStart(path string) bool {
	return hasAnyPrefix(path, "owner", "durability", "rabbitmq.", "redis.", "summaryAPI.", "processor.concurrency")
}

func hasAnyPrefix(path string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}
