package privateserver

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

	"github.com/parking-operator/parking-operator/internal/privateserver/port"
)

// RedisOptions configures a Redis server. For most callers, the zero value is sufficient.
type RedisOptions struct {
	// Root is the root directory of another Linux system. Redis runs in this chroot, which only the user root can
	// start. The default is PARKING_REDIS_ROOT; if both are empty, this system is used.
	Root string
	// Server is the name of the program to run. The default is the value of PARKING_REDIS_SERVER. If that is
	// not set either, the default is redis-server.
	Server string
	// NoAOF disables the append-only file. Without this file, a server that was killed has no data when it
	// starts again.
	NoAOF bool
	// Sentinel starts a Sentinel instead of a server that stores data. Config must contain the primaries to monitor.
	Sentinel bool
	// Config contains additional lines for redis.conf, such as "maxmemory 1mb".
	Config []string
	// Files contains files for the working directory of the server, by name. Config can refer to them by name, even
	// with chroot.
	Files map[string][]byte
}

// Redis is a private Redis or Valkey server. The methods that start and stop the server are not safe for
// concurrent use.
type Redis struct {
	daemon

	directory *directory
	options   RedisOptions
	program   string
	ports     []port.Port
	password  string
	product   string
	version   string
}

// StartRedis starts a new server and returns when clients can connect. ctx limits only the start. If dir is empty,
// the server's data is in a temporary directory.
//
// The error wraps a *NotInstalledError if the program is missing. The caller must call Close.
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
	program, err := FindProgram(opts.Root, opts.Server, remedy, "/usr/bin")
	if err != nil {
		return nil, err
	}
	directory, err := openDirectory(opts.Root, dir)
	if err != nil {
		return nil, err
	}
	r := &Redis{directory: directory, options: opts, program: program, password: newPassword()}
	r.launch = r.start
	if err := r.create(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Redis) create(ctx context.Context) error {
	var err error
	if r.ports, err = port.Reserve(1); err != nil {
		return err
	}
	if err := r.directory.write("redis.conf", r.config()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.directory.host, "data"), 0o700); err != nil {
		return fmt.Errorf("create the data directory of Redis: %w", err)
	}
	for name, content := range r.options.Files {
		if err := r.directory.write(filepath.Join("data", name), string(content)); err != nil {
			return err
		}
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
		fmt.Sprintf("dir %q", filepath.Join(r.directory.inner, "data")),
		fmt.Sprintf("logfile %q", filepath.Join(r.directory.inner, "server.log")),
		"daemonize no",
		`save ""`,
		"appendonly " + appendOnly,
		"appendfsync everysec",
	}, r.options.Config...)
	return strings.Join(lines, "\n") + "\n"
}

// start starts the program. It returns when clients can connect.
func (r *Redis) start(ctx context.Context) error {
	cmd := command{
		root: r.directory.root, path: r.program, args: []string{filepath.Join(r.directory.inner, "redis.conf")},
		env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, dir: r.directory.inner, output: io.Discard,
	}
	if r.options.Sentinel {
		cmd.args = append(cmd.args, "--sentinel")
	}
	var err error
	if r.process, err = cmd.start(); err != nil {
		return err
	}
	if err := poll(ctx, r.process, r.connect); err != nil {
		log := strings.ReplaceAll(r.directory.tail("server.log"), r.password, "***")
		err = fmt.Errorf("start %s: %w; its log ends with:\n%s", r.options.Server, err, log)
		return errors.Join(err, r.process.kill())
	}
	return nil
}

// connect checks that clients can connect, and reads the server's version. It fails while the server loads its data.
func (r *Redis) connect(ctx context.Context) error {
	// First try to connect without the client library, because the library logs and retries failed connections.
	if err := r.ports[0].Dial(ctx); err != nil {
		return err
	}
	product, version, err := RedisVersion(ctx, r.URI())
	if err == nil {
		r.product, r.version = product, version
	}
	return err
}

// Close kills the server and releases its port. If its directory is temporary, Close removes the directory.
func (r *Redis) Close() error {
	err := errors.Join(r.process.kill(), r.directory.close())
	port.Release(r.ports)
	return err
}

// URI returns the URI of database 0, with the password.
func (r *Redis) URI() string {
	u := url.URL{
		Scheme: "redis",
		User:   url.UserPassword("default", r.password),
		Host:   r.ports[0].Address(),
		Path:   "/0",
	}
	return u.String()
}

// Product returns "Redis" or "Valkey".
func (r *Redis) Product() string { return r.product }

// Version returns the version of the server, such as 7.0.15.
func (r *Redis) Version() string { return r.version }

// Directory returns the path of the directory with the server's data and log.
func (r *Redis) Directory() string { return r.directory.host }

// String returns the URI without user name and password.
func (r *Redis) String() string { return Redacted(r.URI()) }

// RedisVersion returns the product name and the version of the server at a URI. It looks for valkey_version
// first, because Valkey reports a redis_version as well.
func RedisVersion(ctx context.Context, uri string) (product, version string, err error) {
	client, err := NewRedisClient(uri)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if err := client.Ping(ctx).Err(); err != nil { // unlike Info, Ping fails while the server loads its data
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

// NewRedisClient returns a client that does not retry commands. If the URI is invalid, the error does not
// contain it.
func NewRedisClient(uri string) (*redis.Client, error) {
	opts, err := redis.ParseURL(uri)
	if err != nil {
		// The error of the parser must not be returned, because it contains the URI with the password.
		return nil, errors.New("invalid Redis URI: want redis://user:password@host:port/0 with the password percent-encoded")
	}
	opts.MaxRetries = -1
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(opts), nil
}
