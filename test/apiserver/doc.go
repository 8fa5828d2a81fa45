// Package apiserver runs a real Kubernetes API server for tests. Its helpers act as the components that are
// missing: the controllers of Deployments and StatefulSets, and the kubelet.
//
// The tests of a package share one server, which the first test starts. Each test has its own namespace:
//
//	func TestMain(m *testing.M) { os.Exit(apiserver.NewTests(m).Run()) }
//
//	c := apiserver.New(t)
//	sim := c.Simulate("rush-hour", nil)
//	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
//	c.MakeWorkloadsReady()             // every workload has all its pods
//	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
//
// A test that changes cluster-wide objects starts its own server with NewPrivate.
//
// The environment variable KUBEBUILDER_ASSETS must contain the directory of kube-apiserver and etcd, which
// hack/envtest.sh prints. Without it the tests are skipped, or fail if PARKING_TEST_REQUIRE=1. They are also
// skipped under go test -short.
package apiserver
