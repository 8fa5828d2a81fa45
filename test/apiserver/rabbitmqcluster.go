package apiserver

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// RabbitmqClusterDefinition returns a CRD with the fields of RabbitMQ Cluster Operator 2.22 that the operator reads or
// tests set.
func RabbitmqClusterDefinition() *apiextensionsv1.CustomResourceDefinition {
	type fields = map[string]apiextensionsv1.JSONSchemaProps
	object := func(properties fields, required ...string) apiextensionsv1.JSONSchemaProps {
		return apiextensionsv1.JSONSchemaProps{Type: "object", Properties: properties, Required: required}
	}
	text := apiextensionsv1.JSONSchemaProps{Type: "string"}
	texts := apiextensionsv1.JSONSchemaProps{Type: "object", AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Allows: true, Schema: &text}}
	condition := object(fields{
		"type": text, "status": text, "reason": text, "message": text, "lastTransitionTime": {Type: "string", Format: "date-time"},
	}, "type", "status")
	spec := object(fields{
		"replicas": {Type: "integer", Format: "int32"},
		"rabbitmq": object(fields{"additionalConfig": text}),
		"tls":      object(fields{"secretName": text, "caSecretName": text, "disableNonTLSListeners": {Type: "boolean"}}),
		"secretBackend": object(fields{
			"externalSecret": object(fields{"name": text}),
			"vault":          object(fields{"role": text, "defaultUserPath": text}),
		}),
	})
	status := object(fields{
		"observedGeneration": {Type: "integer", Format: "int64"},
		"conditions":         {Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &condition}},
		"binding":            object(fields{"name": text}),
		"defaultUser": object(fields{
			"secretReference":  object(fields{"name": text, "namespace": text, "keys": texts}, "name", "namespace", "keys"),
			"serviceReference": object(fields{"name": text, "namespace": text}, "name", "namespace"),
		}),
	}, "conditions")
	all := object(fields{"spec": spec, "status": status})
	return Definition(resources.RabbitmqClusterKind(), &all)
}

// SetRabbitmqClusterStatus sets the status that the RabbitMQ Cluster Operator writes when all nodes run. The parameter
// user is the name of the default user's Secret.
func SetRabbitmqClusterStatus(cluster *unstructured.Unstructured, user string) {
	name, namespace := cluster.GetName(), cluster.GetNamespace()
	var conditions []any
	for _, kind := range []string{"AllReplicasReady", "ClusterAvailable", "NoWarnings", "ReconcileSuccess"} {
		conditions = append(conditions, map[string]any{"type": kind, "status": "True"})
	}
	cluster.Object["status"] = map[string]any{
		"observedGeneration": cluster.GetGeneration(),
		"conditions":         conditions,
		"binding":            map[string]any{"name": user},
		"defaultUser": map[string]any{
			"secretReference": map[string]any{
				"name": name + "-default-user", "namespace": namespace, "keys": map[string]any{"username": "username", "password": "password"},
			},
			"serviceReference": map[string]any{"name": name, "namespace": namespace},
		},
	}
}
