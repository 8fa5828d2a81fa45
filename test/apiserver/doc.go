// Package apiserver runs a real Kubernetes API server for tests. Its helpers act as the controllers of workloads and
// the kubelet, which are missing.
//
// The tests of a package share one server. Each test has its own namespace:
//
//	func TestMain(m *testing.M) { os.Exit(apiserver.NewTests(m).Run()) }
//
//	c := apiserver.New(t)
//	sim := c.Simulate("rush-hour", nil)
//	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
//	c.MakeWorkloadsReady()             // every workload has all its pods
//	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
//
// A test that changes cluster-wide objects starts its own server with NewPrivate. KUBEBUILDER_ASSETS must contain the
// directory that hack/envtest.sh prints. Otherwise the tests are skipped, or fail if PARKING_TEST_REQUIRE=1.
package apiserver
