package resources

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Where the pods find what is mounted.
const (
	planDir      = "/etc/parking/plan"
	rabbitMQDir  = "/etc/parking/rabbitmq"
	redisDir     = "/etc/parking/redis"
	summariesDir = "/etc/parking/summary-api"
)

// planConfigMap holds the plan that generators and processors follow while they run, so that pod templates
// do not depend on it.
func (b *builder) planConfigMap() (client.Object, error) {
	text, err := b.runningPlan().Marshal()
	if err != nil {
		return nil, err
	}
	return &corev1.ConfigMap{
		ObjectMeta: b.object(PlanName(b.sim), componentAll),
		Data:       map[string]string{PlanKey: string(text)},
	}, nil
}

// runningPlan is the plan with the servers as the pods see them. It is suspended until the start.
func (b *builder) runningPlan() *plan.Plan {
	p := *b.plan
	p.RabbitMQ = plan.BindingRef{SecretDir: rabbitMQDir}
	p.Redis = plan.BindingRef{SecretDir: redisDir}
	p.SummaryAPI = b.summaryEndpoint()
	if b.StartTime == nil {
		p.Suspended = true
	} else {
		p.StartTime = b.StartTime.UTC()
	}
	return &p
}

func (b *builder) summaryEndpoint() plan.SummaryAPI {
	if b.summaries != nil {
		return plan.SummaryAPI{URL: fmt.Sprintf("http://%s:%d", b.host(b.name(ComponentSummaries)), HTTPPort)}
	}
	api := b.plan.SummaryAPI
	if b.sim.Spec.SummaryAPI.SecretRef != nil {
		api.SecretDir = summariesDir
	}
	return api
}
