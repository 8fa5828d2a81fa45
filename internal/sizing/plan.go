package sizing

import (
	"fmt"
	"math"
	"slices"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/sequence"
)

// Request describes the load and the cluster for which to plan.
type Request struct {
	// EntriesPerSecond and ExitsPerSecond are the rates at the time of the highest total rate.
	EntriesPerSecond int64 `json:"entriesPerSecond"`
	ExitsPerSecond   int64 `json:"exitsPerSecond"`
	// MatchPercent is the percentage of exits that finish a visit.
	MatchPercent int `json:"matchPercent"`
	// MaxStay is how long Redis keeps a parked vehicle that does not leave.
	MaxStay  plan.Duration `json:"maxStay"`
	Duration plan.Duration `json:"duration"` // the length of the run
	// Outage is the longest outage of the processors during which RabbitMQ must be able to keep all events.
	Outage plan.Duration `json:"outage"`
	// UtilizationPercent is the target utilization: the CPU that a pod uses at the planned rate, as a percentage of the
	// CPU request of the pod.
	UtilizationPercent int `json:"utilizationPercent"`
	// RabbitMQNodes is the number of RabbitMQ nodes of a simulation: 1, 3 or 5.
	RabbitMQNodes int  `json:"rabbitmqNodes"`
	Node          Node `json:"node"`
	// External selects the servers that the operator does not run. Limits of managed servers do not apply to external
	// servers.
	External External `json:"external"`
	// Poisson is true if events arrive at random, and false if events arrive at equal intervals.
	Poisson bool  `json:"poisson"`
	Seed    int64 `json:"seed"`
}

// External says which servers the operator does not run: RabbitMQ, a Redis Cluster, or a PostgreSQL database for the
// summary API.
type External struct {
	RabbitMQ bool `json:"rabbitmq"`
	Redis    bool `json:"redis"`
	Database bool `json:"database"`
}

// Node is what the pods on one node of the cluster can request: the allocatable CPU and memory of the node.
type Node struct {
	Cores       float64 `json:"cores"`
	MemoryBytes int64   `json:"memoryBytes"`
}

// Result is the plan for a Request.
type Result struct {
	Request Request `json:"request"`
	// Simulations is the number of identical simulations among which the rate is divided.
	Simulations int `json:"simulations"`
	// Infeasible is empty if the plan is feasible. Otherwise, no number of simulations is enough, and the text says
	// which limit is exceeded and what to change.
	Infeasible string `json:"infeasible,omitempty"`
	// Partitions and Components describe one simulation.
	Partitions int    `json:"partitions"`
	Components []Pods `json:"components"`
	Total      Total  `json:"total"`
	// Prediction contains the expected latency and backlog of one simulation.
	Prediction Prediction `json:"prediction"`
	Capacity   Capacity   `json:"capacity"`
	// Notes contains sentences about the assumptions of the plan, and about values outside the measured range.
	Notes []string `json:"notes"`
	// Measured is a sentence about the measurement of the costs: the date, the machine, the servers and the rates.
	Measured string `json:"measured"`
}

// Pods are the pods of one component of one simulation. All these pods are alike.
type Pods struct {
	Component Component `json:"component"`
	Replicas  int       `json:"replicas"`
	// UsedCores is the number of cores that one pod uses at the planned rate.
	UsedCores     float64 `json:"usedCores"`
	CPURequest    float64 `json:"cpuRequest"`         // in cores, of one pod
	MemoryRequest int64   `json:"memoryRequestBytes"` // of one pod
	// DiskBytes is the size of the volume of one pod, or 0 if the pod has no volume.
	DiskBytes int64 `json:"diskBytes"`
	// WriteBytes and NetworkBytes are bytes per second of one pod. NetworkBytes is the sum of sent and received bytes.
	WriteBytes   float64 `json:"writeBytesPerSecond"`
	NetworkBytes float64 `json:"networkBytesPerSecond"`
}

// Total says what all simulations of a plan together need and process.
type Total struct {
	Pods               int     `json:"pods"`
	UsedCores          float64 `json:"usedCores"`
	CPURequest         float64 `json:"cpuRequest"`
	MemoryRequest      int64   `json:"memoryRequestBytes"`
	DiskBytes          int64   `json:"diskBytes"`
	WriteBytes         float64 `json:"writeBytesPerSecond"`
	NetworkBytes       float64 `json:"networkBytesPerSecond"`
	Nodes              int     `json:"nodes"`
	UtilizationPercent float64 `json:"nodeCPUUtilizationPercent"`
	EventsPerSecond    int64   `json:"eventsPerSecond"`
	VisitsInRedis      int64   `json:"parkedVehicles"`
	SummariesPerSecond float64 `json:"summariesPerSecond"`
}

// Capacity is the highest rate that one simulation of a plan can sustain, and what limits this rate.
type Capacity struct {
	EventsPerSecond float64 `json:"eventsPerSecond"`
	LimitedBy       string  `json:"limitedBy"`
}

// share is the load of one simulation when the load of a Request is divided among several simulations.
type share struct {
	entries, exits, summaries float64
	visits                    float64 // parked vehicles at the end of the run, or after MaxStay in a longer run
	finished                  float64 // number of summaries that are stored by the end of the run
	events                    float64 // number of events that are published by the end of the run
}

func (r *Request) share(simulations int) share {
	n := float64(simulations)
	// The rates of the simulations are whole numbers, so they may differ by 1. Compute the load of the simulation with
	// the highest rates.
	s := share{entries: math.Ceil(float64(r.EntriesPerSecond) / n), exits: math.Ceil(float64(r.ExitsPerSecond) / n)}
	// A summary needs a matched exit and an entry, so the lower of their rates limits the summaries.
	s.summaries = min(s.exits*float64(r.MatchPercent)/percent, s.entries)
	s.visits = max(s.entries-s.summaries, 0) * min(r.MaxStay.D(), r.Duration.D()).Seconds()
	s.finished = s.summaries * r.Duration.D().Seconds()
	s.events = (s.entries + s.exits) * r.Duration.D().Seconds()
	return s
}

func (s share) load(c Component) float64 { return load(c, s.entries, s.exits, s.summaries) }

const percent = 100

// CPU requests are rounded up to multiples of cpuStep, memory requests to multiples of memoryStep, and volumes to
// multiples of gibibyte.
const (
	mebibyte    = 1 << 20
	gibibyte    = 1 << 30
	cpuStep     = .01
	memoryStep  = 16 * mebibyte
	leastVolume = 2 * gibibyte // equal to the default volume size of a ParkingSimulation
	// leastRabbitMQMemory is the operator's default request. The plan never requests less, because the memory for
	// waiting events was not measured.
	leastRabbitMQMemory = 512 * mebibyte
)

// Factors that are rules of thumb, not measurements. docs/sizing.md explains them.
const (
	// memoryMargin is the requested memory divided by the expected memory.
	memoryMargin = 1.25
	// diskMargin is the size of a volume divided by the expected size of its files.
	diskMargin = 1.25
	// rewriteCopies is how many copies of the data are on the volume while Redis rewrites its append-only file. The old
	// file has grown to two copies, and the new file contains one.
	rewriteCopies = 3
	// bitsPerEvent is the mean number of bits that Redis keeps per event if exits equal entries: one bit per entry and
	// two bits per exit.
	bitsPerEvent = 1.5
)

// Compute returns the plan for a request. It divides a load that exceeds the limits of one simulation among several.
func Compute(c *Costs, r Request) *Result {
	result := &Result{Request: r, Simulations: c.simulations(&r), Measured: c.String()}
	s := r.share(result.Simulations)
	result.Partitions = c.partitions(&r, s)
	for _, component := range Components() {
		result.Components = append(result.Components, c.pods(component, &r, s))
	}
	result.Total = result.total(s)
	result.Capacity = c.capacity(result, s)
	result.Prediction = c.Predict(result.scenario(s))
	if limit, remedy := c.exceeded(&result.Request, result.Simulations); limit != "" {
		result.Infeasible = fmt.Sprintf("No number of simulations is enough: %s. %s.", limit, remedy)
	}
	result.Notes = c.notes(result, s)
	return result
}

// maxSimulations is the largest number of simulations that a plan can have.
const maxSimulations = 1000

// mostSummaryAPIs is the maximum of the field summaryAPI.managed.replicas in the spec of a ParkingSimulation.
const mostSummaryAPIs = 16

// simulations returns the smallest number of simulations that exceeds no limit, but at most maxSimulations.
func (c *Costs) simulations(r *Request) int {
	for n := 1; n < maxSimulations; n++ {
		if limit, _ := c.exceeded(r, n); limit == "" {
			return n
		}
	}
	return maxSimulations
}

// exceeded returns a limit that every simulation exceeds if n simulations share the load, or "" if no limit is
// exceeded. remedy says what the user can change.
func (c *Costs) exceeded(r *Request, n int) (limit, remedy string) {
	s, target := r.share(n), r.target()
	for _, l := range []struct {
		exceeded      bool
		limit, remedy string
	}{
		{max(s.entries, s.exits) > plan.MaxRate, fmt.Sprintf("a simulation would exceed the limit of %s entries or exits per second", count(plan.MaxRate)), "Lower --rate, or the rates in the manifest"},
		{
			s.entries*r.MaxStay.D().Seconds() > sequence.PlateCapacity,
			"a simulation would have fewer plates than vehicles that enter within the longest stay; a shorter longest stay needs fewer simulations",
			"Shorten the longest stay (--max-stay, or plates.maxStay in the manifest), or plan a lower rate",
		},
		{
			!r.External.Redis && c.UsageAt(Redis, s.load(Redis)).Cores > target,
			fmt.Sprintf("Redis would use more than %d %% of a core, and it runs commands on one core only", r.UtilizationPercent),
			"Raise --utilization, or use a Redis Cluster of your own (plan it with --external-servers)",
		},
		{
			!r.External.Database && c.UsageAt(SummaryAPI, s.load(SummaryAPI)).Cores > target,
			fmt.Sprintf("the summary API would use more than %d %% of a core, and its SQLite database has one writer", r.UtilizationPercent),
			"Raise --utilization, or use PostgreSQL for the summaries (plan it with --external-servers)",
		},
		{c.replicas(SummaryAPI, r, s) > mostSummaryAPIs, fmt.Sprintf("a simulation would need more than %d pods of the summary API", mostSummaryAPIs), "Raise --utilization"},
		{c.partitions(r, s) > plan.MaxPartitions, fmt.Sprintf("a simulation would need more than %d partitions", plan.MaxPartitions), "Raise --utilization"},
		{
			max(c.replicas(EntryGenerator, r, s), c.replicas(ExitGenerator, r, s)) > plan.MaxGenerators,
			fmt.Sprintf("a simulation would need more than %d generators of one type", plan.MaxGenerators),
			"Lower --rate, or the rates in the manifest",
		},
	} {
		if l.exceeded {
			return l.limit, l.remedy
		}
	}
	for _, component := range Components() {
		if component == RabbitMQ && r.External.RabbitMQ || component == Redis && r.External.Redis {
			continue
		}
		if p := c.pods(component, r, s); p.CPURequest > r.Node.Cores || p.MemoryRequest > r.Node.MemoryBytes {
			return fmt.Sprintf("a pod of %s would not fit on a node", component), "Plan with larger nodes: raise --node-cores or --node-memory"
		}
	}
	return "", ""
}

func (r *Request) target() float64 { return float64(r.UtilizationPercent) / percent }

// partitions returns the number of partitions of one simulation. Each partition gets at most UtilizationPercent of the
// highest rate that was measured with one partition.
func (c *Costs) partitions(r *Request, s share) int {
	return max(1, int(math.Ceil((s.entries+s.exits)/(c.highest().Rate()*r.target()))))
}

// replicas returns the number of pods of a component. The load of each generator or processor is at most the highest
// load that was measured.
func (c *Costs) replicas(component Component, r *Request, s share) int {
	switch component {
	case RabbitMQ:
		if !r.External.RabbitMQ {
			return r.RabbitMQNodes
		}
		copies := float64(r.RabbitMQNodes)
		return max(r.RabbitMQNodes, int(math.Ceil(copies*c.UsageAt(RabbitMQ, s.load(RabbitMQ)).Cores/(r.target()*r.Node.Cores))))
	case Redis, SummaryAPI:
		if component == Redis && !r.External.Redis || component == SummaryAPI && !r.External.Database {
			return 1
		}
		return max(1, int(math.Ceil(c.UsageAt(component, s.load(component)).Cores/r.target()-roundingError)))
	}
	n := int(math.Ceil(s.load(component) / c.HighestLoad(component)))
	if component == Processor && r.RabbitMQNodes > 1 {
		return max(2, n) // processing must survive the loss of a node, as RabbitMQ does
	}
	return max(1, n)
}

// pods computes how many pods of a component one simulation needs, and the resources of these pods.
func (c *Costs) pods(component Component, r *Request, s share) Pods {
	p := Pods{Component: component, Replicas: c.replicas(component, r, s)}
	u := c.usage(component, p.Replicas, r, s)
	p.UsedCores, p.WriteBytes, p.NetworkBytes = u.Cores, u.WriteBytes, u.NetworkBytes
	memory := u.MemoryBytes
	switch component {
	case RabbitMQ:
		p.DiskBytes = volume(u.DiskBytes + u.WriteBytes*r.Outage.D().Seconds())
		memory = max(memory, leastRabbitMQMemory/memoryMargin)
	case Redis:
		idle := c.Points[0].Components[Redis].MemoryBytes
		data := s.visits*c.Growth.RedisBytesPerVisit + s.events*bitsPerEvent/8
		data /= float64(p.Replicas)
		// The memory that was measured under load includes the data of the benchmark. So add the data of this
		// simulation to the memory of an idle Redis.
		memory = idle + data
		p.DiskBytes = volume(rewriteCopies * data)
	case SummaryAPI:
		if !r.External.Database {
			p.DiskBytes = volume(s.finished * c.Growth.DatabaseBytesPerSummary)
		}
	}
	p.CPURequest = math.Ceil(max(p.UsedCores/r.target(), cpuStep)/cpuStep-roundingError) * cpuStep
	p.MemoryRequest = roundUp(memory*memoryMargin, memoryStep)
	return p
}

// usage returns what each pod of a component uses if the pods divide the work evenly.
func (c *Costs) usage(component Component, pods int, r *Request, s share) Usage {
	each := s.load(component) / float64(pods)
	if component == RabbitMQ {
		each *= float64(r.RabbitMQNodes) // each queue has a replica on every RabbitMQ node
	}
	return c.UsageAt(component, each)
}

// roundingError keeps a float that is barely above a whole number from being rounded up to the next whole number.
const roundingError = 1e-9

func volume(expected float64) int64 { return max(leastVolume, roundUp(expected*diskMargin, gibibyte)) }

func roundUp(bytes float64, unit int64) int64 { return int64(math.Ceil(bytes/float64(unit))) * unit }

func (r *Result) total(s share) Total {
	n := r.Simulations
	t := Total{
		EventsPerSecond: r.Request.EntriesPerSecond + r.Request.ExitsPerSecond,
		VisitsInRedis:   int64(math.Round(s.visits * float64(n))), SummariesPerSecond: s.summaries * float64(n),
	}
	for i := range r.Components {
		p := &r.Components[i]
		pods := p.Replicas * n
		t.Pods += pods
		t.UsedCores += p.UsedCores * float64(pods)
		t.CPURequest += p.CPURequest * float64(pods)
		t.MemoryRequest += p.MemoryRequest * int64(pods)
		t.DiskBytes += p.DiskBytes * int64(pods)
		t.WriteBytes += p.WriteBytes * float64(pods)
		t.NetworkBytes += p.NetworkBytes * float64(pods)
	}
	t.Nodes = nodes(r)
	t.UtilizationPercent = t.UsedCores / (float64(t.Nodes) * r.Request.Node.Cores) * percent
	return t
}

// capacity returns the highest rate of one simulation, and what limits this rate.
func (c *Costs) capacity(r *Result, s share) Capacity {
	rate := s.entries + s.exits
	result := Capacity{float64(r.Partitions) * c.highest().Rate(), "the number of partitions and the highest rate that was measured per partition"}
	cores := float64(r.Total.Nodes) * r.Request.Node.Cores / float64(r.Simulations)
	for _, limit := range []struct {
		by    string
		cores float64
		used  func(share) float64
	}{
		{"the CPU of the nodes", cores, func(s share) float64 { return c.usedCores(r, s) }},
		{"the core of Redis", float64(r.pods(Redis).Replicas), func(s share) float64 { return c.UsageAt(Redis, s.load(Redis)).Cores }},
	} {
		if highest := rate * growth(func(factor float64) bool { return limit.used(s.times(factor)) <= limit.cores }); highest < result.EventsPerSecond {
			result = Capacity{highest, limit.by}
		}
	}
	return result
}

func (c *Costs) usedCores(r *Result, s share) float64 {
	sum := 0.0
	for i := range r.Components {
		p := &r.Components[i]
		sum += c.usage(p.Component, p.Replicas, &r.Request, s).Cores * float64(p.Replicas)
	}
	return sum
}

// growth returns the largest factor for which fits(factor) is true. If fits is true for a factor, it must also be true
// for all smaller factors.
func growth(fits func(factor float64) bool) float64 {
	low, high := 0.0, 1.0
	for fits(high) && high < maxSimulations*percent {
		low, high = high, 2*high
	}
	for range 50 {
		if middle := (low + high) / 2; fits(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

func (s share) times(factor float64) share {
	s.entries, s.exits, s.summaries = s.entries*factor, s.exits*factor, s.summaries*factor
	return s
}

func (r *Result) pods(component Component) *Pods {
	i := slices.IndexFunc(r.Components, func(p Pods) bool { return p.Component == component })
	return &r.Components[i]
}

func (r *Result) scenario(s share) Scenario {
	rate := s.entries + s.exits
	return Scenario{
		Rate: rate, Capacity: r.Capacity.EventsPerSecond, Partitions: r.Partitions, Poisson: r.Request.Poisson, Outage: r.Request.Outage.D(), Seed: uint64(r.Request.Seed),
	}
}
