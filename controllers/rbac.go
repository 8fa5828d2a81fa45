package controllers

// What the operator may do, least first. The roles under config/rbac and in the chart are generated from this
// file alone, so that it can be read as the whole answer. It may not create roles or bind them, nor touch what
// it did not make, but for the pods' annotations; pods get no token of the API at all.
//
// What it reads and makes where simulations are: bound in every namespace, or in those alone that it is to watch.
//
// +kubebuilder:rbac:groups=simulation.parking.dev,resources=parkingsimulations,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=simulation.parking.dev,resources=parkingsimulations/status,verbs=patch
// +kubebuilder:rbac:groups=simulation.parking.dev,resources=parkingsimulations/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=serviceaccounts;configmaps;services;secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch;patch
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=servicemonitors;prometheusrules,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=rabbitmq.com,resources=rabbitmqclusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=list
//
// Which kinds of others the cluster serves: definitions have no namespace.
//
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=get;list;watch,roleName=definition-reader-role
//
// Who may read its metrics.
//
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create,roleName=metrics-auth-role
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create,roleName=metrics-auth-role
//
// Which of several operators works: in its own namespace alone. A Lease cannot be created by name.
//
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=system,resources=leases,verbs=create,roleName=leader-election-role
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=system,resources=leases,resourceNames=operator.simulation.parking.dev,verbs=get;update,roleName=leader-election-role
// +kubebuilder:rbac:groups="",namespace=system,resources=events,verbs=create;patch,roleName=leader-election-role
