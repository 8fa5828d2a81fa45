package apply

import "reflect"

// kindNetworkPolicy is the kind that is compared exactly.
const kindNetworkPolicy = "NetworkPolicy"

// contains reports whether an object of a kind has all that is wanted, and nothing that applying what is
// wanted would take away. The two are JSON objects.
//
// The server merges maps, and lists whose elements have a key: there others may have added entries, which
// applying would leave alone. Any other list it replaces as a whole. A network policy must not allow more
// than is wanted, so its specification is compared exactly.
func contains(kind string, live, wanted map[string]any) bool {
	c := comparison{exact: kind == kindNetworkPolicy}
	return c.fields(live, wanted, true)
}

// comparison compares values of one object.
type comparison struct {
	// exact forbids fields below spec that are not wanted.
	exact bool
}

func (c comparison) value(name string, live, wanted any) bool {
	switch wanted := wanted.(type) {
	case nil:
		return true
	case map[string]any:
		return c.fields(live, wanted, false)
	case []any:
		return c.elements(name, live, wanted)
	}
	return reflect.DeepEqual(live, wanted)
}

func (c comparison) fields(live any, wanted map[string]any, top bool) bool {
	fields, ok := live.(map[string]any)
	if !ok {
		return len(wanted) == 0 && live == nil // {} is often not stored
	}
	if c.exact && !top && len(fields) != len(wanted) {
		return false
	}
	for name, value := range wanted {
		below := c
		if top && name != "spec" {
			below.exact = false
		}
		if !below.value(name, fields[name], value) {
			return false
		}
	}
	return true
}

func (c comparison) elements(name string, live any, wanted []any) bool {
	elements, ok := live.([]any)
	if !ok {
		return len(wanted) == 0 && live == nil
	}
	if merged := keyOf(name); merged != nil && !c.exact {
		return c.keyed(merged, elements, wanted)
	}
	if len(elements) != len(wanted) {
		return false
	}
	for i := range wanted {
		if !c.value("", elements[i], wanted[i]) {
			return false
		}
	}
	return true
}

// keyed compares lists whose elements are told apart by fields.
func (c comparison) keyed(keys []string, live, wanted []any) bool {
	for _, want := range wanted {
		found := false
		for _, element := range live {
			if sameKey(keys, element, want) {
				found = c.value("", element, want)
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func sameKey(keys []string, a, b any) bool {
	left, leftOK := a.(map[string]any)
	right, rightOK := b.(map[string]any)
	if !leftOK || !rightOK {
		return reflect.DeepEqual(a, b) // an element of a set is its own key
	}
	for _, key := range keys {
		if !reflect.DeepEqual(left[key], right[key]) {
			return false
		}
	}
	return true
}

// keyOf returns the fields that tell the elements of a list apart, nil for a list that the server replaces
// as a whole. It knows the lists, by their names, of the kinds that the operator applies.
func keyOf(list string) []string {
	switch list {
	case "ownerReferences":
		return []string{"uid"}
	case "finalizers":
		return []string{}
	case "containers", "initContainers", "env", "volumes", "imagePullSecrets", "groups":
		return []string{"name"}
	case "volumeMounts":
		return []string{"mountPath"}
	case "ports": // of containers and Services
		return []string{"containerPort", "port", "protocol"}
	case "topologySpreadConstraints":
		return []string{"topologyKey", "whenUnsatisfiable"}
	}
	return nil
}
