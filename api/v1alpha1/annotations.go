package v1alpha1

// AllowedSimulationsAnnotation is the annotation with which a Secret or RabbitmqCluster permits simulations in its own
// namespace to use it. The value is a comma-separated list of names of simulations, or "*" for all of them. A
// simulation is stalled if it refers to an object without this permission. A RabbitmqCluster in another namespace needs
// the annotation rabbitmq.com/topology-allowed-namespaces instead.
const AllowedSimulationsAnnotation = Group + "/allowed-simulations"
