package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/rawconn"
)

// Default timeouts and retries. Parameters of the URI override these defaults. The timeouts are short, because callers
// repeat every step with their own backoff.
const (
	dialTimeout     = 3 * time.Second
	answerTimeout   = 3 * time.Second
	retries         = 2
	minRetryBackoff = 8 * time.Millisecond
	maxRetryBackoff = 64 * time.Millisecond
)

// reloadInterval is the interval at which a client of a Redis cluster reloads the topology.
const reloadInterval = time.Minute

// errUnreadable replaces the error with which the client library rejects a URI. The library's error may contain a
// password that is in the wrong place.
var errUnreadable = errors.New("the URI of Redis is invalid: it must have the form redis://user:password@localhost:6379/0")

// connector opens connections to the server. It reads the binding for each connection, so that a changed Secret
// takes effect without a restart.
type connector struct {
	binding binding.Source
	// discovers is true for a Redis cluster or Sentinels: the client then connects to the addresses that they report.
	discovers bool
}

// options are the options of a client. Exactly one of the fields is set.
type options struct {
	node    *goredis.Options        // the options for a single server
	cluster *goredis.ClusterOptions // the options for a Redis cluster
	// failover contains the options for a primary that Redis Sentinels monitor.
	failover *goredis.FailoverOptions
}

// newClient returns the client for a binding. For a cluster, it adds one connection per observer that uses WAITAOF,
// because such an observer occupies a connection almost all the time.
func newClient(source binding.Source, reloadInterval time.Duration, observers int) (goredis.UniversalClient, error) {
	o, err := optionsFrom(source)
	switch {
	case err != nil:
		return nil, err
	case o.node != nil:
		return goredis.NewClient(o.node), nil
	case o.failover != nil:
		client := goredis.NewFailoverClient(o.failover)
		client.AddHook(sentinelErrors{})
		return client, nil
	}
	o.cluster.ClusterStateReloadInterval = reloadInterval
	enlargePipelinePool(o.cluster, observers)
	client := goredis.NewClusterClient(o.cluster)
	client.OnNewNode(func(node *goredis.Client) {
		node.AddHook(reloader{reload: func() { client.ReloadState(context.Background()) }})
	})
	return client, nil
}

// enlargePipelinePool adds connections for pipelines to each node. A negative o.PipelinePoolSize means that pipelines
// have no pool of their own; enlargePipelinePool then does nothing.
func enlargePipelinePool(o *goredis.ClusterOptions, by int) {
	if by > 0 && o.PipelinePoolSize >= 0 {
		o.PipelinePoolSize = orDefault(o.PipelinePoolSize, goredis.DefaultPipelinePoolSize) + by
	}
}

// CheckBinding returns an error if a store cannot use the binding. CheckBinding does not connect to a server.
func CheckBinding(b binding.Binding) error {
	_, err := optionsFrom(binding.Static(b))
	return err
}

// optionsFrom returns the options of the client for a binding.
func optionsFrom(source binding.Source) (o options, err error) {
	now, err := source()
	if err != nil {
		return options{}, err
	}
	if now.URI != nil && now.URI.Query().Has(binding.ParameterMaster) {
		o.failover, err = connector{binding: source, discovers: true}.failoverOptions(now)
		return o, err
	}
	where, cluster, err := withoutClusterParameter(now)
	if err != nil {
		return options{}, err
	}
	if _, err := now.TLSConfig(""); err != nil {
		return options{}, err
	}
	c := connector{binding: source, discovers: cluster}
	if cluster {
		o.cluster, err = c.clusterOptions(where)
	} else {
		o.node, err = c.nodeOptions(where)
	}
	return o, err
}

// withoutClusterParameter returns the URI in the client library's form, and whether the URI is of a cluster. The result
// omits the credentials, because the client reads them for each connection.
func withoutClusterParameter(b binding.Binding) (*url.URL, bool, error) {
	if b.URI == nil {
		return nil, false, errors.New("the Redis binding has no URI")
	}
	where := *b.URI
	where.User = nil
	query := where.Query()
	for _, endpoint := range b.Endpoints()[1:] {
		query.Add("addr", hostPort(endpoint.URI))
	}
	cluster := query.Has("addr")
	if text := query.Get("cluster"); text != "" {
		said, err := strconv.ParseBool(text)
		if err != nil {
			return nil, false, errors.New("the parameter \"cluster\" of the Redis URI must be true or false")
		}
		if len(b.Alternatives) > 0 && !said {
			return nil, false, errors.New("a Redis binding with several addresses refers to a cluster: remove cluster=false, or all addresses but one")
		}
		cluster = said
	}
	query.Del("cluster")
	where.RawQuery = query.Encode()
	return &where, cluster, nil
}

// parseURI parses a URI with the client library. No error contains the value or the unknown name of a parameter: either
// may be a password in the wrong place.
func parseURI[T any](where *url.URL, parse func(string) (*T, error)) (*T, error) {
	for name, values := range where.Query() {
		alone := url.URL{Scheme: where.Scheme, Host: where.Host, RawQuery: url.Values{name: values}.Encode()}
		switch _, err := parse(alone.String()); {
		case err == nil:
		case strings.Contains(err.Error(), "unexpected option"): // go-redis does not know the parameter
			return nil, errors.New("the Redis URI has an unknown parameter: correct or remove the text after the ?")
		default:
			return nil, fmt.Errorf("the parameter %s of the Redis URI has an invalid value: correct or remove it", name)
		}
	}
	options, err := parse(where.String())
	if err != nil {
		return nil, errUnreadable
	}
	return options, nil
}

// checkDatabase checks that the path of a URI is empty or a database number.
func checkDatabase(path string) error {
	if path = strings.Trim(path, "/"); path == "" {
		return nil
	}
	if _, err := strconv.ParseUint(path, 10, 31); err != nil {
		return errors.New("the path of the Redis URI must be a database number, such as /0")
	}
	return nil
}

func (c connector) nodeOptions(where *url.URL) (*goredis.Options, error) {
	if err := checkDatabase(where.Path); err != nil {
		return nil, err
	}
	o, err := parseURI(where, goredis.ParseURL)
	if err != nil {
		return nil, err
	}
	o.Protocol = 2
	setTimes(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.MinRetryBackoff, &o.MaxRetryBackoff)
	o.MaxRetries = orDefault(o.MaxRetries, retries)
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.CredentialsProviderContext = c.credentials
	o.Dialer = c.dialer(o.DialTimeout, o.TLSConfig)
	o.TLSConfig = nil // the dialer makes the TLS handshake
	return o, nil
}

func (c connector) clusterOptions(where *url.URL) (*goredis.ClusterOptions, error) {
	if path := strings.Trim(where.Path, "/"); path != "" && strings.Trim(path, "0") != "" {
		return nil, errors.New("a Redis cluster has only database 0: remove the database from the URI or the Secret; if the server is not a cluster, remove the parameters cluster=true and addr instead")
	}
	o, err := parseURI(where, goredis.ParseClusterURL)
	if err != nil {
		return nil, err
	}
	o.Protocol = 2
	setTimes(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.MinRetryBackoff, &o.MaxRetryBackoff)
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.CredentialsProviderContext = c.credentials
	o.Dialer = c.dialer(o.DialTimeout, o.TLSConfig)
	o.TLSConfig = nil // the dialer makes the TLS handshake
	return o, nil
}

// failoverOptions returns the options for Sentinels. The user and the password in the binding are those of the
// primary, not of the Sentinels.
func (c connector) failoverOptions(b binding.Binding) (*goredis.FailoverOptions, error) {
	if _, err := b.TLSConfig(""); err != nil {
		return nil, err
	}
	where := *b.URI
	where.User = nil
	query := where.Query()
	user, password := query.Get(binding.ParameterSentinelUser), query.Get(binding.ParameterSentinelPassword)
	query.Del(binding.ParameterSentinelUser)
	query.Del(binding.ParameterSentinelPassword)
	for _, name := range []string{"username", "password"} {
		if query.Has(name) {
			return nil, fmt.Errorf("the parameter %s of the Redis URI is not supported: put the credentials of Redis before the host, and those of the Sentinels into %s and %s",
				name, binding.ParameterSentinelUser, binding.ParameterSentinelPassword)
		}
	}
	for _, name := range []string{"cluster", "replica_only", "route_by_latency", "route_randomly"} {
		if query.Has(name) {
			return nil, fmt.Errorf("the parameter %s of the Redis URI cannot be used with %s: remove one of the two parameters", name, binding.ParameterMaster)
		}
	}
	if query.Get(binding.ParameterMaster) == "" {
		return nil, fmt.Errorf("the parameter %s of the Redis URI is empty: give the name of the primary, as in SENTINEL MONITOR", binding.ParameterMaster)
	}
	if err := checkDatabase(where.Path); err != nil {
		return nil, err
	}
	for i, endpoint := range b.Endpoints() {
		sentinel := net.JoinHostPort(endpoint.URI.Hostname(), orDefault(endpoint.URI.Port(), "26379"))
		if i == 0 {
			where.Host = sentinel
		} else {
			query.Add("addr", sentinel)
		}
	}
	where.RawQuery = query.Encode()
	o, err := parseURI(&where, goredis.ParseFailoverURL)
	if err != nil {
		return nil, err
	}
	o.SentinelUsername, o.SentinelPassword = user, password
	o.Protocol = 2
	setTimes(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.MinRetryBackoff, &o.MaxRetryBackoff)
	o.MaxRetries = orDefault(o.MaxRetries, retries)
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.CredentialsProviderContext = c.credentials
	o.Dialer = c.dialer(o.DialTimeout, o.TLSConfig)
	o.TLSConfig = nil // the dialer makes the TLS handshake
	return o, nil
}

// sentinelErrors is a hook that explains why a Sentinel does not report the primary. For an unknown primary, the client
// library returns goredis.Nil, which looks like a missing key.
type sentinelErrors struct{}

// sentinelError says why a Redis Sentinel did not return the address of the primary. The field remedy says what the
// user can do.
type sentinelError struct{ text, remedy string }

func (e sentinelError) Error() string { return e.text }

// DialHook implements goredis.Hook.
func (sentinelErrors) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := next(ctx, network, address)
		switch reply := replyIn(err); {
		case err == nil:
			return conn, nil
		case errors.Is(err, goredis.Nil):
			return nil, sentinelError{"the Sentinels do not know the primary", "correct the parameter master_name of the URI, or the key sentinel-master of the Secret"}
		case strings.HasPrefix(reply, "ERR unknown command"):
			return nil, sentinelError{"the server is not a Sentinel: " + reply,
				"give the address of a Sentinel (default port 26379), or remove the parameter master_name of the URI or the key sentinel-master of the Secret"}
		case codeOf(reply) == "NOAUTH", codeOf(reply) == "WRONGPASS":
			return nil, sentinelError{"the Sentinels reject the credentials: " + reply,
				"correct the parameters sentinel_username and sentinel_password of the URI, or the keys sentinel-username and sentinel-password of the Secret"}
		}
		return nil, err
	}
}

// ProcessHook implements goredis.Hook. It changes nothing.
func (sentinelErrors) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

// ProcessPipelineHook implements goredis.Hook. It changes nothing.
func (sentinelErrors) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// reloader is a hook that reloads the topology if a node does not respond, perhaps after a failover. Periodic reloads
// alone are too slow.
type reloader struct {
	// The function reload starts a reload of the topology, unless a reload is already running.
	reload func()
}

// DialHook implements goredis.Hook. It changes nothing.
func (reloader) DialHook(next goredis.DialHook) goredis.DialHook { return next }

// ProcessHook implements goredis.Hook. The returned hook reloads the topology if the node does not respond.
func (r reloader) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error { return r.check(ctx, next(ctx, cmd)) }
}

// ProcessPipelineHook implements goredis.Hook. The returned hook reloads the topology if the node does not respond.
func (r reloader) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error { return r.check(ctx, next(ctx, cmds)) }
}

func (r reloader) check(ctx context.Context, err error) error {
	// Reload the topology only if the node did not respond: not after an error reply, and not if the caller canceled
	// the command.
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) && replyIn(err) == "" {
		r.reload()
	}
	return err
}

// setTimes sets the default for each timeout and backoff that is not in the URI.
func setTimes(dial, read, write, minBackoff, maxBackoff *time.Duration) {
	*dial = orDefault(*dial, dialTimeout)
	*read = orDefault(*read, answerTimeout)
	*write = orDefault(*write, answerTimeout)
	*minBackoff = orDefault(*minBackoff, minRetryBackoff)
	*maxBackoff = orDefault(*maxBackoff, maxRetryBackoff)
}

func orDefault[T comparable](value, otherwise T) T {
	var unset T
	if value == unset {
		return otherwise
	}
	return value
}

func (c connector) credentials(context.Context) (user, password string, err error) {
	now, err := c.binding()
	if err != nil {
		return "", "", err
	}
	password, _ = now.URI.User.Password()
	return now.URI.User.Username(), password, nil
}

// dialer returns a function that connects to a Redis server. The parameter base is the TLS configuration from the URI.
// It may be nil.
func (c connector) dialer(timeout time.Duration, base *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, node string) (net.Conn, error) {
		now, err := c.binding()
		if err != nil {
			return nil, err
		}
		if !c.discovers {
			node = hostPort(now.URI) // the binding may have changed since the client was created
		}
		host, _, err := net.SplitHostPort(node)
		if err != nil {
			return nil, fmt.Errorf("read the address of a Redis node: %w", err)
		}
		config, err := tlsConfig(now, host, base)
		if err != nil {
			return nil, err
		}
		plain := &net.Dialer{Timeout: timeout}
		if config == nil {
			return withGreeting(plain.DialContext(ctx, network, node))
		}
		return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext(ctx, network, node)
	}
}

// rejectedConnection is the error reply with which a server rejects a connection.
type rejectedConnection string

func (e rejectedConnection) Error() string { return string(e) }

// greeting is a connection that reports rejections (maxclients, protected mode) as errors. Otherwise, the client
// library would mistake them for HELLO responses and report only EOF.
type greeting struct {
	*rawconn.Conn

	seen bool
}

func withGreeting(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	conn = rawconn.New(conn)
	if raw, ok := conn.(*rawconn.Conn); ok {
		return &greeting{Conn: raw}, nil
	}
	return conn, nil
}

// SyscallConn implements syscall.Conn.
func (g *greeting) SyscallConn() (syscall.RawConn, error) {
	raw, err := g.Conn.SyscallConn()
	return checked{RawConn: raw, conn: g.Conn}, err
}

// checked is the connection that the client library reads before each command, to detect a closed connection.
type checked struct {
	syscall.RawConn

	conn *rawconn.Conn
}

// Read implements syscall.RawConn. It omits f if the connection is open and has no data to read, because f is
// expensive; see package rawconn.
func (c checked) Read(f func(fd uintptr) (done bool)) error {
	if c.conn.IsQuiet() {
		return nil
	}
	return c.RawConn.Read(f)
}

// Read implements net.Conn.
func (g *greeting) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if g.seen || n == 0 {
		return n, err
	}
	g.seen = true
	reply, _, _ := strings.Cut(string(p[:n]), "\r\n")
	if strings.HasPrefix(reply, "-ERR max number of clients") || strings.HasPrefix(reply, "-DENIED ") {
		return 0, rejectedConnection(reply[1:])
	}
	return n, err
}

// tlsConfig returns the TLS configuration for a host, or nil without TLS. The base configuration from the URI may be
// nil; only its InsecureSkipVerify is used.
func tlsConfig(b binding.Binding, host string, base *tls.Config) (*tls.Config, error) {
	config, err := b.TLSConfig(host)
	if err != nil || config == nil {
		return nil, err
	}
	if base != nil && base.InsecureSkipVerify {
		config.InsecureSkipVerify, config.VerifyConnection = true, nil // the URI has the parameter skip_verify=true
	}
	return config, nil
}

func hostPort(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), orDefault(u.Port(), "6379"))
}
