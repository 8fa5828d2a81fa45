package controllers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

func TestRedact_MessageQuotesValues_HidesOnlyTheValues(t *testing.T) {
	t.Parallel()
	path := field.NewPath("spec", "template", "spec", "containers").Index(0).Child("env").Index(1)
	type variable struct{ Name, Value string }
	for name, tt := range map[string]struct{ message, want string }{
		"a text":        {field.Invalid(path.Child("value"), "hunter2", "must be short").Error(), path.String() + ".value: Invalid value: …: must be short"},
		"quotes":        {field.Invalid(path, `a": hunter2 \"`, "must be short").Error(), path.String() + ": Invalid value: …: must be short"},
		"a number":      {field.Invalid(path, 70000, "must be a port").Error(), path.String() + ": Invalid value: …: must be a port"},
		"a map":         {field.Invalid(path, map[string]string{"a": "hunter2: b"}, "must be empty").Error(), path.String() + ": Invalid value: …: must be empty"},
		"a struct":      {field.Invalid(path, variable{"a", "hunter2: b"}, "must be empty").Error(), path.String() + ": Invalid value: …: must be empty"},
		"a Go value":    {`env[1]: Invalid value: core.EnvVar{Name:"a", Value:"hunter2"}: must be empty`, "env[1]: Invalid value: …: must be empty"},
		"a cut Go text": {`env[1]: Invalid value: core.EnvVar{Name:"a", Value:"hunter2`, "env[1]: Invalid value: …"},
		"a cut text":    {`env[1]: Invalid value: "hunter2`, "env[1]: Invalid value: …"},
		"unsupported":   {field.NotSupported(path, "hunter2", []string{"Always"}).Error(), path.String() + `: Unsupported value: …: supported values: "Always"`},
		"duplicate":     {field.Duplicate(path, "hunter2").Error(), path.String() + ": Duplicate value: …"},
		"several": {
			`Deployment.apps "a" is invalid: [a: Invalid value: "hunter2": no, b: Invalid value: "hunter2": no either]`,
			`Deployment.apps "a" is invalid: [a: Invalid value: …: no, b: Invalid value: …: no either]`,
		},
		"no value": {"exceeded quota: small: see \"kubectl describe\"", "exceeded quota: small: see \"kubectl describe\""},
	} {
		if got := redact(tt.message); got != tt.want {
			t.Errorf("%s: redact returns\n%s, want\n%s", name, got, tt.want)
		}
	}
}

func TestApplyFailed_ErrorQuotesAValue_ValueIsHidden(t *testing.T) {
	t.Parallel()
	invalid := field.ErrorList{field.Invalid(field.NewPath("spec", "template"), "hunter2", "must be short")}
	for name, cause := range map[string]error{
		"invalid":    apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "Deployment"}, "sim-entry", invalid),
		"forbidden":  apierrors.NewForbidden(schema.GroupResource{}, "sim-entry", errors.New(invalid.ToAggregate().Error())),
		"overloaded": apierrors.NewTooManyRequests(invalid.ToAggregate().Error(), 1),
	} {
		s := newScope(&v1alpha1.ParkingSimulation{}, time.Now())
		err := (&Reconciler{}).applyFailed(s, childKey{"Deployment", "sim-entry"}, fmt.Errorf("apply: %w", cause))
		if strings.Contains(err.Error(), "hunter2") || !errors.Is(err, cause) {
			t.Errorf("%s: the error is %v, want one without the value", name, err)
		}
		if message := s.findings.objects.message; strings.Contains(message, "hunter2") || !strings.Contains(message, "spec.template: Invalid value: …: must be short") {
			t.Errorf("%s: the message is %q, want the field without the value", name, message)
		}
	}
}
