package redis

import (
	"embed"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

//go:embed lua/*.lua
var luaFiles embed.FS

type scripts struct {
	// These fields contain the frequently used scripts. One execution of such a script serves several callers.
	entry, exit, settle, deadLetter, timelineAppend string
	// These scripts are rarely used, so their calls are not batched.
	confirm, claim, release, starved, dataset *goredis.Script
	timelineReplace                           *goredis.Script
}

func newScripts() (*scripts, error) {
	var s scripts
	var each, confirm, claim, release, starved, dataset, timelineReplace string
	for name, into := range map[string]*string{
		"each": &each, "entry": &s.entry, "exit": &s.exit, "settle": &s.settle, "deadletter": &s.deadLetter,
		"confirm": &confirm, "claim": &claim, "release": &release, "starved": &starved, "dataset": &dataset,
		"timelineappend": &s.timelineAppend, "timelinereplace": &timelineReplace,
	} {
		source, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return nil, fmt.Errorf("read the script %s: %w", name, err)
		}
		*into = string(source)
	}
	for _, script := range []*string{&s.entry, &s.exit, &s.settle, &s.deadLetter, &s.timelineAppend} {
		*script = constants() + each + *script
	}
	s.confirm, s.claim = goredis.NewScript(confirm), goredis.NewScript(claim)
	s.release, s.starved = goredis.NewScript(release), goredis.NewScript(starved)
	s.dataset = goredis.NewScript(dataset)
	s.timelineReplace = goredis.NewScript(timelineReplace)
	return &s, nil
}

// constants returns a line of Lua that defines the constants which Go and Lua share. It precedes every frequently
// used script.
func constants() string {
	return fmt.Sprintf("local deduplicate, external_id_ttl, dead_letter_ttl = %t, %d, %d\n",
		deduplicate, int64(store.ExternalIDTTL.Seconds()), int64(store.DeadLetterTTL.Seconds()))
}
