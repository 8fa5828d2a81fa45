package resources

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const summariesData = "/var/lib/parking"

// summaryAPI returns the objects of a managed summary API, or nothing for an external one.
func (b *builder) summaryAPI() ([]client.Object, error) {
	if b.summaries == nil {
		return nil, nil
	}
	workload, err := b.summariesStatefulSet()
	if err != nil {
		return nil, err
	}
	return []client.Object{b.summariesService(), workload}, nil
}

func (b *builder) summariesService() client.Object {
	meta := b.object(b.name(ComponentSummaries), ComponentSummaries)
	meta.Labels[ScrapeLabel] = scrape
	return &corev1.Service{
		ObjectMeta: meta,
		Spec: corev1.ServiceSpec{
			Selector: Selector(b.sim, ComponentSummaries),
			Ports:    []corev1.ServicePort{b.clientPort(ComponentSummaries, portHTTP, HTTPPort)},
		},
	}
}

func (b *builder) summariesStatefulSet() (client.Object, error) {
	container := b.parkingContainer(
		[]string{"summaries", "--database", summariesData + "/summaries.db"},
		resources(b.summaries.Resources.Core(), requirements("20m", "64Mi", "512Mi")))
	container.VolumeMounts = []corev1.VolumeMount{mount(dataVolume, summariesData), mount("tmp", "/tmp")} // SQLite sorts in temporary files
	template, err := b.template(pod{
		component: ComponentSummaries, user: parkingUser, grace: parkingGrace,
		containers: []corev1.Container{container},
		volumes:    []corev1.Volume{emptyDir("tmp")},
		patch:      b.summaries.Template, path: field.NewPath("spec", "summaryAPI", "managed", "template"), main: ContainerParking,
	})
	if err != nil {
		return nil, err
	}
	return b.statefulSet(set{
		component: ComponentSummaries,
		service:   b.name(ComponentSummaries),
		replicas:  1,
		storage:   b.summaries.Storage,
		template:  template,
	}), nil
}
