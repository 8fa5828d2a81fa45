package plan_test

import (
	"testing"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// The names of a simulation's queues, and of the exchange that marks its owner, are the name of the main exchange with
// a suffix. No other simulation may get one of these names.
func TestExchange_SimulationsWithSimilarNames_ShareNoExchangeOrQueue(t *testing.T) {
	t.Parallel()
	suffixes := []string{".dead", ".entry.0", ".exit.0", ".retry.entry.0", ".retry.exit.0"}
	user := map[string]string{}
	for _, simulation := range []string{
		"ns.a", "ns.a.retry", "ns.a.owner", "ns.a.dead", "ns.a.entry", "ns.a.exit.0", "ns.a.retry.retry", "ns.a.owner.owner", "ns.a.retry.entry.0",
		"ns.retry", "ns.owner", "ns.retry.retry", "ns.retry.owner", "ns.owner.retry", "retry.retry", "owner.owner",
	} {
		p := plan.Plan{Simulation: simulation}
		exchange := p.Exchange()
		names := []string{"exchange " + exchange, "exchange " + exchange + ".owner"}
		for _, suffix := range suffixes {
			names = append(names, "queue "+exchange+suffix)
		}
		for _, name := range names {
			if other, taken := user[name]; taken {
				t.Errorf("%s belongs to %s and to %s", name, other, simulation)
			}
			user[name] = simulation
		}
	}
}

// The name of a simulation's exchange must never change: after an upgrade of parking, a running simulation must still
// find its exchange and queues.
func TestExchange_HasTheNameOfTheSimulation(t *testing.T) {
	t.Parallel()
	for simulation, want := range map[string]string{
		"default.rush-hour":   "parking.default.rush-hour",
		"default.retry":       "parking.default.retry",
		"default.owner":       "parking.default.owner",
		"retry":               "parking.retry",
		"default.rush.retry":  "parking.default.rush.retry-",
		"default.rush.owner":  "parking.default.rush.owner-",
		"default.retry.rush":  "parking.default.retry.rush",
		"default.rush-retry":  "parking.default.rush-retry",
		"default.retry.retry": "parking.default.retry.retry-",
	} {
		if got := (&plan.Plan{Simulation: simulation}).Exchange(); got != want {
			t.Errorf("the exchange of %s is %s, want %s", simulation, got, want)
		}
	}
}
