package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr,omitempty"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
	Out        string          `xml:"system-out,omitempty"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitProblem `xml:"failure"`
	Error   *junitProblem `xml:"error"`
	Skipped *junitProblem `xml:"skipped"`
	// Out is the output of a check that passed: the wanted and the measured value.
	Out string `xml:"system-out,omitempty"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit returns the report as JUnit XML. Checks become test cases, figures become properties, and warnings become the
// output of the suite.
func (d *Document) JUnit() ([]byte, error) {
	// The XML encoder would replace characters that XML does not allow with U+FFFD, so escape them.
	figures := *d
	figures.Timeline = nil // the XML does not contain the timeline, and a copy of it would be large
	d = terminal.Cleaned(&figures)
	properties, err := d.properties()
	if err != nil {
		return nil, err
	}
	suite := junitSuite{
		Name:       d.Simulation,
		Time:       strconv.FormatFloat(d.ElapsedSeconds+d.DrainSeconds, 'f', 3, 64),
		Properties: properties,
		Out:        strings.Join(d.Warnings(), "\n"),
	}
	if !d.StartTime.IsZero() {
		suite.Timestamp = d.StartTime.UTC().Format("2006-01-02T15:04:05")
	}
	for _, c := range d.Checks {
		suite.add(c)
	}
	if len(d.Checks) == 0 && d.Outcome != ledger.Pass {
		// Programs that read JUnit files treat a run without failed test cases as a success.
		suite.add(ledger.Check{Kind: ledger.Invariant, Name: "verdict", Outcome: ledger.Failed, Want: string(ledger.Pass),
			Got: string(d.Outcome), Message: strings.Join(d.Reasons, "; ")})
	}
	text, err := xml.MarshalIndent(junitSuites{
		Name: "parking", Tests: suite.Tests, Failures: suite.Failures, Errors: suite.Errors, Skipped: suite.Skipped,
		Time: suite.Time, Suites: []junitSuite{suite},
	}, "", "  ")
	return append([]byte(xml.Header), append(terminal.CleanLines(text), '\n')...), err
}

func (s *junitSuite) add(c ledger.Check) {
	test := junitCase{Class: s.Name + "." + string(c.Kind), Name: c.Name, Time: "0"}
	measured := "want: " + c.Want + "\ngot: " + c.Got + "\n"
	problem := &junitProblem{Message: c.Message, Type: string(c.Kind), Text: measured}
	s.Tests++
	switch {
	case c.Outcome == ledger.Passed:
		test.Out = measured
	case c.Outcome == ledger.Failed:
		test.Failure = problem
		s.Failures++
	// This check was not measured, and another check explains why.
	case c.Message == "":
		test.Skipped = &junitProblem{Message: "not checked, because another check did not pass"}
		s.Skipped++
	default:
		problem.Text = "want: " + c.Want + "\n"
		test.Error = problem
		s.Errors++
	}
	s.Cases = append(s.Cases, test)
}

// properties returns the values in the JSON form of the report, except checks, reasons, timeline and manifest. Each
// property is named by the path of its value.
func (d *Document) properties() ([]junitProperty, error) {
	figures := *d
	figures.Checks, figures.Reasons, figures.Timeline, figures.Environment.Manifest = nil, nil, nil, nil
	text, err := encode(figures, "")
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // keep the text of numbers, which a conversion to float64 could change
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return flatten("", value), nil
}

// flatten returns all scalar values within a JSON value as properties, sorted by name. The name of a property is the
// path of its value.
func flatten(path string, value any) (leaves []junitProperty) {
	within := func(key string) string { return strings.TrimPrefix(path+"."+key, ".") }
	switch v := value.(type) {
	case nil:
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			leaves = append(leaves, flatten(within(key), v[key])...)
		}
	case []any:
		for i, element := range v {
			leaves = append(leaves, flatten(within(strconv.Itoa(i)), element)...)
		}
	default:
		leaves = append(leaves, junitProperty{path, fmt.Sprint(v)})
	}
	return leaves
}
