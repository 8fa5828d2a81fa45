package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisOptions change how a Redis is run; the zero value is what most callers want.
type RedisOptions struct {
	// Root is the folder of another system whose server runs by chroot, which only root may do.
	// Empty means PARKING_REDIS_ROOT, and when that is empty too, this system.
	Root string
	// Server is the program. Empty means PARKING_REDIS_SERVER, and when that is empty too, redis-server.
	Server string
	// NoAOF turns the append-only file off: a server that is killed then comes back empty.
	NoAOF bool
	// Config holds more lines of redis.conf, such as "maxmemory 1mb".
	Config []string
}

// Redis is a private Redis or Valkey server. Its methods are not safe for concurrent use, except URI
// and the like, which change nothing.
type Redis struct {
	daemon

	folder   *folder
	options  RedisOptions
	program  string
	ports    []port
	password string
	product  string
	version  string
}

// StartRedis starts a new server that keeps its data in dir, or in a temporary folder when dir is
// empty, and returns when clients can connect; ctx bounds the start alone. The error is, or wraps, a
// *NotInstalledError when there is no such program on this machine. The caller calls Close.
func StartRedis(ctx context.Context, dir string, opts RedisOptions) (*Redis, error) {
	if opts.Root == "" {
		opts.Root = os.Getenv("PARKING_REDIS_ROOT")
	}
	if opts.Server == "" {
		opts.Server = os.Getenv("PARKING_REDIS_SERVER")
	}
	if opts.Server == "" {
		opts.Server = "redis-server"
	}
	remedy := "run hack/install-servers.sh, or on Debian: apt-get install " + opts.Server
	program, err := findProgram(opts.Root, opts.Server, remedy, "/usr/bin")
	if err != nil {
		return nil, err
	}
	folder, err := openFolder(opts.Root, dir)
	if err != nil {
		return nil, err
	}
	r := &Redis{folder: folder, options: opts, program: program, password: newPassword()}
	r.launch = r.start
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Redis) open(ctx context.Context) error {
	var err error
	if r.ports, err = reservePorts(1); err != nil {
		return err
	}
	if err := r.folder.write("redis.conf", r.config()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.folder.host, "data"), 0o700); err != nil {
		return fmt.Errorf("make Redis's data folder: %w", err)
	}
	return r.Start(ctx)
}

func (r *Redis) config() string {
	appendOnly := "yes"
	if r.options.NoAOF {
		appendOnly = "no"
	}
	lines := append([]string{
		"bind 127.0.0.1",
		"port " + r.ports[0].String(),
		fmt.Sprintf("requirepass %q", r.password),
		fmt.Sprintf("dir %q", filepath.Join(r.folder.inner, "data")),
		fmt.Sprintf("logfile %q", filepath.Join(r.folder.inner, "server.log")),
		"daemonize no",
		`save ""`,
		"appendonly " + appendOnly,
		"appendfsync everysec",
	}, r.options.Config...)
	return strings.Join(lines, "\n") + "\n"
}

// start starts the program and returns when clients can connect.
func (r *Redis) start(ctx context.Context) error {
	cmd := command{
		root: r.folder.root, path: r.program, args: []string{filepath.Join(r.folder.inner, "redis.conf")},
		env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, dir: r.folder.inner, output: io.Discard,
	}
	var err error
	if r.process, err = cmd.start(); err != nil {
		return err
	}
	if err := poll(ctx, startTimeout, r.process, r.connect); err != nil {
		log := strings.ReplaceAll(r.folder.tail("server.log"), r.password, "***")
		err = fmt.Errorf("start %s: %w; the end of its log:\n%s", r.options.Server, err, log)
		return errors.Join(err, r.process.kill())
	}
	return nil
}

// connect asks for the version once; a server that is still loading its data refuses. The port is
// tried first because the client library retries and logs where it cannot connect.
func (r *Redis) connect(ctx context.Context) error {
	if err := dial(ctx, r.ports[0]); err != nil {
		return err
	}
	product, version, err := redisVersion(ctx, r.URI())
	if err == nil {
		r.product, r.version = product, version
	}
	return err
}

// Close kills the server, frees its port and removes its folder when that was a temporary one.
func (r *Redis) Close() error {
	err := errors.Join(r.process.kill(), r.folder.close())
	releasePorts(r.ports)
	return err
}

// URI is the address of the server's database 0, with the password.
func (r *Redis) URI() string {
	u := url.URL{
		Scheme: "redis",
		User:   url.UserPassword("default", r.password),
		Host:   r.ports[0].address(),
		Path:   "/0",
	}
	return u.String()
}

// Product is "Redis" or "Valkey".
func (r *Redis) Product() string { return r.product }

// Version is the server's version, such as 7.0.15.
func (r *Redis) Version() string { return r.version }

// Folder is where the server keeps its data and log.
func (r *Redis) Folder() string { return r.folder.host }

// String is the address without the password, so that the server can be printed.
func (r *Redis) String() string { return redacted(r.URI()) }

// redisVersion asks the server at uri what it is. Valkey says that it is a Redis as well, hence the
// order.
func redisVersion(ctx context.Context, uri string) (product, version string, err error) {
	client, err := redisClient(uri)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if err := client.Ping(ctx).Err(); err != nil { // INFO alone answers while the data is loaded
		return "", "", err
	}
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return "", "", err
	}
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		fields[name] = value
	}
	if v := fields["valkey_version"]; v != "" {
		return "Valkey", v, nil
	}
	return "Redis", fields["redis_version"], nil
}

func redisClient(uri string) (*redis.Client, error) {
	opts, err := redis.ParseURL(uri)
	if err != nil {
		// The parser's error quotes the URI, password included.
		return nil, errors.New("the Redis URI cannot be parsed: write redis://user:password@host:port/0 with the password percent-encoded")
	}
	opts.MaxRetries = -1
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(opts), nil
}
