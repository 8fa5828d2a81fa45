// Package rabbitmq implements the interfaces of package broker with RabbitMQ 3.10 or later.
//
// # Topology
//
// A simulation has one durable direct exchange, parking.<simulation>, and for each partition p:
//
//	queue                              routing key       contains
//	parking.<simulation>.entry.<p>     entry.<p>         entry events
//	parking.<simulation>.exit.<p>      exit.<p>          exit events
//	parking.<simulation>.retry.entry.<p>   retry.entry.<p>   entry events that wait for another attempt
//	parking.<simulation>.retry.exit.<p>    retry.exit.<p>    exit events that wait for another attempt
//
// The queue parking.<simulation>.dead, with the key dead, holds messages that cannot be processed. Messages in
// a retry queue expire after the retry delay, and the server dead-letters them back to the queue they came
// from.
//
// The exchange parking.<simulation>.owner has an argument that names the owner: the UID of the ParkingSimulation. Nothing is
// published to the exchange. A Broker with another owner belongs to another simulation of the same name, so it refuses to
// use the queues.
//
// The queues are quorum queues or durable classic queues. A quorum queue keeps a confirmed message as long as a
// majority of the nodes works. When a quorum queue dead-letters a message, it removes the message only after
// the target queue has confirmed it. A classic queue does not wait for this confirm, so an event may be lost if
// the node dies while the event returns from its retry queue.
//
// A quorum queue dead-letters a message that was delivered too often; see DefaultDeliveryLimit. A server closes
// the channel of a consumer that leaves a message unsettled for longer than the server's consumer_timeout, 30
// minutes by default, and delivers the messages again. A consumer holds as many messages in memory as its
// prefetch allows, whatever their size.
//
// Any program may publish to the exchange. It must use the routing key entry.<p> or exit.<p>, where p is the
// partition of the plate: the 32-bit FNV-1a hash of the plate, modulo the number of partitions. The body must
// be in the wire format of package event. No header or property is required.
//
// Publishers and consumers declare the exchange and queues whenever they open a channel, so a queue that was
// deleted is created again as an empty queue. If a queue exists with other arguments, they log an error and
// retry.
//
// # Connections
//
// A Broker opens up to three connections, each when it is first needed: one publishes, one consumes, and one serves
// administrative requests such as Depths. Publishers have their own connection, because a server stops reading from
// connections that publish while a memory or disk alarm is active. Acknowledgements must still reach the server.
// Publishers and consumers reconnect until they succeed. Each attempt uses the address and the credentials that
// Dependencies.Binding returns at that time. The log reports that a connection is lost, with the cause, and that it is
// restored, but not each attempt.
package rabbitmq
