package privateserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/parking-operator/parking-operator/internal/privateserver/port"
)

const (
	// postgresUser is the superuser of the database. If this process runs as root, the server runs under the account of
	// this name.
	postgresUser = "postgres"
	// mountScript mounts a tmpfs of $1 MiB over the data directory $2, keeps the content, and runs the other arguments
	// as postgres. A private mount namespace hides the tmpfs from other processes.
	mountScript = `set -e
size=$1 data=$2
shift 2
cp -a "$data" "$data.copy"
mount -t tmpfs -o "size=${size}m" tmpfs "$data"
cp -a "$data.copy/." "$data"
exec setpriv --reuid postgres --regid postgres --init-groups --pdeathsig KILL "$@"`
)

// PostgresOptions configures a PostgreSQL server. For most callers, the zero value is sufficient.
type PostgresOptions struct {
	// Primary makes the new server a replica of the given server. The replica has the same users and passwords, and
	// streams from the primary until Promote is called.
	Primary *Postgres
	// Config contains additional settings, such as max_connections=5.
	Config []string
	// HBA contains lines of pg_hba.conf that precede the default lines.
	HBA []string
	// Files contains additional files for the data directory, by name. Settings can refer to them by name.
	Files map[string]string
	// VolumeMiB limits the size of the tables, but not of a primary's write-ahead log. 0 means no limit. Only root can
	// set a limit. A server with a limit loses its data when it stops.
	VolumeMiB int
}

// Postgres is a private PostgreSQL server. The methods that start and stop the server are not safe for concurrent use.
type Postgres struct {
	daemon

	directory *directory
	options   PostgresOptions
	programs  string // directory of the PostgreSQL programs
	owner     *owner
	ports     []port.Port
	data      string // data directory
	password  string
	version   string
}

// StartPostgres starts a new server and returns when clients can connect. ctx limits only the start.
//
// The error wraps a *NotInstalledError if PostgreSQL is missing. The caller must call Close.
func StartPostgres(ctx context.Context, opts PostgresOptions) (*Postgres, error) {
	directories, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return nil, err
	}
	slices.Reverse(directories) // newest version first
	program, err := FindProgram("", "initdb", "run hack/install-servers.sh, or on Debian: apt-get install postgresql", directories...)
	if err != nil {
		return nil, err
	}
	p := &Postgres{options: opts, programs: filepath.Dir(program), password: newPassword()}
	p.launch, p.stopSignal = p.start, syscall.SIGINT // on SIGTERM, PostgreSQL would wait for its clients
	if opts.Primary != nil {
		p.password = opts.Primary.password
	}
	if p.owner, err = ownerFor(postgresUser); err != nil {
		return nil, err
	}
	if p.directory, err = openDirectory("", ""); err != nil {
		return nil, err
	}
	if err := p.create(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Postgres) create(ctx context.Context) error {
	var err error
	if p.ports, err = port.Reserve(1); err != nil {
		return err
	}
	if err := p.owner.chown(p.directory.host); err != nil {
		return fmt.Errorf("prepare the directory of PostgreSQL: %w", err)
	}
	p.data = filepath.Join(p.directory.host, "data")
	createData := p.initialize
	if p.options.Primary != nil {
		createData = p.copyPrimary
	}
	if err := createData(); err != nil {
		return err
	}
	for name, content := range p.options.Files {
		if err := p.writeData(name, content); err != nil {
			return err
		}
	}
	return p.Start(ctx)
}

func (p *Postgres) initialize() error {
	if err := p.directory.write("password", p.password); err != nil {
		return err
	}
	file := filepath.Join(p.directory.host, "password")
	if err := p.owner.chown(file); err != nil {
		return fmt.Errorf("prepare the directory of PostgreSQL: %w", err)
	}
	err := p.run(nil, "initdb", "--pgdata="+p.data, "--username="+postgresUser, "--pwfile="+file, "--waldir="+filepath.Join(p.directory.host, "wal"),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	if err != nil {
		return err
	}
	const allUsers = "all 127.0.0.1/32 scram-sha-256"
	rules := append(slices.Clone(p.options.HBA),
		"host all "+allUsers, "host replication "+allUsers)
	return p.writeData("pg_hba.conf", strings.Join(rules, "\n")+"\n")
}

// copyPrimary fills the data directory of a replica with a copy of the primary's data.
func (p *Postgres) copyPrimary() error {
	primary := p.options.Primary
	return p.run([]string{"PGPASSWORD=" + p.password}, "pg_basebackup", "--pgdata="+p.data, "--write-recovery-conf",
		"--checkpoint=fast", "--no-sync", "--host=127.0.0.1", "--port="+primary.ports[0].String(), "--username="+postgresUser)
}

// writeData writes a file into the data directory. Only the server can read the file.
func (p *Postgres) writeData(name, content string) error {
	path := filepath.Join(p.data, name)
	if err := writePrivate(path, content); err != nil {
		return err
	}
	if err := p.owner.chown(path); err != nil {
		return fmt.Errorf("write a file of PostgreSQL: %w", err)
	}
	return nil
}

// run runs one of the programs of PostgreSQL until it ends.
func (p *Postgres) run(env []string, program string, args ...string) error {
	cmd := p.command(program, args, nil)
	cmd.env = append(cmd.env, env...)
	return cmd.wait()
}

// wait runs the program until it ends. Its error contains the output of the program.
func (c command) wait() error {
	var output bytes.Buffer
	c.output = &output
	child, err := c.start()
	if err != nil {
		return err
	}
	<-child.exited
	if child.err != nil {
		return fmt.Errorf("%s: %w:\n%s", filepath.Base(c.path), child.err, output.String())
	}
	return nil
}

func (p *Postgres) command(program string, args []string, output io.Writer) command {
	return command{
		path: filepath.Join(p.programs, program), args: args, dir: p.directory.host, output: output, owner: p.owner,
		env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"},
	}
}

// start starts the program. It returns when clients can connect.
func (p *Postgres) start(ctx context.Context) error {
	args := []string{"-D", p.data}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "port=" + p.ports[0].String(), "unix_socket_directories=",
		// Without fsync, the server does not wait for a slow disk. The data survives a crash of the server, but not of
		// the machine.
		"fsync=off",
		"logging_collector=on", "log_directory=" + p.directory.host, "log_filename=server.log",
	}, p.options.Config...) {
		args = append(args, "-c", setting)
	}
	// The file output.log receives the output of the server until the server opens its own log.
	output, err := os.Create(filepath.Join(p.directory.host, "output.log"))
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer func() { _ = output.Close() }() // the server has its own descriptor of the file
	cmd := p.command("postgres", args, output)
	if p.options.VolumeMiB > 0 {
		cmd.args = append([]string{"--mount", "sh", "-c", mountScript, "sh", strconv.Itoa(p.options.VolumeMiB), p.data, cmd.path}, args...)
		cmd.path, cmd.owner = "/usr/bin/unshare", nil
	}
	if p.process, err = cmd.start(); err != nil {
		return err
	}
	if err := poll(ctx, p.process, p.connect); err != nil {
		return errors.Join(fmt.Errorf("start PostgreSQL: %w; its output is:\n%s\nIts log ends with:\n%s", err, p.directory.tail("output.log"), p.Log()), p.process.kill())
	}
	return nil
}

// connect checks that clients can connect, and reads the version of the server.
func (p *Postgres) connect(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.URI())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // ignore the error, because the connection was used only to read
	return conn.QueryRow(ctx, "SHOW server_version").Scan(&p.version)
}

// Close kills the server, releases its port, and removes its directory.
func (p *Postgres) Close() error {
	err := errors.Join(p.process.kill(), p.directory.close())
	port.Release(p.ports)
	return err
}

// Exec executes SQL statements as the superuser, each in its own transaction.
func (p *Postgres) Exec(ctx context.Context, statements ...string) (err error) {
	conn, err := pgx.Connect(ctx, p.URI())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("execute SQL: %w", err)
		}
	}
	return nil
}

// ResizeVolume changes the size of the volume of a server that was started with VolumeMiB.
func (p *Postgres) ResizeVolume(mib int) error {
	cmd := command{
		path: "/usr/bin/nsenter", dir: "/", env: []string{"PATH=/usr/bin:/bin"},
		args: []string{"--target", strconv.Itoa(p.PID()), "--mount", "mount", "-o", fmt.Sprintf("remount,size=%dm", mib), p.data},
	}
	return cmd.wait()
}

// CreateDatabase creates a database and a user with the same name, who owns the database. It returns the URI with which
// that user connects.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) (string, error) {
	identifier := pgx.Identifier{name}.Sanitize()
	password := newPassword()
	err := p.Exec(ctx,
		"CREATE ROLE "+identifier+" LOGIN PASSWORD '"+password+"'",
		"CREATE DATABASE "+identifier+" OWNER "+identifier)
	if err != nil {
		return "", err
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(name, password), Host: p.Address(), Path: "/" + name}
	return u.String(), nil
}

// Promote makes a replica a primary. It returns when the server accepts writes.
func (p *Postgres) Promote(ctx context.Context) error {
	return p.Exec(ctx, "SELECT pg_promote(true, 60)")
}

// StopReceiving disconnects a replica from its primary for good. It returns when the replica receives nothing more.
func (p *Postgres) StopReceiving(ctx context.Context) error {
	return p.Exec(ctx, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()", `
		DO $$ BEGIN
			WHILE EXISTS (SELECT FROM pg_stat_wal_receiver) LOOP
				PERFORM pg_sleep(0.01);
			END LOOP;
		END $$`)
}

// URI returns the URI of the superuser, with the password.
func (p *Postgres) URI() string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(postgresUser, p.password), Host: p.Address(), Path: "/postgres"}
	return u.String()
}

// Address returns the host and port of the server.
func (p *Postgres) Address() string { return p.ports[0].Address() }

// Version returns the version of the server, such as 15.14.
func (p *Postgres) Version() string {
	version, _, _ := strings.Cut(p.version, " ")
	return version
}

// Log returns the last lines of the server's log.
func (p *Postgres) Log() string { return p.directory.tail("server.log") }

// String returns the URI without user name and password.
func (p *Postgres) String() string { return Redacted(p.URI()) }
