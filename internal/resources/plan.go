package resources

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// The paths at which pods mount their volumes.
const (
	planDir      = "/etc/parking/plan"
	rabbitMQDir  = "/etc/parking/rabbitmq"
	redisDir     = "/etc/parking/redis"
	summariesDir = "/etc/parking/summary-api"
	databaseDir  = "/etc/parking/database"
)

// planConfigMap returns the ConfigMap with the plan. Generators and processors watch the mounted plan, so a change
// of the plan does not replace pods.
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

// runningPlan returns the plan that the pods execute. It contains the paths of mounted bindings, and is suspended until
// StartTime is known.
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
		address := fmt.Sprintf("%s:%d", b.host(b.name(ComponentSummaries)), HTTPPort)
		if b.summaries.TLS != nil {
			return plan.SummaryAPI{URL: "https://" + address, SecretDir: summariesDir}
		}
		return plan.SummaryAPI{URL: "http://" + address}
	}
	api := b.plan.SummaryAPI
	if b.sim.Spec.SummaryAPI.SecretRef != nil {
		api.SecretDir = summariesDir
	}
	return api
}
