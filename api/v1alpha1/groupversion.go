// Package v1alpha1 defines the types of version v1alpha1 of the API group simulation.parking.dev, and their defaults.
// Package manifest validates a spec and derives the configuration of the simulation's processes from it.
// +kubebuilder:object:generate=true
// +groupName=simulation.parking.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group, Version and Kind identify the API.
const (
	Group   = "simulation.parking.dev"
	Version = "v1alpha1"
	Kind    = "ParkingSimulation"
)

var (
	// GroupVersion is the group and version of every type of this package.
	GroupVersion = schema.GroupVersion{Group: Group, Version: Version}

	// SchemeBuilder collects functions that add types of this package to a scheme.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds the types of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

// Resource adds the API group to the name of a resource.
func Resource(resource string) schema.GroupResource {
	return GroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &ParkingSimulation{}, &ParkingSimulationList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
