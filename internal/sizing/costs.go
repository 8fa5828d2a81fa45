// Package sizing computes what a rate of events needs: CPU cores, memory, disks, partitions and replicas. It does no
// I/O, and uses costs that `make bench-costs` has measured.
package sizing

import (
	"bytes"
	_ "embed" // embeds the measured costs
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
)

// Component is a part of a simulation whose costs are measured separately.
type Component string

// The name of a component is the name of its field in the spec of a ParkingSimulation.
const (
	RabbitMQ       Component = "rabbitmq"
	Redis          Component = "redis"
	Processor      Component = "processor"
	EntryGenerator Component = "entry"
	ExitGenerator  Component = "exit"
	SummaryAPI     Component = "summaryAPI"
)

// Components returns all components, in the order in which tables list them.
func Components() []Component {
	return []Component{RabbitMQ, Redis, Processor, EntryGenerator, ExitGenerator, SummaryAPI}
}

// Costs is the content of the file of measured costs.
type Costs struct {
	MeasuredAt time.Time `json:"measuredAt"`
	Machine    Machine   `json:"machine"`
	Method     Method    `json:"method"`
	// Points are the measurements in ascending order of the rates. In the first, the processes are idle. The last is at
	// the highest sustained rate.
	Points []Point `json:"points"`
	// DrainPerSecond is the rate at which processors drain a backlog of events in RabbitMQ.
	DrainPerSecond float64 `json:"drainPerSecond"`
	Growth         Growth  `json:"growth"`
}

// Machine describes the machine on which the costs were measured.
type Machine struct {
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryBytes int64  `json:"memoryBytes"`
	Kernel      string `json:"kernel"`
}

// Method describes how the costs were measured.
type Method struct {
	Command       string  `json:"command"`
	WarmUpSeconds float64 `json:"warmUpSeconds"`
	LengthSeconds float64 `json:"lengthSeconds"`
	// Nice is the nice value of the benchmark: 0 is the normal priority, 19 is the lowest.
	Nice     int    `json:"nice"`
	RabbitMQ string `json:"rabbitmq"`
	Redis    string `json:"redis"`
}

// Point contains the figures that were measured at one rate.
type Point struct {
	// OfferedPerSecond is the scheduled rate. It is 0 for idle processes. At the highest rate, it is 0 because the
	// schedule varied.
	OfferedPerSecond int64 `json:"offeredPerSecond"`
	// EntriesPerSecond and ExitsPerSecond are the rates of events that took effect.
	EntriesPerSecond float64 `json:"entriesPerSecond"`
	ExitsPerSecond   float64 `json:"exitsPerSecond"`
	// SummariesPerSecond is the rate of stored summaries.
	SummariesPerSecond float64 `json:"summariesPerSecond"`
	// OtherCores is the CPU time per second that all other programs on the machine use.
	OtherCores float64             `json:"otherCores"`
	Components map[Component]Usage `json:"components"`
	// EndToEnd is the histogram of the time from when an event is due until it takes effect.
	EndToEnd histogram.Snapshot `json:"endToEnd,omitzero"`
}

// Check compares predictions with measurements. `make bench-costs` writes a Check to testdata/check.json.
type Check struct {
	MeasuredAt time.Time  `json:"measuredAt"`
	Method     Method     `json:"method"`
	Rows       []Compared `json:"rows"`
}

// Compared contains the prediction and the measurement of one quantity at one rate. Figure is the quantity with its
// unit, such as "Redis memory in bytes".
type Compared struct {
	EventsPerSecond int64   `json:"eventsPerSecond"`
	Figure          string  `json:"figure"`
	Predicted       float64 `json:"predicted"`
	Measured        float64 `json:"measured"`
}

// Ratio returns the prediction divided by the measurement.
func (c *Compared) Ratio() float64 { return c.Predicted / c.Measured }

// Tolerance is the largest permitted difference between a prediction and its measurement, as a share of the
// measurement.
const Tolerance = .3

// WithinTolerance reports whether the prediction differs from the measurement by at most Tolerance. It returns false if
// the measurement is 0.
func (c *Compared) WithinTolerance() bool {
	return c.Measured > 0 && math.Abs(c.Ratio()-1) <= Tolerance
}

// Scaling shows how the throughput grows with the number of partitions and processors. `make bench-partitions` writes a
// Scaling to testdata/partitions.json.
type Scaling struct {
	MeasuredAt time.Time `json:"measuredAt"`
	Method     Method    `json:"method"`
	Cores      int       `json:"cores"`
	// Nodes is the number of RabbitMQ nodes.
	Nodes int `json:"nodes"`
	// DelaySeconds is the network latency between a processor and a server, in one direction.
	DelaySeconds float64 `json:"delaySeconds"`
	// Concurrency is the number of messages that all processors together process at the same time from one queue.
	Concurrency int           `json:"concurrency"`
	Rounds      int           `json:"rounds"`
	Rows        []Partitioned `json:"rows"`
}

// Partitioned is the throughput with one number of partitions and one number of processors. EventsPerSecond and
// UsedCores are medians of repeated measurements.
type Partitioned struct {
	Partitions      int     `json:"partitions"`
	Processors      int     `json:"processors"`
	EventsPerSecond float64 `json:"eventsPerSecond"`
	// UsedCores is the CPU time per second of all components, including RabbitMQ and Redis.
	UsedCores float64 `json:"usedCores"`
}

// Usage contains the resources that one component uses at one event rate.
type Usage struct {
	Cores       float64 `json:"cores"`
	MemoryBytes float64 `json:"memoryBytes"`
	// DiskBytes is the size of the component's files.
	DiskBytes float64 `json:"diskBytes,omitempty"`
	// WriteBytes is the number of bytes per second that are written to the disk.
	WriteBytes float64 `json:"writeBytesPerSecond"`
	// NetworkBytes is the sum of sent and received bytes per second.
	NetworkBytes float64 `json:"networkBytesPerSecond"`
}

// Growth is the storage that each parked vehicle and each summary takes.
type Growth struct {
	// RedisBytesPerVisit is the memory of Redis per parked vehicle.
	RedisBytesPerVisit float64 `json:"redisBytesPerVisit"`
	// Visits and Summaries are the numbers of parked vehicles and stored summaries in the measurement.
	Visits    int64 `json:"visits"`
	Summaries int64 `json:"summaries"`
	// DatabaseBytesPerSummary is the size of the SQLite database per stored summary.
	DatabaseBytesPerSummary float64 `json:"databaseBytesPerSummary"`
}

//go:embed costs.json
var embedded []byte

// Embedded returns the measured costs that are part of the binary.
func Embedded() (*Costs, error) { return ParseCosts(embedded) }

// ParseCosts reads a file of measured costs.
func ParseCosts(text []byte) (*Costs, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	c := new(Costs)
	if err := decoder.Decode(c); err != nil {
		return nil, fmt.Errorf("read the measured costs: the file must contain the JSON that make bench-costs writes: %w", err)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("read the measured costs: %w", err)
	}
	return c, nil
}

func (c *Costs) validate() error {
	const fewest = 3 // the minimum number of measurements: idle, at the highest rate, and at a rate in between
	if len(c.Points) < fewest || c.Machine.Cores < 1 {
		return fmt.Errorf("there are %d measurements on a machine with %d cores: at least %d measurements and 1 core are needed; run make bench-costs", len(c.Points), c.Machine.Cores, fewest)
	}
	if c.Points[0].Rate() != 0 {
		return errors.New("the first measurement must be of idle processes")
	}
	for i := range c.Points {
		if err := c.Points[i].validate(); err != nil {
			return err
		}
		if i > 0 && !c.Points[i-1].isBelow(&c.Points[i]) {
			return fmt.Errorf("the measurement at %.0f events/s must have higher rates of entries, exits and summaries than the previous measurement", c.Points[i].Rate())
		}
	}
	if c.DrainPerSecond <= 0 {
		return errors.New("drainPerSecond is missing")
	}
	if g := c.Growth; g.RedisBytesPerVisit <= 0 || g.DatabaseBytesPerSummary <= 0 {
		return errors.New("growth.redisBytesPerVisit or growth.databaseBytesPerSummary is missing")
	}
	return nil
}

// Rate returns the events per second.
func (p *Point) Rate() float64 { return p.EntriesPerSecond + p.ExitsPerSecond }

func (p *Point) validate() error {
	for _, component := range Components() {
		if p.Components[component].Cores < 0 || p.Components[component].MemoryBytes <= 0 {
			return fmt.Errorf("the measurement at %.0f events/s has no costs of %s", p.Rate(), component)
		}
	}
	if p.Rate() > 0 && p.EndToEnd.IsZero() {
		return fmt.Errorf("the measurement at %.0f events/s has no latencies", p.Rate())
	}
	return nil
}

func (p *Point) isBelow(q *Point) bool {
	return p.EntriesPerSecond < q.EntriesPerSecond && p.ExitsPerSecond < q.ExitsPerSecond && p.SummariesPerSecond < q.SummariesPerSecond
}

// Cores returns the CPU time per second that all components together use.
func (p *Point) Cores() float64 {
	sum := 0.0
	for _, component := range Components() { // in a fixed order, so that the rounding error is always the same
		sum += p.Components[component].Cores
	}
	return sum
}

// otherCores returns how many cores programs outside the benchmark used. It is the maximum over all measurements.
func (c *Costs) otherCores() float64 {
	largest := 0.0
	for i := range c.Points {
		largest = max(largest, c.Points[i].OtherCores)
	}
	return largest
}

// Busy reports whether the benchmark had a low priority, or other programs used many cores. Latencies and the highest
// rate may then be worse than on an idle machine.
func (c *Costs) Busy() bool {
	return c.Method.Nice > 0 || c.otherCores() > float64(c.Machine.Cores)/4
}

func (c *Costs) utilization(p *Point) float64 { return p.Rate() / c.highest().Rate() }

// catchUp returns how fast a backlog is processed, relative to the highest rate. It is at least 1, because waiting
// events are already published and cost less.
func (c *Costs) catchUp() float64 { return max(1, c.DrainPerSecond/c.highest().Rate()) }

func (c *Costs) highest() *Point { return &c.Points[len(c.Points)-1] }

// load returns the rate per second that determines the costs of a component.
func load(component Component, entries, exits, summaries float64) float64 {
	switch component {
	case EntryGenerator:
		return entries
	case ExitGenerator:
		return exits
	case SummaryAPI:
		return summaries
	}
	return entries + exits
}

func (p *Point) load(component Component) float64 {
	return load(component, p.EntriesPerSecond, p.ExitsPerSecond, p.SummariesPerSecond)
}

// HighestLoad returns the highest measured load of a component.
func (c *Costs) HighestLoad(component Component) float64 { return c.highest().load(component) }

// UsageAt returns what a component uses at a load. It interpolates linearly between measurements. Above the highest
// measurement, it extrapolates along the line from the idle component to that measurement.
func (c *Costs) UsageAt(component Component, at float64) Usage {
	i := slices.IndexFunc(c.Points, func(p Point) bool { return p.load(component) >= at })
	low, high := &c.Points[0], c.highest()
	if i > 0 {
		low, high = &c.Points[i-1], &c.Points[i]
	} else if i == 0 {
		return low.Components[component]
	}
	from, to := low.Components[component], high.Components[component]
	share := (at - low.load(component)) / (high.load(component) - low.load(component))
	between := func(a, b float64) float64 { return max(0, a+(b-a)*share) }
	return Usage{
		Cores:        between(from.Cores, to.Cores),
		MemoryBytes:  between(from.MemoryBytes, to.MemoryBytes),
		DiskBytes:    between(from.DiskBytes, to.DiskBytes),
		WriteBytes:   between(from.WriteBytes, to.WriteBytes),
		NetworkBytes: between(from.NetworkBytes, to.NetworkBytes),
	}
}
