package crd_test

import (
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/manifest/manifesttest"
)

func TestCRDUpdate_ImmutableFields_CannotChange(t *testing.T) {
	t.Parallel()
	a := load(t)
	tests := map[string]struct{ before, after, want string }{
		"a rate may change":                                                       {"entry: {rate: 1}", "entry: {rate: 2}", ""},
		"a ratio may change":                                                      {"", "exit: {matchPercent: 100}", ""},
		"a default may become explicit":                                           {"", "rabbitmq: {managed: {}}, redis: {managed: {}}, summaryAPI: {managed: {}}", ""},
		"the Secret of Redis may change":                                          {"redis: {secretRef: {name: a}}", "redis: {secretRef: {name: b}}", ""},
		"a managed summary API may become external":                               {"", "summaryAPI: {url: 'https://example.com'}", ""},
		"an image may change":                                                     {"redis: {managed: {image: a}}", "redis: {managed: {image: b}}", ""},
		"a default may become implicit":                                           {"redis: {managed: {storage: {size: 2Gi}}}", "redis: {managed: {}}", ""},
		"a seed may not change":                                                   {"", "seed: 2", "is immutable, because parked plates could be drawn again: create another simulation for another seed"},
		"partitions may not change":                                               {"", "rabbitmq: {partitions: 2}", "is immutable, because parked vehicles would be looked up in another partition: create another simulation"},
		"partitions may not be removed":                                           {"rabbitmq: {partitions: 2}", "", "is immutable, because parked vehicles would be looked up in another partition: create another simulation"},
		"a queue type may not change":                                             {"", "rabbitmq: {queueType: Classic}", "is immutable, because RabbitMQ cannot change a queue's type: create another simulation"},
		"managed RabbitMQ may not change to a Secret":                             {"", "rabbitmq: {secretRef: {name: a}}", "cannot change between managed, clusterRef and secretRef, as queued events would be left behind: create another simulation"},
		"a RabbitmqCluster may not change to managed RabbitMQ":                    {"rabbitmq: {clusterRef: {name: a}}", "", "cannot change between managed, clusterRef and secretRef, as queued events would be left behind: create another simulation"},
		"a RabbitmqCluster may not change to a Secret":                            {"rabbitmq: {clusterRef: {name: a}}", "rabbitmq: {secretRef: {name: a}}", "cannot change between managed, clusterRef and secretRef, as queued events would be left behind: create another simulation"},
		"managed Redis may not change to a Secret":                                {"", "redis: {secretRef: {name: a}}", "cannot change between managed and secretRef, as visits and ledger would be left behind: create another simulation"},
		"a Secret may not change to managed Redis":                                {"redis: {secretRef: {name: a}}", "redis: {managed: {}}", "cannot change between managed and secretRef, as visits and ledger would be left behind: create another simulation"},
		"the number of RabbitMQ nodes may not change":                             {"rabbitmq: {managed: {replicas: 1}}", "rabbitmq: {managed: {replicas: 3}}", "spec.rabbitmq.managed.replicas: Invalid value: is immutable, because queues keep the members that they were declared with: create another simulation"},
		"a volume may grow":                                                       {"redis: {managed: {storage: {size: 1Gi}}}", "redis: {managed: {storage: {size: 2Gi}}}", ""},
		"a volume may grow by a byte":                                             {"redis: {managed: {storage: {size: 1Gi}}}", "redis: {managed: {storage: {size: 1073741825}}}", ""},
		"the volumes of several RabbitMQ nodes may grow":                          {"rabbitmq: {managed: {replicas: 3}}", "rabbitmq: {managed: {replicas: 3, storage: {size: 2.5Gi}}}", ""},
		"a volume may have a smaller size":                                        {"redis: {managed: {storage: {size: 2Gi}}}", "redis: {managed: {storage: {size: 2G}}}", ""},
		"a volume may not be removed":                                             {"summaryAPI: {managed: {storage: {size: 2Gi}}}", "summaryAPI: {managed: {storage: {size: 0}}}", "spec.summaryAPI.managed.storage.size: Invalid value: cannot change from or to \"0\", because the data would be lost: restore the previous size, or create another simulation"},
		"a volume may not be removed by a size of 0 with a unit":                  {"redis: {managed: {storage: {size: 2Gi}}}", "redis: {managed: {storage: {size: 0.0Gi}}}", "spec.redis.managed.storage.size: Invalid value: cannot change from or to"},
		"a volume may have a size below 1Gi":                                      {"redis: {managed: {storage: {size: 10Gi}}}", "redis: {managed: {storage: {size: 0.5Gi}}}", ""},
		"a volume may not be added":                                               {"rabbitmq: {managed: {storage: {size: '0'}}}", "rabbitmq: {managed: {storage: {size: 2Gi}}}", "spec.rabbitmq.managed.storage.size: Invalid value: cannot change from or to"},
		"a volume may not be added by the removal of a section":                   {"rabbitmq: {managed: {storage: {size: 0}}}", "", "spec.rabbitmq.managed.storage.size: Invalid value: cannot change from or to"},
		"a volume may not be removed by a new section":                            {"", "redis: {managed: {storage: {size: 0}}}", "spec.redis.managed.storage.size: Invalid value: cannot change from or to"},
		"an image may be set without a volume":                                    {"rabbitmq: {managed: {storage: {size: '0'}}}", "rabbitmq: {managed: {image: a, storage: {size: '0'}}}", ""},
		"a size of 0 may get a unit":                                              {"rabbitmq: {managed: {storage: {size: '0'}}}", "rabbitmq: {managed: {storage: {size: 0Mi}}}", ""},
		"a storage class may not be added":                                        {"redis: {managed: {}}", "redis: {managed: {storage: {storageClassName: ssd}}}", "spec.redis.managed.storage.storageClassName: Invalid value: is immutable, because the volume exists: create another simulation"},
		"the number of RabbitMQ nodes may not change by a new section":            {"", "rabbitmq: {managed: {replicas: 3}}", "spec.rabbitmq.managed.replicas: Invalid value: is immutable"},
		"the number of RabbitMQ nodes may not change by the removal of a section": {"rabbitmq: {managed: {replicas: 3}}", "", "spec.rabbitmq.managed.replicas: Invalid value: is immutable"},
		"a volume may grow by a new section":                                      {"", "summaryAPI: {managed: {storage: {size: 3Gi}}}", ""},
		"a volume may grow by the removal of a section":                           {"rabbitmq: {managed: {storage: {size: 1Gi}}}", "", ""},
		"a volume may have a smaller size in a new section":                       {"", "summaryAPI: {managed: {storage: {size: 1Gi}}}", ""},
		"a volume may have a smaller size after the removal of a section":         {"rabbitmq: {managed: {storage: {size: 3Gi}}}", "", ""},
		"one RabbitMQ node may get TLS":                                           {"", "rabbitmq: {managed: {tls: {}}}", ""},
		"several RabbitMQ nodes may not get TLS":                                  {"rabbitmq: {managed: {replicas: 3}}", "rabbitmq: {managed: {replicas: 3, tls: {}}}", "spec.rabbitmq.managed.tls: Invalid value: cannot be added or removed with several nodes, because a node with TLS cannot talk to one without: create another simulation"},
		"several RabbitMQ nodes may not lose TLS":                                 {"rabbitmq: {managed: {replicas: 3, tls: {}}}", "rabbitmq: {managed: {replicas: 3}}", "spec.rabbitmq.managed.tls: Invalid value: cannot be added or removed"},
		"several RabbitMQ nodes may get another certificate":                      {"rabbitmq: {managed: {replicas: 3, tls: {}}}", "rabbitmq: {managed: {replicas: 3, tls: {secretName: a}}}", ""},
		"Redis may lose TLS":                                                      {"redis: {managed: {tls: {}}}", "", ""},
		"a volume may not change to a database":                                   {"summaryAPI: {managed: {storage: {size: 5Gi}}}", "summaryAPI: {managed: {database: {secretRef: {name: a}}}}", "spec.summaryAPI: Invalid value: cannot change between a volume and a database, as stored summaries would be left behind: create another simulation"},
		"a database may not change to a volume":                                   {"summaryAPI: {managed: {database: {secretRef: {name: a}}}}", "", "cannot change between a volume and a database"},
		"the Secret of the database may change":                                   {"summaryAPI: {managed: {database: {secretRef: {name: a}}}}", "summaryAPI: {managed: {database: {secretRef: {name: b}}}}", ""},
		"the number of replicas of the summary API may change":                    {"summaryAPI: {managed: {database: {secretRef: {name: a}}}}", "summaryAPI: {managed: {replicas: 3, database: {secretRef: {name: a}}}}", ""},
		"an external API may become managed":                                      {"summaryAPI: {url: 'https://example.com'}", "summaryAPI: {managed: {storage: {size: 1Gi}}}", ""},
		"the unit of a size may change":                                           {"redis: {managed: {storage: {size: 1Gi}}}", "redis: {managed: {storage: {size: 1024Mi}}}", ""},
		"an update may not break a rule of two fields":                            {"exit: {minStay: 10s}", "exit: {minStay: 10s}, plates: {maxStay: 10s}", "exit.minStay must be less than plates.maxStay"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := parse(t, manifesttest.Faulty{Spec: tt.before}.Manifest())
			if err := a.Create(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			err := a.Update(t.Context(), parse(t, manifesttest.Faulty{Spec: tt.after}.Manifest()), before)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("is rejected: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error is\n%v, want it to contain\n%s", err, tt.want)
			}
		})
	}
}

// The API server must report only the replacement, not the immutable fields of the managed server that the replacement
// removes.
func TestCRDUpdate_ManagedServerReplacedByExternal_ReportsOneError(t *testing.T) {
	t.Parallel()
	a := load(t)
	const brokers = "rabbitmq: {managed: {replicas: 3, storage: {size: 5Gi, storageClassName: ssd}}}"
	const summaries = "summaryAPI: {managed: {storage: {size: 5Gi, storageClassName: ssd}}}"
	const stores = "redis: {managed: {storage: {size: 5Gi, storageClassName: ssd}}}"
	for _, tt := range []struct{ before, after, path string }{
		{brokers, "rabbitmq: {secretRef: {name: a}}", "spec.rabbitmq"},
		{brokers, "rabbitmq: {clusterRef: {name: a}}", "spec.rabbitmq"},
		{stores, "redis: {secretRef: {name: a}}", "spec.redis"},
		{summaries, "summaryAPI: {managed: {database: {secretRef: {name: a}}}}", "spec.summaryAPI"},
	} {
		before := parse(t, manifesttest.Faulty{Spec: tt.before}.Manifest())
		if err := a.Create(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		err := a.Update(t.Context(), parse(t, manifesttest.Faulty{Spec: tt.after}.Manifest()), before)
		if err == nil || !strings.HasPrefix(err.Error(), tt.path+": Invalid value: ") || !strings.Contains(err.Error(), "cannot change between") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error is\n%v, want one that says %s cannot change", tt.after, err, tt.path)
		}
	}
}

func TestCRDCreate_InvalidNames_AreRejected(t *testing.T) {
	t.Parallel()
	a := load(t)
	for name, valid := range map[string]bool{
		"a": true, "rush-hour-2": true, strings.Repeat("a", 40): true,
		strings.Repeat("a", 41): false, "2nd": false, "rush.hour": false,
	} {
		text := strings.Replace(manifesttest.Head, "rush-hour", name, 1)
		if err := a.Create(t.Context(), parse(t, text)); (err == nil) != valid {
			t.Errorf("the name %s is admitted with %v, want valid: %t", name, err, valid)
		}
		if _, err := manifest.Read(strings.NewReader(text)); (err == nil) != valid {
			t.Errorf("the name %s is read with %v, want valid: %t", name, err, valid)
		}
	}
}
