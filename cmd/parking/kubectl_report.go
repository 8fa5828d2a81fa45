//go:build !nooperator

package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/kubectl"
	"github.com/parking-operator/parking-operator/internal/report"
)

const pluginReportHelp = `Render the report of a completed simulation. The operator stores this report in the ConfigMap
NAME-report.

The formats:
  html   one self-contained page with charts. It needs no network
  md     Markdown, for example to paste into a pull request
  xml    JUnit, with one test case per check
  json   the recorded report itself
  table  the result as text

A simulation without spec.duration has no report.`

const pluginReportExamples = `  # Print the result
  kubectl parking report nightly

  # Save a page with charts
  kubectl parking report nightly -o html --output-file nightly.html`

func (c *cli) pluginReportCommand(plugin *kubectl.Plugin) *cobra.Command {
	format := formatFlag{formatTable, []reportFormat{formatHTML, formatMarkdown, formatJUnit, formatJSON, formatTable}}
	var path string
	cmd := &cobra.Command{
		Use:               "report NAME",
		Short:             "Render the report of a completed simulation as HTML, Markdown, JUnit XML, JSON or a table",
		Long:              pluginReportHelp,
		Example:           pluginReportExamples,
		Args:              arguments("NAME"),
		ValidArgsFunction: plugin.CompleteNames(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(path); err != nil {
				return err
			}
			chosen, err := format.chosen(cmd, path)
			if err != nil {
				return err
			}
			d, err := plugin.Report(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			text, err := c.renderReport(d, chosen, path == "")
			if err != nil {
				return err
			}
			return c.output(path, text)
		},
	}
	cmd.Flags().VarP(&format, outputFlag, "o", "output format: "+format.choices())
	registerOutputFile(cmd, &path)
	return cmd
}

func (c *cli) renderReport(d *report.Document, format reportFormat, toStdout bool) ([]byte, error) {
	if format == formatTable && toStdout {
		return []byte(strings.Join(reportTable(d, newTable(c.stdout)), "\n") + "\n"), nil
	}
	return render(d, format)
}

const pluginCompareHelp = `Compare two runs. Each argument is the name of a completed simulation in the cluster, or the path
of a .json file that contains a recorded report.

A metric has regressed if it became worse by more than its threshold, and if the difference
exceeds the noise within the runs. 'parking compare --help' says more.

Exit codes:
  0  no regression
  1  a regression, or something failed
  2  invalid input, an object that does not exist, or a missing permission`

const pluginCompareExamples = `  # Compare two simulations
  kubectl parking compare nightly-1 nightly-2

  # Compare a simulation with a report that was saved last week
  kubectl parking report nightly -o json --output-file before.json
  kubectl parking compare before.json nightly -o html --output-file diff.html`

func (c *cli) pluginCompareCommand(plugin *kubectl.Plugin) *cobra.Command {
	format := formatFlag{formatTable, []reportFormat{formatTable, formatJSON, formatMarkdown, formatHTML}}
	thresholds := thresholdFlags{}
	var path string
	cmd := &cobra.Command{
		Use:               "compare BEFORE AFTER",
		Short:             "Compare the reports of two simulations and find regressions",
		Long:              pluginCompareHelp,
		Example:           pluginCompareExamples,
		Args:              arguments("BEFORE", "AFTER"),
		ValidArgsFunction: plugin.CompleteNames(2), //nolint:mnd // the command has two arguments
		RunE: func(cmd *cobra.Command, args []string) error {
			var files []string
			for _, name := range args {
				if isReportFile(name) {
					files = append(files, name)
				}
			}
			if err := checkOutput(path, files...); err != nil {
				return err
			}
			chosen, err := format.chosen(cmd, path)
			if err != nil {
				return err
			}
			var documents [2]*report.Document
			for i, name := range args {
				d, err := anyReport(cmd.Context(), plugin, name)
				if err != nil {
					return err
				}
				documents[i] = d
			}
			return c.compareDocuments(documents, thresholds, chosen, path)
		},
	}
	registerCompareFlags(cmd, &format, thresholds, &path)
	return cmd
}

// isReportFile reports whether an argument is the path of a recorded report. Otherwise the argument is the name of a
// simulation.
func isReportFile(name string) bool { return strings.EqualFold(filepath.Ext(name), ".json") }

// anyReport returns the report in a .json file, or the report of the simulation with the given name in the cluster.
func anyReport(ctx context.Context, plugin *kubectl.Plugin, name string) (*report.Document, error) {
	if !isReportFile(name) {
		if strings.ContainsAny(name, `/\`) {
			return nil, badInput(errors.New(name + " is neither the name of a simulation nor the path of a .json file"))
		}
		return plugin.Report(ctx, name)
	}
	d, err := readReport(ctx, name)
	return d, badInput(err)
}
