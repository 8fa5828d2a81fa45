package privateserver

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/privateserver/port"
)

const (
	// A node starts within 5 s on two idle cores. On a busy machine, a node of a cluster needs some minutes.
	startTimeout = 5 * time.Minute
	stopTimeout  = time.Minute
	ctlTimeout   = startTimeout // each command starts an Erlang node, which may take as long as the server
	pollInterval = 50 * time.Millisecond

	rabbitMQRemedy = "run hack/install-servers.sh, or on Debian: apt-get install rabbitmq-server"
)

// RabbitMQOptions configures a RabbitMQ node. For most callers, the zero value is sufficient.
type RabbitMQOptions struct {
	// Root is the root directory of another Linux system. RabbitMQ runs in this chroot, which only the user root can
	// start. The default is PARKING_RABBITMQ_ROOT; if both are empty, this system is used.
	Root string
	// Environment contains additional environment variables for the node, such as
	// RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS.
	Environment []string
	// LogSize is the setting wal_max_size_bytes: the size in bytes at which RabbitMQ writes its write-ahead log to
	// segment files; 0 means the default, 512 MiB.
	//
	// Do not set LogSize if many queues are deleted: the process of RabbitMQ 3.10 that writes the segment files may
	// then fail, and quorum queues of the node may fail as a result.
	LogSize int
	// Plugins are the names of the plugins to enable.
	Plugins []string
	// Config contains lines for rabbitmq.conf, such as "channel_max = 8".
	Config []string
	// Files contains files for the working directory of the node, by name. Config can refer to them by name, even
	// with chroot.
	Files map[string][]byte
	// Join is a running node whose cluster, users and epmd the new node uses. nil means a new cluster. Close the new
	// node before Join, because epmd ends with Join.
	Join *RabbitMQ
}

// RabbitMQ is a private RabbitMQ node. The methods that start and stop the node are not safe for concurrent use.
type RabbitMQ struct {
	daemon

	directory *directory
	programs  rabbitMQPrograms
	options   RabbitMQOptions
	// ports are those of AMQP, of the Erlang distribution and, unless the node joins a cluster, of epmd.
	ports    []port.Port
	user     string
	password string
	cookie   string
	version  string

	epmd *process // epmd continues to run when the node restarts, as in a real installation
}

type rabbitMQPrograms struct{ server, ctl, queues, epmd string }

func findRabbitMQ(root string) (rabbitMQPrograms, error) {
	// This directory contains RabbitMQ's original commands, which any user can run. Debian's wrappers in /usr/sbin
	// work only for the user rabbitmq.
	const originals = "/usr/lib/rabbitmq/bin"
	var found rabbitMQPrograms
	var err error
	find := func(name string, directories ...string) string {
		path, findErr := FindProgram(root, name, rabbitMQRemedy, directories...)
		err = errors.Join(err, findErr)
		return path
	}
	found.server = find("rabbitmq-server", originals)
	found.ctl = find("rabbitmqctl", originals)
	found.queues = find("rabbitmq-queues", originals)
	found.epmd = find("epmd", "/usr/bin")
	return found, err
}

// StartRabbitMQ starts a new node and returns when clients can connect. ctx limits only the start. If dir is empty,
// the node's data is in a temporary directory.
//
// The error wraps a *NotInstalledError if RabbitMQ is missing. The caller must call Close.
func StartRabbitMQ(ctx context.Context, dir string, opts RabbitMQOptions) (*RabbitMQ, error) {
	if opts.Root == "" {
		opts.Root = os.Getenv("PARKING_RABBITMQ_ROOT")
	}
	programs, err := findRabbitMQ(opts.Root)
	if err != nil {
		return nil, err
	}
	directory, err := openDirectory(opts.Root, dir)
	if err != nil {
		return nil, err
	}
	r := &RabbitMQ{
		directory: directory, programs: programs, options: opts,
		user: "parking-" + RandomHex(4), password: newPassword(), cookie: RandomHex(16),
	}
	if other := opts.Join; other != nil {
		r.user, r.password, r.cookie = other.user, other.password, other.cookie
	}
	r.launch = r.start
	if err := r.create(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *RabbitMQ) create(ctx context.Context) error {
	var err error
	if other := r.options.Join; other != nil {
		r.ports, err = port.Reserve(2)
	} else {
		r.ports, err = port.Reserve(3)
	}
	if err != nil {
		return err
	}
	if err := r.configure(); err != nil {
		return err
	}
	if r.options.Join == nil {
		if err := r.startEpmd(ctx); err != nil {
			return err
		}
	}
	return r.Start(ctx)
}

func (r *RabbitMQ) amqpPort() port.Port { return r.ports[0] }
func (r *RabbitMQ) distPort() port.Port { return r.ports[1] }
func (r *RabbitMQ) epmdPort() port.Port {
	if other := r.options.Join; other != nil {
		return other.epmdPort()
	}
	return r.ports[2]
}

// Node returns the name of the Erlang node, such as parking-23456@localhost.
func (r *RabbitMQ) Node() string { return "parking-" + r.amqpPort().String() + "@localhost" }

// configure writes the node's configuration. rabbitmq.conf has only Config. All else is in the Erlang format, which
// loads faster and allows all characters in a password.
func (r *RabbitMQ) configure() error {
	advanced := fmt.Sprintf(`[
 {rabbit, [
  {tcp_listeners, [{"127.0.0.1", %s}]},
  {default_user, <<%q>>},
  {default_pass, <<%q>>},
  {default_user_tags, [administrator]},
%s  {log, [{console, [{enabled, false}]}]}
 ]},
%s {kernel, [
  {inet_dist_use_interface, {127, 0, 0, 1}},
  {inet_dist_listen_min, %s},
  {inet_dist_listen_max, %s}
 ]}
].
`, r.amqpPort(), r.user, r.password, r.clusterNodes(), r.logSize(), r.distPort(), r.distPort())
	files := map[string]string{
		"advanced.config":     advanced,
		"enabled_plugins":     "[" + strings.Join(r.options.Plugins, ",") + "].\n",
		"home/.erlang.cookie": r.cookie,
	}
	if lines := r.options.Config; len(lines) > 0 {
		files["rabbitmq.conf"] = strings.Join(lines, "\n") + "\n"
	}
	for name, content := range r.options.Files {
		files[name] = string(content)
	}
	for name, content := range files {
		if err := r.directory.write(name, content); err != nil {
			return err
		}
	}
	return nil
}

// clusterNodes returns the configuration line that makes the node join a cluster. It returns "" if the option Join is
// not set.
func (r *RabbitMQ) clusterNodes() string {
	if r.options.Join == nil {
		return ""
	}
	return fmt.Sprintf("  {cluster_nodes, {['%s', '%s'], disc}},\n", r.options.Join.Node(), r.Node())
}

// logSize returns the configuration line that sets wal_max_size_bytes. It returns "" if the option LogSize is not set.
func (r *RabbitMQ) logSize() string {
	if r.options.LogSize == 0 {
		return ""
	}
	return fmt.Sprintf(" {ra, [{wal_max_size_bytes, %d}]},\n", r.options.LogSize)
}

// environment returns the complete environment of the node and its command line tools. The node and the tools inherit
// no variables of this process.
func (r *RabbitMQ) environment() []string {
	inner := func(name string) string { return filepath.Join(r.directory.inner, name) }
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C.UTF-8",
		"HOME=" + inner("home"),
		"ERL_EPMD_PORT=" + r.epmdPort().String(),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_CRASH_DUMP_SECONDS=0",
		"RABBITMQ_NODENAME=" + r.Node(),
		"RABBITMQ_DIST_PORT=" + r.distPort().String(),
		"RABBITMQ_MNESIA_BASE=" + inner("data"),
		"RABBITMQ_LOG_BASE=" + inner("log"),
		"RABBITMQ_ADVANCED_CONFIG_FILE=" + inner("advanced.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + inner("enabled_plugins"),
		// The next three variables keep the node from reading the configuration files that are installed on this
		// machine. The files that they name need not exist.
		"RABBITMQ_CONFIG_FILE=" + inner("rabbitmq"),
		"RABBITMQ_CONFIG_FILES=" + inner("conf.d"),
		"RABBITMQ_CONF_ENV_FILE=" + inner("rabbitmq-env.conf"),
		// RABBITMQ_ALLOW_INPUT makes the start script replace itself with the node. Otherwise, the script would run
		// until the node ends.
		"RABBITMQ_ALLOW_INPUT=1",
		// Erlang's schedulers must not busy-wait when they are idle, because many processes share the cores.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput -start_epmd false +sbwt none +sbwtdcpu none +sbwtdio none",
		// The command line tools are Erlang nodes, which listen on ports. The range for these ports is above the
		// ephemeral port range, so that no outgoing connection occupies a port in the range.
		"RABBITMQ_CTL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CTL_DIST_PORT_MIN=61000",
		"RABBITMQ_CTL_DIST_PORT_MAX=65000",
	}, r.options.Environment...)
}

func (r *RabbitMQ) command(path string, args []string, output io.Writer) command {
	return command{
		root: r.directory.root, path: path, args: args,
		env: r.environment(), dir: r.directory.inner, output: output,
	}
}

// startEpmd starts the Erlang port mapper (epmd) as a child. A node would start epmd as a daemon, which would
// outlive this process.
func (r *RabbitMQ) startEpmd(ctx context.Context) error {
	args := []string{"-port", r.epmdPort().String(), "-address", "127.0.0.1"}
	var err error
	if r.epmd, err = r.command(r.programs.epmd, args, io.Discard).start(); err != nil {
		return err
	}
	return poll(ctx, r.epmd, func(ctx context.Context) error { return r.epmdPort().Dial(ctx) })
}

// start starts the node and returns when clients can connect.
func (r *RabbitMQ) start(ctx context.Context) error {
	output, err := os.Create(filepath.Join(r.directory.host, "output.log"))
	if err != nil {
		return fmt.Errorf("start RabbitMQ: %w", err)
	}
	defer func() { _ = output.Close() }() // the node has its own descriptor of the file
	if r.process, err = r.command(r.programs.server, nil, output).start(); err != nil {
		return err
	}
	if err := poll(ctx, r.process, r.connect); err != nil {
		err = fmt.Errorf("start RabbitMQ: %w; its log ends with:\n%s", err, r.logTail())
		return errors.Join(err, r.process.kill())
	}
	return nil
}

// logTail returns the end of the node's log. If the node failed before it created a log, logTail returns the end of the
// node's output.
func (r *RabbitMQ) logTail() string {
	log := cmp.Or(r.directory.tail("log/*.log"), r.directory.tail("output.log"))
	return strings.ReplaceAll(log, r.password, "***")
}

// Diagnosis returns the first errors in the node's log and the end of the log. A failed test should print the
// diagnosis.
func (r *RabbitMQ) Diagnosis() string {
	first := strings.ReplaceAll(r.directory.errors("log/*.log"), r.password, "***")
	return fmt.Sprintf("the first errors in the log of %v:\n%s\nthe end of the log:\n%s", r, first, r.logTail())
}

// connect opens and closes an AMQP connection. It succeeds only after the node has recovered its queues.
func (r *RabbitMQ) connect(context.Context) error {
	conn, err := amqp.DialConfig(r.URI(), amqp.Config{Dial: amqp.DefaultDial(10 * time.Second)})
	if err != nil {
		return err
	}
	if version, ok := conn.Properties["version"].(string); ok {
		r.version = version
	}
	return conn.Close()
}

// Close kills the node and releases its ports. If the node's directory is temporary, Close removes the directory.
func (r *RabbitMQ) Close() error {
	err := errors.Join(r.process.kill(), r.epmd.kill(), r.directory.close())
	port.Release(r.ports)
	return err
}

// Ctl runs rabbitmqctl for the node and returns the output. If rabbitmqctl fails, the error contains the output.
func (r *RabbitMQ) Ctl(args ...string) (string, error) { return r.run(r.programs.ctl, args) }

// Queues runs rabbitmq-queues for the node and returns the output. If rabbitmq-queues fails, the error contains the
// output.
func (r *RabbitMQ) Queues(args ...string) (string, error) { return r.run(r.programs.queues, args) }

// Run runs a program in the environment of rabbitmqctl; see Ctl. The output includes that of processes left in the
// background. An error contains the output.
func (r *RabbitMQ) Run(path string, args ...string) (string, error) { return r.run(path, args) }

func (r *RabbitMQ) run(path string, args []string) (string, error) {
	var output bytes.Buffer
	p, err := r.command(path, args, &output).start()
	if err != nil {
		return "", err
	}
	timeout := time.NewTimer(ctlTimeout)
	defer timeout.Stop()
	select {
	case <-p.exited:
		err = p.err
	case <-timeout.C:
		err = errors.Join(fmt.Errorf("the command was still running after %v", ctlTimeout), p.kill())
	}
	printed := strings.ReplaceAll(output.String(), r.password, "***")
	if err != nil {
		return printed, fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, printed)
	}
	return printed, nil
}

// SyncQueues makes the node save its list of quorum queues. Without this call, RabbitMQ 3.10 can lose confirmed
// messages if it is killed within seconds after the declaration of a queue.
func (r *RabbitMQ) SyncQueues() error {
	_, err := r.Ctl("eval", "ok = dets:sync(ra_directory_reverse).")
	return err
}

// AddVHost creates a virtual host, in which the node's user has all permissions. It returns the URI of the virtual
// host.
func (r *RabbitMQ) AddVHost(name string) (string, error) {
	if _, err := r.Ctl("add_vhost", name); err != nil {
		return "", err
	}
	if _, err := r.Ctl("set_permissions", "-p", name, r.user, ".*", ".*", ".*"); err != nil {
		return "", err
	}
	return r.uri(name), nil
}

// DeleteVHost deletes a virtual host and everything in it.
func (r *RabbitMQ) DeleteVHost(name string) error {
	_, err := r.Ctl("delete_vhost", name)
	return err
}

// URI returns the URI of the node's default virtual host, with the user name and the password.
func (r *RabbitMQ) URI() string { return r.uri("") }

func (r *RabbitMQ) uri(vhost string) string {
	u := url.URL{
		Scheme: "amqp",
		User:   url.UserPassword(r.user, r.password),
		Host:   r.amqpPort().Address(),
		Path:   "/" + vhost,
	}
	return u.String()
}

// User returns the name of the only user on the node.
func (r *RabbitMQ) User() string { return r.user }

// Version returns the version of RabbitMQ, such as 3.10.8.
func (r *RabbitMQ) Version() string { return r.version }

// Directory returns the path of the directory with the node's data and logs.
func (r *RabbitMQ) Directory() string { return r.directory.host }

// String returns the URI without user name and password.
func (r *RabbitMQ) String() string { return Redacted(r.URI()) }

// poll calls the function named ready repeatedly until the function returns nil. It returns an error if the process p
// ends, ctx ends, or startTimeout expires.
func poll(ctx context.Context, p *process, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("the process ended: %w", endOf(p))
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w (last attempt: %w)", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

func endOf(p *process) error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// PortMapperPID returns the process ID of the node's Erlang port mapper. The port mapper is a child of this process.
func (r *RabbitMQ) PortMapperPID() int { return r.epmd.pid }
