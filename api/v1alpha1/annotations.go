package v1alpha1

// AllowedSimulationsAnnotation is the annotation of a Secret or RabbitmqCluster that permits simulations to use it. Its
// value is a comma-separated list of names of simulations, or "*" for all simulations in the namespace. A simulation is
// stalled if it refers to a Secret, or to a RabbitmqCluster in its own namespace, that does not permit it.
const AllowedSimulationsAnnotation = Group + "/allowed-simulations"
