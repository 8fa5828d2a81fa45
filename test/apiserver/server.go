package apiserver

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/parking-operator/parking-operator/internal/privateserver/port"
)

// Tests runs the tests of a package. These tests share an API server.
type Tests struct{ m *testing.M }

// NewTests returns the Tests of a package. The shared API server has the CRD of ParkingSimulations, and the CRDs in
// the given directories.
func NewTests(m *testing.M, definitions ...string) Tests {
	shared.definitions = definitions
	return Tests{m}
}

// Run runs the tests and then stops the shared API server. It returns the exit code.
func (s Tests) Run() int {
	code := s.m.Run()
	if shared.server == nil {
		return code
	}
	if err := shared.server.environment.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the shared API server:", err)
		code = max(code, 1)
	}
	return code
}

// shared is the API server of all tests in a binary.
var shared struct {
	definitions []string
	once        sync.Once
	server      *server
	err         error
}

// server is an API server together with its etcd.
type server struct {
	environment *envtest.Environment
	config      *rest.Config
	addresses   []*port.Address // kept so that the ports stay reserved
}

func sharedServer(t testing.TB) *server {
	t.Helper()
	need(t)
	shared.once.Do(func() { shared.server, shared.err = start(shared.definitions) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// serverFor starts an API server and stops it when the test ends.
func serverFor(t testing.TB) *server {
	t.Helper()
	need(t)
	s, err := start(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.environment.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// need skips the test if -short is given or the API server is not installed. If PARKING_TEST_REQUIRE=1, a missing
// API server fails the test.
func need(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("the test needs an API server, and -short was given")
	}
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		Missing(t, "KUBEBUILDER_ASSETS is not set: set it to the directory that hack/envtest.sh prints")
	}
}

// Missing skips the test for the given reason. If PARKING_TEST_REQUIRE=1, it fails the test instead.
func Missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("PARKING_TEST_REQUIRE") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// discardLogs prevents a warning of controller-runtime that no logger is set.
var discardLogs = sync.OnceFunc(func() { log.SetLogger(logr.Discard()) })

func start(definitions []string) (*server, error) {
	discardLogs()
	own, err := ownDefinition()
	if err != nil {
		return nil, err
	}
	// Allow more time than by default, because the API server starts slowly on a busy machine.
	environment := &envtest.Environment{
		CRDDirectoryPaths: append([]string{own}, definitions...), ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: 5 * time.Minute, ControlPlaneStopTimeout: time.Minute,
	}
	// By default, there are addresses for only 254 Services. The tests of a package create more.
	environment.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	addresses, err := reserveAddresses(&environment.ControlPlane)
	if err != nil {
		return nil, err
	}
	config, err := environment.Start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the API server: %w", err), environment.Stop())
	}
	config.QPS = -1
	return &server{environment: environment, config: config, addresses: addresses}, nil
}

// reserveAddresses reserves the ports of the API server and etcd, so that no other process takes them before the server
// listens.
func reserveAddresses(plane *envtest.ControlPlane) ([]*port.Address, error) {
	var addresses []*port.Address
	for range 3 {
		address, err := port.ReserveAddress()
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
	}
	serving := &plane.GetAPIServer().SecureServing
	var err error
	if serving.Address, serving.Port, err = net.SplitHostPort(addresses[0].String()); err != nil {
		return nil, err
	}
	plane.Etcd = &envtest.Etcd{URL: &url.URL{Scheme: "http", Host: addresses[1].String()}}
	plane.Etcd.Configure().Set("listen-peer-urls", "http://"+addresses[2].String())
	return addresses, nil
}

// ownDefinition returns the directory of the CRD of ParkingSimulations in the repository.
func ownDefinition() (string, error) {
	directory, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		definitions := filepath.Join(directory, "config", "crd", "bases")
		if _, err := os.Stat(definitions); err == nil {
			return definitions, nil
		}
		above := filepath.Dir(directory)
		if above == directory {
			return "", errors.New("find the repository: no directory above this one has config/crd/bases")
		}
		directory = above
	}
}
