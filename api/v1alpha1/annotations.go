package v1alpha1

// AllowedSimulationsAnnotation is an annotation with which the owner of a Secret or RabbitmqCluster permits
// simulations to use it. Its value is a comma-separated list of names of simulations, or "*" for all simulations in
// the namespace. A simulation that refers to an object without this permission is stalled. The permission is required
// for Secrets, and for a RabbitmqCluster in the namespace of the simulation.
const AllowedSimulationsAnnotation = Group + "/allowed-simulations"
