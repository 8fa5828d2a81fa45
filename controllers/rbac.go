package controllers

// This file declares the permissions of the operator. The roles in config/rbac and in the chart are generated from it.
//
// The operator must not create or bind roles, or change objects that it did not create, except the pods and the volume
// claims of its workloads. Pods of simulations have no API token.
//
// Permissions in all namespaces, or in the namespaces that the operator watches:
//
// +kubebuilder:rbac:groups=simulation.parking.dev,resources=parkingsimulations,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=simulation.parking.dev,resources=parkingsimulations/status,verbs=patch
// +kubebuilder:rbac:groups=simulation.parking.dev,resources=parkingsimulations/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=serviceaccounts;configmaps;services;secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;patch
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch;patch;delete
// +kubebuilder:rbac:groups="",resources=pods/eviction,verbs=create
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=servicemonitors;prometheusrules,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=rabbitmq.com,resources=rabbitmqclusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=list
//
// Cluster-wide permissions to read CRDs, some of which are optional, and nodes, whose sizes are part of reports:
//
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get,roleName=definition-reader-role
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=get;list;watch,roleName=definition-reader-role
//
// Permissions to authenticate and authorize clients that read the operator's metrics:
//
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create,roleName=metrics-auth-role
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create,roleName=metrics-auth-role
//
// Permissions for leader election, in the operator's own namespace. RBAC cannot restrict "create" to certain names:
//
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=system,resources=leases,verbs=create,roleName=leader-election-role
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=system,resources=leases,resourceNames=operator.simulation.parking.dev,verbs=get;update,roleName=leader-election-role
// +kubebuilder:rbac:groups="",namespace=system,resources=events,verbs=create;patch,roleName=leader-election-role
