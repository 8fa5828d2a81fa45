package redis

import (
	"fmt"
	"strconv"
	"strings"
)

// The constants are the names of a partition's keys, or their first parts. Each key begins with
// parking:{<simulation>:<partition>}:, whose braces make a Redis cluster store all keys of a partition on one node.
//
// HASH a -> b means a hash with fields a and values b. <run> is a generator process. A <chunk> has store.ChunkBits
// sequence numbers.
const (
	keyLedger     = "ledger"      // HASH <name of a counter> -> its value
	keyOutbox     = "outbox"      // HASH <exit id> -> entry time, exit time and plate of the visit
	keyPool       = "pool"        // ZSET of the available plates; each score is an entry time in Unix ms
	keyRuns       = "runs"        // SET of the IDs of the generator processes
	keyStarved    = "starved"     // HASH <run> -> number of exits for which no plate was available; exists only in partition 0
	keyVisit      = "visit:"      // visit:<plate> is a STRING: the entry time, or "" until the entry of a claimed plate is processed
	keySeen       = "seen:"       // seen:<run>:<chunk> is a bitmap of the events that took effect
	keyMatched    = "matched:"    // matched:<run>:<chunk> is a bitmap of the exits with the intent "matched" that took effect
	keyExternal   = "external:"   // external:<event id> exists for store.ExternalIDTTL after the event took effect
	keyDeadLetter = "dead:"       // dead:<key> exists for store.DeadLetterTTL after the dead letter was counted
	keyConfirmed  = "confirmed:"  // confirmed:<run> is a HASH with the fields type, next, matched and unmatched
	keyClaims     = "claims:"     // claims:<run> is a HASH <token of a claim> -> plates and their entry times, in MessagePack
	keyTokens     = "claimorder:" // claimorder:<run> is a LIST of the tokens in claims:<run>, the oldest claim first
	keyCounter    = "counter:"    // counter:<name> is the number of positions that Lease has reserved; exists only in partition 0
	keyWritable   = "writable"    // STRING "", which CheckWritable and lookAt write
	// The following keys belong to the timeline, which is stored in partition 0.
	keyTimelineMinutes    = "timeline:minutes"    // SET of the start times of the minutes that have rows
	keyTimelineMinute     = "timeline:minute:"    // timeline:minute:<start of the minute> is a HASH <second>:<process> -> row
	keyTimelineBlocks     = "timeline:blocks:"    // timeline:blocks:<tier> is a HASH <start of a block> -> its rows
	keyTimelineMerged     = "timeline:merged"     // HASH <process> -> Unix time, in seconds, of the latest merged row of the process
	keyTimelineGeneration = "timeline:generation" // STRING counter of the successful calls of timeline.Storage.Replace
	keyOwner              = "owner"               // STRING with the owner of the data (see Config.Owner)
)

// partition contains the key prefix of one partition, and the scripts whose calls the batcher combines.
type partition struct {
	index                                     int
	prefix                                    string
	entry, exit, settle, deadLetter, timeline *step
}

func newPartition(simulation string, index int, s *scripts) *partition {
	p := &partition{index: index, prefix: keyPrefix(simulation) + strconv.Itoa(index) + "}:"}
	const steps = 5
	p.entry = newStep(p, "entry", steps*index, s.entry, 2)
	p.exit = newStep(p, "exit", steps*index+1, s.exit, 4)
	p.settle = newStep(p, "settle", steps*index+2, s.settle, 1)
	p.deadLetter = newStep(p, "dead letter", steps*index+3, s.deadLetter, 1)
	p.timeline = newStep(p, "timeline", steps*index+4, s.timelineAppend, 3)
	return p
}

// part names an operation for the outage log. The partition is part of the name, because partitions may be on
// different nodes of a cluster.
func (p *partition) part(kind string) string { return kind + " " + strconv.Itoa(p.index) }

func (p *partition) key(parts ...string) string { return p.prefix + strings.Join(parts, "") }

func (p *partition) bitmap(kind, run string, chunk int64) string {
	return p.key(kind, run, ":", strconv.FormatInt(chunk, 10))
}

// keyPrefix returns the prefix of all keys of a simulation. The number of a partition follows it.
func keyPrefix(simulation string) string { return "parking:{" + simulation + ":" }

// validateSimulation rejects names that would break the hash tag of the keys.
func validateSimulation(name string) error {
	if name == "" || strings.ContainsAny(name, "{}") {
		return fmt.Errorf("the simulation's name %q is empty or contains a brace: use <namespace>.<name>", name)
	}
	return nil
}

// belongs reports whether a key belongs to the simulation with the given prefix. A partition number and the end of
// the hash tag must follow the prefix.
func belongs(key, prefix string) bool {
	rest, found := strings.CutPrefix(key, prefix)
	if !found {
		return false
	}
	number, _, found := strings.Cut(rest, "}:")
	_, err := strconv.ParseUint(number, 10, 32)
	return found && err == nil
}

// escapeGlob escapes the characters that have a special meaning in glob patterns.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(s)
}
