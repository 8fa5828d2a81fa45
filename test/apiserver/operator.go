package apiserver

import (
	"context"
	"sync"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	memorybroker "github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
)

// RunOperator runs an operator with the given client configuration until stop is called or the test ends. Without
// Servers in the options, the servers of simulations are in memory.
func (c *Cluster) RunOperator(as *rest.Config, o controllers.ManagerOptions) (stop func()) {
	c.T.Helper()
	if o.Images.Parking == "" {
		o.Images.Parking, o.Images.RabbitMQ, o.Images.Redis = "parking:test", "rabbitmq:4", "redis:8"
	}
	if o.Servers == nil {
		o.Servers, o.Summaries = memoryServers{}, memoryServers{}
	}
	o.Workers = 4
	o.Manager.Metrics = metricsserver.Options{BindAddress: "0"}
	// Controllers of several operators in one process have the same names, which controller-runtime rejects by default.
	o.Manager.Controller = config.Controller{SkipNameValidation: new(true)}
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := controllers.NewManager(ctx, as, o)
	if err != nil {
		cancel()
		c.T.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			c.T.Errorf("the operator ended with %v", err)
		}
	})
	c.T.Cleanup(stop)
	return stop
}

// memoryServers opens in-memory brokers and in-memory stores instead of connections to servers.
type memoryServers struct{}

func (memoryServers) OpenBroker(p *plan.Plan, _ binding.Binding) (broker.Broker, error) {
	return memorybroker.New(memorybroker.Config{Partitions: p.Partitions})
}

func (memoryServers) OpenStore(p *plan.Plan, _ binding.Binding) (store.Store, error) {
	return memorystore.New(memorystore.Config{Partitions: p.Partitions}), nil
}

func (memoryServers) CountSummaries(context.Context, podhttp.Server) (int64, error) { return 0, nil }

func (memoryServers) DatabaseFailure(context.Context, podhttp.Server) string { return "" }
