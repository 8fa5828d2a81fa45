package redis

import (
	"embed"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// scripts are the steps that run inside the server.
type scripts struct {
	// The hot ones, sent in shared pipelines.
	entry, exit, settle, deadLetter *step
	// The others, sent each by itself.
	confirm, claim, release, starved *goredis.Script
}

func newScripts() (scripts, error) {
	var s scripts
	for _, hot := range []struct {
		name       string
		keys, args int
		into       **step
	}{
		{name: "entry", keys: 3, args: 3, into: &s.entry},
		{name: "exit", keys: 5, args: 6, into: &s.exit},
		{name: "settle", keys: 2, args: 1, into: &s.settle},
		{name: "deadletter", keys: 2, args: 0, into: &s.deadLetter},
	} {
		source, err := readScript(hot.name)
		if err != nil {
			return scripts{}, err
		}
		*hot.into = newStep(source, hot.keys, hot.args)
	}
	for _, cold := range []struct {
		name string
		into **goredis.Script
	}{
		{name: "confirm", into: &s.confirm},
		{name: "claim", into: &s.claim},
		{name: "release", into: &s.release},
		{name: "starved", into: &s.starved},
	} {
		source, err := readScript(cold.name)
		if err != nil {
			return scripts{}, err
		}
		*cold.into = goredis.NewScript(source)
	}
	return s, nil
}

// readScript returns the source of a script, preceded by the constants that it shares with Go.
func readScript(name string) (string, error) {
	source, err := luaFiles.ReadFile("lua/" + name + ".lua")
	if err != nil {
		return "", fmt.Errorf("read the script %s: %w", name, err)
	}
	constants := fmt.Sprintf("local deduplicate, stranger_ttl, dead_letter_ttl = %t, %d, %d\n",
		deduplicate, int64(store.StrangerTTL.Seconds()), int64(store.DeadLetterTTL.Seconds()))
	return constants + string(source), nil
}
