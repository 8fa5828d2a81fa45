// Command servers runs RabbitMQ and Redis for tests until SIGINT or SIGTERM. It writes their URIs, which contain
// passwords, to a private file, and deletes the file when it ends:
//
//	go run ./hack/servers -env /tmp/servers.env &
//	. /tmp/servers.env
//	go test ./internal/broker/... ./internal/store/...
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
	env := flag.String("env", "", "`file` to write the URIs of the servers to (required)")
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
		return errors.New("-env is missing: set it to the path of the file for the URIs")
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
	fmt.Fprintf(out, "RabbitMQ %s at %v\n%s %s at %v\nTo set the shell variables with their URIs, run:\n\t. %s\n",
		rabbitMQ.Version(), rabbitMQ, redis.Product(), redis.Version(), redis, env)
	<-ctx.Done()
	return nil
}

// writeEnv writes the URIs as shell variables in single quotes. The URIs contain no single quote: url.URL escapes it.
func writeEnv(path, amqpURI, redisURI string) error {
	text := fmt.Sprintf("export PARKING_TEST_AMQP_URI='%s'\nexport PARKING_TEST_REDIS_URI='%s'\n", amqpURI, redisURI)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the URIs of the servers: %w", err)
	}
	return nil
}
