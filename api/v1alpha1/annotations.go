package v1alpha1

// AllowedSimulationsAnnotation is the annotation of a Secret or RabbitmqCluster that permits simulations to use it. Its
// value is a comma-separated list of names of simulations, or "*" for all simulations in the namespace. A simulation is
// stalled if it refers to a Secret without this permission. The same holds for a RabbitmqCluster in the namespace of
// the simulation.
const AllowedSimulationsAnnotation = Group + "/allowed-simulations"
