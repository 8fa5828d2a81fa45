// Package apiserver runs a real Kubernetes API server for tests, and plays those who are missing beside it: the
// controllers of Deployments and StatefulSets, and the kubelet.
//
// The tests of a package share one, which the first of them starts; each has a namespace of its own:
//
//	func TestMain(m *testing.M) { os.Exit(apiserver.Sharing(m).Run()) }
//
//	c := apiserver.New(t)
//	sim := c.Simulate("rush-hour", nil)
//	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
//	c.Settle()                        // every workload has its pods
//	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
//
// A test that changes what all namespaces have in common takes a server for itself, with Alone.
//
// KUBEBUILDER_ASSETS names the folder with kube-apiserver and etcd, as hack/envtest.sh prints it. Without it such
// tests are skipped, or fail when PARKING_TEST_REQUIRE=1.
package apiserver
