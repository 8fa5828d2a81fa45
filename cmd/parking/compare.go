package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

const compareHelp = `Compare two reports that 'parking simulate --report FILE.json' recorded.

A metric has regressed if it became worse by more than its threshold, and if the difference
exceeds the noise within the runs. Lost events, events counted twice, unexpectedly unmatched
exits, dead letters and faults without recovery have no noise: any increase is a regression. It
is also a regression if a check passed before but now fails or is missing, or if the verdict
changed from PASS to FAIL. docs/reports.md says how noise is estimated.

Without -o, the suffix of --output-file selects the format. The default is a table.

Exit codes:
  0  no regression
  1  a regression, or something failed
  2  invalid input`

const compareExamples = `  # Compare last week's run with today's, and let the metric endToEnd.p99 rise by up to 40 %
  parking compare before.json after.json --threshold endToEnd.p99=40

  # Write a page with the charts of both runs
  parking compare before.json after.json -o html --output-file diff.html`

// errRegression is the error of a command that has already printed a comparison in which the second report is worse.
var errRegression = errors.New("a metric or a check is worse in the second report")

func (c *cli) compareCommand() *cobra.Command {
	format := formatFlag{formatTable, []reportFormat{formatTable, formatJSON, formatMarkdown, formatHTML}}
	thresholds := thresholdFlags{}
	var path string
	cmd := &cobra.Command{
		Use:                   "compare BEFORE.json AFTER.json [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Compare two recorded reports and find regressions",
		Long:                  compareHelp,
		Example:               compareExamples,
		GroupID:               groupSimulations,
		Args:                  arguments("BEFORE.json", "AFTER.json"),
		ValidArgsFunction:     completeReports(2), //nolint:mnd // the command has two arguments
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runs(func(ctx context.Context) error {
			chosen, err := format.chosen(cmd, path)
			if err != nil {
				return err
			}
			return c.compare(ctx, args[0], args[1], thresholds, chosen, path)
		})(cmd, args)
	}
	registerCompareFlags(cmd, &format, thresholds, &path)
	return cmd
}

func registerCompareFlags(cmd *cobra.Command, format *formatFlag, thresholds thresholdFlags, path *string) {
	cmd.Flags().VarP(format, outputFlag, "o", "output format: "+format.choices())
	cmd.Flags().Var(thresholds, "threshold", "tolerated change of a metric, as `METRIC=PERCENT`. May be repeated. Metrics: "+strings.Join(report.ThresholdKeys(), ", "))
	registerOutputFile(cmd, path)
}

func (c *cli) compare(ctx context.Context, before, after string, thresholds thresholdFlags, format reportFormat, to string) error {
	if before == "-" && after == "-" {
		return badInput(errors.New("only one of the reports can be read from stdin"))
	}
	if err := checkOutput(to, before, after); err != nil {
		return err
	}
	var documents [2]*report.Document
	for i, path := range []string{before, after} {
		d, err := readReport(ctx, path)
		if err != nil {
			return badInput(err)
		}
		documents[i] = d
	}
	return c.compareDocuments(documents, thresholds, format, to)
}

// compareDocuments writes the comparison of two reports. It returns errRegression if the second report is worse.
func (c *cli) compareDocuments(documents [2]*report.Document, thresholds thresholdFlags, format reportFormat, to string) error {
	comparison := report.Compare(documents[0], documents[1], thresholds)
	text, err := renderComparison(comparison, format)
	if err == nil {
		err = c.output(to, text)
	}
	if err == nil && comparison.Regression {
		err = errRegression
	}
	return err
}

func renderComparison(r *report.Comparison, f reportFormat) ([]byte, error) {
	switch f {
	case formatHTML:
		return r.HTML()
	case formatMarkdown:
		return r.Markdown(), nil
	case formatJSON:
		return r.JSON()
	}
	return []byte(strings.Join(comparisonTable(r), "\n") + "\n"), nil
}

func comparisonTable(r *report.Comparison) []string {
	r = terminal.Cleaned(r)
	rows := [][]string{{"metric", "before", "after", "change", "threshold", "outcome", "reason"}}
	for i := range r.Metrics {
		m := &r.Metrics[i]
		rows = append(rows, []string{m.Name, m.BeforeText(), m.AfterText(), m.RelativeText(), m.ThresholdText(), string(m.Outcome), m.Reason})
	}
	const textFrom = 5 // columns 1 to 4 (before, after, change and threshold) contain numbers
	lines := []string{"", "  " + r.Headline(), fmt.Sprintf("  verdict: %s before, %s after", r.Before.Verdict, r.After.Verdict), ""}
	for _, note := range r.Notes {
		lines = append(lines, "  note: "+note, "")
	}
	lines = append(lines, aligned(rows, textFrom)...)
	checks := [][]string{{"check", "before", "after", "outcome"}}
	for _, c := range r.Checks {
		checks = append(checks, []string{c.Name, c.Before, c.After, string(c.Outcome)})
	}
	for _, rows := range [][][]string{valueRows("objective", r.Objectives), checks, valueRows("setting", r.Settings)} {
		if len(rows) > 1 {
			lines = append(append(lines, ""), aligned(rows, 0)...)
		}
	}
	return append(lines, "")
}

func valueRows(what string, all []report.Values) [][]string {
	rows := [][]string{{what, "before", "after"}}
	for _, v := range all {
		rows = append(rows, []string{v.Name, v.Before, v.After})
	}
	return rows
}

// aligned renders rows as columns. It aligns the columns from 1 to textFrom-1 to the right, and all others to the left.
// The first column has the number 0.
func aligned(rows [][]string, textFrom int) []string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], terminal.Width(cell))
		}
	}
	lines := make([]string, 0, len(rows))
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := terminal.PadRight
			if i > 0 && i < textFrom {
				pad = terminal.PadLeft
			}
			line.WriteString("  " + pad(cell, widths[i]))
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// thresholdFlags is a flag value. For each metric, it contains the relative change that is tolerated. The flag can
// be repeated.
type thresholdFlags map[string]float64

// String implements pflag.Value.
func (t thresholdFlags) String() string { return "" }

// Set implements pflag.Value.
func (t thresholdFlags) Set(s string) error {
	const percent = 100
	key, value, _ := strings.Cut(s, "=")
	if !slices.Contains(report.ThresholdKeys(), key) {
		return errors.New("must begin with one of " + strings.Join(report.ThresholdKeys(), ", "))
	}
	limit, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
	if err != nil || !(limit >= 0 && limit <= 1e6) {
		return fmt.Errorf("must be %s=PERCENT with a number of at least 0, such as %s=25", key, key)
	}
	t[key] = limit / percent
	return nil
}

// values returns the prefixes of valid values, such as METRIC=, for completion in shells.
func (t thresholdFlags) values() []string {
	var all []string
	for _, key := range report.ThresholdKeys() {
		all = append(all, key+"=")
	}
	return all
}

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (t thresholdFlags) Type() string { return "METRIC=PERCENT" }
