package kubectl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// These are the output formats of commands. By default, the output is text for people.
const (
	outputWide = "wide"
	outputName = "name"
	outputJSON = "json"
	outputYAML = "yaml"
)

// outputFlag is a flag value: one of the allowed output formats.
type outputFlag struct {
	format  string
	allowed []string
}

// String implements pflag.Value.
func (f *outputFlag) String() string { return f.format }

// Set implements pflag.Value.
func (f *outputFlag) Set(s string) error {
	if !slices.Contains(f.allowed, s) {
		return errors.New("must be " + f.choices())
	}
	f.format = s
	return nil
}

// Type implements pflag.Value. Help texts show "--output format".
func (f *outputFlag) Type() string { return "format" }

func (f *outputFlag) choices() string {
	last := len(f.allowed) - 1
	if last == 0 {
		return f.allowed[0]
	}
	return strings.Join(f.allowed[:last], ", ") + " or " + f.allowed[last]
}

func (f *outputFlag) register(cmd *cobra.Command) {
	cmd.Flags().VarP(f, "output", "o", "output format: "+f.choices()+" (default: text)")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(f.allowed, cobra.ShellCompDirectiveNoFileComp)) // cannot fail, because the flag exists
}

// isText reports whether the output is text for people.
func (f *outputFlag) isText() bool { return f.format == "" || f.format == outputWide }

const tablePadding = 3

// newTable returns a writer that aligns columns. The caller must separate the columns by tabs.
func newTable(out io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(out, 0, 0, tablePadding, ' ', 0)
}

// writeValue writes a value in the format json or yaml.
func writeValue(out io.Writer, format string, value any) error {
	if format == outputYAML {
		return WriteYAML(out, value)
	}
	// Encode writes the whole text in one call. A CleanWriter cannot handle a character that is split between calls.
	encoder := json.NewEncoder(terminal.CleanWriter(out))
	encoder.SetIndent("", "    ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// WriteYAML writes a value as YAML. The fields have the same names as in JSON.
func WriteYAML(out io.Writer, value any) error {
	text, err := yaml.Marshal(value)
	if err == nil {
		_, err = terminal.CleanWriter(out).Write(text)
	}
	return err
}

// writeSimulation writes a simulation in the format json, yaml or name.
func writeSimulation(out io.Writer, format string, sim *v1alpha1.ParkingSimulation) error {
	if format == outputName {
		_, err := fmt.Fprintln(out, terminal.Clean(qualifiedName(sim.Name)))
		return err
	}
	return writeValue(out, format, complete(sim))
}

// qualifiedName returns the name of a simulation in the form resource.group/name, which kubectl accepts.
func qualifiedName(name string) string {
	return strings.ToLower(v1alpha1.Kind) + "." + v1alpha1.Group + "/" + name
}

// complete returns a copy of a simulation for output. It sets the kind, which the client library leaves empty, and
// removes the managed fields.
func complete(sim *v1alpha1.ParkingSimulation) *v1alpha1.ParkingSimulation {
	c := sim.DeepCopy()
	c.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
	c.ManagedFields = nil
	return c
}

// writeList writes simulations in the format json, yaml or name.
func writeList(out io.Writer, format string, sims []v1alpha1.ParkingSimulation) error {
	if format == outputName {
		for i := range sims {
			if err := writeSimulation(out, format, &sims[i]); err != nil {
				return err
			}
		}
		return nil
	}
	list := struct {
		metav1.TypeMeta `json:",inline"`
		metav1.ListMeta `json:"metadata"`

		Items []*v1alpha1.ParkingSimulation `json:"items"`
	}{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}, Items: []*v1alpha1.ParkingSimulation{}}
	for i := range sims {
		list.Items = append(list.Items, complete(&sims[i]))
	}
	return writeValue(out, format, list)
}

// none is the text for a value that does not exist or is unknown.
const none = "–"

// age returns how long ago something happened, such as "5m".
func age(at time.Time) string { return duration.HumanDuration(time.Since(at)) }

// number formats a number. It returns "–" if n is nil.
func number[T int32 | int64](n *T) string {
	if n == nil {
		return none
	}
	return strconv.FormatInt(int64(*n), 10)
}

func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}
