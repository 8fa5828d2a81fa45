// Package sizing computes what a rate of events needs: CPU cores, memory, disks, partitions and replicas. All its
// figures come from one file of measured costs, which `make bench-costs` writes. The package does no I/O: it reads the
// file that is embedded in the binary, or a text that its caller has read.
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

// Each component has the name of the field of a ParkingSimulation that configures it.
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
	// Points contains one measurement for each rate, in ascending order. The first one is of idle processes. The last
	// one is of the highest rate that the machine sustained.
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

// Point is the measurement of one rate.
type Point struct {
	// OfferedPerSecond is the rate of the schedule. It is 0 for idle processes. It is also 0 in the measurement at the
	// highest rate, because there the benchmark adjusts the schedule repeatedly.
	OfferedPerSecond int64 `json:"offeredPerSecond"`
	// EntriesPerSecond and ExitsPerSecond are the rates of the events that took effect. SummariesPerSecond is the rate
	// of the stored summaries.
	EntriesPerSecond   float64 `json:"entriesPerSecond"`
	ExitsPerSecond     float64 `json:"exitsPerSecond"`
	SummariesPerSecond float64 `json:"summariesPerSecond"`
	// OtherCores is the CPU time per second of all other programs on the machine.
	OtherCores float64             `json:"otherCores"`
	Components map[Component]Usage `json:"components"`
	// EndToEnd is the time from when an event is due until it takes effect.
	EndToEnd histogram.Snapshot `json:"endToEnd,omitzero"`
}

// Check compares predictions with measurements. `make bench-costs` writes it.
type Check struct {
	MeasuredAt time.Time  `json:"measuredAt"`
	Method     Method     `json:"method"`
	Rows       []Compared `json:"rows"`
}

// Compared is one figure at one rate, predicted and measured. Figure is its name with the unit, such as "Redis memory
// in bytes".
type Compared struct {
	EventsPerSecond int64   `json:"eventsPerSecond"`
	Figure          string  `json:"figure"`
	Predicted       float64 `json:"predicted"`
	Measured        float64 `json:"measured"`
}

// Ratio returns the prediction divided by the measurement.
func (c *Compared) Ratio() float64 { return c.Predicted / c.Measured }

// Tolerance is the largest permitted difference between a prediction and its measurement, as a share of the measurement.
const Tolerance = .3

// WithinTolerance reports whether the prediction is as good as Tolerance demands. If the measurement is 0,
// WithinTolerance returns false, because the relative deviation from 0 is undefined.
func (c *Compared) WithinTolerance() bool {
	return c.Measured > 0 && math.Abs(c.Ratio()-1) <= Tolerance
}

// Scaling shows how the throughput grows with the number of partitions and processors. `make bench-partitions` writes
// it.
type Scaling struct {
	MeasuredAt time.Time `json:"measuredAt"`
	Method     Method    `json:"method"`
	Cores      int       `json:"cores"`
	// Nodes is the number of RabbitMQ nodes.
	Nodes int `json:"nodes"`
	// DelaySeconds is the time that data takes from a processor to a server, or back.
	DelaySeconds float64 `json:"delaySeconds"`
	// Concurrency is the number of messages of one queue that all processors together process at the same time.
	Concurrency int           `json:"concurrency"`
	Rounds      int           `json:"rounds"`
	Rows        []Partitioned `json:"rows"`
}

// Partitioned is the throughput that was measured with the given numbers of partitions and processors. Each measured
// value is the median of all rounds.
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
	// WriteBytes are the bytes per second that go to the disk. NetworkBytes is the sum of the bytes per second that are
	// sent and that are received.
	WriteBytes   float64 `json:"writeBytesPerSecond"`
	NetworkBytes float64 `json:"networkBytesPerSecond"`
}

// Growth is the storage that each parked vehicle and each summary takes.
type Growth struct {
	// RedisBytesPerVisit is the memory of Redis per parked vehicle.
	RedisBytesPerVisit float64 `json:"redisBytesPerVisit"`
	// Visits is the number of parked vehicles from which RedisBytesPerVisit was computed. Summaries is the number of
	// summaries from which DatabaseBytesPerSummary was computed.
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
		return nil, fmt.Errorf("read the measured costs: %w", err)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("read the measured costs: %w", err)
	}
	return c, nil
}

func (c *Costs) validate() error {
	const fewest = 3 // measurements: with idle processes, at the highest rate, and at a rate in between
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
			return fmt.Errorf("the measurement at %.0f events/s does not have more entries, exits and summaries than the one before", c.Points[i].Rate())
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

// isBelow reports whether each rate of p is lower than that of q. Otherwise, costs between p and q cannot be
// interpolated.
func (p *Point) isBelow(q *Point) bool {
	return p.EntriesPerSecond < q.EntriesPerSecond && p.ExitsPerSecond < q.ExitsPerSecond && p.SummariesPerSecond < q.SummariesPerSecond
}

// Cores returns the CPU time per second of all components.
func (p *Point) Cores() float64 {
	sum := 0.0
	for _, component := range Components() { // a fixed order, so that the sum is always rounded in the same way
		sum += p.Components[component].Cores
	}
	return sum
}

// otherCores returns the largest CPU time per second that other programs used during one of the measurements.
func (c *Costs) otherCores() float64 {
	largest := 0.0
	for i := range c.Points {
		largest = max(largest, c.Points[i].OtherCores)
	}
	return largest
}

// Busy reports whether other programs may have slowed down the measurements. This is so if the benchmark had a lower
// priority than normal, or if other programs used more than a quarter of the cores. Then latencies and the highest rate
// are worse than on an idle machine.
func (c *Costs) Busy() bool {
	return c.Method.Nice > 0 || c.otherCores() > float64(c.Machine.Cores)/4
}

// utilization returns the rate of a measurement as a share of the highest rate.
func (c *Costs) utilization(p *Point) float64 { return p.Rate() / c.highest().Rate() }

// catchUp returns how fast waiting events are processed after an outage, relative to the highest measured rate. It is
// at least 1, because waiting events are already published and so cost less than new ones. A lower measured ratio is
// ignored.
func (c *Costs) catchUp() float64 { return max(1, c.DrainPerSecond/c.highest().Rate()) }

// highest returns the measurement of the highest rate.
func (c *Costs) highest() *Point { return &c.Points[len(c.Points)-1] }

// load returns the rate per second that determines the costs of a component: the rate of entries, of exits, of
// summaries, or of all events.
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

// UsageAt returns what one component uses at a load. Between two measurements it interpolates linearly. Above the
// highest measurement, it extrapolates along the line from the idle component to the highest measurement.
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
