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
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/parking-operator/parking-operator/internal/binding"
)

// Defaults for timeouts and retries, which parameters of the URI override. The timeouts are short, because callers
// repeat every step with their own backoff.
const (
	dialTimeout     = 3 * time.Second
	answerTimeout   = 3 * time.Second
	retries         = 2
	minRetryBackoff = 8 * time.Millisecond
	maxRetryBackoff = 64 * time.Millisecond
)

// errUnreadable replaces the error with which the client library rejects a URI. That error may quote a password
// that is in the wrong place.
var errUnreadable = errors.New("the URI of Redis is invalid: it must have the form redis://user:password@localhost:6379/0")

// connector opens connections to the server. It reads the binding for each connection, so that a changed Secret
// takes effect without a restart.
type connector struct {
	address binding.Source
	// cluster says that the binding refers to a Redis cluster. In that case connections go to the node addresses
	// that the server reports.
	cluster bool
}

// newClient returns a client of the server, or of the Redis cluster, to which a binding refers.
func newClient(address binding.Source) (goredis.UniversalClient, error) {
	now, err := address()
	if err != nil {
		return nil, err
	}
	where, cluster, err := withoutClusterParameter(now.URI)
	if err != nil {
		return nil, err
	}
	c := connector{address: address, cluster: cluster}
	if _, err := now.TLSConfig(""); err != nil {
		return nil, err
	}
	if cluster {
		return c.newClusterClient(where)
	}
	return c.newNodeClient(where)
}

// withoutClusterParameter returns the URI without the parameter "cluster" and without the credentials, which are
// read for each connection. It also reports whether the URI refers to a Redis cluster, either by cluster=true or by
// further nodes in parameters "addr".
func withoutClusterParameter(u *url.URL) (*url.URL, bool, error) {
	if u == nil {
		return nil, false, errors.New("the Redis binding has no URI")
	}
	where := *u
	where.User = nil
	query := where.Query()
	cluster := query.Has("addr")
	if text := query.Get("cluster"); text != "" {
		said, err := strconv.ParseBool(text)
		if err != nil {
			return nil, false, errors.New("the parameter cluster of the Redis URI must be true or false")
		}
		cluster = said
	}
	query.Del("cluster")
	where.RawQuery = query.Encode()
	return &where, cluster, nil
}

// checkParameters returns an error that names the parameter of a URI which the client library rejects. The function
// parse calls the library. The error quotes neither values nor unknown parameter names, because either may be a
// password in the wrong place.
func checkParameters(where *url.URL, parse func(string) error) error {
	for name, values := range where.Query() {
		alone := url.URL{Scheme: where.Scheme, Host: where.Host, RawQuery: url.Values{name: values}.Encode()}
		switch err := parse(alone.String()); {
		case err == nil:
		case strings.Contains(err.Error(), "unexpected option"):
			return errors.New("the Redis URI has an unknown parameter: correct or remove the text after the ?")
		default:
			return fmt.Errorf("the parameter %s of the Redis URI has an invalid value: correct or remove it", name)
		}
	}
	return nil
}

func (c connector) newNodeClient(where *url.URL) (goredis.UniversalClient, error) {
	if path := strings.Trim(where.Path, "/"); path != "" {
		if _, err := strconv.ParseUint(path, 10, 31); err != nil {
			return nil, errors.New("the path of the Redis URI must be a database number, such as /0")
		}
	}
	if err := checkParameters(where, func(uri string) error { _, err := goredis.ParseURL(uri); return err }); err != nil {
		return nil, err
	}
	o, err := goredis.ParseURL(where.String())
	if err != nil {
		return nil, errUnreadable
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
	o.TLSConfig = nil // the dialer uses TLS itself
	return goredis.NewClient(o), nil
}

func (c connector) newClusterClient(where *url.URL) (goredis.UniversalClient, error) {
	if err := checkParameters(where, func(uri string) error { _, err := goredis.ParseClusterURL(uri); return err }); err != nil {
		return nil, err
	}
	o, err := goredis.ParseClusterURL(where.String())
	if err != nil {
		return nil, errUnreadable
	}
	o.Protocol = 2
	setTimes(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.MinRetryBackoff, &o.MaxRetryBackoff)
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.CredentialsProviderContext = c.credentials
	o.Dialer = c.dialer(o.DialTimeout, o.TLSConfig)
	o.TLSConfig = nil // the dialer uses TLS itself
	client := goredis.NewClusterClient(o)
	client.OnNewNode(func(node *goredis.Client) {
		node.AddHook(reloader{reload: func() { client.ReloadState(context.Background()) }})
	})
	return client, nil
}

// reloader is a go-redis hook of one node of a Redis cluster. It reloads the topology of the cluster if the node
// does not respond, because after a failover another node serves its slots. Without the hook, the client would
// continue to dial the dead node for up to a minute.
type reloader struct {
	// reload starts to reload the topology, unless a reload is already running.
	reload func()
}

// DialHook returns next.
func (reloader) DialHook(next goredis.DialHook) goredis.DialHook { return next }

// ProcessHook returns a hook that runs a command and reloads the topology if the node does not respond.
func (r reloader) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error { return r.check(ctx, next(ctx, cmd)) }
}

// ProcessPipelineHook does the same as ProcessHook, for a pipeline.
func (r reloader) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error { return r.check(ctx, next(ctx, cmds)) }
}

func (r reloader) check(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && replyIn(err) == "" {
		r.reload()
	}
	return err
}

// setTimes sets the default timeouts and retries. It does not change values that the URI sets.
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
	now, err := c.address()
	if err != nil {
		return "", "", err
	}
	password, _ = now.URI.User.Password()
	return now.URI.User.Username(), password, nil
}

// dialer returns a function that connects to the server of the current binding or, in a cluster, to the given node.
// The argument base is the TLS configuration from the parameters of the URI.
func (c connector) dialer(timeout time.Duration, base *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, node string) (net.Conn, error) {
		now, err := c.address()
		if err != nil {
			return nil, err
		}
		if !c.cluster {
			node = hostPort(now.URI)
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
			return plain.DialContext(ctx, network, node)
		}
		return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext(ctx, network, node)
	}
}

// tlsConfig returns the TLS configuration for a connection to the host, or nil if the binding does not use TLS. The
// argument base is the TLS configuration from the parameters of the URI.
func tlsConfig(b binding.Binding, host string, base *tls.Config) (*tls.Config, error) {
	config, err := b.TLSConfig(host)
	if err != nil || config == nil {
		return nil, err
	}
	if base != nil && base.InsecureSkipVerify {
		config.InsecureSkipVerify, config.VerifyConnection = true, nil // the URI says skip_verify=true
	}
	return config, nil
}

func hostPort(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), orDefault(u.Port(), "6379"))
}
