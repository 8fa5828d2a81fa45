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

// What the client does by itself about a failure, unless the URI says otherwise. It is brief: every step
// can be repeated, and callers do so with a backoff of their own.
const (
	dialTimeout     = 3 * time.Second
	answerTimeout   = 3 * time.Second
	retries         = 2
	minRetryBackoff = 8 * time.Millisecond
	maxRetryBackoff = 64 * time.Millisecond
)

// connector opens connections, each to where the address says at that moment, so that a changed Secret
// is followed without a restart.
type connector struct {
	address binding.Source
	// cluster means that the server tells the addresses of its nodes.
	cluster bool
}

// newClient returns a client of the server, or of the cluster, that the address names.
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

// withoutClusterParameter returns the URI without user and password, which are read at each connect, and
// without the parameter cluster, and whether the URI names a cluster: by cluster=true, or by further
// nodes in parameters addr.
func withoutClusterParameter(u *url.URL) (*url.URL, bool, error) {
	if u == nil {
		return nil, false, errors.New("the address of Redis has no URI")
	}
	where := *u
	where.User = nil
	query := where.Query()
	cluster := query.Has("addr")
	if text := query.Get("cluster"); text != "" {
		said, err := strconv.ParseBool(text)
		if err != nil {
			return nil, false, errors.New("the parameter cluster of the URI of Redis is neither true nor false")
		}
		cluster = said
	}
	query.Del("cluster")
	where.RawQuery = query.Encode()
	return &where, cluster, nil
}

// unreadable says what the client library made of the parameters of a URI.
func unreadable(err error) error {
	return fmt.Errorf("read the parameters of the URI of Redis: %w; correct what comes after its ?, or leave it out", err)
}

func (c connector) newNodeClient(where *url.URL) (goredis.UniversalClient, error) {
	if path := strings.Trim(where.Path, "/"); path != "" {
		if _, err := strconv.ParseUint(path, 10, 31); err != nil {
			return nil, errors.New("the path of the URI of Redis is not the number of a database, such as /0")
		}
	}
	o, err := goredis.ParseURL(where.String())
	if err != nil {
		return nil, unreadable(err)
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
	o.TLSConfig = nil // the dialer's
	return goredis.NewClient(o), nil
}

func (c connector) newClusterClient(where *url.URL) (goredis.UniversalClient, error) {
	o, err := goredis.ParseClusterURL(where.String())
	if err != nil {
		return nil, unreadable(err)
	}
	o.Protocol = 2
	setTimes(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.MinRetryBackoff, &o.MaxRetryBackoff)
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.CredentialsProviderContext = c.credentials
	o.Dialer = c.dialer(o.DialTimeout, o.TLSConfig)
	o.TLSConfig = nil // the dialer's
	client := goredis.NewClusterClient(o)
	client.OnNewNode(func(node *goredis.Client) {
		node.AddHook(reloader{reload: func() { client.ReloadState(context.Background()) }})
	})
	return client, nil
}

// reloader is a hook of one node of a cluster. It reloads the topology of the cluster when the node does not answer:
// after a failover another node has its slots. By itself, the client would dial the dead node for up to a minute.
type reloader struct {
	// reload starts to reload the topology unless the client is already reloading it.
	reload func()
}

// DialHook returns next.
func (reloader) DialHook(next goredis.DialHook) goredis.DialHook { return next }

// ProcessHook returns a hook that runs a command and reloads the topology if the node does not answer.
func (r reloader) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error { return r.check(ctx, next(ctx, cmd)) }
}

// ProcessPipelineHook is ProcessHook for a pipeline.
func (r reloader) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error { return r.check(ctx, next(ctx, cmds)) }
}

func (r reloader) check(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && replyIn(err) == "" {
		r.reload()
	}
	return err
}

// setTimes fills in the times that the URI does not give.
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

// dialer returns a function that connects to the server that the address names now, or to the node of
// the cluster that the client wants. base is the TLS configuration that the URI's parameters ask for.
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
			return nil, fmt.Errorf("the address of a node of Redis: %w", err)
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

// tlsConfig returns the TLS configuration for a connection to the host, nil if the binding asks for no TLS. base
// is the configuration that the parameters of the URI ask for.
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
