// Package servers runs real RabbitMQ and Redis servers for tests and for the programs under hack and
// test/bench. An instance is private: it listens on free loopback ports, keeps its data in a folder of
// its own, has a random password, and leaves every other server on the machine alone. It dies with the
// process that started it, even when that process is killed.
//
// A test that stops or kills its server takes one for itself:
//
//	broker := servers.NewRabbitMQ(t, servers.RabbitMQOptions{})
//	cache := servers.NewRedis(t, servers.RedisOptions{})
//	broker.SyncQueues()              // after declaring quorum queues; see there
//	broker.Kill()                    // SIGKILL to the whole process tree
//	broker.Start(ctx)                // the same address, password and data
//	broker.Ctl("close_all_connections", "a fault on purpose")
//
// A test that only needs a server shares one with the other tests of its package, which is much
// quicker (RabbitMQ takes several seconds to boot), and keeps to names of its own:
//
//	func TestMain(m *testing.M) { servers.Main(m) }
//
//	uri := servers.AMQPURI(t)        // or servers.VHostURI(t): a virtual host of the test's own
//	uri := servers.RedisURI(t)
//	name := servers.Name(t)          // unique; use it in the names of queues, exchanges and keys
//	servers.RemoveKeys(t, name)      // at the test's end, the shared Redis's keys that contain name
//
// A program uses StartRabbitMQ and StartRedis, and calls Close when done.
//
// The environment decides what runs:
//
//	PARKING_TEST_AMQP_URI, PARKING_TEST_REDIS_URI    the shared server is this one, nothing is started
//	PARKING_RABBITMQ_ROOT, PARKING_REDIS_ROOT        folder of another system, from which (by chroot) the server runs
//	PARKING_REDIS_SERVER                             the program that serves Redis, such as valkey-server
//	PARKING_TEST_REQUIRE=1                           a server that is missing fails the test instead of skipping it
//	PARKING_TEST_REPORT                              file that gets one line for each server that a test binary
//	                                                 used and for each test that found none; see report.go
package servers
