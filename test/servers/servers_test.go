package servers

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/privateserver"
)

func TestMain(m *testing.M) { Main(m) }

func TestRabbitMQ_StopKillRestart_KeepsDataAndAddress(t *testing.T) {
	t.Parallel()
	broker := NewRabbitMQ(t, RabbitMQOptions{})

	t.Run("a confirmed message survives kill -9 and a restart", func(t *testing.T) {
		publish(t, broker.URI(), "survivor", "still here")
		if err := broker.SyncQueues(); err != nil {
			t.Fatal(err)
		}
		pid := broker.PID()
		tree := privateserver.Descendants(pid)
		if err := broker.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := amqp.Dial(broker.URI()); err == nil {
			t.Fatal("the killed broker accepts connections")
		}
		awaitEnd(t, append(tree, pid))
		if err := broker.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := get(t, broker.URI(), "survivor"); got != "still here" {
			t.Fatalf("the message after the restart is %q", got)
		}
	})

	t.Run("rabbitmqctl close_all_connections closes a connection", func(t *testing.T) {
		conn, _ := open(t, broker.URI())
		closed := conn.NotifyClose(make(chan *amqp.Error, 1))
		// RabbitMQ cannot close a new connection before it lists the connection.
		polltest.Until(t, "the broker closes the connection", func() bool {
			if _, err := broker.Ctl("close_all_connections", "a test"); err != nil {
				t.Fatal(err)
			}
			select {
			case <-closed:
				return true
			default:
				return false
			}
		})
	})

	t.Run("the user guest does not exist", func(t *testing.T) {
		users, err := broker.Ctl("list_users")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(users, "guest") || !strings.Contains(users, broker.User()) {
			t.Fatalf("the users are:\n%s", users)
		}
	})

	t.Run("virtual hosts do not share queues", func(t *testing.T) {
		uri := broker.VHost(t)
		publish(t, broker.URI(), "private", "in the default virtual host")
		if got := get(t, uri, "private"); got != "" {
			t.Fatalf("the queue of the other virtual host holds %q", got)
		}
	})

	t.Run("a paused broker answers after it is resumed", func(t *testing.T) {
		if err := broker.Pause(); err != nil {
			t.Fatal(err)
		}
		if _, err := amqp.DialConfig(broker.URI(), amqp.Config{Dial: amqp.DefaultDial(200 * time.Millisecond)}); err == nil {
			t.Fatal("the paused broker answers")
		}
		if err := broker.Resume(); err != nil {
			t.Fatal(err)
		}
		open(t, broker.URI())
	})

	t.Run("a restart keeps the URI", func(t *testing.T) {
		before := broker.URI()
		if err := broker.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if broker.URI() != before {
			t.Fatal("the URI changed")
		}
		open(t, before)
	})

	t.Run("the error of an unknown rabbitmqctl command includes its output", func(t *testing.T) {
		_, err := broker.Ctl("no_such_command")
		if err == nil || !strings.Contains(err.Error(), "no_such_command") {
			t.Fatalf("the error is %v", err)
		}
	})

	t.Run("the password needs escaping and is not printed", func(t *testing.T) {
		assertSecret(t, broker, broker.URI(), passwordOf(t, broker.URI()))
	})
}

func TestNewRabbitMQCluster_NodesFormOneCluster(t *testing.T) {
	t.Parallel()
	cluster := NewRabbitMQCluster(t, 3, RabbitMQOptions{})
	status, err := cluster[1].Ctl("cluster_status")
	if err != nil {
		t.Fatal(err)
	}
	_, running, _ := strings.Cut(status, "Running Nodes")
	running, _, _ = strings.Cut(running, "Versions")
	for _, node := range cluster {
		if !strings.Contains(running, node.Node()) {
			t.Errorf("node %s does not run in the cluster:\n%s", node.Node(), status)
		}
		open(t, node.URI())
	}
}

func TestRedis_StopKillRestart_KeepsDataAndAddress(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		opts RedisOptions
		want string
	}{
		{"a key survives kill -9 with the append-only file", RedisOptions{}, "here"},
		{"a key is lost after kill -9 without the append-only file", RedisOptions{NoAOF: true}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := NewRedis(t, tt.opts)
			set(t, server.URI(), "survivor", "here")
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := privateserver.RedisVersion(t.Context(), server.URI()); err == nil {
				t.Fatal("the killed server accepts connections")
			}
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := lookup(t, server.URI(), "survivor"); got != tt.want {
				t.Fatalf("the value after the restart is %q, want %q", got, tt.want)
			}
			assertSecret(t, server, server.URI(), passwordOf(t, server.URI()))
		})
	}
}

func TestSharedServers_TwoCalls_ReturnTheSameServerAndDifferentNames(t *testing.T) {
	t.Parallel()
	for _, uri := range []func(testing.TB) string{AMQPURI, RedisURI} {
		first, second := uri(t), uri(t)
		if first != second {
			t.Fatal("there are two shared servers of one kind")
		}
	}
	first, second := Name(t), Name(t)
	if first == second {
		t.Fatal("two names are equal")
	}
	if VHostURI(t) == AMQPURI(t) && os.Getenv(amqpVariable) == "" {
		t.Fatal("VHostURI returned the default virtual host")
	}
}

func TestRemoveKeys_DeletesOnlyKeysThatContainTheName(t *testing.T) {
	t.Parallel()
	uri := RedisURI(t)
	mine, other := Name(t), Name(t)
	RemoveKeys(t, other)
	t.Run("the keys are removed when this test ends", func(t *testing.T) {
		RemoveKeys(t, mine)
		set(t, uri, "{"+mine+":0}:left", "x")
		set(t, uri, "{"+other+":0}:left", "x")
	})
	if lookup(t, uri, "{"+mine+":0}:left") != "" {
		t.Error("the test's key is still there")
	}
	if lookup(t, uri, "{"+other+":0}:left") == "" {
		t.Error("another test's key was removed")
	}
}

// TestHelperProcess_RunsServersUntilKilled is the child process of TestServers_TestBinaryIsKilled_ServersAreTerminated.
func TestHelperProcess_RunsServersUntilKilled(t *testing.T) {
	if os.Getenv("PARKING_SERVERS_HELPER") != "1" {
		return
	}
	broker := NewRabbitMQ(t, RabbitMQOptions{})
	cache := NewRedis(t, RedisOptions{})
	fmt.Printf("pids %d %d %d\n", broker.PID(), broker.PortMapperPID(), cache.PID())
	select {}
}

func TestServers_TestBinaryIsKilled_ServersAreTerminated(t *testing.T) {
	t.Parallel()
	AMQPURI(t) // skips the test if RabbitMQ is not installed
	RedisURI(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess_RunsServersUntilKilled$", "-test.v")
	cmd.Env = append(os.Environ(), "PARKING_SERVERS_HELPER=1", "TMPDIR="+t.TempDir())
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids := readPIDs(t, bufio.NewScanner(output))
	for _, pid := range pids {
		pids = append(pids, privateserver.Descendants(pid)...)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitEnd(t, pids)
}

func TestStartServer_ServerNotInstalled_ErrorNamesThePackage(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	tests := []struct {
		name  string
		start func() error
		want  string
	}{
		{"RabbitMQ", func() error { _, err := StartRabbitMQ(t.Context(), "", RabbitMQOptions{Root: empty}); return err }, "apt-get install rabbitmq-server"},
		{"Redis", func() error { _, err := StartRedis(t.Context(), "", RedisOptions{Root: empty}); return err }, "apt-get install redis-server"},
		{"Valkey", func() error {
			_, err := StartRedis(t.Context(), "", RedisOptions{Root: empty, Server: "valkey-server"})
			return err
		}, "apt-get install valkey-server"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.start()
			var missing *NotInstalledError
			if !errors.As(err, &missing) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("the error is %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestStartRedis_InvalidConfig_ErrorOmitsThePassword(t *testing.T) {
	t.Parallel()
	_, err := StartRedis(t.Context(), "", RedisOptions{Config: []string{"no-such-directive yes"}})
	if missing, ok := errors.AsType[*NotInstalledError](err); ok {
		need(t, missing)
	}
	if err == nil {
		t.Fatal("a server with an invalid configuration started")
	}
	if strings.Contains(err.Error(), "p@ss") {
		t.Fatal("the error contains the password")
	}
}

func TestServerReport_EachServer_IsListedOnceWithoutPassword(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	t.Setenv(reportVariable, path)
	uri := "amqp://user:secret@127.0.0.1:1/" + Name(t)
	for range 2 {
		reportServer("RabbitMQ", "3.10.8", privateserver.Redacted(uri))
	}
	reportSkip("TestThatNeedsAServer", "not installed")
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const pkg = "github.com/parking-operator/parking-operator/test/servers"
	want := "server\t" + pkg + "\tRabbitMQ\t3.10.8\t" + strings.Replace(uri, "user:secret@", "", 1) + "\n" +
		"skip\t" + pkg + "\tTestThatNeedsAServer\tnot installed\n"
	if string(got) != want {
		t.Fatalf("the report is\n%s\nwant\n%s", got, want)
	}
}

// open opens an AMQP connection and a channel, and closes them when the test ends.
func open(t *testing.T, uri string) (*amqp.Connection, *amqp.Channel) {
	t.Helper()
	conn, err := amqp.Dial(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // Close fails if the test has closed the connection or killed the broker
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return conn, channel
}

// publish declares a quorum queue, publishes a message to it, and waits for the confirmation.
func publish(t *testing.T, uri, queue, body string) {
	t.Helper()
	_, channel := open(t, uri)
	if err := channel.Confirm(false); err != nil {
		t.Fatal(err)
	}
	declare(t, channel, queue)
	message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)}
	confirmation, err := channel.PublishWithDeferredConfirm("", queue, true, false, message)
	if err != nil {
		t.Fatal(err)
	}
	if confirmed, err := confirmation.WaitContext(t.Context()); err != nil || !confirmed {
		t.Fatalf("the broker did not confirm the message: %v", err)
	}
}

// get reads a message from a queue. It returns "" if the queue is empty.
func get(t *testing.T, uri, queue string) string {
	t.Helper()
	_, channel := open(t, uri)
	declare(t, channel, queue)
	message, _, err := channel.Get(queue, true)
	if err != nil {
		t.Fatal(err)
	}
	return string(message.Body)
}

func declare(t *testing.T, channel *amqp.Channel, queue string) {
	t.Helper()
	_, err := channel.QueueDeclare(queue, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum})
	if err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, uri, key, value string) {
	t.Helper()
	client, err := privateserver.NewRedisClient(uri)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Set(t.Context(), key, value, 0).Err(); err != nil {
		t.Fatal(err)
	}
	// While an fsync is slow, Redis replies before it writes to the append-only file.
	polltest.Until(t, "the key is in the append-only file, if the server has such a file", func() bool {
		info, err := client.Info(t.Context(), "persistence").Result()
		return err == nil && (strings.Contains(info, "aof_enabled:0\r\n") || strings.Contains(info, "aof_buffer_length:0\r\n"))
	})
}

// lookup returns the value of a Redis key, or "" if the key does not exist.
func lookup(t *testing.T, uri, key string) string {
	t.Helper()
	client, err := privateserver.NewRedisClient(uri)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	value, err := client.Get(t.Context(), key).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return value
}

// assertSecret checks that the URI contains the password in escaped form, and that formatting the server as text does
// not reveal the password.
func assertSecret(t *testing.T, server fmt.Stringer, uri, password string) {
	t.Helper()
	parsed, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := parsed.User.Password(); got != password {
		t.Errorf("the URI's password is %q, want %q", got, password)
	}
	if strings.Contains(uri, password) {
		t.Error("the password needs no escaping")
	}
	for _, format := range []string{"%v", "%+v", "%s"} {
		if printed := fmt.Sprintf(format, server); !strings.HasPrefix(printed, parsed.Scheme+"://127.0.0.1:") {
			t.Errorf("%s prints %s", format, printed)
		}
	}
}

// readPIDs returns the numbers on the first line that begins with "pids".
func readPIDs(t *testing.T, lines *bufio.Scanner) []int {
	t.Helper()
	line := regexp.MustCompile(`^pids (\d+) (\d+) (\d+)$`)
	var read []string
	for lines.Scan() {
		read = append(read, lines.Text())
		match := line.FindStringSubmatch(lines.Text())
		if match == nil {
			continue
		}
		var pids []int
		for _, digits := range match[1:] {
			pid, err := strconv.Atoi(digits)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		return pids
	}
	t.Fatalf("the helper printed no line with process ids:\n%s", strings.Join(read, "\n"))
	return nil
}

// awaitEnd waits until all processes have ended. A zombie counts as ended, because init will reap it.
func awaitEnd(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		polltest.Until(t, fmt.Sprintf("process %d ends", pid), func() bool {
			return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || isZombie(pid)
		})
	}
}

func isZombie(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && strings.Contains(string(status), "\nState:\tZ")
}

func passwordOf(t *testing.T, uri string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return password
}

func TestWithHostsIfAllowed_MountNamespacesAllowed_NamesAreResolved(t *testing.T) {
	WithHostsIfAllowed(t, NodeHosts(1), func(added bool) {
		if !added {
			SkipOrFail(t, "the machine does not allow mount namespaces")
		}
		addresses, err := net.DefaultResolver.LookupHost(t.Context(), nodeName(0))
		if err != nil || !slices.Equal(addresses, []string{nodeIP(0)}) {
			t.Errorf("%s has the addresses %v (%v), want %s", nodeName(0), addresses, err, nodeIP(0))
		}
	})
}

func TestWithHostsIfAllowed_MountNamespacesNotAllowed_RunsTheTestInThisProcess(t *testing.T) {
	t.Setenv("PATH", "")           // hides the program unshare, which creates mount namespaces
	t.Setenv(requireVariable, "1") // fails the test if WithHostsIfAllowed skips it by mistake
	calls := 0
	WithHostsIfAllowed(t, NodeHosts(1), func(added bool) {
		calls++
		if added {
			t.Error("the function was called with true, want false: the hosts file has no additional lines")
		}
	})
	if calls != 1 {
		t.Errorf("the function was called %d times, want once", calls)
	}
}

func TestNewRedisCluster_HostNamesWithoutCertificateAuthority_FailsAtOnce(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	ended := make(chan struct{})
	go func() { // a new goroutine, because Fatal ends the goroutine that calls it
		defer close(ended)
		NewRedisCluster(r, RedisClusterOptions{HostNames: true})
	}()
	<-ended
	if !strings.Contains(r.fatal, "needs an Authority") {
		t.Errorf("Fatal was called with %q, want that HostNames needs an Authority", r.fatal)
	}
}

// recorder records the message of Fatal without failing the test.
type recorder struct {
	testing.TB

	fatal string
}

func (r *recorder) Fatal(args ...any) {
	r.fatal = fmt.Sprint(args...)
	runtime.Goexit()
}
