package v1alpha1

// AllowedSimulationsAnnotation is the annotation of a Secret or RabbitmqCluster that permits simulations to use it. Its
// value is a comma-separated list of names of simulations, or "*" for all simulations in the namespace. A simulation is
// stalled if it refers to a Secret that does not permit it, or to such a RabbitmqCluster in its own namespace.
const AllowedSimulationsAnnotation = Group + "/allowed-simulations"
