package controllers

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/internal/report"
)

func TestNodeOf_ReturnsSizeAndOperatingSystem(t *testing.T) {
	t.Parallel()
	got := nodeOf(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "worker-1"},
		Status: corev1.NodeStatus{
			Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi")},
			NodeInfo: corev1.NodeSystemInfo{Architecture: "arm64", OperatingSystem: "linux", KernelVersion: "6.12"},
		},
	})
	want := report.Node{Name: "worker-1", CPUs: 4, MemoryBytes: 16 << 30, Architecture: "arm64", System: "linux 6.12"}
	if got != want {
		t.Errorf("the node is %+v, want %+v", got, want)
	}
}
