package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Read reads and checks a plan file: one JSON object of the fields of Plan, at most 1 MiB. A field that is
// unknown, given twice or out of its bounds is an error of one line that names the file, the field, its
// value and what is expected.
func Read(path string) (*Plan, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	p, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("plan file %s: %w", path, err)
	}
	return p, nil
}

// Parse reads and checks the text of a plan file, as Read does.
func Parse(text []byte) (*Plan, error) {
	p := new(Plan)
	if err := decodeStrict(text, p); err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// Marshal returns the text of a plan file. Equal plans have equal texts.
func (p *Plan) Marshal() ([]byte, error) {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("marshal plan of %s: %w", p.Simulation, err)
	}
	return append(text, '\n'), nil
}

// Write writes a plan file that only its owner can read. A file that is there is replaced in one step, so
// that whoever follows it sees the old plan or the new one.
func (p *Plan) Write(path string) (err error) {
	text, err := p.Marshal()
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	_, writeErr := file.Write(text)
	if err = errors.Join(writeErr, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write plan: %w", err), os.Remove(file.Name()))
	}
	return nil
}

// Validate checks every field that does not depend on where the plan is used.
func (p *Plan) Validate() error {
	var f faults
	if !simulationName.MatchString(p.Simulation) {
		f.invalid(field.NewPath("simulation"), p.Simulation, "must be the simulation's name: 1 to 128 letters, digits, dots, dashes and underscores, the first and the last a letter or digit")
	}
	f.number(field.NewPath("partitions"), int64(p.Partitions), 1, MaxPartitions, "partitions")
	f.oneOf(field.NewPath("queueType"), string(p.QueueType), string(QueueTypeQuorum), string(QueueTypeClassic))
	f.duration(field.NewPath("duration"), p.Duration.D(), true, "30m")
	f.schedule(field.NewPath("entry"), p.Entry.Schedule)
	exit := field.NewPath("exit")
	f.schedule(exit, p.Exit.Schedule)
	f.number(exit.Child("matchPercent"), int64(p.Exit.MatchPercent), 0, 100, "percent")
	f.duration(exit.Child("minStay"), p.Exit.MinStay.D(), true, "2s")
	f.duration(field.NewPath("maxStay"), p.MaxStay.D(), false, "1h")
	f.stays(exit.Child("minStay"), p.Exit.MinStay.D(), p.MaxStay.D(), "maxStay")
	f.capacity(field.NewPath("entry", "rate"), p.Entry.Rate, p.MaxStay.D(), "maxStay")
	f.number(field.NewPath("processor", "concurrency"), int64(p.Processor.Concurrency), 1, MaxConcurrency, "messages")
	f.objectives(field.NewPath("objectives"), p.Objectives)
	f.bindingRef(field.NewPath("rabbitmq"), p.RabbitMQ)
	f.bindingRef(field.NewPath("redis"), p.Redis)
	f.summaryAPI(field.NewPath("summaryAPI"), p.SummaryAPI)
	return oneLine(f.list)
}

func (f *faults) oneOf(path *field.Path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		f.list = append(f.list, field.NotSupported(path, value, allowed))
	}
}

func (f *faults) schedule(path *field.Path, s Schedule) {
	f.rate(path.Child("rate"), s.Rate)
	f.oneOf(path.Child("arrivals"), string(s.Arrivals), string(ArrivalsUniform), string(ArrivalsPoisson))
	f.number(path.Child("replicas"), int64(s.Replicas), 0, MaxGenerators, "generators")
	stages := path.Child("stages")
	if len(s.Stages) > MaxStages {
		f.list = append(f.list, field.TooMany(stages, len(s.Stages), MaxStages))
		return
	}
	for i, stage := range s.Stages {
		f.duration(stages.Index(i).Child("duration"), stage.Duration.D(), false, "5m")
		f.rate(stages.Index(i).Child("rate"), stage.Rate)
	}
}

func (f *faults) objectives(path *field.Path, o Objectives) {
	f.duration(path.Child("processingP99"), o.ProcessingP99.D(), true, "5ms")
	f.duration(path.Child("endToEndP99"), o.EndToEndP99.D(), true, "1s")
	f.notNegative(path.Child("maxLost"), o.MaxLost)
	f.notNegative(path.Child("maxUnexpected"), o.MaxUnexpected)
}

func (f *faults) notNegative(path *field.Path, value int64) {
	if value < 0 {
		f.invalid(path, value, "must not be negative; 0 allows none")
	}
}

// bindingRef does not check the URI: it may hold a password, which errors must not show. Opening it does.
func (f *faults) bindingRef(path *field.Path, ref BindingRef) {
	if ref.URI != "" && ref.SecretDir != "" {
		f.list = append(f.list, field.Forbidden(path.Child("secretDir"), "must not be set beside uri: remove one of them"))
	}
}

func (f *faults) summaryAPI(path *field.Path, a SummaryAPI) {
	if a.External && a.URL == "" {
		f.list = append(f.list, field.Required(path.Child("url"), "must be the address of the external API"))
	}
	if a.URL != "" {
		f.httpURL(path.Child("url"), a.URL, "files of a folder and name that in secretDir")
	}
}

// httpURL checks an absolute URL without credentials, of which an error shows nothing if it has any; instead
// says where these go.
func (f *faults) httpURL(path *field.Path, text, instead string) {
	const want = `must be an absolute http or https URL such as "https://example.com/v1/visits"`
	if hasUserInfo(text) {
		f.list = append(f.list, field.Forbidden(path, "must not hold a user name or password: put them into "+instead))
		return
	}
	u, err := url.ParseRequestURI(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		f.invalid(path, text, want)
	}
}

// hasUserInfo reports whether the authority of a URL, however malformed, has something before an "@".
func hasUserInfo(text string) bool {
	_, authority, found := strings.Cut(text, "//")
	if !found {
		authority = text
	}
	if end := strings.IndexAny(authority, "/?#"); end >= 0 {
		authority = authority[:end]
	}
	return strings.Contains(authority, "@")
}

// oneLine returns the faults as one error of one line, nil if there are none.
func oneLine(list field.ErrorList) error {
	if len(list) == 0 {
		return nil
	}
	lines := make([]string, len(list))
	for i, fault := range list {
		lines[i] = fault.Error()
	}
	return errors.New(strings.ReplaceAll(strings.Join(lines, "; "), "\n", " "))
}

// readFile reads a file of at most maxFileBytes.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // nothing was written
	return readAll(file, strconv.Quote(path))
}

// readAll reads at most maxFileBytes; name says of what.
func readAll(r io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err // the rest would say once more what was being read
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than the 1 MiB that it may have", name)
	}
	return text, nil
}
