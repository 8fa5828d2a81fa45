// Command servers runs a private RabbitMQ and a private Redis until it is interrupted, and writes to a
// file what a shell needs to use them:
//
//	go run ./hack/servers -env /tmp/servers.env &
//	. /tmp/servers.env
//	go test ./internal/broker/... ./internal/store/...
//
// The file holds passwords, so only its owner can read it; it is removed at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/parking-operator/parking-operator/test/servers"
)

func main() {
	env := flag.String("env", "", "`file` to write the servers' addresses to (required)")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *env)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, env string) (err error) {
	if env == "" {
		return errors.New("say with -env which file gets the addresses")
	}
	closer := func(end func() error) { err = errors.Join(err, end()) }
	rabbitMQ, err := servers.StartRabbitMQ(ctx, "", servers.RabbitMQOptions{})
	if err != nil {
		return err
	}
	defer closer(rabbitMQ.Close)
	redis, err := servers.StartRedis(ctx, "", servers.RedisOptions{})
	if err != nil {
		return err
	}
	defer closer(redis.Close)
	if err := writeEnv(env, rabbitMQ.URI(), redis.URI()); err != nil {
		return err
	}
	defer closer(func() error { return os.Remove(env) })
	fmt.Fprintf(out, "RabbitMQ %s at %v\n%s %s at %v\nTo use them: . %s\n",
		rabbitMQ.Version(), rabbitMQ, redis.Product(), redis.Version(), redis, env)
	<-ctx.Done()
	return nil
}

// writeEnv writes the addresses as a shell reads them. They need quotes but hold none: URIs escape them.
func writeEnv(path, amqpURI, redisURI string) error {
	text := fmt.Sprintf("export PARKING_TEST_AMQP_URI='%s'\nexport PARKING_TEST_REDIS_URI='%s'\n", amqpURI, redisURI)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the servers' addresses: %w", err)
	}
	return nil
}
