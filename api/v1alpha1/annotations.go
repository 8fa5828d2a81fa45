package v1alpha1

// AllowedSimulationsAnnotation lists the simulations that may use the annotated Secret or RabbitmqCluster of their
// namespace: names separated by commas, or "*" for all.
const AllowedSimulationsAnnotation = Group + "/allowed-simulations"
