// Package v1alpha1 holds the types of the API group simulation.parking.dev, version v1alpha1, and their defaults. It does
// no I/O. Package manifest validates a spec and derives the plan of its processes.
//
// +kubebuilder:object:generate=true
// +groupName=simulation.parking.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group and Version name this version of the API; Kind is the kind it defines.
const (
	Group   = "simulation.parking.dev"
	Version = "v1alpha1"
	Kind    = "ParkingSimulation"
)

var (
	// GroupVersion is the group and version of every type of this package.
	GroupVersion = schema.GroupVersion{Group: Group, Version: Version}

	// SchemeBuilder collects the functions that add the types of this package to a scheme.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds the types of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

// Resource returns the qualified name of one of the group's resources.
func Resource(resource string) schema.GroupResource {
	return GroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &ParkingSimulation{}, &ParkingSimulationList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
