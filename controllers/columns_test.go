package controllers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// All rates and numbers of pods differ, so that a column with a wrong field fails the test. The rates appear only
// after 15 s.
func TestPrinterColumns_SimulationRuns_ShowRatesPodsAndLedger(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("shown", func(s *v1alpha1.ParkingSimulationSpec) {
		stage := func(rate int32) []v1alpha1.Stage {
			return []v1alpha1.Stage{{Duration: v1alpha1.NewDuration(time.Millisecond), Rate: new(rate)}}
		}
		s.Entry.Rate, s.Entry.Stages = new(int32(200)), stage(230)
		s.Exit.Rate, s.Exit.Stages = new(int32(180)), stage(210)
		s.Processor.Replicas = new(int32(2))
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.setProcessorPods(sim, 4, 3)
	c.Eventually("the columns to show the status", func() error {
		header, row := c.columns(sim.Name)
		want := []string{"Name shown", "Entry/s 230", "Exit/s 210", "Match% 20", "Processors 4", "Ready 3", "Status Running", "Processed 0", "Lost <nil>", "Faults <nil>"}
		var got []string
		for i := range header {
			if header[i] != "Age" {
				got = append(got, header[i]+" "+row[i])
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("columns (-want +got):\n%s", diff)
		}
		return nil
	})
}

func TestPrinterColumns_FaultInEffect_IsShown(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim, hit := c.createRunning("faulty", v1alpha1.ObjectivesSpec{}, restart(time.Second))
	shows := func(want string) {
		t.Helper()
		c.Eventually("the fault to be shown as "+want, func() error {
			header, row := c.columns(sim.Name)
			if got := row[slices.Index(header, "Faults")]; got != want {
				return errors.New("the column Faults has " + got)
			}
			return nil
		})
	}
	c.AwaitEvent(sim, "FaultInjected", hit.Name)
	shows("restart/0")
	c.Pod(sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	})
	shows("<nil>")
}

// columns returns the columns that kubectl get prints without -o wide.
func (c *cluster) columns(name string) (header, row []string) {
	c.T.Helper()
	server, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		c.T.Fatal(err)
	}
	path := strings.Join([]string{"/apis/simulation.parking.dev/v1alpha1/namespaces", c.Namespace, "parkingsimulations", name}, "/")
	text, err := server.RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(c.T.Context()).Raw()
	if err != nil {
		c.T.Fatal(err)
	}
	var table metav1.Table
	if err := json.Unmarshal(text, &table); err != nil {
		c.T.Fatal(err)
	}
	for i, column := range table.ColumnDefinitions {
		if column.Priority == 0 {
			header = append(header, column.Name)
			row = append(row, fmt.Sprint(table.Rows[0].Cells[i]))
		}
	}
	return header, row
}
