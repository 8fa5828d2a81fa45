// Package servers runs real RabbitMQ, Redis and PostgreSQL servers for tests and benchmarks. Each server is private: it
// listens on free loopback ports, has its own data directory and a random password, and does not affect other servers
// on the machine. It ends together with the process that started it, even if that process is killed.
//
// A test that stops or kills its server starts its own:
//
//	broker := servers.NewRabbitMQ(t, servers.RabbitMQOptions{})
//	cache := servers.NewRedis(t, servers.RedisOptions{})
//	broker.SyncQueues()              // after declaring quorum queues; see its comment
//	broker.Kill()                    // SIGKILL to all its processes
//	broker.Start(ctx)                // the same address, password and data
//	broker.Ctl("close_all_connections", "a test")
//
// NewRabbitMQCluster starts a cluster of several nodes.
//
// Other tests share one server per package, because RabbitMQ takes several seconds to start. They use unique names:
//
//	func TestMain(m *testing.M) { servers.Main(m) }
//
//	uri := servers.AMQPURI(t)        // or servers.VHostURI(t): a virtual host for this test alone
//	uri := servers.RedisURI(t)
//	uri := servers.PostgresURI(t)    // a database for this test alone
//	name := servers.Name(t)          // a unique part of the names of queues, exchanges and keys
//	servers.RemoveKeys(t, name)      // deletes the keys that contain name when the test ends
//
// Programs other than tests call StartRabbitMQ or StartRedis, and Close at the end.
//
// Environment variables:
//
//	PARKING_TEST_AMQP_URI, PARKING_TEST_REDIS_URI    URIs of existing servers to use as shared servers
//	PARKING_RABBITMQ_ROOT, PARKING_REDIS_ROOT        root directory of another Linux system; its server is run with chroot
//	PARKING_REDIS_SERVER                             program to run instead of redis-server, such as valkey-server
//	PARKING_TEST_REQUIRE=1                           fail tests whose server is not installed, instead of skipping them
//	PARKING_TEST_REPORT                              file that receives a list of the used servers and the skipped tests
//
// Under go test -short, tests that need a server are skipped.
package servers
