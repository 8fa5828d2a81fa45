package resources_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/resources"
)

const objectsDoc = "../../docs/architecture.md"

// The first table in docs/architecture.md lists the objects of a simulation with an empty spec. The second table lists
// all other objects.
func TestBuild_EveryObject_IsDocumented(t *testing.T) {
	t.Parallel()
	_, section, found := strings.Cut(readDoc(t), "\n## Objects of a simulation\n")
	if !found {
		t.Fatalf("%s has no section on the objects of a simulation", objectsDoc)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	first, second, _ := strings.Cut(section, "\nFurther objects")

	plain := input(t, "plain", "")
	plain.Served = resources.Served{}
	always := suffixes(t, build(t, plain))
	if diff := cmp.Diff(always, documented(t, first)); diff != "" {
		t.Errorf("the first table of %s does not list the objects of a simulation with an empty spec (-built +listed):\n%s", objectsDoc, diff)
	}
	if want := fmt.Sprintf("has %d objects", len(always)); !strings.Contains(first, want) {
		t.Errorf("%s does not say that a simulation with an empty spec %s", objectsDoc, want)
	}

	var others []string
	for _, in := range exhaustive(t) {
		others = append(others, suffixes(t, build(t, in))...)
	}
	sim := plain.Simulation
	others = append(others, suffixes(t, []client.Object{resources.ReportConfigMap(sim, nil), resources.FaultsConfigMap(sim, nil)})...)
	slices.Sort(others)
	others = slices.DeleteFunc(slices.Compact(others), func(key string) bool { return slices.Contains(always, key) })
	if diff := cmp.Diff(others, documented(t, second)); diff != "" {
		t.Errorf("the second table of %s does not list the other objects (-built +listed):\n%s", objectsDoc, diff)
	}
}

// exhaustive returns simulations that together have every object that Build can return.
func exhaustive(t *testing.T) map[string]testInput {
	t.Helper()
	all := simulations(t)
	redis := input(t, "redis", "redis: {managed: {tls: {}}}")
	redis.Credentials.Authority = all["tls"].Credentials.Authority
	redis.Credentials.Certificates = map[string]resources.CertificateData{
		"redis-redis-tls": all["tls"].Credentials.Certificates["tls-summaries-tls"],
	}
	all["redis"] = redis
	return all
}

func readDoc(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(objectsDoc)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// suffixes returns the kind and the name suffix of each object, in alphabetical order. The name suffix is the object's
// name without the name of the simulation.
func suffixes(t *testing.T, objects []client.Object) []string {
	t.Helper()
	list := make([]string, len(objects))
	for i, object := range objects {
		_, suffix, _ := strings.Cut(object.GetName(), "-")
		list[i] = kind(t, object) + " " + suffix
	}
	slices.Sort(list)
	return list
}

// documented returns the kinds and name suffixes in a Markdown table, in the format of suffixes().
func documented(t *testing.T, table string) []string {
	t.Helper()
	var list []string
	for _, row := range regexp.MustCompile("(?m)^\\| ([A-Za-z]+) (`[^|]*`) \\| (\\d+) \\|").FindAllStringSubmatch(table, -1) {
		names := regexp.MustCompile("[a-z-]+").FindAllString(row[2], -1)
		if row[3] != strconv.Itoa(len(names)) {
			t.Errorf("%s: the number of %s %s is %s, want %d", objectsDoc, row[1], row[2], row[3], len(names))
		}
		for _, name := range names {
			list = append(list, row[1]+" "+name)
		}
	}
	slices.Sort(list)
	return list
}
