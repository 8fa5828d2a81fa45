package v1alpha1

// AllowedSimulationsAnnotation is the annotation by which the owner of a Secret, or of a RabbitmqCluster in the
// namespace of the simulation, consents to its use. Its value is a comma-separated list of the names of
// simulations, or "*" for every simulation in the namespace. Without it a simulation that refers to the object is
// stalled.
const AllowedSimulationsAnnotation = Group + "/allowed-simulations"
