package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The client libraries of Kubernetes, RabbitMQ, Redis and databases would make the first "make demo" slow.
func TestDemoBuild_Dependencies_ContainNoClientLibraries(t *testing.T) {
	t.Parallel()
	const tags = "nooperator,noservers" // the build tags of the Makefile target "demo"
	output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", tags, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dependency := range strings.FieldsSeq(string(output)) {
		for _, unwanted := range []string{
			"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "github.com/rabbitmq/", "github.com/redis/", "github.com/jackc/", "modernc.org/sqlite",
		} {
			if strings.HasPrefix(dependency, unwanted) {
				t.Errorf("the demo contains the package %s", dependency)
			}
		}
	}
}
