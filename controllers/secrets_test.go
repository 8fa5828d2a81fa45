package controllers

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

func TestAllowsSimulation_EachAnnotation_AllowsOnlyNamedSimulations(t *testing.T) {
	t.Parallel()
	const command = "kubectl annotate secret s --namespace n simulation.parking.dev/allowed-simulations="
	tests := map[string]struct {
		annotation *string
		allowed    bool
		command    string
	}{
		"no annotation":                  {nil, false, command + "sim"},
		"an empty annotation":            {new(""), false, command + "sim --overwrite"},
		"the name":                       {new("sim"), true, ""},
		"one of several names":           {new("a, sim ,b"), true, ""},
		"every simulation":               {new("*"), true, ""},
		"every simulation, and another":  {new("a,*"), true, ""},
		"other names":                    {new("a, b"), false, command + "a,b,sim --overwrite"},
		"the beginning of the name":      {new("si"), false, command + "si,sim --overwrite"},
		"a longer name":                  {new("sim-2"), false, command + "sim-2,sim --overwrite"},
		"text that is unsafe in a shell": {new("$(reboot)"), false, command + "sim --overwrite"},
		"too many names for a command":   {new(strings.Repeat("a,", maxNameList)), false, command + "sim --overwrite"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s"}}
			if tt.annotation != nil {
				secret.Annotations = map[string]string{v1alpha1.AllowedSimulationsAnnotation: *tt.annotation}
			}
			if got := allowsSimulation(secret, "sim"); got != tt.allowed {
				t.Errorf("allowed is %t, want %t", got, tt.allowed)
			}
			if got := allowCommand("secret", secret, "sim"); !tt.allowed && got != tt.command {
				t.Errorf("the command is %q, want %q", got, tt.command)
			}
		})
	}
}

func TestSecretReaders_AddAndForget_ReadersOfReturnsTheCurrentReaders(t *testing.T) {
	t.Parallel()
	a, b := client.ObjectKey{Namespace: "n", Name: "a"}, client.ObjectKey{Namespace: "n", Name: "b"}
	first, second := client.ObjectKey{Namespace: "n", Name: "first"}, client.ObjectKey{Namespace: "n", Name: "second"}
	r := newSecretReaders()
	r.add(a, first)
	r.add(a, first)
	r.add(a, second)
	r.add(b, first)
	expect := func(secret client.ObjectKey, want ...client.ObjectKey) {
		t.Helper()
		if got := r.readersOf(secret); !slices.Equal(got, want) {
			t.Errorf("the readers of %s are %v, want %v", secret, got, want)
		}
	}
	expect(first, a, b)
	expect(second, a)
	r.retain(a, []client.ObjectKey{first})
	expect(first, a, b)
	expect(second)
	r.retain(a, nil)
	r.retain(b, nil)
	expect(first)
	if len(r.read)+len(r.readers) > 0 {
		t.Errorf("left are %v and %v, want nothing", r.read, r.readers)
	}
}
