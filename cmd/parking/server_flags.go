package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// These flags select the servers; the environment variables are their defaults. Passwords should not be in flags,
// because all users of a machine can read command lines.
const (
	flagRabbitMQ       = "rabbitmq-uri"
	flagRabbitMQSecret = "rabbitmq-secret"
	envRabbitMQ        = "PARKING_RABBITMQ_URI"
	flagRedis          = "redis-uri"
	flagRedisSecret    = "redis-secret"
	envRedis           = "PARKING_REDIS_URI"
)

// serverFlags select the RabbitMQ and Redis servers.
type serverFlags struct {
	rabbitmq, redis plan.BindingRef
	// rabbitmqVariable and redisVariable are the names of the environment variables from which the URIs were read. They
	// are "" if flags set the URIs.
	rabbitmqVariable, redisVariable string
	// The function changed reports whether the user has set the given flag on the command line.
	changed func(flag string) bool
}

func (f *serverFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.changed = flags.Changed
	flags.Var((*uriList)(&f.rabbitmq.URI), flagRabbitMQ, "`URI` of a RabbitMQ server, amqp:// or amqps://; repeat it for several nodes (default $"+envRabbitMQ+"; \"\" for no server)")
	flags.Var((*uriList)(&f.redis.URI), flagRedis, "`URI` of a Redis or Valkey server, redis:// or rediss://; repeat it for several nodes of a cluster, or for several Sentinels with ?master_name=NAME (default $"+envRedis+"; \"\" for no server)")
	for _, secret := range []struct {
		directory  *string
		flag, name string
	}{{&f.rabbitmq.SecretDir, flagRabbitMQSecret, "RabbitMQ"}, {&f.redis.SecretDir, flagRedisSecret, "Redis"}} {
		flags.StringVar(secret.directory, secret.flag, "", "`directory` with files for "+secret.name+": username, password, ca.crt, tls.crt, tls.key; if no URI is given, also uri")
		_ = cmd.MarkFlagDirname(secret.flag) // cannot fail, because the flag exists
	}
}

// uriList is the value of a flag: URIs separated by commas. If the flag is repeated, the URIs of all its values are
// used.
type uriList string

// String returns "", because help must not print a URI that contains a password.
func (l *uriList) String() string { return "" }

// Set adds one URI, or a list of URIs. The value "" removes all URIs that were added before.
func (l *uriList) Set(value string) error {
	if *l != "" && value != "" {
		value = string(*l) + "," + value
	}
	*l = uriList(value)
	return nil
}

// Type implements pflag.Value.
func (l *uriList) Type() string { return "string" }

// fromEnvironment reads each URI whose flag is not on the command line. A flag with an empty value selects no server,
// even if the environment variable is set.
func (f *serverFlags) fromEnvironment(getenv func(string) string) {
	if !f.changed(flagRabbitMQ) {
		f.rabbitmq.URI, f.rabbitmqVariable = getenv(envRabbitMQ), envRabbitMQ
	}
	if !f.changed(flagRedis) {
		f.redis.URI, f.redisVariable = getenv(envRedis), envRedis
	}
}

// rabbitmqSource returns the name of the flag or of the environment variable with which the user has selected RabbitMQ.
func (f *serverFlags) rabbitmqSource() string {
	return sourceOf(f.rabbitmq, f.rabbitmqVariable, flagRabbitMQ, flagRabbitMQSecret)
}

// redisSource returns the name of the flag or environment variable that selects the Redis server.
func (f *serverFlags) redisSource() string {
	return sourceOf(f.redis, f.redisVariable, flagRedis, flagRedisSecret)
}

func (f *serverFlags) hasRabbitMQ() bool { return f.rabbitmq != (plan.BindingRef{}) }

func (f *serverFlags) hasRedis() bool { return f.redis != (plan.BindingRef{}) }

func (f *serverFlags) any() bool { return f.hasRabbitMQ() || f.hasRedis() }

// check reads the Secret directories that the flags name. The error for an invalid file begins with the name of the
// flag.
func (f *serverFlags) check() error {
	for _, server := range []struct {
		flag    string
		service binding.Service
		ref     plan.BindingRef
	}{{flagRabbitMQSecret, binding.RabbitMQ(), f.rabbitmq}, {flagRedisSecret, binding.Redis(), f.redis}} {
		if server.ref.SecretDir == "" {
			continue
		}
		source, err := wiring.Source(server.service, server.ref)
		if err != nil {
			continue // the URI is invalid: opening the adapter will return this error
		}
		if _, err := source(); err != nil {
			return fmt.Errorf("--%s: %w", server.flag, err)
		}
	}
	return nil
}

// selection returns the flags that select the same servers as f, with placeholders instead of the values.
func (f *serverFlags) selection() string {
	var flags []string
	for _, flag := range []struct{ name, value, placeholder string }{
		{flagRabbitMQ, f.rabbitmq.URI, "URI"},
		{flagRabbitMQSecret, f.rabbitmq.SecretDir, "DIRECTORY"},
		{flagRedis, f.redis.URI, "URI"},
		{flagRedisSecret, f.redis.SecretDir, "DIRECTORY"},
	} {
		if flag.value != "" {
			flags = append(flags, "--"+flag.name+" "+flag.placeholder)
		}
	}
	return strings.Join(flags, " ")
}

// sourceOf returns the name of the flag or environment variable that selects a server. An empty variable means that the
// URI does not come from the environment.
func sourceOf(ref plan.BindingRef, variable, uri, secret string) string {
	switch {
	case ref.URI == "" && ref.SecretDir != "":
		return "--" + secret
	case ref.URI != "" && variable != "":
		return variable
	}
	return "--" + uri
}

const flagServers = "servers"

// privateFlag is a flag value. It is either empty or "private".
type privateFlag string

// String implements pflag.Value.
func (p *privateFlag) String() string { return string(*p) }

// Set implements pflag.Value.
func (p *privateFlag) Set(s string) error {
	if s != "private" {
		return errors.New("must be \"private\"")
	}
	*p = privateFlag(s)
	return nil
}

// values returns the valid values of the flag, for completion in shells.
func (*privateFlag) values() []string { return []string{"private"} }

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (p *privateFlag) Type() string { return "private" }
