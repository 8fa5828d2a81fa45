package controllers

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// The names of the CustomResourceDefinitions of others that matter to simulations.
const (
	crdServiceMonitors  = "servicemonitors.monitoring.coreos.com"
	crdPrometheusRules  = "prometheusrules.monitoring.coreos.com"
	crdRabbitmqClusters = "rabbitmqclusters.rabbitmq.com"
)

// kindOfCRD returns the kind that a CustomResourceDefinition defines, if it matters.
func kindOfCRD(name string) (schema.GroupVersionKind, bool) {
	switch name {
	case crdServiceMonitors:
		return resources.ServiceMonitorKind(), true
	case crdPrometheusRules:
		return resources.PrometheusRuleKind(), true
	case crdRabbitmqClusters:
		return rabbitmqClusters(), true
	}
	return schema.GroupVersionKind{}, false
}

// served tells which kinds of others the cluster serves.
type served struct {
	serviceMonitors, prometheusRules, rabbitmqClusters bool
}

func (s served) input() resources.Served {
	return resources.Served{ServiceMonitors: s.serviceMonitors, PrometheusRules: s.prometheusRules}
}

// monitoringKinds are the kinds of the Prometheus Operator that are served.
func (s served) monitoringKinds() []schema.GroupVersionKind {
	var kinds []schema.GroupVersionKind
	if s.serviceMonitors {
		kinds = append(kinds, resources.ServiceMonitorKind())
	}
	if s.prometheusRules {
		kinds = append(kinds, resources.PrometheusRuleKind())
	}
	return kinds
}

// isOfOthers tells the kinds that not every cluster serves.
func isOfOthers(kind string) bool {
	return kind == resources.ServiceMonitorKind().Kind || kind == resources.PrometheusRuleKind().Kind
}

// kindRegister holds which kinds of others are served. It is safe for concurrent use.
type kindRegister struct {
	mu    sync.RWMutex
	kinds map[string]bool // by kind
}

func newKindRegister() *kindRegister { return &kindRegister{kinds: map[string]bool{}} }

// set notes whether a kind is served, and reports whether that is news.
func (r *kindRegister) set(kind string, isServed bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := r.kinds[kind] != isServed
	r.kinds[kind] = isServed
	return news
}

func (r *kindRegister) served() served {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return served{
		serviceMonitors:  r.kinds[resources.ServiceMonitorKind().Kind],
		prometheusRules:  r.kinds[resources.PrometheusRuleKind().Kind],
		rabbitmqClusters: r.kinds[rabbitmqClusters().Kind],
	}
}
