package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const reportHelp = `Render a report that 'parking simulate --report FILE.json' recorded.

The formats:
  html   one self-contained page with charts. It needs no network
  md     Markdown, for example to paste into a pull request
  xml    JUnit, with one test case per check
  json   the recorded report itself
  table  the result as 'parking simulate' prints it
Without -o, the suffix of --output-file selects the format. The default is html.

docs/reports.md describes the reports and the JSON schema.`

const reportExamples = `  # Record a report, then render it
  parking simulate --duration 1m --report run.json
  parking report run.json --output-file run.html`

// outputFlag is the name of the flag that selects the output format.
const outputFlag = "output"

// reportFormat is an output format. Each command accepts only some of the formats.
type reportFormat string

const (
	formatHTML     reportFormat = "html"
	formatJSON     reportFormat = "json"
	formatMarkdown reportFormat = "md"
	formatJUnit    reportFormat = "xml"
	formatTable    reportFormat = "table"
	formatYAML     reportFormat = "yaml" // 'parking report' does not accept this format
)

// render renders a report in a format. A table has no colors and no maximum width.
func render(d *report.Document, f reportFormat) ([]byte, error) {
	switch f {
	case formatHTML:
		return d.HTML()
	case formatMarkdown:
		return d.Markdown(), nil
	case formatJUnit:
		return d.JUnit()
	case formatTable:
		return []byte(strings.Join(reportTable(d, &table{columns: unlimited}), "\n") + "\n"), nil
	}
	return d.JSON()
}

// formatFlag is the value of a flag that selects an output format.
type formatFlag struct {
	format  reportFormat
	allowed []reportFormat
}

// String implements pflag.Value.
func (f *formatFlag) String() string { return string(f.format) }

// Set implements pflag.Value.
func (f *formatFlag) Set(s string) error {
	if !slices.Contains(f.allowed, reportFormat(s)) {
		return errors.New("must be " + f.choices())
	}
	f.format = reportFormat(s)
	return nil
}

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (f *formatFlag) Type() string { return "format" }

// values returns the valid values, for completion in shells.
func (f *formatFlag) values() []string {
	names := make([]string, len(f.allowed))
	for i, format := range f.allowed {
		names[i] = string(format)
	}
	return names
}

// chosen returns the format that the user has set. Otherwise, it returns the format of the file suffix, or the default
// if there is no suffix. It returns an error for the suffix of no allowed format.
func (f *formatFlag) chosen(cmd *cobra.Command, file string) (reportFormat, error) {
	if cmd.Flags().Changed(outputFlag) || filepath.Ext(file) == "" {
		return f.format, nil
	}
	format, err := formatOf(file)
	if err != nil || !slices.Contains(f.allowed, format) {
		return "", badInput(fmt.Errorf("--output-file: the suffix of %s selects no format: set -o to %s", file, f.choices()))
	}
	return format, nil
}

// choices returns the allowed formats as a phrase for an error message, such as "html, json or table".
func (f *formatFlag) choices() string {
	names := f.values()
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func (c *cli) reportCommand() *cobra.Command {
	format := formatFlag{formatHTML, []reportFormat{formatHTML, formatMarkdown, formatJUnit, formatJSON, formatTable}}
	var path string
	cmd := &cobra.Command{
		Use:                   "report FILE.json [-o FORMAT] [--output-file FILE]",
		DisableFlagsInUseLine: true,
		Short:                 "Render a recorded report as HTML, Markdown, JUnit XML, JSON or a table",
		Long:                  reportHelp,
		Example:               reportExamples,
		GroupID:               groupSimulations,
		Args:                  arguments("FILE.json"),
		ValidArgsFunction:     completeReports(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runs(func(ctx context.Context) error {
			chosen, err := format.chosen(cmd, path)
			if err != nil {
				return err
			}
			return c.report(ctx, args[0], chosen, path)
		})(cmd, args)
	}
	cmd.Flags().VarP(&format, outputFlag, "o", "output format: "+format.choices())
	registerOutputFile(cmd, &path)
	return cmd
}

// completeReports returns the shell completion of a command whose arguments are paths of recorded reports. After
// maxArgs arguments, the completion suggests nothing.
func completeReports(maxArgs int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= maxArgs {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return []cobra.Completion{"json"}, cobra.ShellCompDirectiveFilterFileExt
	}
}

func registerOutputFile(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "output-file", "", "write to this `file` (default: stdout)")
	_ = cmd.MarkFlagFilename("output-file") // cannot fail, because the flag exists
}

// checkOutput returns an error if the output file cannot be written, or if this file is one of the reports that the
// command reads.
func checkOutput(path string, reports ...string) error {
	if path == "" {
		return nil
	}
	for _, report := range reports {
		if report != "-" && sameFile(path, report) {
			return badInput(fmt.Errorf("--output-file: %s is the same file as the report %s: name another file", path, report))
		}
	}
	if err := document.CheckWritable(path); err != nil {
		return badInput(fmt.Errorf("--output-file: %w", err))
	}
	return nil
}

// sameFile reports whether two paths lead to the same regular file. If one of the files does not exist, sameFile
// compares the paths.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return infoA.Mode().IsRegular() && os.SameFile(infoA, infoB)
	}
	return withoutLinks(a) == withoutLinks(b)
}

// withoutLinks returns the absolute path of a file, with all symbolic links in the path of its directory resolved. The
// file itself need not exist.
func withoutLinks(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	if absolute, err := filepath.Abs(path); err == nil {
		return absolute
	}
	return filepath.Clean(path)
}

func (c *cli) report(ctx context.Context, from string, format reportFormat, to string) error {
	if err := checkOutput(to, from); err != nil {
		return err
	}
	d, err := readReport(ctx, from)
	if err != nil {
		return badInput(err)
	}
	text, err := render(d, format)
	if err != nil {
		return fmt.Errorf("render %s: %w", from, err)
	}
	return c.output(to, text)
}

// readReport reads a report in JSON from a file, or from stdin if the path is "-".
func readReport(ctx context.Context, path string) (*report.Document, error) {
	return interruptible(ctx, func() (*report.Document, error) {
		if path == "-" {
			d, err := report.Read(os.Stdin)
			if err != nil {
				return nil, fmt.Errorf("stdin: %w", err)
			}
			return d, nil
		}
		return report.ReadFile(path)
	})
}

// output writes a text to a file, or to stdout if the path is empty.
func (c *cli) output(path string, text []byte) error {
	if path == "" {
		_, err := c.stdout.Write(text)
		return err
	}
	return badInput(document.WriteFile(path, text))
}

// reportFiles is the value of a flag that can be repeated. It contains the paths of the files that the report is
// written to.
type reportFiles []string

// String implements pflag.Value.
func (r *reportFiles) String() string { return strings.Join(*r, ", ") }

// Set implements pflag.Value.
func (r *reportFiles) Set(path string) error {
	if _, err := formatOf(path); err != nil {
		return err
	}
	for _, other := range *r {
		if sameFile(path, other) {
			return fmt.Errorf("is the same file as %s: name each file once", other)
		}
	}
	*r = append(*r, path)
	return nil
}

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (r *reportFiles) Type() string { return "file" }

// formatOf returns the format that the suffix of a path selects.
func formatOf(path string) (reportFormat, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".html", ".htm":
		return formatHTML, nil
	case ".json":
		return formatJSON, nil
	case ".md":
		return formatMarkdown, nil
	case ".xml":
		return formatJUnit, nil
	}
	return "", errors.New("the file name must end in .html, .json, .md or .xml")
}

// check returns an error if one of the files cannot be written, or is the same file as the manifest.
func (r reportFiles) check(manifest string) error {
	for _, path := range r {
		if manifest != "" && manifest != "-" && sameFile(path, manifest) {
			return fmt.Errorf("--report: %s is the same file as the manifest: name another file", path)
		}
		if err := document.CheckWritable(path); err != nil {
			return fmt.Errorf("--report: %w", err)
		}
	}
	return nil
}

// write writes the report to all files. If a file cannot be written, the method continues with the next file.
func (r reportFiles) write(d *report.Document) error {
	var errs []error
	for _, path := range r {
		format, _ := formatOf(path) // no error is possible, because the method Set has checked the suffix
		text, err := render(d, format)
		if err == nil {
			err = document.WriteFile(path, text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--report: %w", err))
		}
	}
	return errors.Join(errs...)
}

// environmentTimeout limits the time for asking the servers for their versions.
const environmentTimeout = 5 * time.Second

// environment returns the part of a report that describes this machine and the servers. Values that cannot be
// determined are omitted.
func (a adapters) environment(ctx context.Context, sim *v1alpha1.ParkingSimulation, log *slog.Logger) report.Environment {
	ctx, cancel := context.WithTimeout(ctx, environmentTimeout)
	defer cancel()
	version := func(what string, get func(context.Context) (string, error)) string {
		v, err := get(ctx)
		if err != nil {
			log.Warn("The report lacks the version of a server", "server", what, "error", err)
		}
		return v
	}
	return report.Environment{
		Parking:  currentBuild().String(),
		RabbitMQ: version("RabbitMQ", a.broker.Version),
		Redis:    version("Redis", a.store.Version),
		Nodes:    []report.Node{thisMachine()},
		Manifest: report.ManifestOf(sim),
	}
}

// thisMachine describes the machine that runs this process. The size of the memory is known only on Linux.
func thisMachine() report.Node {
	node := report.Node{CPUs: int64(runtime.NumCPU()), Architecture: runtime.GOARCH, System: runtime.GOOS}
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return node
	}
	if memory, err := proc.Meminfo(); err == nil && memory.MemTotalBytes != nil {
		node.MemoryBytes = int64(*memory.MemTotalBytes)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		node.System += " " + string(bytes.TrimSpace(release))
	}
	return node
}

const timelineTimeout = 30 * time.Second

// readTimeline reads the recorded measurements of a simulation from the store. If the store does not respond,
// readTimeline returns nil.
func (a adapters) readTimeline(ctx context.Context, log *slog.Logger) []timeline.Row {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timelineTimeout)
	defer cancel()
	rows, err := ledger.ReadTimeline(ctx, a.store)
	if err != nil {
		log.Warn("The report has no timeline", "error", excerpt.OneLine(err.Error()))
	}
	return rows
}
