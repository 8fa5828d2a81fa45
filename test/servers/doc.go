// Package servers runs real RabbitMQ, Redis and PostgreSQL servers for tests and benchmarks. Each server listens on
// free loopback ports, and has its own data directory and a random password. Each server ends together with the process
// that started it, even if that process is killed.
//
// A test that stops or kills a server must start a server of its own:
//
//	broker := servers.NewRabbitMQ(t, servers.RabbitMQOptions{})
//	cache := servers.NewRedis(t, servers.RedisOptions{})
//	broker.SyncQueues()              // call after the declaration of quorum queues, before Kill
//	broker.Kill()                    // sends SIGKILL to all processes of the broker
//	broker.Start(ctx)                // keeps the address, the password and the data
//	broker.Ctl("close_all_connections", "a test")
//
// NewRabbitMQCluster starts a cluster of several nodes.
//
// Other tests share the servers of their package, because RabbitMQ takes several seconds to start. These tests use
// unique names:
//
//	func TestMain(m *testing.M) { servers.Main(m) }
//
//	uri := servers.AMQPURI(t)        // or servers.VHostURI(t): a virtual host for this test alone
//	uri := servers.RedisURI(t)
//	uri := servers.PostgresURI(t)    // a database for this test alone
//	name := servers.Name(t)          // a unique part of the names of queues, exchanges and keys
//	servers.RemoveKeys(t, name)      // when the test ends, deletes the keys that contain the name
//
// Programs other than tests call StartRabbitMQ or StartRedis. They must close each server.
//
// Environment variables:
//
//	PARKING_TEST_AMQP_URI, PARKING_TEST_REDIS_URI    URIs of existing servers to use as shared servers
//	PARKING_RABBITMQ_ROOT, PARKING_REDIS_ROOT        root directory of another Linux system; servers run in a chroot
//	PARKING_REDIS_SERVER                             program to run instead of redis-server, such as valkey-server
//	PARKING_TEST_REQUIRE=1                           a test whose server is not installed fails; it is not skipped
//	PARKING_TEST_REPORT                              file that receives a list of the used servers and the skipped tests
//
// Under go test -short, tests that need a server are skipped.
package servers
